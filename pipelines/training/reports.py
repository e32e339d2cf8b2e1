"""Reports of a training run in progress, for people and for programs."""

from __future__ import annotations

import json
import math
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO, final

import torch

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.process import Advance, Interrupted, console, progress_bar
from scalenet_gp.pipelines.training.learned_from import LearnedFrom
from scalenet_gp.serialization import package_versions
from scalenet_gp.training import Callback, StepResult, TrainerView, Validated, resident_bytes

__all__ = ["BarReport", "JsonReport", "NoReport", "ReportForm", "TrainingReport", "training_report"]

ReportForm = Literal["bar", "json", "none"]
"""A progress bar on standard error for people, lines of JSON on standard output for programs, or nothing."""

_WINDOW = 20
"""Number of newest batches that a progress bar shows rates of."""

_PACKAGES = ("scalenet_gp", "gunpowder", "torch", "numpy")


class TrainingReport(Callback, AbstractContextManager["TrainingReport"], ABC):
    """Abstract: reports steps, validations and checkpoints of a run, within its ``with`` block.

    Rates are those of the last ``window`` batches. If an error ends the block before :meth:`finish` was called, it is
    called with the error as the reason. A bar prints nothing then: the caller prints the error.

    Args:
        iterations: iterations of the whole run.
        first: iterations that were done before.
        device: device of the network.
        window: number of batches.
    """

    def __init__(self, iterations: int, first: int, device: torch.device, window: int = _WINDOW) -> None:
        self.iterations = iterations
        self.first = first
        self.device = device
        # numbers only: a result holds the tensors of its batch
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
        self._report_validation(trainer)

    def after_step(self, trainer: TrainerView, result: StepResult) -> None:
        self.step(result)
        self._report_validation(trainer)
        newest = trainer.newest_checkpoint
        if newest is not None and newest != self._checkpoint:
            self._checkpoint = newest
            self.checkpoint(newest)

    def _report_validation(self, trainer: TrainerView) -> None:
        if trainer.validated is not None and trainer.validated is not self._validated:
            self._validated = trainer.validated
            self.validation(trainer.validated)

    def step(self, result: StepResult) -> None:
        """Report a step, if it is due. Called after every step."""
        self._recent.append((result.samples, result.seconds, result.waited, result.update.gradient_norm))
        self._step(result)

    @abstractmethod
    def _step(self, result: StepResult) -> None:
        """Report a step, if it is due."""

    @abstractmethod
    def validation(self, validated: Validated) -> None:
        """Report a validation."""

    @abstractmethod
    def checkpoint(self, path: Path) -> None:
        """Report a new checkpoint."""

    def finish(self, reason: str, checkpoint: Path | None) -> None:
        """Report the end of the run.

        Args:
            reason: the reason: ``"done"``, the signal that asked to stop, and so on.
            checkpoint: the newest checkpoint, which can be resumed.
        """
        self._ended = True
        self._end(reason, checkpoint)

    @abstractmethod
    def _end(self, reason: str, checkpoint: Path | None) -> None:
        """Report the end of the run."""

    def _numbers(self, result: StepResult) -> dict[str, Any]:
        """Return the numbers of a step. The gradient's norm is the newest in the window: not every batch has one."""
        samples, seconds, waited = (sum(entry[i] or 0 for entry in self._recent) for i in range(3))
        norms = (norm for *_, norm in reversed(self._recent) if norm is not None)
        return {
            "iteration": result.iteration,
            "loss": result.loss,
            "losses": dict(result.losses),
            "learning_rate": result.learning_rate,
            "gradient_norm": next(norms, None),
            "samples_per_second": samples / seconds if seconds > 0 else math.nan,
            "waiting": waited / seconds if seconds > 0 else math.nan,
            "memory": resident_bytes(),
            "device_memory": torch.cuda.memory_reserved(self.device) if self.device.type == "cuda" else None,
            "skipped": result.skipped,
        }


