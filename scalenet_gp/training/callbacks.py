"""Callbacks of a trainer: what happens after each step, in a fixed order.

==========  ===================================================================================================
phase       callbacks
==========  ===================================================================================================
VALIDATION  :class:`ValidationCallback`: validates the network, tells schedules, and stops early
LOG         :class:`LogCallback`: writes the step and the validation to TensorBoard
CHECKPOINT  :class:`CheckpointCallback`: writes a checkpoint that is due, keeps the best, removes old ones
REPORT      reports of the step, the validation and the checkpoint; and callbacks that state no phase
==========  ===================================================================================================

So a checkpoint holds the validation of its iteration, the log on the disk holds all that the checkpoint has learned
from, and what a report names is on the disk. Within a phase, callbacks run in the order in which they were added. If
one fails, the later ones are called nevertheless, and the error is raised after them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from scalenet_gp.leibnet import LeibNet
from scalenet_gp.training.checkpoint import latest_checkpoint, save_checkpoint, thin_checkpoints
from scalenet_gp.training.distributed import ProcessGroup
from scalenet_gp.training.early_stopping import EarlyStopping, Validated, ValidationResult, save_best
from scalenet_gp.training.fault_file import write_fault
from scalenet_gp.training.options import CheckpointOptions, ValidationOptions
from scalenet_gp.training.step_result import StepResult
from scalenet_gp.training.tensorboard_log import TensorBoardLog
from scalenet_gp.training.training_state import TrainingState

__all__ = ["Callback", "CheckpointCallback", "FaultDump", "LogCallback", "Phase", "TrainerView", "ValidationCallback"]


class Phase(IntEnum):
    """The order of callbacks after a step.

    Example:
        >>> [phase.name for phase in Phase]
        ['VALIDATION', 'LOG', 'CHECKPOINT', 'REPORT']
    """

    VALIDATION = 0
    LOG = 1
    CHECKPOINT = 2
    REPORT = 3


class TrainerView(Protocol):
    """The part of a :class:`.Trainer` that callbacks see.

    Attributes:
        callbacks: all callbacks, in the order in which they are called.
        validated: the newest validation, or None.
        stop_reason: the reason to stop training; None as long as there is none.
        iterations: batches in the whole run, or None if that is not known.

    Example:
        >>> class StopAtLowLoss(Callback):
        ...     def after_step(self, trainer: TrainerView, result: StepResult) -> None:
        ...         if result.loss < 0.01:
        ...             trainer.stop_reason = f"the loss is {result.loss} after {trainer.iteration} batches"
    """

    callbacks: list[Callback]
    validated: Validated | None
    stop_reason: str | None
    iterations: int | None

    @property
    def net(self) -> LeibNet:
        """The network."""

    @property
    def state(self) -> TrainingState:
        """Weights, optimizer and so on."""

    @property
    def process_group(self) -> ProcessGroup:
        """The processes that train together."""

    @property
    def iteration(self) -> int:
        """Number of batches that were learned from."""

    @property
    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint of this run, or None."""

    def callback_states(self) -> dict[str, Any]:
        """Return the states of all callbacks that have one, by name."""

    def prediction_statistics(self) -> AbstractContextManager[None]:
        """Return a context in which the network to predict with has the statistics to predict with."""


