"""When each block was read, computed and written: one file of each process, beside the job."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["BlockTime", "note_time", "read_times", "seconds_in_all"]


@dataclass(frozen=True, slots=True)
class BlockTime:
    """What became of a block, and when; seconds.

    Attributes:
        process: that did it.
        read_at, computed_at, written_at: when each was done, since the epoch.
        reading, computing, writing: how long each took, without waiting for another block.
    """

    process: int
    read_at: float
    reading: float
    computed_at: float
    computing: float
    written_at: float
    writing: float


def note_time(folder: Path, time: BlockTime) -> None:
    """Note a block of this process."""
    folder.mkdir(exist_ok=True)
    with (folder / f"{os.uname().nodename}.{time.process}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(time)) + "\n")


def read_times(folder: Path) -> list[BlockTime]:
    """The blocks that were noted; of a process that was killed as it noted one, those before."""
    times = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                times.append(BlockTime(**json.loads(line)))
            except (ValueError, TypeError):
                break
    return times


def seconds_in_all(times: Iterable[BlockTime]) -> dict[str, float]:
    """What reading, computing and writing took, all processes together: the largest holds the others up."""
    blocks = list(times)
    return {
        part: round(sum(getattr(block, part) for block in blocks), 3) for part in ("reading", "computing", "writing")
    }
