"""The command line. Modules of this room import typer and the standard library alone; each command imports its job."""

from scalenet_gp.pipelines.cli.main import app, main

__all__ = ["app", "main"]
