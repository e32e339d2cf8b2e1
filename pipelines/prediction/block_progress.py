"""How far a run is: a bar."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final

import daisy.v2 as daisy

from scalenet_gp.pipelines.process import Advance, progress_bar

__all__ = ["BlockProgress"]


@final
class BlockProgress:
    """Shows the blocks that are done, the voxels per second, and the blocks that failed; an observer of daisy's.

    Args:
        done: blocks that earlier runs did.
        voxels: of a block, on average, at the finest output.
        advance: moves the bar.

    Attributes:
        begun: whether daisy has begun.
        last_worker_error: what the worker that died last said; "" if none did.
    """

    def __init__(self, done: int, voxels: float, advance: Advance) -> None:
        self.begun = False
        self.last_worker_error = ""
        self._before = self._done = done
        self._voxels = voxels
        self._advance = advance
        self._start = time.monotonic()

    @classmethod
    @contextmanager
    def shown(cls, title: str, blocks: int, done: int, voxels: float) -> Iterator[BlockProgress]:
        """A bar of ``blocks`` steps, for as long as the context lasts."""
        with progress_bar(title, blocks, done) as advance:
            yield cls(done, voxels, advance)

    def add(self) -> None:
        """One more block is done."""
        self._show(self._done + 1, failed=0)

    def on_start(self, states: Mapping[str, daisy.TaskState]) -> None:
        """What daisy calls when it begins."""
        self.begun = True

    def on_progress(self, states: Mapping[str, daisy.TaskState]) -> None:
        """What daisy calls, twice a second at most, when something happened."""
        for state in states.values():
            self.last_worker_error = state.last_worker_error or ""
            self._show(state.completed_count, state.failed_count)

    def on_finish(self, states: Mapping[str, daisy.TaskState]) -> None:
        """What daisy calls at the end."""
        self.on_progress(states)

    def _show(self, done: int, failed: int) -> None:
        rate = (done - self._before) * self._voxels / max(time.monotonic() - self._start, 1e-9)
        note = f"{rate / 1e6:.3g} Mvoxel/s" + (f", {failed} failed" if failed else "")
        for _ in range(done - self._done):
            self._advance(note)
        self._done = max(done, self._done)
