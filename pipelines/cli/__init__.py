"""The command line."""

from scalenet_gp.pipelines.cli.commands import app, main

__all__ = ["app", "main"]
