"""A network in a gunpowder pipeline, for training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gunpowder as gp
import numpy as np
import torch
from torch import Tensor, nn

from scalenet_gp.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from scalenet_gp.device import choose_device
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.losses import CrossEntropyDice
from scalenet_gp.nodes.learning.network_arrays import NetworkArrays, as_tensor, extend
from scalenet_gp.nodes.learning.training_log import TrainingLog
from scalenet_gp.plan import Plan

__all__ = ["Supervision", "Train"]

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""Makes the optimizer of a network's parameters, as ``functools.partial(torch.optim.Adam, lr=1e-4)`` does."""


@dataclass(frozen=True, slots=True)
class Supervision:
    """How one output of a network is trained.

    Attributes:
        prediction: the array of the output; what is requested of it downstream is what is trained.
        target: the array that it shall equal, of the same voxel size and channels.
        mask: the array that says what of the target is annotated, in the target's shape or with one channel for all;
            all of it unless given.
        loss: called with (prediction, target, mask), each (B, C, Z, Y, X); cross-entropy plus Dice unless given.
        weight: what the loss is multiplied by in the sum over the outputs.
    """

    prediction: gp.ArrayKey
    target: gp.ArrayKey
    mask: gp.ArrayKey | None = None
    loss: Callable[[Tensor, Tensor, Tensor], Tensor] = field(default_factory=CrossEntropyDice)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"the weight of the loss on {self.prediction} has to be positive, not {self.weight}")


