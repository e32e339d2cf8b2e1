"""The sides of `learning.py`: networks with their optimizers, each with boxes of its own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fractions import Fraction
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from learning_volumes import Box, Sample, Task
from leibnetz_peer import build_leibnetz_scalenet
from monai_peer import MonaiNetwork
from norm_candidates import Candidate, change_normalization
from padded_unet import PaddedUNet
from pydantic import Field, NonNegativeInt, PositiveInt, TypeAdapter
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from scalenet_gp import LeibNet, TensorSpec
from scalenet_gp.geometry import exact_size
from scalenet_gp.losses import CrossEntropyDice
from scalenet_gp.networks import NetworkKind, network_kinds
from scalenet_gp.options import Options
from scalenet_gp.training import ComputeConfig, NormSamples, NormStatisticsOptions, Optimization, Trainer

__all__ = ["SIDES", "Learner", "Side", "build"]


class OwnSide(Options):
    """A network of this package, and our trainer. Options that are not given are the package's defaults.

    Attributes:
        kind: which side it is.
        builder: the kind of network, as run files name it.
        whole: options of the network as a whole, where it has several scales.
        scales: the scales that are used, counted from the finest.
        sizes: voxel sizes (nm) of the scales, from coarse to fine; those of the task unless given.
        network: options of each scale.
        joined: further options of each scale but the coarsest.
        optimization: options of :class:`Optimization`.
        voxels: voxels per axis of each output, from coarse to fine; those of the task unless given.
        batch: samples per step, those of the task unless given.
        inner: judge the inner half of each output, for convolutions that pad.
        norm_samples: samples over which the statistics of normalization are estimated before it is judged.
        candidate: a normalization that the package does not have.
    """

    kind: Literal["ours"] = "ours"
    builder: str = "scalenet"
    whole: dict[str, Any] = Field(default_factory=dict)
    scales: PositiveInt | None = None
    sizes: list[list[float]] | None = None
    network: dict[str, Any] = Field(default_factory=dict)
    joined: dict[str, Any] = Field(default_factory=dict)
    optimization: Optimization = Field(default_factory=Optimization)
    voxels: list[list[PositiveInt]] | None = None
    batch: PositiveInt | None = None
    inner: bool = False
    norm_samples: NonNegativeInt = NormStatisticsOptions().samples
    candidate: Candidate | None = None

    def build(self, task: Task) -> LeibNet:
        """Return the network, with the random numbers of now."""
        sizes = [exact_size(size) for size in self.sizes] if self.sizes else list(task.voxel_sizes)
        sizes = sizes[-(self.scales or len(sizes)) :]
        common = {"output_nc": len(task.classes), **task.network, **self.network}
        subnets = [{"top_resolution": size, **common} | (self.joined if n else {}) for n, size in enumerate(sizes)]
        several = "subnets" in network_kinds()[self.builder].model_fields
        options = {"kind": self.builder, **(self.whole | {"subnets": subnets} if several else subnets[-1])}
        net: LeibNet = TypeAdapter[Any](NetworkKind).validate_python(options).build()
        return net


class DeepUNetSide(Options):
    """A network after nnU-Net (Isensee et al. 2021): padded convolutions, instance normalization, deep supervision.

    Attributes:
        kind: which side it is.
        base_nc: channels of the first stage.
        optimizer: nnU-Net's SGD with its schedule, or AdamW with a cosine.
        learning_rate: the learning rate at the beginning.
        batch: samples per step.
    """

    kind: Literal["nnunet"] = "nnunet"
    base_nc: PositiveInt = 12
    optimizer: Literal["SGD", "AdamW"] = "AdamW"
    learning_rate: float = 3e-3
    batch: PositiveInt = 1


class LeibNetzSide(Options):
    """PyPI's LeibNetz with its published recipe.

    Attributes:
        kind: which side it is.
        learning_rate: the constant learning rate.
        batch: samples per step, those of the task unless given.
    """

    kind: Literal["leibnetz"] = "leibnetz"
    learning_rate: float = 1e-4
    batch: PositiveInt | None = None


class MonaiSide(Options):
    """A network of MONAI, whose convolutions pad, and our trainer.

    Attributes:
        kind: which side it is.
        network: MONAI's DynUNet, of nnU-Net's shape, or its BasicUNet.
        base_nc: channels of the first stage.
        optimization: options of :class:`Optimization`.
        batch: samples per step.
    """

    kind: Literal["monai"] = "monai"
    network: Literal["DynUNet", "BasicUNet"] = "DynUNet"
    base_nc: PositiveInt = 12
    optimization: Optimization = Field(default_factory=lambda: Optimization(learning_rate=3e-3))
    batch: PositiveInt = 1


Side = Annotated[OwnSide | DeepUNetSide | LeibNetzSide | MonaiSide, Field(discriminator="kind")]

SIDES: dict[str, dict[str, Any]] = {
    "ScaleNet": {"kind": "ours"},
    "U-Net": {"kind": "ours", "builder": "unet"},
    "nnU-Net-like, AdamW": {"kind": "nnunet"},
    "nnU-Net-like, SGD": {"kind": "nnunet", "optimizer": "SGD", "learning_rate": 1e-2},
    "LeibNetz": {"kind": "leibnetz"},
}
"""The sides that are compared by default."""


class Learner(ABC):
    """Abstract: a network that learns from samples.

    Attributes:
        net: the network.
        batch: samples per step.
        inputs: the box of each input.
        outputs: the box of each output that is trained.
        finest: the output that is judged.
        judged_inputs: the box of each input when it is judged.
        judged: the box that is judged.
    """

    net: nn.Module
    batch: int
    inputs: Mapping[str, Box]
    outputs: Mapping[str, Box]
    finest: str
    judged_inputs: Mapping[str, Box]
    judged: Box

    @abstractmethod
    def step(self, sample: Sample) -> None:
        """Learn from a batch."""

    @abstractmethod
    def predict(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the probabilities in the judged box."""

    def judging(self, samples: Iterator[Sample]) -> AbstractContextManager[None]:
        """Return a context in which the network predicts as it is to be judged; samples are those of training."""
        return nullcontext()


