"""Records of blocks that processes write beside the job: causes of failures, and times of completion."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from scalenet_gp.errors import ScaleNetError

__all__ = [
    "BlockFailure",
    "BlockTime",
    "UnfinishedBlocksError",
    "read_cause",
    "read_times",
    "record_cause",
    "record_time",
    "total_seconds",
]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class BlockFailure:
    """A block that is missing.

    Attributes:
        place: its region, nm from the raw volume's corner.
        cause: why it is missing.
    """

    place: str
    cause: str


@final
class UnfinishedBlocksError(ScaleNetError, OSError):
    """Some blocks are missing. The others are done, and the same call does the missing ones.

    Args:
        folder: the folder of the unfinished work.
        failures: the blocks that failed.
        reason: why the run ended, if it ended early.

    Example:
        >>> missing = BlockFailure("[0] to [9] nm", "the disk is full")
        >>> try:
        ...     raise UnfinishedBlocksError(Path("out.zarr.partial"), [missing])
        ... except UnfinishedBlocksError as error:
        ...     print(str(error).partition(".")[0])
        1 block could not be done: [0] to [9] nm: the disk is full
    """

    def __init__(self, folder: Path, failures: Sequence[BlockFailure], reason: str = "") -> None:
        self.folder = folder
        self.failures = tuple(failures)
        shown = "; ".join(f"{failure.place}: {failure.cause}" for failure in self.failures[:_SHOWN])
        rest = f"; and {len(self.failures) - _SHOWN} more" if len(self.failures) > _SHOWN else ""
        count = f"{len(self.failures)} block{'s' * (len(self.failures) != 1)} could not be done: {shown}{rest}"
        told = "; ".join(filter(None, (reason, count if self.failures else "")))
        super().__init__(f"{told}. Finished blocks are kept in {folder}; the same command resumes from there")


def record_cause(folder: Path, block: int, error: BaseException) -> None:
    """Write why a block failed, in place of an earlier cause."""
    folder.mkdir(parents=True, exist_ok=True)
    text = " ".join(str(error).split()) or type(error).__name__
    (folder / f"{block}.json").write_text(json.dumps(text), encoding="utf-8")


def read_cause(folder: Path, block: int) -> str:
    """Return what :func:`record_cause` wrote, or that the worker process ended where it wrote nothing."""
    try:
        return str(json.loads((folder / f"{block}.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return "the worker processes that had it came to an end before it was done"


@dataclass(frozen=True, slots=True)
class BlockTime:
    """The times of a block: when it was done, and how long each part took.

    Attributes:
        process: id of the process that did it.
        read_at, computed_at, written_at: end of each part, seconds since the epoch.
        reading, computing, writing: seconds of each part, without waiting for other blocks.

    Example:
        >>> times = [BlockTime(7, 1.0, 0.5, 2.0, 1.0, 3.0, 0.25), BlockTime(8, 1.0, 0.5, 2.0, 1.0, 3.0, 0.25)]
        >>> total_seconds(times)
        {'reading': 1.0, 'computing': 2.0, 'writing': 0.5}
    """

    process: int
    read_at: float
    reading: float
    computed_at: float
    computing: float
    written_at: float
    writing: float


def record_time(folder: Path, time: BlockTime) -> None:
    """Append the time of a block to the file of its process."""
    folder.mkdir(exist_ok=True)
    with (folder / f"{os.uname().nodename}.{time.process}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(time)) + "\n")


def read_times(folder: Path) -> list[BlockTime]:
    """Return the recorded times of all processes. A line that a killed process left half-written is left out."""
    times = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                times.append(BlockTime(**json.loads(line)))
            except (ValueError, TypeError):
                break
    return times


def total_seconds(times: Iterable[BlockTime]) -> dict[str, float]:
    """Return the seconds of reading, computing and writing, summed over all blocks."""
    blocks = list(times)
    return {
        part: round(sum(getattr(block, part) for block in blocks), 3) for part in ("reading", "computing", "writing")
    }
