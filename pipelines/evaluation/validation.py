"""Validation of a network in training, in a region that it does not learn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Self, final

import gunpowder as gp
import torch
from funlib.geometry import Roi
from torch import Tensor

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.losses import FinalActivation, apply_activation
from scalenet_gp.nodes import SampleLocation, UniformSampler
from scalenet_gp.nodes.arrays import NetworkArrays, as_tensor
from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.nodes.prefetch import SeededBatches
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.data import Dataset, Datasets, draw_from_sources
from scalenet_gp.pipelines.evaluation.held_out import held_out
from scalenet_gp.pipelines.evaluation.score_sums import ScoreSums
from scalenet_gp.training import ValidationResult

__all__ = ["LossOf", "Validation", "validation_chain"]

LossOf = Callable[[str, Tensor, Tensor, Tensor, FinalActivation | None], Tensor]
"""The loss of an output, by its name, of a raw output, target and mask, each (B, C, Z, Y, X), and the activation."""


@final
class Validation:
    """Validates networks on samples of regions, always the same ones: a context manager.

    The samples come from a chain of nodes of their own, without augmentation. Their locations are drawn from the
    annotated part of each region, on the lattice that all tensors share. They depend on ``seed`` alone. A sample whose
    raw data are not all finite is left out, as training skips it. The first validation reads the first data, so that
    worker processes can be forked before.

    Args:
        dataset: a volume, and a network like those to be validated.
        chain: the nodes that draw samples: see :func:`validation_chain`.
        boxes: the ROI of every output in a sample, world units.
        loss: the loss of training.
        samples: number of samples.
        seed: seed of their locations.
        threshold: the probability from which a voxel counts as the class.
        groups: groups of exclusive classes, by name.

    Raises:
        ConfigError: a number is out of its range, or no output has all classes of a group.
    """

    def __init__(
        self,
        dataset: Dataset,
        chain: gp.Pipeline,
        boxes: Mapping[str, Roi],
        loss: LossOf,
        *,
        samples: int = 8,
        seed: int = 0,
        threshold: float = 0.5,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if samples < 1 or seed < 0:
            raise ConfigError(f"{samples} samples with the seed {seed}: one sample is the least, 0 the lowest seed")
        net = dataset.net
        self.samples = samples
        self._loss = loss
        self._seed = seed
        self._new_sums = partial(ScoreSums, dataset, groups or {}, threshold)
        self._new_sums()  # refuses groups that no output has
        self._plan = net.plan({name: box for name, box in boxes.items() if name in dataset.targets})
        self._sample = dataset.arrays
        self._arrays = NetworkArrays(net, self._sample.inputs, self._sample.predictions)
        self._chain = chain
        self._built = ExitStack()
        self._batches: SeededBatches | None = None

    @classmethod
    def from_config(cls, config: Config, datasets: Datasets, boxes: Mapping[str, Roi], loss: LossOf) -> Self:
        """Return the validation that a config describes. Arguments and errors are those of the class.

        Raises:
            ConfigError: the config has no validation.
        """
        settings = config.validation
        if settings is None:
            raise ConfigError("the config has no validation")
        branches = _Branches(datasets)
        weights = {source.name: source.config.weight for source in datasets.of("validate")}
        for name in weights:
            branches.check(name)
        return cls(
            datasets.first,
            draw_from_sources(weights, branches),
            boxes,
            loss,
            samples=settings.samples,
            seed=settings.seed,
            threshold=config.evaluation.threshold,
            groups=config.evaluation.groups,
        )

    def __enter__(self) -> Self:
        pipeline = self._built.enter_context(build_chain(self._chain))
        self._batches = SeededBatches(pipeline, self._sample.request(self._plan), self._seed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._batches = None
        self._built.__exit__(kind, error, traceback)

    def validate(self, net: LeibNet) -> ValidationResult:
        """Return the scores and the loss of a network.

        The network is run on its device in evaluation mode, and left as it was. The global random generators neither
        matter nor change. The loss is the mean over samples and outputs with any annotated voxel.

        Raises:
            ScaleNetError: the network differs from the one of the dataset.
            DataError: no sample has an annotated voxel and finite raw data.
            RuntimeError: outside of the ``with`` block.
        """
        if self._batches is None:
            raise RuntimeError("a Validation validates within its with block")
        device = next(net.parameters()).device
        sums = self._new_sums()
        losses: list[float] = []
        # forked: a layer may draw random numbers in evaluation, too
        with _evaluating(net), torch.random.fork_rng([device] if device.type == "cuda" else []):
            for number in range(self.samples):
                self._validate_sample(net, self._batches[number], device, sums, losses)
        if not losses:
            raise DataError(
                f"none of {self.samples} samples for validation has a whole voxel annotated and raw data that are "
                "finite: take more samples, or a region that is annotated more densely"
            )
        return ValidationResult(sums.scores, sum(losses) / len(losses), sums.voxels)

    def _validate_sample(
        self, net: LeibNet, batch: gp.Batch, device: torch.device, sums: ScoreSums, losses: list[float]
    ) -> None:
        """Add the scores and losses of one sample."""
        inputs = self._arrays.tensors(batch, self._plan, device)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in inputs.values()):
            return
        raw = net(inputs, self._plan, logits=True)
        for name, output in raw.items():
            activation = net.output_activation(name)
            prediction = output if activation is None else apply_activation(output, activation)
            roi = self._plan.outputs[name]
            true, annotated = batch[self._sample.targets[name]].data, batch[self._sample.masks[name]].data
            sums.add(name, prediction[0].float().cpu().numpy(), true, annotated)
            if annotated.any():
                target, mask = (
                    as_tensor(batch[key], roi, key, device).to(prediction)
                    for key in (self._sample.targets[name], self._sample.masks[name])
                )
                # losses refuse outputs that are not finite
                finite = bool(torch.isfinite(output).all())
                losses.append(self._loss(name, output, target, mask, activation).item() if finite else math.nan)


class _Branches:
    """Opens the chain of each source to validate with."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets

    def __call__(self, name: str) -> gp.Pipeline:
        dataset = self._open(name)
        return validation_chain(dataset, *self._region(dataset))

    def check(self, name: str) -> None:
        """Check that the region to validate in is annotated and apart from the others, without building the chain."""
        dataset = self._open(name)
        region, apart_from = self._region(dataset)
        held_out(dataset, region, "the region of the validation", apart_from)

    def _open(self, name: str) -> Dataset:
        first = self._datasets.first
        return first if first.source.name == name else self._datasets.open(self._datasets.named(name))

    def _region(self, dataset: Dataset) -> tuple[Region, dict[str, Region]]:
        """Return the region to validate in, and the others of the same source, by their names."""
        run = dataset.run
        region = None if run.validation is None else run.validation.region
        if region is None:
            raise ConfigError(f"{dataset.source.field} is not to validate with")
        if dataset.source.use is not None:
            return region, {}
        others = {"training.region": dataset.training_region}
        if run.evaluation.region is not None:
            others["evaluation.region"] = run.evaluation.region
        return region, others