@final
class BarReport(TrainingReport):
    """Shows a progress bar on standard error, with the numbers of the last batches below. Other events print a line.

    Args:
        iterations: iterations of the whole run.
        first: iterations that were done before.
        device: device of the network.
        learned: the data that the run learns from.
    """

    def __init__(self, iterations: int, first: int, device: torch.device, learned: Sequence[LearnedFrom] = ()) -> None:
        super().__init__(iterations, first, device)
        self._learned = learned
        self._shown = ExitStack()
        self._advance: Advance | None = None

    def __enter__(self) -> Self:
        for part in self._learned:
            self._say(str(part))
        self._advance = self._shown.enter_context(progress_bar("training", self.iterations, self.first))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._shown.close()

    def _step(self, result: StepResult) -> None:
        if self._advance is not None:
            self._advance(_note(self._numbers(result)))

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
    """Writes a line of JSON for each event. Numbers that are not finite are null.

    =============  ================================================================================================
    ``event``      other keys
    =============  ================================================================================================
    "begin"        ``iterations``, ``first``, ``device``, ``versions``, ``data``: for each source of a few
                   the volume, region, voxels, and of each class the share that is annotated, and the share of that in
                   which it is present
    "step"         ``iteration``, ``loss``, ``losses``, ``learning_rate``, ``gradient_norm`` before clipping,
                   ``samples_per_second``, ``waiting`` (share of the time), ``memory`` of this process and
                   ``device_memory`` (bytes; null without a GPU), ``skipped`` (number of steps)
    "validation"   ``iteration``, ``metric``, ``value``, ``best``, ``loss``, ``scores``
    "checkpoint"   ``path``
    "end"          ``reason``, ``checkpoint``
    =============  ================================================================================================

    Losses are those of the batch, rates those of the batches since the last line.

    Args:
        iterations: iterations of the whole run.
        first: iterations that were done before.
        device: device of the network.
        every: iterations from one "step" line to the next.
        stream: the stream to write to. By default it is standard output.
        learned: the data that the run learns from.

    Raises:
        ConfigError: ``every`` is below 1.

    Example:
        >>> import io
        >>> stream = io.StringIO()
        >>> with JsonReport(100, 0, torch.device("cpu"), stream=stream) as report:
        ...     report.finish("done", None)
        >>> [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
        ['begin', 'end']
    """

    def __init__(
        self,
        iterations: int,
        first: int,
        device: torch.device,
        every: int = 1,
        stream: TextIO | None = None,
        learned: Sequence[LearnedFrom] = (),
    ) -> None:
        if every < 1:
            raise ConfigError(f"every is a number of iterations from 1 up, not {every}")
        super().__init__(iterations, first, device, every)
        self._every = every
        self._learned = learned
        self._stream = sys.stdout if stream is None else stream

    def __enter__(self) -> Self:
        versions = package_versions(_PACKAGES)
        data = [part.to_json() for part in self._learned]
        begun = {"iterations": self.iterations, "first": self.first, "device": str(self.device)}
        self._write("begin", **begun, versions=versions, data=data)
        return self

    def _step(self, result: StepResult) -> None:
        if result.iteration % self._every == 0:
            self._write("step", **self._numbers(result))

    def validation(self, validated: Validated) -> None:
        self._write(
            "validation",
            iteration=validated.iteration,
            metric=validated.metric,
            value=validated.result.metric(validated.metric),
            best=validated.best,
            **validated.result.to_json(),
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
    """Reports nothing, for all but one of the processes that train together."""

    def _step(self, result: StepResult) -> None:
        pass

    def validation(self, validated: Validated) -> None:
        pass

    def checkpoint(self, path: Path) -> None:
        pass

    def _end(self, reason: str, checkpoint: Path | None) -> None:
        pass


def training_report(
    form: ReportForm,
    iterations: int,
    first: int,
    device: torch.device,
    every: int = 1,
    learned: Sequence[LearnedFrom] = (),
) -> TrainingReport:
    """Return the report of a form. Only :class:`JsonReport` uses ``every``.

    Raises:
        ConfigError: there is no such form.
    """
    if form == "bar":
        return BarReport(iterations, first, device, learned)
    if form == "json":
        return JsonReport(iterations, first, device, every, learned=learned)
    if form == "none":
        return NoReport(iterations, first, device)
    raise ConfigError(f"a report is of the form 'bar', 'json' or 'none', not {form!r}")


def _note(numbers: Mapping[str, Any]) -> str:
    """Return the loss, for the place beside the bar, and two lines below it."""
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
    """Return plain values, with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
