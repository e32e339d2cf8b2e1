"""The TensorBoard log of a run: seconds of training, and curves over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

__all__ = ["TrainingLog", "read_log"]


@dataclass(frozen=True)
class TrainingLog:
    """Scalars of a run, and how long its training had taken at each iteration.

    Attributes:
        scalars: (iteration, value) by tag.
        batch_size: samples of an iteration.
        each: seconds of an iteration, where they were measured before; by the rates of samples in the log unless given.

    Example:
        >>> log = TrainingLog({"samples_per_second": [(10, 4.0), (20, 8.0)]}, batch_size=2)
        >>> log.seconds(10), log.seconds(15), log.seconds(20)
        (5.0, 6.25, 7.5)
    """

    scalars: Mapping[str, Sequence[tuple[int, float]]]
    batch_size: int
    each: float | None = None

    def seconds(self, iteration: int) -> float:
        """Return the seconds that batches up to an iteration took to prepare and to learn from.

        They follow from the rates of samples, which leave out validation, and the time between the processes that
        worked on a run. Between two entries of the log, and after the last one, the rate is taken to be constant.
        """
        if self.each is not None:
            return self.each * iteration
        whole, before, rate = 0.0, 0, 0.0
        for at, rate in self.scalars.get("samples_per_second", ()):
            if at >= iteration:
                return whole + (iteration - before) * self.batch_size / rate
            whole += (at - before) * self.batch_size / rate
            before = at
        return whole + ((iteration - before) * self.batch_size / rate if rate else 0.0)

    def curve(self, tag: str) -> list[tuple[int, float, float]]:
        """Return (iteration, seconds, value) of a tag."""
        return [(at, self.seconds(at), value) for at, value in self.scalars.get(tag, ())]

    def validated(self, output: str) -> list[tuple[int, float, float]]:
        """Return (iteration, seconds, mean Dice over the classes of an output) of each validation."""
        classes = [points for tag, points in self.scalars.items() if tag.startswith(f"validation/dice/{output}/")]
        by_iteration: dict[int, list[float]] = {}
        for points in classes:
            for at, value in points:
                by_iteration.setdefault(at, []).append(value)
        return [(at, self.seconds(at), fmean(values)) for at, values in sorted(by_iteration.items())]

    @property
    def last(self) -> int:
        """The last iteration that was logged; 0 without a log."""
        return max((at for points in self.scalars.values() for at, _ in points), default=0)


def read_log(folder: Path, batch_size: int) -> TrainingLog:
    """Return the scalars in a folder of TensorBoard's event files; none if there is no such folder."""
    if not folder.is_dir():
        return TrainingLog({}, batch_size)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow to import

    log = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    scalars = {tag: [(event.step, event.value) for event in log.Scalars(tag)] for tag in log.Tags()["scalars"]}
    return TrainingLog(scalars, batch_size)