def validation_chain(dataset: Dataset, region: Region, apart_from: Mapping[str, Region] | None = None) -> gp.Pipeline:
    """Return the chain that draws samples of a region, without augmentation.

    Args:
        dataset: the volume.
        region: the region. Parts without any annotation do not count.
        apart_from: other regions, by their names in the config, which may share no annotated voxel with ``region``:
            above all, the one that is learned from.

    Raises:
        FileNotFoundError: a class has no labels.
        ConfigError: nothing is annotated in the region, or it overlaps another one.
    """
    annotated = held_out(dataset, region, "the region of the validation", apart_from or {})
    seen = dataset.inputs.all(dataset.arrays.inputs)
    sources = (volume.fractions(of_type=True) for volume in seen)
    chain = (*sources, *dataset.target_sources(annotated)) + gp.MergeProvider()
    for node in dataset.target_nodes():
        chain += node
    for volume in seen:
        chain = volume.scaled(chain)
    finest = dataset.arrays.targets[dataset.finest]
    return chain + SampleLocation(finest, UniformSampler(annotated))


@contextmanager
def _evaluating(net: LeibNet) -> Iterator[None]:
    """Set evaluation mode and switch off gradients within the context; restore the mode of every layer after it."""
    training = {module: module.training for module in net.modules()}
    net.eval()
    try:
        # not inference_mode: a tensor that a layer or a loss keeps from it cannot be used in training
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode
