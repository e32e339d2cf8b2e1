"""What a person or a machine sees of a training run while it goes on."""

from __future__ import annotations

import json
import math
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO, final

import torch

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.process import Advance, Interrupted, console, progress_bar
from scalenet_gp.serialization import package_versions
from scalenet_gp.training import Callback, StepResult, TrainerView, Validated, resident_bytes

__all__ = ["BarReport", "JsonReport", "NoReport", "ReportForm", "TrainingReport", "training_report"]

ReportForm = Literal["bar", "json", "none"]
"""For people, a progress bar on standard error; for machines, lines of JSON on standard output; or nothing."""

_WINDOW = 20
"""Batches that the rates beside a progress bar are those of."""

_PACKAGES = ("scalenet_gp", "gunpowder", "torch", "numpy")


class TrainingReport(Callback, AbstractContextManager["TrainingReport"], ABC):
    """Tells of a run as it goes, from where it is entered; abstract.

    Rates are those of the last ``window`` batches. If an error ends the ``with`` block before :meth:`finish` was
    called, it is called with the error as the reason. A bar says nothing then, as whoever catches the error will.

    Args:
        iterations: of the whole run.
        first: that were done before.
        device: where the network is.
        window: batches.
    """

    def __init__(self, iterations: int, first: int, device: torch.device, window: int) -> None:
        self.iterations = iterations
        self.first = first
        self.device = device
        # numbers alone: a record holds the tensors of its batch
        self._recent: deque[tuple[int, float, float, float | None]] = deque(maxlen=window)
        self._ended = False
        self._validated: Validated | None = None
        self._checkpoint: Path | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Interrupted) and not self._ended:
            self.finish(str(error), error.checkpoint)
        elif error is not None and not self._ended:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0].removesuffix(": ")
            self.finish(reason, None)

    def begin(self, trainer: TrainerView) -> None:
        self._checkpoint = trainer.newest_checkpoint
        self._tell_of_validation(trainer)

    def after_step(self, trainer: TrainerView, result: StepResult) -> None:
        self.step(result)
        self._tell_of_validation(trainer)
        newest = trainer.newest_checkpoint
        if newest is not None and newest != self._checkpoint:
            self._checkpoint = newest
            self.checkpoint(newest)

    def _tell_of_validation(self, trainer: TrainerView) -> None:
        if trainer.validated is not None and trainer.validated is not self._validated:
            self._validated = trainer.validated
            self.validation(trainer.validated)

    def step(self, record: StepResult) -> None:
        """Tell of a batch, if it is time to; to be called after each."""
        self._recent.append((record.samples, record.seconds, record.waited, record.step.gradient_norm))
        self._step(record)

    @abstractmethod
    def _step(self, record: StepResult) -> None:
        """Tell of a batch, if it is time to."""

    @abstractmethod
    def validation(self, validated: Validated) -> None:
        """Tell how good the network is."""

    @abstractmethod
    def checkpoint(self, path: Path) -> None:
        """Tell of a checkpoint that was written."""

    def finish(self, reason: str, checkpoint: Path | None) -> None:
        """Tell that the run ends.

        Args:
            reason: why: ``"done"``, the signal that asked for it, ...
            checkpoint: the newest, from which it can go on.
        """
        self._ended = True
        self._end(reason, checkpoint)

    @abstractmethod
    def _end(self, reason: str, checkpoint: Path | None) -> None:
        """Tell that the run ends."""

    def _numbers(self, record: StepResult) -> dict[str, Any]:
        """What is told of a batch; not every batch has a gradient's norm: it is the newest in the window."""
        samples, seconds, waited = (sum(entry[i] or 0 for entry in self._recent) for i in range(3))
        norms = (norm for *_, norm in reversed(self._recent) if norm is not None)
        return {
            "iteration": record.iteration,
            "loss": record.loss,
            "losses": dict(record.losses),
            "learning_rate": record.learning_rate,
            "gradient_norm": next(norms, None),
            "samples_per_second": samples / seconds if seconds > 0 else math.nan,
            "waiting": waited / seconds if seconds > 0 else math.nan,
            "memory": resident_bytes(),
            "device_memory": torch.cuda.memory_reserved(self.device) if self.device.type == "cuda" else None,
            "skipped": record.skipped,
        }


@final
class BarReport(TrainingReport):
    """A progress bar on standard error, with the numbers of the last batches below; other events leave a line each.

    Args:
        iterations: of the whole run.
        first: that were done before.
        device: where the network is.
    """

    def __init__(self, iterations: int, first: int, device: torch.device) -> None:
        super().__init__(iterations, first, device, _WINDOW)
        self._shown = ExitStack()
        self._advance: Advance | None = None

    def __enter__(self) -> Self:
        self._advance = self._shown.enter_context(progress_bar("training", self.iterations, self.first))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._shown.close()

    def _step(self, record: StepResult) -> None:
        if self._advance is not None:
            self._advance(_note(self._numbers(record)))

    def validation(self, validated: Validated) -> None:
        value, best = validated.result.metric(validated.metric), ", the best so far" if validated.best else ""
        self._say(f"iteration {validated.iteration}: {validated.metric} {value:.4f}{best}")

    def checkpoint(self, path: Path) -> None:
        self._say(f"checkpoint {path}")

    def _end(self, reason: str, checkpoint: Path | None) -> None:
        if reason != "done":
            self._say(f"the run ends: {reason}")

    def _say(self, line: str) -> None:
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


