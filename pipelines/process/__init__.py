"""Processes of the jobs: signals, locks, progress bars."""

from scalenet_gp.pipelines.process.locks import file_lock, folder_lock
from scalenet_gp.pipelines.process.progress import Advance, console, progress_bar
from scalenet_gp.pipelines.process.signals import Interrupted, ending_at_once, stop_requested

__all__ = [
    "Advance",
    "Interrupted",
    "console",
    "ending_at_once",
    "file_lock",
    "folder_lock",
    "progress_bar",
    "stop_requested",
]