class Train(gp.BatchFilter):
    """Trains the outputs that are asked for, on exactly the inputs that they depend on: one step for each batch.

    A request for predictions goes up as one for the inputs of every scale, and for targets and masks of the
    predictions' ROIs. The batch comes down with the predictions, ``batch.loss`` and ``batch.iteration``.

    Args:
        net: the network.
        inputs: the array of every input, (channel, Z, Y, X) or (batch, channel, Z, Y, X), floats.
        outputs: how each output is trained.
        optimizer: makes the optimizer; RAdam with a learning rate of 1e-3 unless given.
        schedule: what the learning rate is multiplied by, from the number of steps done; one unless given.
        device: name of a torch device; the first GPU unless given, the processor where there is none.
        checkpoints: folder for checkpoints; if it holds any, training goes on from the newest, with the settings of its
            optimizer. None unless given.
        checkpoint_every: iterations from one checkpoint to the next; one more is written when the pipeline ends.
        log: where scalars and images go. Nowhere unless given.
        metadata: what JSON can hold, to keep in the checkpoints: the config, the names of the classes.

    Raises:
        ValueError: an input has no array, a name is unknown, the device is not there, the metadata are not plain; when
            the pipeline is built: an array upstream has another voxel size or number of axes than the network, or the
            newest checkpoint is another network's or another kind of optimizer's; while training: arrays do not fit the
            network, or an input, prediction or loss is not finite.
    """

    def __init__(
        self,
        net: LeibNet,
        inputs: Mapping[str, gp.ArrayKey],
        outputs: Mapping[str, Supervision],
        *,
        optimizer: OptimizerFactory | None = None,
        schedule: Callable[[int], float] | None = None,
        device: str | torch.device | None = None,
        checkpoints: str | Path | None = None,
        checkpoint_every: int = 1000,
        log: TrainingLog | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        if checkpoint_every < 1:
            raise ValueError(f"checkpoint_every is a number of iterations from 1 up, not {checkpoint_every}")
        try:
            self._metadata = json.loads(json.dumps(dict(metadata or {})))
        except (TypeError, ValueError) as error:
            raise ValueError(f"metadata has to be plain values, so that checkpoints can be read: {error}") from error
        self.net = net
        self.supervision = dict(outputs)
        self.arrays = NetworkArrays(net, inputs, {name: s.prediction for name, s in outputs.items()})
        self.device = choose_device(device)
        self.iteration = 0
        self._make_optimizer = optimizer or (lambda parameters: torch.optim.RAdam(parameters, lr=1e-3))
        self._schedule = schedule or (lambda iteration: 1.0)
        self._checkpoints = None if checkpoints is None else Path(checkpoints)
        self._checkpoint_every = checkpoint_every
        self._saved: int | None = None
        self._log = log

    def setup(self) -> None:
        self.arrays.check_upstream(self.spec)
        for name, supervision in self.supervision.items():
            for key in filter(None, (supervision.target, supervision.mask)):
                self._check_target(name, key)
            voxel_size = self.net.voxel_size[name]
            spec = gp.ArraySpec(voxel_size=voxel_size, interpolatable=True, dtype=np.float32)
            self.provides(supervision.prediction, spec)
        self.enable_autoskip()
        self.net.to(self.device).train()
        self.optimizer = self._make_optimizer(self.net.parameters())
        newest = None if self._checkpoints is None else latest_checkpoint(self._checkpoints)
        if newest is not None:
            checkpoint = load_checkpoint(newest)
            checkpoint.restore(self.net, newest, self.optimizer)
            self.iteration = self._saved = checkpoint.iteration
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])  # under this name torch's schedules keep what they begin with
        self._scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._schedule, self.iteration - 1)

    def teardown(self) -> None:
        try:
            if self.iteration:
                self._save()
        finally:
            if self._log is not None:
                self._log.close()

    def prepare(self, request: gp.BatchRequest) -> gp.BatchRequest:
        plan = self.arrays.plan(request)
        needed = self.arrays.input_request(plan)
        for name, roi in plan.outputs.items():
            supervision = self.supervision[name]
            for key in filter(None, (supervision.target, supervision.mask)):
                extend(needed, key, roi)
        return needed

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> gp.Batch:
        plan = self.arrays.plan(request)
        inputs = self.arrays.tensors(batch, plan, self.device)
        # before the forward pass, in which a normalisation would take it into its running statistics
        self._refuse_unless_finite("input", inputs)
        outputs = self._predicted(inputs, plan)
        targets, masks = self._targets(batch, plan, outputs)
        losses = {
            name: self.supervision[name].loss(prediction, targets[name], masks[name])
            for name, prediction in outputs.items()
        }
        self._refuse_unless_finite("loss", losses)
        weighted = (self.supervision[name].weight * loss for name, loss in losses.items())
        total = sum(weighted, start=torch.zeros((), device=self.device))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        self.iteration += 1

        made = gp.Batch()
        made.loss = total.item()
        made.iteration = self.iteration
        self.arrays.add_outputs(made, outputs, plan, self.arrays.batched(batch, plan))
        if self._log is not None:
            values = {name: loss.item() for name, loss in losses.items()}
            self._log.write(self.iteration, made.loss, values, self.optimizer, plan, inputs, outputs, targets, masks)
        self._scheduler.step()  # after the log, which shows the rate that was used, and before the checkpoint
        if self.iteration % self._checkpoint_every == 0:
            self._save()
        return made

    def _check_target(self, name: str, key: gp.ArrayKey) -> None:
        expected = self.net.voxel_size[name]
        if key not in self.spec:
            raise ValueError(f"output {name!r} is trained on {key}, which no node upstream provides")
        if self.spec[key].voxel_size != expected:
            raise ValueError(
                f"output {name!r} has voxels of {tuple(expected)} world units, its {key} upstream has "
                f"{self.spec[key].voxel_size}"
            )

    def _targets(
        self, batch: gp.Batch, plan: Plan, outputs: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Target and mask of every output, in its shape."""
        targets, masks = {}, {}
        for name, prediction in outputs.items():
            roi, supervision = plan.outputs[name], self.supervision[name]
            key, mask = supervision.target, supervision.mask
            targets[name] = as_tensor(batch[key], roi, key, self.device).to(prediction)
            masks[name] = torch.ones_like(prediction)
            if mask is not None:
                masks[name] = as_tensor(batch[mask], roi, mask, self.device).to(prediction)
                if masks[name].shape[1] == 1:
                    masks[name] = masks[name].expand(-1, prediction.shape[1], *roi.dims * (-1,))
            for given, tensor in ((key, targets[name]), (mask, masks[name])):
                if tensor.shape != prediction.shape:
                    raise ValueError(
                        f"output {name!r} has shape {tuple(prediction.shape)}, its {given} has "
                        f"{tuple(tensor.shape)}: batch, channels and voxels have to agree"
                    )
        return targets, masks

    def _predicted(self, inputs: Mapping[str, Tensor], plan: Plan) -> dict[str, Tensor]:
        """The outputs of the network, refused if they are not finite."""
        self.net.train()
        outputs = self.net(inputs, plan)
        try:
            self._refuse_unless_finite("prediction", outputs)
        except ValueError:
            self._saved = self.iteration  # a network that has diverged is no state to go on from
            raise
        return outputs

    def _refuse_unless_finite(self, what: str, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(
                    f"the {what} of {name!r} is not finite in iteration {self.iteration + 1}; no step was taken"
                )

    def _save(self) -> None:
        if self._checkpoints is not None and self._saved != self.iteration:
            save_checkpoint(self._checkpoints, self.net, self.optimizer, self.iteration, self._metadata)
            self._saved = self.iteration
