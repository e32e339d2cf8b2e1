"""The surface of the command line as text. After a change that is meant, in the repository's root:

python -m tests.pipelines.cli.surface > tests/pipelines/cli/surface.txt
"""

import inspect
import sys

import typer

from scalenet_gp.pipelines.cli import app


def surface():
    """Every command with its help, and every argument and option of it with metavar, default and help."""
    return "\n".join(_lines("scalenet-gp", typer.main.get_command(app))) + "\n"


def _lines(name, command):
    yield f"{name}: {' '.join(inspect.cleandoc(command.help or '').split())}"
    for parameter in command.params:
        names = ", ".join((*parameter.opts, *parameter.secondary_opts))
        if not names.startswith("-"):
            names = parameter.metavar
        default = "needed" if parameter.required else f"default {parameter.default}"
        repeated = ", repeatable" if getattr(parameter, "multiple", False) else ""
        yield f"    {names} ({default}{repeated}): {parameter.help}"
    for below, part in getattr(command, "commands", {}).items():
        yield ""
        yield from _lines(f"{name} {below}", part)


if __name__ == "__main__":
    sys.stdout.write(surface())
