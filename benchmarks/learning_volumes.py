"""Volumes to learn from and to judge by, and augmented samples of them at any voxel size, for `learning.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scalenet_gp.geometry import exact_size

__all__ = ["KINDS", "Box", "Sample", "Task", "Volume"]

KINDS = ("mito_neuron", "mito_glia")


@dataclass(frozen=True)
class Box:
    """Voxels of one size, relative to the position of a sample.

    Attributes:
        voxel_size: nm per axis.
        begin: the first voxel, counted from the position.
        shape: voxels per axis.
    """

    voxel_size: tuple[Fraction, ...]
    begin: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def concentric(cls, voxel_size: Sequence[Any], shape: Sequence[int]) -> Box:
        """Return the box of this shape around the position; with one voxel, that behind it."""
        return cls(exact_size(voxel_size), tuple(-(n // 2) for n in shape), tuple(shape))


@dataclass(frozen=True)
class Sample:
    """Tensors (1, C, …) by the names of boxes: raw data, and classes with a mask of what is annotated."""

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    masks: dict[str, Tensor]


@dataclass
class Volume:
    """A recording and its classes, at the finest voxel size; coarser ones are made of it when they are asked for.

    Attributes:
        voxel_size: nm per axis.
        raw: from -1 to 1, spatial axes alone.
        labels: (C, …) of the annotated part.
        annotated: the annotated part, in voxels of ``raw``.
        judged: the voxels of which positions are drawn or that are judged, a part of the annotated ones.
    """

    voxel_size: tuple[Fraction, ...]
    raw: NDArray[np.float32]
    labels: NDArray[np.uint8]
    annotated: tuple[slice, ...]
    judged: tuple[slice, ...]
    _levels: dict[tuple[int, ...], tuple[NDArray[np.float32], NDArray[np.uint8], tuple[int, ...]]] = field(
        default_factory=dict
    )
    _places: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def factor(self, voxel_size: Sequence[Fraction]) -> tuple[int, ...]:
        """Return the voxels per coarser voxel."""
        return tuple(int(size / own) for size, own in zip(voxel_size, self.voxel_size, strict=True))

    def level(self, factor: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.uint8], tuple[int, ...]]:
        """Return raw data, classes and the first annotated voxel: means, and what at least half of a voxel has."""
        if factor not in self._levels:
            begin = tuple(s.start // f for s, f in zip(self.annotated, factor, strict=True))
            labels = np.stack([(shrink(each.astype(np.float32), factor) >= 0.5) for each in self.labels])
            self._levels[factor] = shrink(self.raw, factor), labels.astype(np.uint8), begin
        return self._levels[factor]

    def voxels_of(self, channel: int) -> NDArray[np.int64]:
        """Return the learned voxels of a class, (n, axes), in voxels of :attr:`raw`."""
        if channel not in self._places:
            begin = np.array([part.start for part in self.annotated])
            here = tuple(slice(p.start - b, p.stop - b) for p, b in zip(self.judged, begin, strict=True))
            self._places[channel] = np.argwhere(self.labels[(channel, *here)]) + [part.start for part in self.judged]
        return self._places[channel]

    def read_raw(self, box: Box, position: Sequence[int]) -> NDArray[np.float32]:
        """Return the raw data of a box at a position (finest voxels), mirrored where the volume ends."""
        factor = self.factor(box.voxel_size)
        raw = self.level(factor)[0]
        axes = []
        for n, at, f, begin, shape in zip(raw.shape, position, factor, box.begin, box.shape, strict=True):
            voxels = np.arange(at // f + begin, at // f + begin + shape) % max(2 * n - 2, 1)
            axes.append(np.minimum(voxels, 2 * n - 2 - voxels) if n > 1 else voxels)
        return raw[np.ix_(*axes)]

    def read_labels(self, box: Box, position: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the classes (C, …) of a box at a position, and 1 where they are annotated and may be learned."""
        factor = self.factor(box.voxel_size)
        _, labels, first = self.level(factor)
        target = np.zeros((len(labels), *box.shape), np.float32)
        mask = np.zeros((1, *box.shape), np.float32)
        here, there = [slice(None)], [slice(None)]
        for at, f, begin, shape, start, part in zip(
            position, factor, box.begin, box.shape, first, self.judged, strict=True
        ):
            first_voxel = at // f + begin
            low = max(first_voxel, -(-part.start // f))
            high = max(low, min(first_voxel + shape, part.stop // f))
            here.append(slice(low - first_voxel, high - first_voxel))
            there.append(slice(low - start, high - start))
        target[tuple(here)] = labels[tuple(there)]
        mask[tuple(here)] = 1
        return target, mask


def shrink(array: NDArray[np.float32], factor: Sequence[int]) -> NDArray[np.float32]:
    """Return the means of blocks; voxels beyond the last whole block are left out."""
    counts = [n // f for n, f in zip(array.shape, factor, strict=True)]
    whole = array[tuple(slice(n * f) for n, f in zip(counts, factor, strict=True))]
    parts = whole.reshape([part for pair in zip(counts, factor, strict=True) for part in pair])
    return parts.mean(axis=tuple(range(1, parts.ndim, 2)), dtype=np.float32)


@dataclass(frozen=True)
class Task:
    """Volumes, and how networks are built for them.

    Attributes:
        name: name of the task.
        classes: the channels of every output.
        scored: the classes whose Dice is judged.
        voxel_sizes: of the scales of a ScaleNet, from coarse to fine.
        network: arguments of each scale, as the volume needs them.
        voxels: voxels per axis of each output of a valid network, from coarse to fine.
        batch: samples per step of a valid network.
        factors: the factor between the levels of deep networks.
        kernel: the kernel of deep networks.
        patch: voxels per axis of the patches of deep networks with padding.
        block: voxels per axis of the blocks in which a network that gives exact tiles is judged.
        train: volumes to learn from.
        held_out: the volume to judge by.
        around: the share of samples whose finest output holds a voxel of a class drawn from :attr:`scored`.
        noise: the contrast, the brightness and the noise of augmentation, of raw data from -1 to 1.
    """

    name: str
    classes: tuple[str, ...]
    scored: tuple[str, ...]
    voxel_sizes: tuple[tuple[Fraction, ...], ...]
    network: Mapping[str, Any]
    voxels: tuple[tuple[int, ...], ...]
    batch: int
    factors: tuple[int, ...]
    kernel: tuple[int, ...]
    patch: tuple[int, ...]
    block: tuple[int, ...]
    train: tuple[Volume, ...]
    held_out: Volume
    around: float = 0.5
    noise: tuple[float, float, float] = (0.1, 0.1, 0.1)

    @property
    def kinds(self) -> tuple[int, ...]:
        """The channels that exclude one another and that only context tells apart."""
        return tuple(self.classes.index(name) for name in KINDS if name in self.classes)

    def draw(
        self, rng: np.random.Generator, inputs: Mapping[str, Box], outputs: Mapping[str, Box], finest: str
    ) -> Sample:
        """Draw a sample whose finest output, ``finest``, lies where it may be learned.

        Positions are multiples of the coarsest voxel, so that all boxes lie on their lattices.
        """
        volume = self.train[rng.integers(len(self.train))]
        boxes = [*inputs.values(), *outputs.values()]
        steps = np.array([volume.factor(box.voxel_size) for box in boxes]).max(axis=0)
        drawn = None
        if rng.random() < self.around:
            voxels = volume.voxels_of(self.classes.index(self.scored[rng.integers(len(self.scored))]))
            drawn = voxels[rng.integers(len(voxels))]
        position = []
        size = volume.factor(outputs[finest].voxel_size)
        begins, shapes = (np.multiply(size, each) for each in (outputs[finest].begin, outputs[finest].shape))
        for axis, (part, step, begin, shape) in enumerate(zip(volume.judged, steps, begins, shapes, strict=True)):
            low, high = -(-(part.start - begin) // step), (part.stop - begin - shape) // step
            if high < low:  # larger than the volume: what lies outside is masked
                low = high = (part.start + part.stop) // 2 // step
            elif drawn is not None:
                first, last = -(-(drawn[axis] - begin - shape + 1) // step), (drawn[axis] - begin) // step
                low, high = max(low, min(first, high)), min(high, max(last, low))
            position.append(int(rng.integers(low, max(low, high) + 1) * step))
        change = Change.draw(rng, self.voxel_sizes[-1], self.noise)
        read = {name: volume.read_raw(box, position) for name, box in inputs.items()}
        known = {name: volume.read_labels(box, position) for name, box in outputs.items()}
        return Sample(
            {name: change.raw(raw, rng, volume.factor(inputs[name].voxel_size)) for name, raw in read.items()},
            {name: change.classes(target) for name, (target, _) in known.items()},
            {name: change.classes(mask) for name, (_, mask) in known.items()},
        )


@dataclass(frozen=True)
class Change:
    """One augmentation: mirrored axes, their order, contrast, brightness and noise."""

    mirrored: tuple[int, ...]
    order: tuple[int, ...]
    contrast: float
    brightness: float
    noise: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, voxel_size: Sequence[Fraction], noise: tuple[float, float, float]
    ) -> Change:
        """Draw one. Axes are exchanged if their voxels are alike."""
        order = np.arange(len(voxel_size))
        for size in set(voxel_size):
            alike = np.array([axis for axis, own in enumerate(voxel_size) if own == size])
            order[alike] = rng.permutation(alike)
        mirrored = tuple(axis for axis in range(len(voxel_size)) if rng.random() < 0.5)
        contrast, brightness, sigma = noise
        return cls(
            mirrored,
            tuple(int(axis) for axis in order),
            float(rng.uniform(1 - contrast, 1 + contrast)),
            float(rng.uniform(-brightness, brightness)),
            sigma,
        )

    def raw(self, raw: NDArray[np.float32], rng: np.random.Generator, factor: Sequence[int]) -> Tensor:
        """Return raw data, (1, 1, …). Noise of the finest voxels averages out in coarse ones."""
        noise = rng.standard_normal(raw.shape, np.float32) * (self.noise / math.sqrt(math.prod(factor)))
        return self.classes((raw * self.contrast + self.brightness + noise)[None])

    def classes(self, classes: NDArray[np.float32]) -> Tensor:
        """Return classes or masks, (1, C, …)."""
        turned = np.flip(classes, [axis + 1 for axis in self.mirrored])
        return torch.from_numpy(turned.transpose(0, *(axis + 1 for axis in self.order))[None].copy())
