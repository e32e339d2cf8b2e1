"""Signals with which a scheduler or a user ends a run: after its iteration, with a checkpoint.

The exit code says why a run ended early:

====  ============================================  ==================================================
code  signal                                        meaning
====  ============================================  ==================================================
75    SIGTERM, SIGUSR1: a scheduler wants the node  start the same command again to resume the run
130   SIGINT: Ctrl-C                                a user wanted the run to end
====  ============================================  ==================================================

75 is ``EX_TEMPFAIL`` of ``sysexits.h``: "try again later". A batch script of Slurm that resumes until the run is done:

.. code-block:: bash

    #SBATCH --signal=USR1@120   # two minutes before the time is over
    #SBATCH --requeue
    #SBATCH --open-mode=append

    srun scalenet-gp train config.yaml --volume volume.zarr --run run
    if [ $? -eq 75 ]; then scontrol requeue $SLURM_JOB_ID; fi
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import final

__all__ = ["EXIT_CODES", "Interrupted", "ending_at_once", "stop_requested"]

EXIT_CODES = {signal.SIGTERM: os.EX_TEMPFAIL, signal.SIGUSR1: os.EX_TEMPFAIL, signal.SIGINT: 128 + signal.SIGINT}
"""Signals that ask a run to end, and the exit code of a run that ended so."""


@final
class Interrupted(SystemExit):
    """A signal ended a run in good order. If nothing catches this, the process exits with the signal's code.

    Args:
        received: the signal; one of :data:`EXIT_CODES`.
        checkpoint: file or folder from which the run resumes; None before the first checkpoint.

    Attributes:
        code: the exit code.

    Example:
        >>> print(Interrupted(signal.SIGTERM, Path("run.partial")))
        SIGTERM ended the run, which resumes from run.partial
    """

    def __init__(self, received: signal.Signals, checkpoint: Path | None) -> None:
        super().__init__(int(EXIT_CODES[received]))
        self.received = received
        self.checkpoint = checkpoint

    def __str__(self) -> str:
        rest = " before its first checkpoint" if self.checkpoint is None else f", which resumes from {self.checkpoint}"
        return f"{self.received.name} ended the run{rest}"


@contextmanager
def stop_requested() -> Iterator[Callable[[], signal.Signals | None]]:
    """Remember the signals of :data:`EXIT_CODES` instead of obeying them, for a loop to ask for.

    A second SIGINT raises KeyboardInterrupt at once. Signals that this process ignores, like a background job, stay
    ignored. Outside of the main thread, where Python allows no handlers, nothing changes.

    Yields:
        A function that returns the first signal that came, or None.

    Example:
        >>> with stop_requested() as received:
        ...     for iteration in range(1000):
        ...         if received() is not None:
        ...             break
    """
    came: list[signal.Signals] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in came:
            raise KeyboardInterrupt
        came.append(signal.Signals(number))

    with _handled(remember):
        yield lambda: came[0] if came else None


@contextmanager
def ending_at_once(checkpoint: Path) -> Iterator[None]:
    """Raise :class:`Interrupted` at the signals of :data:`EXIT_CODES`, during work that a later run does again.

    Args:
        checkpoint: file or folder from which the run resumes.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number), checkpoint)

    with _handled(end):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call ``handler`` at the signals that are not ignored, in the main thread."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in EXIT_CODES}
    # None stands for a handler that is not Python's, which Python could not put back
    ours = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    try:
        for number in ours:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in ours.items():
            signal.signal(number, old)
