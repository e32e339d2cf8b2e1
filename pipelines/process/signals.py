"""Ending a run when a scheduler or a user says so: after the iteration that it is at, with a checkpoint.

The exit code says why a run ended before it was done:

====  ============================================  ==================================================
code  signal                                        meaning
====  ============================================  ==================================================
75    SIGTERM, SIGUSR1: a scheduler wants the node  start the same command again, and the run goes on
130   SIGINT: Ctrl-C                                somebody wanted it to end
====  ============================================  ==================================================

75 is ``EX_TEMPFAIL`` of ``sysexits.h``: "try again later". A batch script of Slurm that goes on until the run is done:

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
"""The signals that ask a run to end, and the exit code of one that did."""


@final
class Interrupted(SystemExit):
    """A run was asked to end, and did, in good order. Where nobody catches it, the process exits with the code for it.

    Args:
        received: the signal that asked; one of :data:`EXIT_CODES`.
        checkpoint: the file from which the run goes on; None if it had not learned anything yet.

    Attributes:
        code: the exit code.
    """

    def __init__(self, received: signal.Signals, checkpoint: Path | None) -> None:
        super().__init__(int(EXIT_CODES[received]))
        self.received = received
        self.checkpoint = checkpoint

    def __str__(self) -> str:
        rest = " before its first checkpoint" if self.checkpoint is None else f", which goes on from {self.checkpoint}"
        return f"{self.received.name} ended the run{rest}"


@contextmanager
def stop_requested() -> Iterator[Callable[[], signal.Signals | None]]:
    """Have the signals of :data:`EXIT_CODES` remembered instead of obeyed; the loop asks whether there was one.

    A second SIGINT raises KeyboardInterrupt at once. Signals that this process was told to ignore, as a background job
    is, stay ignored; in another thread than the main one, where Python allows no handlers, nothing changes.

    Yields:
        What returns the signal that came first, or None.

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
    """Have the signals of :data:`EXIT_CODES` raise :class:`Interrupted`: for what is done anew when a run goes on.

    Args:
        checkpoint: from which it goes on.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number), checkpoint)

    with _handled(end):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have ``handler`` called for the signals, but for those that are ignored, in the main thread."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in EXIT_CODES}
    # None is a handler that is not Python's, which Python could not put back
    ours = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    try:
        for number in ours:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in ours.items():
            signal.signal(number, old)
