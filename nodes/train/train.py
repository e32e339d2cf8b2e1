"""A network in a gunpowder pipeline, for training."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gunpowder as gp
import numpy as np
import torch
from torch import Tensor

from scalenet_gp.errors import PipelineError, TrainingDivergedError
from scalenet_gp.graph import Plan
from scalenet_gp.kernels import choose_device
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.nodes.arrays import NetworkArrays, as_tensor, extend_request
from scalenet_gp.nodes.train.supervision import Supervision
from scalenet_gp.training import (
    CheckpointOptions,
    ComputeConfig,
    Optimization,
    ProcessGroup,
    StepResult,
    TensorBoardLog,
    TrainingState,
    latest_checkpoint,
    load_checkpoint,
    load_network,
    memory_explained,
    save_checkpoint,
    thin_checkpoints,
    write_fault,
)

__all__ = ["Train"]


class Train(gp.BatchFilter):
    """Trains the outputs that are asked for, on exactly the inputs that they depend on: one batch at a time.

    A request for predictions goes up as one for the inputs of every scale, and for targets and masks of the
    predictions' ROIs. The batch comes down with the predictions, ``batch.loss`` and ``batch.iteration``.

    A batch whose loss or gradient is not finite is skipped: everything stays as it was. If too many are in a row, the
    last of them is written beside the checkpoints, and an error ends the pipeline.

    Args:
        net: the network.
        inputs: the array of every input, (channel, Z, Y, X) or (batch, channel, Z, Y, X), floats.
        outputs: how each output is trained.
        optimization: how the weights are changed.
        compute: how the network is computed.
        iterations: batches in the whole run, for a schedule that ends with it.
        patience: validations without improvement after which the run stops, for a schedule that waits for them.
        seed: of what the network itself draws, as dropout does: a run that goes on draws what one without a break
            would. Left to torch unless given.
        ranks: the processes that train together, as :func:`scalenet_gp.training.joined` gives them; this one alone
            unless given. The loss is that of the samples of all of them. Rank 0 writes.
        start_from: a checkpoint or a saved network whose weights to begin with, unless there are checkpoints to go on
            from.
        checkpoints: folder for checkpoints; if it holds any, training goes on from the newest whole one. None unless
            given.
        checkpoint_options: when checkpoints are written, and which are kept.
        log: where scalars and images go. Nowhere unless given.
        metadata: what JSON can hold, to keep in the checkpoints: the config, the names of the classes.

    Attributes:
        state: the network in training, once the pipeline is built.
        record: the batch that was learned from last.
        log: where scalars and images go, or None.
        listener: is called with the record of every batch that was learned from, before a checkpoint of it is written;
            None unless set.
        saved: the newest checkpoint, or None.
        notes: what JSON can hold, kept in every checkpoint, and there again when training goes on: say, how good the
            network was when it was judged.

    Raises:
        ValueError: an input has no array, a name is unknown, the device is not there, the metadata are not plain; when
            the pipeline is built: an array upstream has another voxel size or number of axes than the network, or the
            newest checkpoint or ``start_from`` is another network's or another kind of optimizer's; while training:
            arrays do not fit the network.
        FloatingPointError: too many steps in a row were skipped.
        MemoryError: there is too little memory for a step; the message says what would fit.
    """

    def __init__(
        self,
        net: LeibNet,
        inputs: Mapping[str, gp.ArrayKey],
        outputs: Mapping[str, Supervision],
        *,
        optimization: Optimization | None = None,
        compute: ComputeConfig | None = None,
        iterations: int | None = None,
        patience: int | None = None,
        seed: int | None = None,
        ranks: ProcessGroup | None = None,
        start_from: str | Path | None = None,
        checkpoints: str | Path | None = None,
        checkpoint_options: CheckpointOptions | None = None,
        log: TensorBoardLog | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        try:
            self._metadata = json.loads(json.dumps(dict(metadata or {})))
        except (TypeError, ValueError) as error:
            raise PipelineError(f"metadata has to be plain values, so that checkpoints can be read: {error}") from error
        self.net = net
        self.supervision = dict(outputs)
        self.arrays = NetworkArrays(net, inputs, {name: s.prediction for name, s in outputs.items()})
        self._optimization = optimization or Optimization()
        self._compute = compute or ComputeConfig()
        self._seed = seed
        self._iterations, self._patience = iterations, patience
        self._ranks = ranks or ProcessGroup(device=choose_device(self._compute.device))
        self.notes: dict[str, Any] = {}
        self.record: StepResult | None = None
        self._start_from = None if start_from is None else Path(start_from)
        self._checkpoints = None if checkpoints is None else Path(checkpoints)
        self._checkpoint_options = checkpoint_options or CheckpointOptions()
        self.log = log
        self.listener: Callable[[StepResult], None] | None = None
        self._saved: int | None = None
        self.saved: Path | None = None
        self._whole = False
        self._asked = self._ended = time.perf_counter()

    @property
    def iteration(self) -> int:
        """Batches learned from."""
        return self.state.iteration

    def setup(self) -> None:
        self.arrays.check_upstream(self.spec)
        for name, supervision in self.supervision.items():
            self._check_upstream(name, supervision)
            voxel_size = self.net.voxel_size[name]
            for key in filter(None, (supervision.prediction, supervision.gradient)):
                self.provides(key, gp.ArraySpec(voxel_size=voxel_size, interpolatable=True, dtype=np.float32))
        self.enable_autoskip()
        newest = None if self._checkpoints is None else latest_checkpoint(self._checkpoints)
        if newest is None and self._start_from is not None:
            self._take_weights(self._start_from)
        self.state = TrainingState(
            self.net, self._optimization, self._compute, self._seed, self._ranks, self._iterations, self._patience
        )
        if newest is not None:
            checkpoint = load_checkpoint(newest)
            checkpoint.restore(self.net, newest, self.state)
            self.notes = dict(checkpoint.metadata.get("notes", {}))
            self._saved, self.saved = self.iteration, newest
        self._whole = True
        self._ended = time.perf_counter()

    def teardown(self) -> None:
        try:
            if self._whole and self.iteration:
                self.save()
        finally:
            if self.log is not None:
                self.log.close()

    def prepare(self, request: gp.BatchRequest) -> gp.BatchRequest:
        plan = self._plan(request)
        needed = self.arrays.input_request(plan)
        for name, roi in plan.outputs.items():
            supervision = self.supervision[name]
            for key in filter(None, (supervision.target, supervision.mask)):
                extend_request(needed, key, roi)
        self._asked = time.perf_counter()
        return needed

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> gp.Batch:
        waited = time.perf_counter() - self._asked
        plan = self._plan(request)
        self._whole = False  # until the step is done: what an error leaves is no state to go on from
        self.record = None  # whose tensors are memory that the next step may need
        batched, data = self.arrays.batched(batch, plan), batch[self.arrays.inputs[next(iter(plan.inputs))]].data
        samples = len(data) if batched else 1
        dtype = getattr(torch, self._compute.precision)
        activation_checkpointing = self._compute.run_checkpointed(self.net)
        with memory_explained(self.net, plan, samples, dtype, self.state.device, activation_checkpointing):
            self.record = self._learn(batch, plan)
        self._whole = True
        now = time.perf_counter()
        self.record = replace(self.record, waited=waited, seconds=now - self._ended)
        self._ended = now
        if self.record.step.skipped:
            self._refuse_too_many(batch)
        if self.log is not None:
            self.log.write(self.record)
        if self.listener is not None:
            self.listener(self.record)
        if self.iteration % self._checkpoint_options.every == 0:
            self.save()

        made = gp.Batch()
        made.loss, made.iteration = self.record.loss, self.iteration
        outputs = self.record.outputs
        self.arrays.add_outputs(made, outputs, plan, batched)
        self._add_gradients(made, request, outputs)
        return made

    def save(self) -> Path | None:
        """Write a checkpoint of where training is now, and thin the older ones; None where there are none to be."""
        if self._checkpoints is None or not self._ranks.is_main:
            return None
        if self._saved != self.iteration:
            metadata = {**self._metadata, "notes": self.notes}
            self.saved = save_checkpoint(
                self._checkpoints, self.net, self.state.state_dict(), metadata, {"gunpowder": version("gunpowder")}
            )
            if self.log is not None:
                self.log.flush()
            self._saved = self.iteration
            thin_checkpoints(self._checkpoints, self._checkpoint_options)
        return self.saved

    def loss_of(self, name: str, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """The loss of an output, by its name: see :meth:`.Supervision.compute`."""
        return self.supervision[name].compute(prediction, target, mask)

    def _plan(self, request: gp.BatchRequest) -> Plan:
        """The plan for the predictions in ``request``, whose gradients may be asked for too."""
        for supervision in self.supervision.values():
            key, prediction = supervision.gradient, supervision.prediction
            if key is None or key not in request:
                continue
            if prediction not in request or request[prediction].roi != request[key].roi:
                raise PipelineError(
                    f"{key}, the gradient of {prediction}, is requested; ask for that too, in the same ROI"
                )
        return self.arrays.plan(request)

    def _learn(self, batch: gp.Batch, plan: Plan) -> StepResult:
        """One batch: the record of it, but for the time that it took."""
        state = self.state
        state.begin()
        inputs = self.arrays.tensors(batch, plan, state.device)
        outputs = state.forward(inputs, plan)
        for output in outputs.values():
            if output.requires_grad:  # all that makes it may be frozen
                output.retain_grad()
        targets, masks = self._targets(batch, plan, outputs)
        # those of all ranks: a mean over what is annotated is not the mean of such means
        joint = self._ranks.all_gathered(outputs), self._ranks.all_gathered(targets), self._ranks.all_gathered(masks)
        losses = self._losses(*joint)
        weights = {name: self.supervision[name].weight_at(state.iteration) for name in losses}
        total = sum((weights[name] * loss for name, loss in losses.items()), start=torch.zeros((), device=state.device))
        rate = state.learning_rate
        self._gradient_factor = state.loss_scale * self._ranks.size / state.optimization.accumulate
        measure = self.log is not None and self.log.scalars_due(state.iteration + 1)
        step = state.advance(total, measure=measure)
        return StepResult(
            iteration=state.iteration,
            loss=total.item(),
            losses={name: value.item() for name, value in losses.items()},
            learning_rate=rate,
            step=step,
            skipped=state.skipped,
            samples=self._ranks.size * len(next(iter(outputs.values()))),
            seconds=0.0,
            waited=0.0,
            plan=plan,
            inputs=inputs,
            outputs=outputs,
            targets=targets,
            masks=masks,
            loss_of=self.loss_of,
        )

    def _check_upstream(self, name: str, supervision: Supervision) -> None:
        expected, channels = self.net.voxel_size[name], self.net.specs[name].channels
        weights = supervision.class_weights
        if weights is not None and len(weights) != channels:
            raise PipelineError(f"output {name!r} has {channels} channels, but {len(weights)} class weights are given")
        for key in filter(None, (supervision.target, supervision.mask)):
            if key not in self.spec:
                raise PipelineError(f"output {name!r} is trained on {key}, which no node upstream provides")
            if self.spec[key].voxel_size != expected:
                raise PipelineError(
                    f"output {name!r} has voxels of {tuple(expected)} world units, its {key} upstream has "
                    f"{self.spec[key].voxel_size}"
                )

    def _take_weights(self, path: Path) -> None:
        theirs, ours = load_network(path).state_dict(), self.net.state_dict()
        differing = [
            n for n in {**ours, **theirs} if n not in ours or n not in theirs or ours[n].shape != theirs[n].shape
        ]
        if differing:
            raise PipelineError(
                f"{path} has weights of another network: {', '.join(differing)} are not alike in the two"
            )
        self.net.load_state_dict(theirs)

    def _losses(
        self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The loss of every output; not a number where the prediction is none, which losses would refuse."""
        return {
            name: self.loss_of(name, prediction, targets[name], masks[name])
            if torch.isfinite(prediction).all()
            else prediction.new_full((), math.nan)
            for name, prediction in outputs.items()
        }

    def _targets(
        self, batch: gp.Batch, plan: Plan, outputs: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Target and mask of every output, in its shape."""
        targets, masks = {}, {}
        for name, prediction in outputs.items():
            roi, supervision = plan.outputs[name], self.supervision[name]
            key, mask = supervision.target, supervision.mask
            targets[name] = as_tensor(batch[key], roi, key, self.state.device).to(prediction)
            masks[name] = torch.ones_like(prediction)
            if mask is not None:
                masks[name] = as_tensor(batch[mask], roi, mask, self.state.device).to(prediction)
                if masks[name].shape[1] == 1:
                    masks[name] = masks[name].expand(-1, prediction.shape[1], *roi.dims * (-1,))
            for given, tensor in ((key, targets[name]), (mask, masks[name])):
                if tensor.shape != prediction.shape:
                    raise PipelineError(
                        f"output {name!r} has shape {tuple(prediction.shape)}, its {given} has "
                        f"{tuple(tensor.shape)}: batch, channels and voxels have to agree"
                    )
        return targets, masks

    def _add_gradients(self, made: gp.Batch, request: gp.BatchRequest, outputs: Mapping[str, Tensor]) -> None:
        """What downstream asked for of the loss's gradients, zero where the batch was skipped."""
        for name, output in outputs.items():
            key = self.supervision[name].gradient
            if key is not None and key in request:
                gradient = torch.zeros_like(output) if output.grad is None else output.grad / self._gradient_factor
                prediction = made[self.supervision[name].prediction]
                data = gradient.cpu().numpy()
                made[key] = gp.Array(data if prediction.data.ndim == data.ndim else data[0], prediction.spec.copy())

    def _refuse_too_many(self, batch: gp.Batch) -> None:
        """End training if one more batch was skipped than may be, and keep that batch.

        Raises:
            FloatingPointError: it was.
        """
        most = self.state.optimization.skips_in_a_row
        if self.record is None or self.state.skipped_in_a_row <= most:
            return
        self._whole = False  # a network that has diverged is no state to go on from
        found = [
            f"the {kind} {name!r}"
            for kind, tensors in (("input", self.record.inputs), ("prediction", self.record.outputs))
            for name, tensor in tensors.items()
            if not torch.isfinite(tensor).all()
        ]
        where = ""
        if self._checkpoints is not None:
            rank = "" if self._ranks.alone else f"_rank_{self._ranks.rank}"
            name = f"skipped_{self.iteration}{rank}.safetensors"
            where = f"; that batch is in {write_fault(self._checkpoints.parent / name, batch)}"
        raise TrainingDivergedError(
            f"{most + 1} steps in a row were skipped, the last in iteration {self.iteration}, where "
            f"{found[0] if found else 'the loss or its gradient'} is not finite{where}"
        )
