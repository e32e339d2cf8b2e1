"""Results of validations, the best network so far, and early stopping."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scalenet_gp.metrics import GroupCounts, GroupScores, Scores, mean_scores, scores_from_json, scores_to_json
from scalenet_gp.serialization import atomic_write
from scalenet_gp.training.options import Metric, ValidationOptions

__all__ = ["EarlyStopping", "Validated", "ValidationResult", "save_best"]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """The scores and the loss of a network on samples that it does not learn from.

    Attributes:
        scores: the confusion counts of each class, for each output from coarse to fine.
        loss: the mean of the training losses; NaN where a prediction was not finite.
        groups: the voxels of each group of exclusive classes, for each output that has all of its classes.

    Example:
        >>> ValidationResult({}, loss=0.25).metric("loss")
        0.25
    """

    scores: Scores
    loss: float
    groups: GroupScores = field(default_factory=dict)

    def metric(self, name: Metric) -> float:
        """Return the loss, or the mean of a score over the classes of the finest output.

        Classes for which the score is not defined are left out; NaN if that leaves none.
        """
        if name == "loss":
            return self.loss
        return mean_scores(list(self.scores.values())[-1])[name]

    def loss_like(self, name: Metric) -> float:
        """Return the metric as a schedule of the learning rate takes it: the lower the better."""
        return self.loss if name == "loss" else 1 - self.metric(name)

    def better_than(self, other: ValidationResult, name: Metric) -> bool:
        """Return whether the metric is better than that of ``other``. Any number is better than NaN."""
        ours, theirs = self.loss_like(name), other.loss_like(name)
        return ours < theirs or (math.isnan(theirs) and not math.isnan(ours))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, which :meth:`from_json` reads. NaN becomes None."""
        return {
            "loss": None if math.isnan(self.loss) else self.loss,
            "scores": scores_to_json(self.scores),
            "groups": {
                output: {name: counts.to_json() for name, counts in groups.items()}
                for output, groups in self.groups.items()
            },
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> ValidationResult:
        """Return the result that :meth:`to_json` was called on.

        Raises:
            KeyError: something is missing.
        """
        loss = plain["loss"]
        groups = {
            output: {name: GroupCounts.from_json(counts) for name, counts in of_output.items()}
            for output, of_output in plain["groups"].items()
        }
        return cls(scores_from_json(plain["scores"]), math.nan if loss is None else loss, groups)


@dataclass(frozen=True, slots=True)
class Validated:
    """A validation that was made in training.

    Attributes:
        iteration: batches that the network had learned from.
        result: the scores and the loss.
        metric: the number that networks are compared by.
        best: True if it is the best so far.

    Example:
        >>> Validated(10, ValidationResult({}, 0.5), "loss", best=True).best
        True
    """

    iteration: int
    result: ValidationResult
    metric: Metric
    best: bool


class EarlyStopping:
    """Schedules validations, remembers the best one, and says when to stop training.

    Its state is kept in checkpoints. If a checkpoint was written before the validation of its iteration, that
    validation is due again after resuming. So a resumed run validates and stops as a run without a break does::

        while True:
            if stopping.due(iteration):
                if stopping.add(iteration, validation.validate(net)):
                    ...  # keep the network
            if stopping.stop or iteration == iterations:
                break
            ...  # learn from one more batch

    Args:
        options: metric, iterations from one validation to the next, and patience.

    Attributes:
        best: the best validation, None before the first.
        iteration: the iteration of the best validation.
        without_improvement: number of validations since then.

    Example:
        >>> stopping = EarlyStopping(ValidationOptions(metric="loss", every=10, patience=1))
        >>> [stopping.add(10, ValidationResult({}, 0.5)), stopping.add(20, ValidationResult({}, 0.7)), stopping.stop]
        [True, False, True]
    """

    def __init__(self, options: ValidationOptions) -> None:
        self.metric: Metric = options.metric
        self.every = options.every
        self.patience = options.patience
        self.best: ValidationResult | None = None
        self.iteration = self.without_improvement = self._last = 0

    @property
    def stop(self) -> bool:
        """True if there were as many validations in a row without a better one as ``patience`` allows."""
        return self.patience is not None and self.without_improvement >= self.patience

    def due(self, iteration: int) -> bool:
        """Return whether a network that has learned from ``iteration`` batches has yet to be validated."""
        return iteration > self._last and iteration % self.every == 0

    def add(self, iteration: int, result: ValidationResult) -> bool:
        """Add the result of a validation.

        Returns:
            True if it is the best so far, as the first one is.
        """
        self._last = iteration
        if self.best is not None and not result.better_than(self.best, self.metric):
            self.without_improvement += 1
            return False
        self.best, self.iteration, self.without_improvement = result, iteration, 0
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the state that checkpoints keep: plain values."""
        return {
            "best": None if self.best is None else self.best.to_json(),
            "iteration": self.iteration,
            "without_improvement": self.without_improvement,
            "last": self._last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            KeyError: an entry is missing.
        """
        best = None if state["best"] is None else ValidationResult.from_json(state["best"])
        iteration, without_improvement, last = (state[key] for key in ("iteration", "without_improvement", "last"))
        self.best, self.iteration, self.without_improvement, self._last = best, iteration, without_improvement, last


def save_best(checkpoint: Path, best: Path) -> Path:
    """Keep a checkpoint under a second name, and replace the file that has this name.

    The second name is a hard link if the file system has them, and otherwise a copy.

    Args:
        checkpoint: a whole file that does not change any more. It may be removed later.
        best: the second name, on the same file system. It names a whole file at any time.

    Returns:
        ``best``.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        OSError: the second name cannot be given; the file that has it stays.
    """
    if not checkpoint.is_file():
        raise FileNotFoundError(f"there is no checkpoint {checkpoint} to keep as {best.name}")
    best.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(best) as beside:
        beside.unlink(missing_ok=True)  # left by a process that was killed
        try:
            beside.hardlink_to(checkpoint)
        except OSError:
            shutil.copyfile(checkpoint, beside)
    beside.unlink(missing_ok=True)  # renaming does nothing if both names are of one file already
    return best
