"""The program ``scalenet-gp``: its commands, and how errors are told."""

from __future__ import annotations

import logging
import traceback
from functools import wraps
from importlib.metadata import version
from typing import Any

import typer

from scalenet_gp.errors import ScaleNetError, WorkerFaultError
from scalenet_gp.pipelines.cli.challenge_commands import pack, score
from scalenet_gp.pipelines.cli.config_commands import check, config_app, inspect, networks, preview, schema
from scalenet_gp.pipelines.cli.exchange_commands import export_, import_
from scalenet_gp.pipelines.cli.experiment_commands import experiment, report
from scalenet_gp.pipelines.cli.measuring_commands import measure
from scalenet_gp.pipelines.cli.options import OnceEachCommand
from scalenet_gp.pipelines.cli.planning_commands import init, plan
from scalenet_gp.pipelines.cli.prediction_commands import mask, predict, view
from scalenet_gp.pipelines.cli.segmentation_commands import segment
from scalenet_gp.pipelines.cli.training_commands import demo, evaluate, train

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Multi-scale networks for 3D electron microscopy.")


def _computing(command: Any) -> Any:
    """Return the command, which sets up torch for reproducible sums before it begins."""

    @wraps(command)
    def prepared(*args: Any, **arguments: Any) -> Any:
        from scalenet_gp.kernels import keep_freed_memory, set_deterministic_mkl

        keep_freed_memory()
        set_deterministic_mkl()
        return command(*args, **arguments)

    return prepared


for _command in (
    demo,
    plan,
    check,
    preview,
    train,
    predict,
    segment,
    measure,
    mask,
    view,
    evaluate,
    experiment,
    report,
    inspect,
    networks,
    pack,
    score,
):
    # segmentations have no tensors, and take less memory if it is given back
    app.command(cls=OnceEachCommand)(_command if _command is segment else _computing(_command))
app.command("import", cls=OnceEachCommand)(import_)
app.command("export", cls=OnceEachCommand)(export_)
app.command(cls=OnceEachCommand)(init)
app.command(cls=OnceEachCommand)(schema)
app.add_typer(config_app, name="config")


def main() -> None:
    """Run a command. An error that a user can mend is told in one line, any other with its traceback."""
    logging.getLogger("gunpowder").setLevel(logging.CRITICAL)  # it logs every error that is raised too
    try:
        app()
    except SystemExit as end:
        if type(end) is not SystemExit:  # a signal ended the run
            _tell(str(end), style="dim")
        raise
    except Exception as error:
        if isinstance(error, (ScaleNetError, OSError, MemoryError)) and not isinstance(error, WorkerFaultError):
            _tell(f"[bold red]error:[/] {_escaped(_one_line(error))}")
            raise SystemExit(1) from None
        traceback.print_exception(error)
        _tell(
            f"[bold red]This is a fault of scalenet_gp {version('scalenet_gp')}, not of yours.[/] Please report it to "
            "its developers, with the lines above and the command that you gave."
        )
        raise SystemExit(1) from None


def _one_line(error: BaseException) -> str:
    message = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        message = error.strerror  # without the number, which says nothing to a user
    if isinstance(error, ChildProcessError):
        message = message.partition("\n")[0]  # the rest, of the process that died, is for developers
    return " ".join(message.split()) or type(error).__name__


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _tell(text: str, style: str | None = None) -> None:
    from rich.console import Console

    # standard error, as standard output is for results
    Console(stderr=True).print(_escaped(text) if style else text, style=style, highlight=False, soft_wrap=True)
