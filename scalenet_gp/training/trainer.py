"""A trainer: tensors in, the result of a step out."""

from __future__ import annotations

import json
import time
from bisect import insort_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError, TrainingDivergedError
from scalenet_gp.graph import Plan
from scalenet_gp.kernels import choose_device
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.losses import FinalActivation
from scalenet_gp.training.adversary import AdversaryOptions, check_adversary
from scalenet_gp.training.callbacks import Callback, CheckpointCallback, FaultDump, LogCallback
from scalenet_gp.training.checkpoint import load_checkpoint, load_weights
from scalenet_gp.training.compute import ComputeConfig
from scalenet_gp.training.distributed import ProcessGroup
from scalenet_gp.training.early_stopping import Validated
from scalenet_gp.training.learning_step import LearningStep
from scalenet_gp.training.memory import explain_memory_errors
from scalenet_gp.training.norm_statistics import NormSamples, estimate_norm_statistics
from scalenet_gp.training.optimization import Optimization
from scalenet_gp.training.options import CheckpointOptions
from scalenet_gp.training.output_loss import JointLoss, Losses, build_output_losses, check_joint_losses
from scalenet_gp.training.step_result import StepResult
from scalenet_gp.training.tensorboard_log import TensorBoardLog
from scalenet_gp.training.training_state import TrainingState

__all__ = ["Trainer"]


