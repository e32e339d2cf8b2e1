"""Blocks that could not be predicted, and why: one small file each, so that many processes can report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

__all__ = ["BlockFailure", "UnfinishedPredictionError", "read_cause", "record_cause"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class BlockFailure:
    """A block that is missing.

    Attributes:
        place: where it is, nm from the raw volume's corner.
        cause: why.
    """

    place: str
    cause: str


@final
class UnfinishedPredictionError(OSError):
    """Some blocks are missing; the others are done, and the same call goes on with those that are missing.

    Args:
        partial: the folder of the unfinished prediction.
        failures: the blocks that were tried in vain.
        reason: why the run ended, if it ended early.
    """

    def __init__(self, partial: Path, failures: Sequence[BlockFailure], reason: str = "") -> None:
        self.partial = partial
        self.failures = tuple(failures)
        shown = "; ".join(f"{failure.place}: {failure.cause}" for failure in self.failures[:_SHOWN])
        rest = f"; and {len(self.failures) - _SHOWN} more" if len(self.failures) > _SHOWN else ""
        count = f"{len(self.failures)} block{'s' * (len(self.failures) != 1)} could not be predicted: {shown}{rest}"
        told = "; ".join(filter(None, (reason, count if self.failures else "")))
        super().__init__(f"{told}. What is done is kept in {partial}; the same command goes on from there")


def record_cause(folder: Path, block: int, error: BaseException) -> None:
    """Note why a block failed; in place of what was noted before."""
    folder.mkdir(parents=True, exist_ok=True)
    text = " ".join(str(error).split()) or type(error).__name__
    (folder / f"{block}.json").write_text(json.dumps(text), encoding="utf-8")


def read_cause(folder: Path, block: int) -> str:
    """What :func:`record_cause` noted, or else that the process ended in the midst of it."""
    try:
        return str(json.loads((folder / f"{block}.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return "the worker processes that had it came to an end before it was done"