class Callback:
    """A base with methods that do nothing, called by a :class:`.Trainer`.

    Attributes:
        phase: when it is called, in relation to other callbacks.
        name: key of its state in checkpoints; None if it has no state.

    Example:
        >>> class Losses(Callback):
        ...     def __init__(self):
        ...         self.losses = []
        ...     def after_step(self, trainer, result):
        ...         self.losses.append(result.loss)
    """

    phase: ClassVar[Phase] = Phase.REPORT
    name: ClassVar[str | None] = None

    def begin(self, trainer: TrainerView) -> None:
        """Called once before the first step, after a run was restored from its newest checkpoint."""

    def after_step(self, trainer: TrainerView, result: StepResult) -> None:
        """Called after every step."""

    def end(self, trainer: TrainerView) -> None:
        """Called at the end, unless an error left a step half done."""

    def close(self) -> None:
        """Called at the end in any case: let go of files."""

    def flush(self) -> None:
        """Called before a checkpoint is written: bring to the disk what belongs to it."""

    def measures(self, iteration: int) -> bool:
        """Return True if the step of an iteration has to measure its update ratio. That takes a copy of the weights."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return the state that checkpoints keep: plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""


class ValidationCallback(Callback):
    """Validates the averaged network, or the trained one if none is averaged, and stops training early.

    Rank 0 validates; all ranks hear of the result, for schedules that wait for a plateau.

    Args:
        options: when, by which metric, and after how many validations to stop.
        validate: returns the result for a network; not called on other ranks than 0, where it may be None.

    Attributes:
        best: the best validation so far.

    Example:
        >>> def validate(net):
        ...     return ValidationResult({}, loss=0.5)
        >>> options = ValidationOptions(every=100, metric="loss", patience=3)
        >>> ValidationCallback(options, validate).best.due(100)
        True
    """

    phase = Phase.VALIDATION
    name = "best"

    def __init__(self, options: ValidationOptions, validate: Callable[[LeibNet], ValidationResult] | None) -> None:
        self.best = EarlyStopping(options)
        self._validate = validate

    def begin(self, trainer: TrainerView) -> None:
        self._validate_if_due(trainer)
        self._stop_if_hopeless(trainer)  # a run that is resumed at its end

    def after_step(self, trainer: TrainerView, result: StepResult) -> None:
        if self._validate_if_due(trainer):
            self._stop_if_hopeless(trainer)

    def state_dict(self) -> dict[str, Any]:
        return self.best.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best.load_state_dict(state)

    def _validate_if_due(self, trainer: TrainerView) -> bool:
        if not self.best.due(trainer.iteration):
            return False
        validates = self._validate is not None and trainer.process_group.is_main
        result: ValidationResult | None = None
        if validates and self._validate is not None:
            with trainer.prediction_statistics():
                result = self._validate(trainer.state.eval_net)
        score = 0.0 if result is None else result.loss_like(self.best.metric)
        trainer.state.update_plateau(trainer.process_group.broadcast(score))
        if result is not None:
            better = self.best.add(trainer.iteration, result)
            trainer.validated = Validated(trainer.iteration, result, self.best.metric, better)
        return True

    def _stop_if_hopeless(self, trainer: TrainerView) -> None:
        if trainer.process_group.any_rank(self.best.stop):
            trainer.stop_reason = f"{self.best.without_improvement} validations without a better one"


class LogCallback(Callback):
    """Writes steps and validations to a TensorBoard log.

    Args:
        log: the log.

    Example:
        >>> LogCallback(TensorBoardLog("run/log")).measures(iteration=10)
        True
    """

    phase = Phase.LOG

    def __init__(self, log: TensorBoardLog) -> None:
        self.log = log
        self._written: Validated | None = None

    def begin(self, trainer: TrainerView) -> None:
        self._write_validation(trainer)

    def after_step(self, trainer: TrainerView, result: StepResult) -> None:
        last = trainer.stop_reason is not None or result.iteration == trainer.iterations
        self.log.write(result, last)
        self._write_validation(trainer)

    def measures(self, iteration: int) -> bool:
        return self.log.scalars_due(iteration)

    def flush(self) -> None:
        self.log.flush()

    def close(self) -> None:
        self.log.close()

    def _write_validation(self, trainer: TrainerView) -> None:
        validated = trainer.validated
        if validated is None or validated is self._written:
            return
        self._written = validated
        scores = {
            output: {label: counts.scores for label, counts in classes.items()}
            for output, classes in validated.result.scores.items()
        }
        self.log.write_scores(validated.iteration, scores)
        groups = {
            output: {name: {"voxel_accuracy": counts.accuracy} for name, counts in of_output.items()}
            for output, of_output in validated.result.groups.items()
        }
        self.log.write_scores(validated.iteration, groups)


class CheckpointCallback(Callback):
    """Writes checkpoints when they are due, when the network is the best so far, and at the end.

    Args:
        folder: the folder of checkpoints.
        options: when they are written, and which are kept.
        metadata: plain values to keep in each.
        versions: versions of further packages to keep in each.
        best: a second name for the checkpoint of the best network so far. By default the best is not kept.

    Attributes:
        newest: the newest checkpoint of this run, None before the first.
    """

    phase = Phase.CHECKPOINT

    def __init__(
        self,
        folder: str | Path,
        options: CheckpointOptions | None = None,
        metadata: Mapping[str, Any] | None = None,
        versions: Mapping[str, str] | None = None,
        best: str | Path | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.newest: Path | None = None
        self._options = options or CheckpointOptions()
        self._metadata, self._versions = dict(metadata or {}), dict(versions or {})
        self._best = None if best is None else Path(best)
        self._kept: Validated | None = None
        self._saved: int | None = None

    def find(self) -> Path | None:
        """Return the newest whole checkpoint to resume from, or None."""
        self.newest, self._saved = latest_checkpoint(self.folder), None
        return self.newest

    def begin(self, trainer: TrainerView) -> None:
        self._saved = None if self.newest is None else trainer.iteration
        self._restore_best(trainer)
        if self._is_best(trainer):
            self._saved = None  # without the validation
            self._save(trainer)

    def after_step(self, trainer: TrainerView, result: StepResult) -> None:
        if trainer.iteration % self._options.every == 0 or self._is_best(trainer):
            self._save(trainer)

    def end(self, trainer: TrainerView) -> None:
        if trainer.iteration:
            self._save(trainer)

    def _restore_best(self, trainer: TrainerView) -> None:
        """Keep the newest checkpoint as the best if it is, as the run may have been killed before that was done."""
        if self.newest is None or self._best is None or not trainer.process_group.is_main:
            return
        validation = trainer.callback_states().get("best")
        if validation and validation["best"] is not None and validation["iteration"] == trainer.iteration:
            save_best(self.newest, self._best)

    def _is_best(self, trainer: TrainerView) -> bool:
        return trainer.validated is not None and trainer.validated.best and trainer.validated is not self._kept

    def _save(self, trainer: TrainerView) -> None:
        if not trainer.process_group.is_main:
            return
        if self._saved != trainer.iteration:
            for callback in trainer.callbacks:
                callback.flush()
            metadata = {**self._metadata, "callbacks": trainer.callback_states()}
            with trainer.prediction_statistics():
                state = trainer.state.state_dict()
                self.newest = save_checkpoint(self.folder, trainer.net, state, metadata, self._versions)
            self._saved = trainer.iteration
            thin_checkpoints(self.folder, self._options)
        if self._is_best(trainer):
            self._kept = trainer.validated
            if self._best is not None and self.newest is not None:
                save_best(self.newest, self._best)


class FaultDump:
    """Writes the batch after which too many steps in a row were skipped.

    Args:
        folder: the folder of the file, ``skipped_<iteration>.safetensors``.

    Example:
        >>> FaultDump(Path("run")).folder.name
        'run'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, trainer: TrainerView, result: StepResult) -> Path:
        """Write the batch of a step; with several processes, each writes its own.

        Raises:
            OSError: the file cannot be written.
        """
        group = trainer.process_group
        rank = "" if group.alone else f"_rank_{group.rank}"
        arrays, described = self.contents(result)
        return write_fault(self.folder / f"skipped_{result.iteration}{rank}.safetensors", arrays, described)

    def contents(self, result: StepResult) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the arrays by name, and a description of each: here the tensors of the step, without descriptions."""
        kinds = {"input": result.inputs, "target": result.targets, "mask": result.masks}
        tensors = {f"{kind}/{name}": tensor for kind, of in kinds.items() for name, tensor in of.items()}
        return {name: tensor.detach().to(torch.float32).cpu().numpy() for name, tensor in tensors.items()}, {}
