"""Processes: chains, signals, locks, progress bars."""

from scalenet_gp.pipelines.process.chains import build_chain, unwrap_errors
from scalenet_gp.pipelines.process.file_server import HOST, serve_files
from scalenet_gp.pipelines.process.locks import file_lock, folder_lock
from scalenet_gp.pipelines.process.progress import Advance, console, progress_bar
from scalenet_gp.pipelines.process.signals import Interrupted, ending_at_once, stop_requested
from scalenet_gp.pipelines.process.tiling import tiles

__all__ = [
    "HOST",
    "Advance",
    "Interrupted",
    "build_chain",
    "console",
    "ending_at_once",
    "file_lock",
    "folder_lock",
    "progress_bar",
    "serve_files",
    "stop_requested",
    "tiles",
    "unwrap_errors",
]
