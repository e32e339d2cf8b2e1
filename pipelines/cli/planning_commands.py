"""Commands that write run files."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli.options import print_results

__all__ = ["init", "plan"]

_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_NANOMETRES = {"nm": 1, "um": 1000, "µm": 1000, "mm": 10**6}

Output = Annotated[Path, typer.Option("--output", "-o", help="Run file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


def plan(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="YAML file with the part `data` alone, instead of --raw and --labels."),
    ] = None,
    raw: Annotated[str | None, typer.Option("--raw", help="Raw volume.")] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="Group with a label volume for each class; wildcards as in data.sources."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Classes to learn, as mito,nucleus; all that have labels by default."),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            help="Memory that a training step may take, as 24GiB: that of the GPU, say. As it allows, up to 24 "
            "channels and 8 samples are taken; the defaults, 12 and 4, unless given.",
        ),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            "--context", help="Length that the network is to see, as 5um; that of the largest class unless given."
        ),
    ] = None,
    output: Output = Path("run.yaml"),
    force: Force = False,
) -> None:
    """Measure the annotation, and write a run file in which each number has its reason, and fingerprint.json."""
    from scalenet_gp.pipelines.planning import data_of_file, data_of_paths, plan_run

    allowed = None if memory is None else int(_quantity(memory, _BYTES, "--memory", "8GiB"))
    seen = None if context is None else _quantity(context, _NANOMETRES, "--context", "5um")
    if file is not None:
        if given := [name for name, value in (("--raw", raw), ("--labels", labels), ("--classes", classes)) if value]:
            raise ConfigError(f"{file} says the data, and so does {given[0]}: give one of the two")
        data = data_of_file(file, output.parent)
    else:
        if raw is None or labels is None:
            raise ConfigError("give --raw and --labels, or a file with the part `data`")
        data = data_of_paths(raw, labels, [] if classes is None else classes.split(","), output.parent)
    result = plan_run(data, output, allowed, seen, overwrite=force)
    print_results({"run file": result.path, "fingerprint": result.fingerprint_path})
    typer.echo(f"next: scalenet-gp check {output}, then scalenet-gp train {output} --dry-run")


def init(output: Output = Path("run.yaml"), force: Force = False) -> None:
    """Write a run file to fill in by hand, with comments; no data are looked at."""
    from scalenet_gp.pipelines.planning import write_fresh

    print_results({"run file": write_fresh(output, overwrite=force)})


def _quantity(text: str, units: dict[str, int], option: str, example: str) -> Fraction:
    """Return a positive number with a unit."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-zµ]+)\s*", text)
    if match is None or match.group(2) not in units or not Fraction(match.group(1)):
        raise ConfigError(
            f"{option} is a number above 0 with one of the units {', '.join(units)}, as {example}, not {text!r}"
        )
    return Fraction(match.group(1)) * units[match.group(2)]