@final
class Trainer:
    """Trains a network, one batch of tensors at a time.

    If an output ends in a Sigmoid or Softmax, its loss is computed from logits. So a confidently wrong voxel has the
    right gradient in any precision. The outputs that a step returns are probabilities.

    A step whose loss or gradient is not finite is skipped: everything stays as it was. Too many of these in a row raise
    an error. After each step the :mod:`callbacks <scalenet_gp.training.callbacks>` are called, validation before
    checkpoint before report.

    :meth:`start` moves the network to its device and resumes from the newest checkpoint. :meth:`stop` writes the last
    one. The first step starts a trainer that was not started. A trainer is a context manager, too::

        with Trainer(net, {"output": CrossEntropyDice()}, checkpoints="run/checkpoints") as trainer:
            for raw, target in DataLoader(dataset, batch_size=4):
                result = trainer.step({"input": raw}, {"output": target})

    Args:
        net: the network.
        losses: the loss of each output that can be trained: an :class:`OutputLoss`, or a loss alone. By default all
            outputs are trained with cross-entropy plus Dice, but those of joint losses.
        joint_losses: losses that several outputs have together, without a target, by names of their own. One counts in
            the steps whose plan has all of its outputs.
        adversary: options of a discriminator that learns to tell the targets of an output from its predictions, and of
            the loss by which the network learns to deceive it. There is none by default.
        optimization: options of the optimizer, its learning rate and gradients.
        compute: options of device, precision and memory.
        iterations: batches in the whole run, for a schedule that ends with it, and for the last images of the log.
        patience: validations without improvement after which the run stops, for a schedule that waits for them.
        seed: seed of random numbers that layers draw, as dropout does. A resumed run draws what one without a break
            would. By default torch's own state is used.
        process_group: the processes that train together, as :func:`distributed_context` gives them. By default there is
            only this one. The loss is that of the samples of all of them. Rank 0 writes.
        start_from: a checkpoint or a saved network. Its weights are the first ones, unless there are checkpoints to
            resume from.
        checkpoints: folder of checkpoints. If it holds any, training resumes from the newest whole one. By default none
            are written.
        checkpoint_options: when checkpoints are written, and which are kept.
        best: a second name for the checkpoint of the best network so far. By default the best is not kept.
        log: the TensorBoard log. By default nothing is logged.
        metadata: values that JSON can hold, to keep in the checkpoints: the config, the names of the classes.
        versions: versions of further packages to keep in the checkpoints.
        callbacks: further callbacks.
        norm_samples: samples of training. Before each validation and checkpoint, the statistics of normalizations
            are estimated over them, for the network that is validated and stored. Training goes on with its own. By
            default the running statistics of training are validated and stored.
        fault_dump: writes the batch after which too many steps in a row were skipped; beside the folder of checkpoints
            by default.

    Attributes:
        net: the network.
        losses: the loss of each output by its name.
        joint_losses: the losses that several outputs have together, by their names.
        process_group: the processes that train together.
        callbacks: all callbacks, in the order in which they are called.
        norm_samples: samples that statistics of normalizations are estimated over, or None.
        validated: the newest validation, or None.
        stop_reason: the reason to stop training, set by a callback; None as long as there is none.
        iterations: batches in the whole run, or None.

    Raises:
        ArgumentError: an output is unknown, the device is not there, or the metadata are not plain.
        CheckpointError: when started: the newest checkpoint or ``start_from`` is another network's or another kind of
            optimizer's.
        TrainingDivergedError: in a step: too many steps in a row were skipped.
        MemoryError: in a step: there is too little memory; the message says what would fit.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)])
        >>> plan = net.smallest_plan
        >>> def tensors(planned):
        ...     return {tensor.name: torch.rand(1, tensor.channels, *tensor.shape) for tensor in planned}
        >>> inputs = tensors(plan.input_tensors.values())
        >>> targets = tensors(plan.tensor(name) for name in plan.outputs)
        >>> trainer = Trainer(net, optimization=Optimization(learning_rate=0.01))
        >>> trainer.step(inputs, targets).iteration
        1
    """

    def __init__(
        self,
        net: LeibNet,
        losses: Losses | None = None,
        *,
        joint_losses: Mapping[str, JointLoss] | None = None,
        adversary: AdversaryOptions | None = None,
        optimization: Optimization | None = None,
        compute: ComputeConfig | None = None,
        iterations: int | None = None,
        patience: int | None = None,
        seed: int | None = None,
        process_group: ProcessGroup | None = None,
        start_from: str | Path | None = None,
        checkpoints: str | Path | None = None,
        checkpoint_options: CheckpointOptions | None = None,
        best: str | Path | None = None,
        log: TensorBoardLog | None = None,
        metadata: Mapping[str, object] | None = None,
        versions: Mapping[str, str] | None = None,
        callbacks: Iterable[Callback] = (),
        norm_samples: NormSamples | None = None,
        fault_dump: FaultDump | None = None,
    ) -> None:
        try:
            plain = json.loads(json.dumps(dict(metadata or {})))
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"metadata has to be plain values, so that checkpoints can be read: {error}") from error
        self.net = net
        self.joint_losses = check_joint_losses(net, joint_losses or {})
        self.losses = build_output_losses(net, losses, self.joint_losses)
        self._adversary = adversary
        self.process_group = process_group or ProcessGroup(device=choose_device((compute or ComputeConfig()).device))
        self.callbacks: list[Callback] = []
        self.norm_samples = norm_samples
        self._estimated: tuple[int, dict[str, Tensor]] | None = None
        self.validated: Validated | None = None
        self.stop_reason: str | None = None
        self._state: TrainingState | None = None
        self._optimization = optimization or Optimization()
        self._compute = compute or ComputeConfig()
        if adversary is not None:
            check_adversary(adversary, self.losses, self._optimization.accumulate, alone=self.process_group.alone)
        self.iterations = iterations
        self._seed, self._patience = seed, patience
        self._start_from = None if start_from is None else Path(start_from)
        self._checkpoints: CheckpointCallback | None = None
        self._fault_dump = fault_dump
        if checkpoints is not None:
            self._checkpoints = CheckpointCallback(checkpoints, checkpoint_options, plain, versions, best)
            self._fault_dump = fault_dump or FaultDump(self._checkpoints.folder.parent)
        for callback in (*([] if log is None else [LogCallback(log)]), *callbacks, self._checkpoints):
            if callback is not None:
                self.add(callback)
        self._started = self._begun = self._whole = False
        self._ended = self._idle = time.perf_counter()

    @property
    def iteration(self) -> int:
        """Number of batches that were learned from."""
        return 0 if self._state is None else self._state.iteration

    @property
    def state(self) -> TrainingState:
        """Weights, optimizer and so on.

        Raises:
            RuntimeError: the trainer was not started.
        """
        if self._state is None:
            raise RuntimeError("the trainer has no state before start()")
        return self._state

    @property
    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint of this run, or None."""
        return None if self._checkpoints is None else self._checkpoints.newest

    def add(self, callback: Callback) -> None:
        """Add a callback behind those of its phase and of earlier ones."""
        insort_right(self.callbacks, callback, key=lambda each: each.phase)

    def callback_states(self) -> dict[str, Any]:
        """Return the states of all callbacks that have one, by name."""
        return {each.name: each.state_dict() for each in self.callbacks if each.name is not None}

    @contextmanager
    def prediction_statistics(self) -> Iterator[None]:
        """Give the network to predict with statistics estimated over :attr:`norm_samples` within the context.

        They depend on the weights and the samples alone. Rank 0 estimates them, once for each iteration.

        Raises:
            DataError: no sample is finite.
        """
        if self.norm_samples is None or not self.process_group.is_main:
            yield
            return
        if self._estimated is None or self._estimated[0] != self.iteration:
            frozen = self.state.frozen_modules
            statistics = estimate_norm_statistics(self.state.eval_net, self.norm_samples, frozen)
            self._estimated = self.iteration, statistics
        with self.state.predicting_with(self._estimated[1]):
            yield

    def start(self) -> None:
        """Move the network to its device, and resume from the newest checkpoint if there is one.

        Raises:
            CheckpointError: the newest checkpoint or ``start_from`` is another network's or another optimizer's.
        """
        self._estimated = None
        newest = None if self._checkpoints is None else self._checkpoints.find()
        if newest is None and self._start_from is not None:
            load_weights(self.net, self._start_from)
        self._state = state = TrainingState(
            self.net,
            self._optimization,
            self._compute,
            self._seed,
            self.process_group,
            self.iterations,
            self._patience,
            self._adversary,
        )
        if newest is not None:
            checkpoint = load_checkpoint(newest)
            checkpoint.restore(self.net, newest, state)
            states = checkpoint.metadata.get("callbacks", {})
            for callback in self.callbacks:
                if states.get(callback.name):
                    callback.load_state_dict(states[callback.name])
        self._started = self._whole = True
        self._begun = False
        self._ended = self._idle = time.perf_counter()

    def begin(self) -> None:
        """Call the callbacks before the first step. The first :meth:`step` calls it if nobody did."""
        if not self._started:
            self.start()
        self._begun, now = True, time.perf_counter()
        for callback in self.callbacks:
            callback.begin(self)
        self._idle += time.perf_counter() - now

    def stop(self) -> None:
        """Write the last checkpoint, and close files. After an error in a step, no checkpoint is written."""
        with ExitStack() as stack:  # which closes them all, also where one before has failed
            for callback in reversed(self.callbacks):
                stack.callback(callback.close)
            try:
                self.save()
            finally:
                self._started = False

    def save(self) -> Path | None:
        """Write a checkpoint of this iteration, if there is a folder for it, and return the newest one or None."""
        if self._started and self._whole:
            for callback in self.callbacks:
                callback.end(self)
        return self.newest_checkpoint

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def step(
        self,
        inputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        plan: Plan | None = None,
    ) -> StepResult:
        """Learn from one batch.

        Args:
            inputs: (B, C, Z, Y, X) by name, floats, of exactly the planned shapes, on any device.
            targets: the target of every output of the plan that has a loss of its own, in its shape (B, C, Z, Y, X), of
                any type.
            masks: the weight of every voxel in the loss, above 0 where the target is annotated, in its shape or with
                one channel for all. An output that has none is annotated everywhere.
            plan: where the tensors lie. By default it is the network's ``smallest_plan``.

        Raises:
            ArgumentError: a target or mask is missing or does not fit the output, or a loss refuses the tensors.
            TrainingDivergedError: too many steps in a row were skipped.
            MemoryError: there is too little memory; the message says what would fit.
            RuntimeError: the trainer was stopped.
        """
        if not self._begun:
            self.begin()
        elif not self._started:
            raise RuntimeError("the trainer was stopped; start() goes on from its newest checkpoint")
        waited = time.perf_counter() - self._idle
        plan = plan or self.net.smallest_plan
        self._whole = False  # until the step is done: after an error, the state cannot be resumed
        samples = len(next(iter(inputs.values())))
        dtype = getattr(torch, self._compute.precision)
        checkpointed = self._compute.checkpointed_nodes(self.net)
        step = LearningStep(self.net, self.state, self.process_group, self.losses, self.joint_losses, self.loss_of)
        measure = any(callback.measures(self.state.iteration + 1) for callback in self.callbacks)
        with explain_memory_errors(self.net, plan, samples, dtype, self.state.device, checkpointed):
            result = step.learn(inputs, targets, masks or {}, plan, measure=measure)
        self._whole = True
        now = time.perf_counter()
        result = replace(result, waited=waited, seconds=now - self._ended)
        self._ended = now
        if result.update.skipped:
            self._refuse_too_many(result)
        with ExitStack() as stack:  # calls all of them, even if an earlier one fails, and raises its error then
            for callback in reversed(self.callbacks):
                stack.callback(callback.after_step, self, result)
        self._idle = time.perf_counter()
        return result

    def loss_of(
        self,
        name: str,
        prediction: Tensor,
        target: Tensor,
        mask: Tensor,
        activation: FinalActivation | None = None,
    ) -> Tensor:
        """Return the loss of an output, by its name: see :meth:`.OutputLoss.compute`."""
        return self.losses[name].compute(prediction, target, mask, activation)

    def _refuse_too_many(self, result: StepResult) -> None:
        """End training if too many steps in a row were skipped, and write the last batch to a file.

        Raises:
            TrainingDivergedError: more were skipped than may be.
        """
        most = self.state.optimization.skips_in_a_row
        if self.state.skipped_in_a_row <= most:
            return
        self._whole = False  # resuming a diverged network is of no use
        found = [
            f"the {kind} {name!r}"
            for kind, tensors in (("input", result.inputs), ("prediction", result.outputs))
            for name, tensor in tensors.items()
            if not torch.isfinite(tensor).all()
        ]
        where = ""
        if self._fault_dump is not None:
            where = f"; that batch is in {self._fault_dump.write(self, result)}"
        raise TrainingDivergedError(
            f"{most + 1} steps in a row were skipped, the last in iteration {result.iteration}, where "
            f"{found[0] if found else 'the loss or its gradient'} is not finite{where}"
        )