def build(side: Side, task: Task, seed: int, iterations: int) -> Learner:
    """Return the network with the weights of a seed."""
    kinds: dict[type, Any] = {OwnSide: Own, DeepUNetSide: DeepUNet, LeibNetzSide: LeibNetz, MonaiSide: Monai}
    learner: Learner = kinds[type(side)](side, task, seed, iterations)
    return learner


# --------------------------------------------------------------------------------------------------------------- ours


class Own(Learner):
    def __init__(self, side: OwnSide, task: Task, seed: int, iterations: int) -> None:
        torch.manual_seed(seed)
        self.net = net = side.build(task)
        self.side, self.batch = side, side.batch or task.batch
        self.finest = "output" if "output" in net.output_keys else net.output_keys[-1]
        shapes = (side.voxels or task.voxels)[-len(net.output_keys) :]
        self.plan = net.plan(
            {name: around(net.voxel_size[name], shape) for name, shape in zip(net.output_keys, shapes, strict=True)}
        )
        self.inputs = {name: self.box(name, self.plan) for name in self.plan.inputs}
        self.outputs = {name: self.box(name, self.plan) for name in self.plan.outputs}
        finest = self.outputs[self.finest]
        factor = task.held_out.factor(finest.voxel_size)
        block = tuple(n // f for n, f in zip(task.block, factor, strict=True)) if net.tileable else finest.shape
        self.judged_plan = net.plan({self.finest: around(net.voxel_size[self.finest], block)})
        self.judged_inputs = {name: self.box(name, self.judged_plan) for name in self.judged_plan.inputs}
        self.judged = self.box(self.finest, self.judged_plan)
        if side.inner:
            self.judged = Box.concentric(finest.voxel_size, [max(1, n // 2) for n in block])
        if side.candidate is not None:
            rng = np.random.default_rng([seed, 3])
            drawn = [task.draw(rng, self.inputs, self.outputs, self.finest) for _ in range(4)]
            sample = {name: torch.cat([each.inputs[name] for each in drawn]) for name in self.inputs}
            change_normalization(net, side.candidate, sample, self.plan)
        self.trainer = Trainer(
            net,
            optimization=side.optimization,
            compute=ComputeConfig(device="cpu"),
            iterations=iterations,
            seed=seed,
        )
        self.trainer.start()

    def box(self, name: str, plan: Any) -> Box:
        """Return the box of an input or output of a plan; of outputs what is asked for, which networks may exceed."""
        tensor = plan.tensor(name)
        roi, voxel = plan.outputs.get(name, tensor.roi), Coordinate(tensor.voxel_size)
        size = tuple(Fraction(v) * self.net.unit for v in voxel)
        return Box(size, tuple(roi.begin / voxel), tuple(roi.shape / voxel))

    def step(self, sample: Sample) -> None:
        self.trainer.step(sample.inputs, sample.targets, sample.masks, self.plan)

    @contextmanager
    def judging(self, samples: Iterator[Sample]) -> Iterator[None]:
        batches = math.ceil(self.side.norm_samples / self.batch)
        if batches:
            drawn = [sample.inputs for sample in islice(samples, batches)]
            self.trainer.norm_samples = NormSamples(drawn, self.plan)
        with self.trainer.prediction_statistics():
            yield

    def predict(self, inputs: Mapping[str, Tensor]) -> Tensor:
        net = self.trainer.state.eval_net
        net.eval()
        with torch.no_grad():
            outputs: dict[str, Tensor] = net(inputs, self.judged_plan)
        return inner_part(outputs[self.finest], self.judged)


def around(voxel_size: Coordinate, shape: Sequence[int]) -> Roi:
    """Return the ROI of so many voxels around the origin."""
    return Roi([-(n // 2) * v for n, v in zip(shape, voxel_size, strict=True)], Coordinate(shape) * voxel_size)


# --------------------------------------------------------------------------------------------------------- the others


class Plain(Learner):
    """Abstract: a network with an optimizer of torch; the same loss of all outputs, weighted."""

    weights: Mapping[str, float]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    clip_norm: float

    @abstractmethod
    def logits(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the logits of each output."""

    def step(self, sample: Sample) -> None:
        self.net.train()
        loss = CrossEntropyDice()
        total = torch.zeros(())
        for name, logits in self.logits(sample.inputs).items():
            target, mask = sample.targets[name], sample.masks[name].expand_as(sample.targets[name])
            total = total + self.weights[name] * loss(logits, target, mask, activation="Sigmoid")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        clip_grad_norm_(self.net.parameters(), self.clip_norm)
        self.optimizer.step()
        self.schedule.step()

    def predict(self, inputs: Mapping[str, Tensor]) -> Tensor:
        self.net.eval()
        with torch.no_grad():
            probabilities = self.logits(inputs)[self.finest].sigmoid()
        return inner_part(probabilities, self.judged)


class DeepUNet(Plain):
    """Judged by the inner half of each patch, where zeros of the padding are far away."""

    def __init__(self, side: DeepUNetSide, task: Task, seed: int, iterations: int) -> None:
        torch.manual_seed(seed)
        halvings = most_halvings(task)
        self.net = PaddedUNet(min(5, halvings), side.base_nc, len(task.classes), task.kernel, task.factors)
        self.batch = side.batch
        finest, patch = task.voxel_sizes[-1], np.array(task.patch)
        self.finest = "0"
        self.inputs = self.judged_inputs = {"raw": Box.concentric(finest, task.patch)}
        self.outputs = {}
        for level in range(max(1, min(5, halvings) - 1)):
            factor = np.array(task.factors) ** level
            size = [own * int(f) for own, f in zip(finest, factor, strict=True)]
            self.outputs[str(level)] = Box.concentric(size, [int(n) for n in patch // factor])
        self.judged = Box.concentric(finest, [max(1, n // 2) for n in task.patch])
        weights = {name: 0.5 ** int(name) for name in self.outputs}
        self.weights = {name: weight / sum(weights.values()) for name, weight in weights.items()}
        self.clip_norm = 12.0
        options: dict[str, Any] = {"lr": side.learning_rate}
        if side.optimizer == "SGD":
            options |= {"momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}
        self.optimizer = getattr(torch.optim, side.optimizer)(self.net.parameters(), **options)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            (lambda step: max(0.0, 1 - step / iterations) ** 0.9)
            if side.optimizer == "SGD"
            else (lambda step: 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / iterations))),
        )

    def logits(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        made: list[Tensor] = self.net(inputs["raw"], len(self.outputs))
        return dict(zip(self.outputs, made, strict=True))


def most_halvings(task: Task) -> int:
    """Return how often the patch of a task can be made coarser until it has four voxels along an axis."""
    return min(int(math.log2(n / 4) / math.log2(f)) for n, f in zip(task.patch, task.factors, strict=True) if f > 1)


def inner_part(values: Tensor, box: Box) -> Tensor:
    """Return the middle of a tensor, of the shape of a box."""
    parts = ((n - m) // 2 for n, m in zip(values.shape[2:], box.shape, strict=True))
    return values[(..., *(slice(first, first + m) for first, m in zip(parts, box.shape, strict=True)))]


class Monai(Learner):
    """Judged by the inner half of each patch, as :class:`DeepUNet` is."""

    def __init__(self, side: MonaiSide, task: Task, seed: int, iterations: int) -> None:
        torch.manual_seed(seed)
        finest, patch = task.voxel_sizes[-1], task.patch
        halvings = 4 if side.network == "BasicUNet" else min(5, most_halvings(task))
        factors = [task.factors] * halvings
        node = MonaiNetwork(["raw"], ["0"], side.network, len(task.classes), side.base_nc, factors, task.kernel)
        self.net = net = LeibNet([node], {"raw": TensorSpec(finest, 1)}, ["0"])
        self.batch, self.finest = side.batch, "0"
        self.inputs = self.judged_inputs = {"raw": Box.concentric(finest, patch)}
        self.outputs = {"0": Box.concentric(finest, patch)}
        self.judged = Box.concentric(finest, [max(1, n // 2) for n in patch])
        self.plan = net.plan({"0": around(net.voxel_size["0"], patch)})
        options: dict[str, Any] = {"optimization": side.optimization, "iterations": iterations, "seed": seed}
        self.trainer = Trainer(net, compute=ComputeConfig(device="cpu"), **options)
        self.trainer.start()

    def step(self, sample: Sample) -> None:
        self.trainer.step(sample.inputs, sample.targets, sample.masks, self.plan)

    def predict(self, inputs: Mapping[str, Tensor]) -> Tensor:
        self.net.eval()
        with torch.no_grad():
            probabilities: Tensor = self.net(inputs, self.plan)["0"]
        return inner_part(probabilities, self.judged)


class LeibNetz(Plain):
    def __init__(self, side: LeibNetzSide, task: Task, seed: int, iterations: int) -> None:
        finest = task.voxel_sizes[-1]
        factors = [tuple(int(n / own) for n, own in zip(size, finest, strict=True)) for size in task.voxel_sizes]
        common = {
            **task.network,
            "output_nc": len(task.classes),
            "norm_layer": "InstanceNorm",
            "residual": True,
            "final_activation": "Identity",
        }
        kernels = common.pop("kernel_sizes", [task.kernel])[:1]
        subnets = [{"top_resolution": size, "kernel_sizes": kernels * 3, **common} for size in factors]
        self.net: Any = build_leibnetz_scalenet(subnets, seed=seed)
        self.net.compute_shapes({f"{i}_output": (np.array(task.voxels[-1]), size) for i, size in enumerate(factors)})
        shapes = self.net.input_shapes, self.net.output_shapes
        self.inputs, self.outputs = (
            {
                name: Box.concentric(task.voxel_sizes[int(name[0])], [int(n) for n in shape["shape"]])
                for name, shape in each.items()
            }
            for each in shapes
        )
        self.batch = side.batch or task.batch
        self.finest = f"{len(subnets) - 1}_output"
        self.judged_inputs, self.judged = self.inputs, self.outputs[self.finest]
        self.weights = dict.fromkeys(self.outputs, 1.0)
        self.clip_norm = 1.0
        self.optimizer = torch.optim.RAdam(
            self.net.parameters(), lr=side.learning_rate, weight_decay=1e-4, decoupled_weight_decay=True
        )
        self.schedule = torch.optim.lr_scheduler.ConstantLR(self.optimizer, 1.0)

    def logits(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        outputs: Mapping[str, Tensor] = self.net(dict(inputs))
        return outputs
