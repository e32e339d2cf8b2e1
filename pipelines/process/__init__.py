"""Processes of the jobs: chains of nodes, signals, locks, progress bars."""

from scalenet_gp.pipelines.process.chains import build_chain, unwrap_errors
from scalenet_gp.pipelines.process.locks import file_lock, folder_lock
from scalenet_gp.pipelines.process.progress import Advance, console, progress_bar
from scalenet_gp.pipelines.process.signals import Interrupted, ending_at_once, stop_requested

__all__ = [
    "Advance",
    "Interrupted",
    "build_chain",
    "console",
    "ending_at_once",
    "file_lock",
    "folder_lock",
    "progress_bar",
    "stop_requested",
    "unwrap_errors",
]
