"""A network in a gunpowder pipeline, for training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gunpowder as gp
import numpy as np
from torch import Tensor

from scalenet_gp.errors import PipelineError
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.nodes.arrays import DecidingItems, NetworkArrays, as_tensor, extend_request
from scalenet_gp.nodes.train.supervision import Supervision
from scalenet_gp.training import FaultDump, StepResult, Trainer

__all__ = ["Train"]


class Train(gp.BatchFilter):
    """Trains the requested outputs on exactly the inputs that they depend on, one batch at a time.

    A request for predictions goes up as one for the inputs of every scale, and for targets and masks of the
    predictions' ROIs. (Also for the mask or graph by which a ``RandomLocation`` or ``Reject`` upstream decides, in the
    union of the predictions' ROIs.) The batch comes down with the predictions, ``batch.loss`` and ``batch.iteration``.

    The node is an adapter: a :class:`scalenet_gp.training.Trainer` does the training. It starts when the pipeline is
    built and stops, with a last checkpoint, when the pipeline ends.

    Args:
        net: the network.
        inputs: the array of every input, (channel, Z, Y, X) or (batch, channel, Z, Y, X), floats.
        outputs: how each output is trained.
        options: keyword arguments of the trainer: ``joint_losses``, ``optimization``, ``compute``, ``seed``,
            ``checkpoints``, ``log``, ``callbacks`` and so on.

    Attributes:
        trainer: the trainer.
        arrays: the arrays of the network's tensors.
        supervision: how each output is trained.

    Raises:
        PipelineError: an input has no array, or a name is unknown; when the pipeline is built: an array upstream has
            another voxel size or number of axes than the network; while training: arrays do not fit the network.
        ScaleNetError: as the trainer says.
        MemoryError: there is too little memory for a step; the message says what would fit.

    Example:
        >>> from scalenet_gp import build_unet
        >>> from scalenet_gp.training import Optimization
        >>> raw, prediction, target = gp.ArrayKey("RAW"), gp.ArrayKey("PREDICTION"), gp.ArrayKey("TARGET")
        >>> net = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)])
        >>> outputs = {"output": Supervision(prediction, target)}
        >>> node = Train(net, {"input": raw}, outputs, optimization=Optimization(learning_rate=1e-4), seed=1)
    """

    def __init__(
        self, net: LeibNet, inputs: Mapping[str, gp.ArrayKey], outputs: Mapping[str, Supervision], **options: Any
    ) -> None:
        self.net = net
        self.supervision = dict(outputs)
        self.arrays = NetworkArrays(net, inputs, {name: each.prediction for name, each in outputs.items()})
        self._dump: _BatchDump | None = None
        self._deciding = DecidingItems(self)
        if options.get("checkpoints") is not None:
            self._dump = _BatchDump(Path(options["checkpoints"]).parent)
        losses = {name: each.output_loss for name, each in outputs.items() if each.target is not None}
        versions = {"gunpowder": version("gunpowder")}
        self.trainer = Trainer(net, losses, versions=versions, fault_dump=self._dump, **options)

    def setup(self) -> None:
        self.arrays.check_upstream(self.spec)
        for name, supervision in self.supervision.items():
            self._check_upstream(name, supervision)
            voxel_size = self.net.voxel_size[name]
            for key in filter(None, (supervision.prediction, supervision.gradient)):
                self.provides(key, gp.ArraySpec(voxel_size=voxel_size, interpolatable=True, dtype=np.float32))
        self.enable_autoskip()
        self._deciding = DecidingItems(self)
        self.trainer.start()

    def teardown(self) -> None:
        self.trainer.stop()

    def prepare(self, request: gp.BatchRequest) -> gp.BatchRequest:
        plan = self._plan(request)
        needed = self.arrays.input_request(plan)
        for name, roi in plan.outputs.items():
            supervision = self.supervision[name]
            for key in filter(None, (supervision.target, supervision.mask)):
                extend_request(needed, key, roi)
        self._deciding.extend(needed, list(plan.outputs.values()), self.spec)
        return needed

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> gp.Batch:
        plan = self._plan(request)
        inputs, batched = self.arrays.tensors(batch, plan), self.arrays.batched(batch, plan)
        targets, masks = self._targets(batch, plan)
        if self._dump is not None:
            self._dump.batch = batch
        try:
            result = self.trainer.step(inputs, targets, masks, plan)
        finally:
            if self._dump is not None:
                self._dump.batch = None
        made = gp.Batch()
        made.loss, made.iteration = result.loss, result.iteration
        self.arrays.add_outputs(made, result.outputs, plan, batched)
        self._add_gradients(made, request, result)
        return made

    def _plan(self, request: gp.BatchRequest) -> Plan:
        """Return the plan for the predictions in ``request``, whose gradients may be requested too."""
        for supervision in self.supervision.values():
            key, prediction = supervision.gradient, supervision.prediction
            if key is None or key not in request:
                continue
            if prediction not in request or request[prediction].roi != request[key].roi:
                raise PipelineError(
                    f"{key}, the gradient of {prediction}, is requested; ask for that too, in the same ROI"
                )
        return self.arrays.plan(request)

    def _check_upstream(self, name: str, supervision: Supervision) -> None:
        expected = self.net.voxel_size[name]
        for key in filter(None, (supervision.target, supervision.mask)):
            if key not in self.spec:
                raise PipelineError(f"output {name!r} is trained on {key}, which no node upstream provides")
            if self.spec[key].voxel_size != expected:
                raise PipelineError(
                    f"output {name!r} has voxels of {tuple(expected)} world units, its {key} upstream has "
                    f"{self.spec[key].voxel_size}"
                )

    def _targets(self, batch: gp.Batch, plan: Plan) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the target and the mask, if it has one, of every output of the plan."""
        targets: dict[str, Tensor] = {}
        masks: dict[str, Tensor] = {}
        samples = self.arrays.samples(batch, plan)
        for name, roi in plan.outputs.items():
            supervision, planned = self.supervision[name], plan.tensor(name)
            shape = (samples, planned.channels, *(roi.shape / self.net.voxel_size[name]))
            for kind, key, tensors in (("target", supervision.target, targets), ("mask", supervision.mask, masks)):
                if key is None:
                    continue
                tensor = tensors[name] = as_tensor(batch[key], roi, key)
                fits = shape if kind == "target" or tensor.shape[1] != 1 else (samples, 1, *shape[2:])
                if tuple(tensor.shape) != fits:
                    raise PipelineError(
                        f"output {name!r} has shape {shape}, its {key} has {tuple(tensor.shape)}: batch, channels and "
                        "voxels have to agree"
                    )
        return targets, masks

    def _add_gradients(self, made: gp.Batch, request: gp.BatchRequest, result: StepResult) -> None:
        """Add the requested gradients of the loss, zero where the batch was skipped."""
        for name in result.outputs:
            key = self.supervision[name].gradient
            if key is not None and key in request:
                prediction = made[self.supervision[name].prediction]
                data = result.gradient(name).cpu().numpy()
                made[key] = gp.Array(data if prediction.data.ndim == data.ndim else data[0], prediction.spec.copy())


class _BatchDump(FaultDump):
    """Writes all arrays of the batch under the names of their keys, with ROI, voxel size and attributes of each."""

    batch: gp.Batch | None = None

    def contents(self, result: StepResult) -> tuple[dict[str, Any], dict[str, str]]:
        if self.batch is None:
            return super().contents(result)
        arrays = {key.identifier: array.data for key, array in self.batch.arrays.items()}
        described = {
            key.identifier: json.dumps(
                {
                    "begin": None if array.spec.roi is None else list(map(int, array.spec.roi.begin)),
                    "voxel_size": None if array.spec.voxel_size is None else list(map(int, array.spec.voxel_size)),
                    "attrs": {name: str(value) for name, value in (array.attrs or {}).items()},
                }
            )
            for key, array in self.batch.arrays.items()
        }
        return arrays, described