@final
class JsonReport(TrainingReport):
    """A line of JSON for each event; what is not finite is null.

    =============  ================================================================================================
    ``event``      and
    =============  ================================================================================================
    "begin"        ``iterations``, ``first``, ``device``, ``versions``
    "step"         ``iteration``, ``loss``, ``losses``, ``learning_rate``, ``gradient_norm`` before clipping,
                   ``samples_per_second``, ``waiting`` (share of the time), ``memory`` of this process and
                   ``device_memory`` (bytes; null without a GPU), ``skipped`` steps in all
    "validation"   ``iteration``, ``metric``, ``value``, ``best``, ``loss``, ``scores``
    "checkpoint"   ``path``
    "end"          ``reason``, ``checkpoint``
    =============  ================================================================================================

    Losses are those of the batch, rates those of the batches since the last line.

    Args:
        iterations: of the whole run.
        first: that were done before.
        device: where the network is.
        every: iterations from one "step" to the next.
        stream: where to; standard output unless given.

    Raises:
        ValueError: ``every`` is below 1.
    """

    def __init__(
        self, iterations: int, first: int, device: torch.device, every: int = 1, stream: TextIO | None = None
    ) -> None:
        if every < 1:
            raise ConfigError(f"every is a number of iterations from 1 up, not {every}")
        super().__init__(iterations, first, device, every)
        self._every = every
        self._stream = sys.stdout if stream is None else stream

    def __enter__(self) -> Self:
        versions = package_versions(_PACKAGES)
        self._write("begin", iterations=self.iterations, first=self.first, device=str(self.device), versions=versions)
        return self

    def _step(self, record: StepResult) -> None:
        if record.iteration % self._every == 0:
            self._write("step", **self._numbers(record))

    def validation(self, validated: Validated) -> None:
        self._write(
            "validation",
            iteration=validated.iteration,
            metric=validated.metric,
            value=validated.result.metric(validated.metric),
            best=validated.best,
            **validated.result.as_plain(),
        )

    def checkpoint(self, path: Path) -> None:
        self._write("checkpoint", path=str(path))

    def _end(self, reason: str, checkpoint: Path | None) -> None:
        self._write("end", reason=reason, checkpoint=None if checkpoint is None else str(checkpoint))

    def _write(self, event: str, **facts: Any) -> None:
        line = json.dumps(_finite({"event": event, **facts}), allow_nan=False)
        self._stream.write(f"{line}\n")
        self._stream.flush()


@final
class NoReport(TrainingReport):
    """Nothing: of several processes that train together, one alone tells of it.

    Args:
        iterations: of the whole run.
        first: that were done before.
        device: where the network is.
    """

    def __init__(self, iterations: int, first: int, device: torch.device) -> None:
        super().__init__(iterations, first, device, 1)

    def _step(self, record: StepResult) -> None:
        pass

    def validation(self, validated: Validated) -> None:
        pass

    def checkpoint(self, path: Path) -> None:
        pass

    def _end(self, reason: str, checkpoint: Path | None) -> None:
        pass


def training_report(
    form: ReportForm, iterations: int, first: int, device: torch.device, every: int = 1
) -> TrainingReport:
    """The report of a form; ``every`` is for :class:`JsonReport`.

    Raises:
        ValueError: no such form.
    """
    if form == "bar":
        return BarReport(iterations, first, device)
    if form == "json":
        return JsonReport(iterations, first, device, every)
    if form == "none":
        return NoReport(iterations, first, device)
    raise ConfigError(f"a report is of the form 'bar', 'json' or 'none', not {form!r}")


def _note(numbers: Mapping[str, Any]) -> str:
    """The loss, which stands beside the bar, and two lines that stand below."""
    norm, device_memory = numbers["gradient_norm"], numbers["device_memory"]
    memory = f"{numbers['memory'] / 2**30:.1f} GiB"
    facts = [
        f"lr {numbers['learning_rate']:.1e}",
        "|g| -" if norm is None else f"|g| {norm:.2g}",
        f"{numbers['samples_per_second']:.3g} samples/s",
        f"waiting {100 * numbers['waiting']:.0f} %",
        memory if device_memory is None else f"{memory}, GPU {device_memory / 2**30:.1f} GiB",
        f"skipped {numbers['skipped']}",
    ]
    losses = [f"{name} {loss:.3f}" for name, loss in numbers["losses"].items()]
    return f"loss {numbers['loss']:.3f}\n{'  '.join(losses)}\n{'  '.join(facts)}"


def _finite(value: Any) -> Any:
    """Plain values with None for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
