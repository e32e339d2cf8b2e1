"""How worker processes are started: here, or by a command of a cluster."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["worker_starter"]

_WORKER = "scalenet_gp.pipelines.prediction.worker"


def worker_starter(
    job: Path,
    launcher: str = "",
    devices: Sequence[str] = (),
    threads: int | None = None,
    level: int | None = None,
) -> Callable[[], None]:
    """What daisy calls, each time in a process of its own, for a worker to run in that process.

    The process becomes the launcher's, or the worker's where there is none, so that signals, the exit code and what is
    written to standard error go from one to the other unchanged. A launcher gets the worker's command as its last
    arguments and has to end when the worker does (``srun``, ``bsub -I``), and to pass the environment on, as daisy's
    variable DAISY_CONTEXT says where the scheduler is.

    Args:
        job: the job's file.
        launcher: a command, quoted as in a shell.
        devices: names of torch devices, which the workers take in turn.
        threads: that a worker computes with on the processor, unless OMP_NUM_THREADS says so; as torch chooses, if
            neither does.
        level: that workers make; None if they predict.
    """
    command = [*shlex.split(launcher), sys.executable, "-m", _WORKER, str(job)]
    if devices:
        command += ["--devices", ",".join(devices)]
    if level is not None:
        command += ["--level", str(level)]

    # a closure is sent to the process whole; a function of this module would have it import all of scalenet_gp first
    def start() -> None:
        import os

        if threads is not None:
            os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        os.execvp(command[0], command)

    return start
