"""How good a network is while it is trained, which one is the best so far, and when to stop."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalenet_gp.metrics import Scores, scores_from_json, scores_to_json
from scalenet_gp.serialization import atomic_write
from scalenet_gp.training.options import Metric, ValidationOptions

__all__ = ["EarlyStopping", "Validated", "ValidationResult", "save_best"]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """How good a network is.

    Attributes:
        scores: the agreement of each class with the annotation, for each output from coarse to fine.
        loss: the mean of the training losses; NaN where a prediction was not finite.

    Example:
        >>> ValidationResult({}, loss=0.25).metric("loss")
        0.25
    """

    scores: Scores
    loss: float

    def metric(self, name: Metric) -> float:
        """The loss, or the mean of a score over the classes of the finest output.

        Classes for which the score is not defined are left out; NaN if that leaves none.
        """
        if name == "loss":
            return self.loss
        finest = list(self.scores.values())[-1]
        defined = [value for each in finest.values() if not math.isnan(value := each.scores[name])]
        return sum(defined) / len(defined) if defined else math.nan

    def loss_like(self, name: Metric) -> float:
        """The metric as a schedule of the learning rate takes it: the lower the better."""
        return self.loss if name == "loss" else 1 - self.metric(name)

    def better_than(self, other: ValidationResult, name: Metric) -> bool:
        """Whether the metric is better; any number is better than NaN."""
        ours, theirs = self.loss_like(name), other.loss_like(name)
        return ours < theirs or (math.isnan(theirs) and not math.isnan(ours))

    def as_plain(self) -> dict[str, Any]:
        """What JSON can hold, and :meth:`of_plain` reads."""
        return {"loss": None if math.isnan(self.loss) else self.loss, "scores": scores_to_json(self.scores)}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> ValidationResult:
        """What :meth:`as_plain` was called on.

        Raises:
            KeyError: something is missing.
        """
        loss = plain["loss"]
        return cls(scores_from_json(plain["scores"]), math.nan if loss is None else loss)


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
    """Says when a network in training is to be judged, which judgement was the best, and when to give up.

    Where it comes out of a checkpoint that was written before the network was judged in the same iteration, that
    judgement is due again, so that a run that goes on judges and stops as one without a break::

        while True:
            if best.due(iteration):
                if best.add(iteration, validation.validate(net)):
                    ...  # keep it
            if best.stop or iteration == iterations:
                break
            ...  # learn from one more batch

    Args:
        options: metric, iterations from one validation to the next, and patience.

    Attributes:
        best: the best judgement, None before the first.
        iteration: in which it was made.
        without_improvement: judgements since then.

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
        """Whether patience is at its end."""
        return self.patience is not None and self.without_improvement >= self.patience

    def due(self, iteration: int) -> bool:
        """Whether a network that has learned from so many batches is to be judged, and was not yet."""
        return iteration > self._last and iteration % self.every == 0

    def add(self, iteration: int, judgement: ValidationResult) -> bool:
        """Take a judgement into account.

        Returns:
            Whether it is the best so far; the first one is.
        """
        self._last = iteration
        if self.best is not None and not judgement.better_than(self.best, self.metric):
            self.without_improvement += 1
            return False
        self.best, self.iteration, self.without_improvement = judgement, iteration, 0
        return True

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep of it: plain values."""
        return {
            "best": None if self.best is None else self.best.as_plain(),
            "iteration": self.iteration,
            "without_improvement": self.without_improvement,
            "last": self._last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises:
            KeyError: something is missing.
        """
        best = None if state["best"] is None else ValidationResult.of_plain(state["best"])
        iteration, without_improvement, last = (state[key] for key in ("iteration", "without_improvement", "last"))
        self.best, self.iteration, self.without_improvement, self._last = best, iteration, without_improvement, last


def save_best(checkpoint: Path, best: Path) -> Path:
    """Keep a checkpoint under a second name, in place of what has it, whatever becomes of the first.

    Nothing is copied where the file system knows hard links.

    Args:
        checkpoint: a whole file that will not be changed any more; it may be removed.
        best: the second name, on the same file system. At any time, a whole file has it.

    Returns:
        ``best``.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        OSError: the second name cannot be given; what had it still has.
    """
    if not checkpoint.is_file():
        raise FileNotFoundError(f"there is no checkpoint {checkpoint} to keep as {best.name}")
    best.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(best) as beside:
        beside.unlink(missing_ok=True)  # what a process left that was killed
        try:
            beside.hardlink_to(checkpoint)
        except OSError:
            shutil.copyfile(checkpoint, beside)
    beside.unlink(missing_ok=True)  # renaming does nothing where both names are of one file already
    return best
