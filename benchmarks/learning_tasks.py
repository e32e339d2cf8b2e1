"""The tasks of `learning.py`: volumes to learn from and to judge by, and samples of them at any voxel size."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom
from scipy.spatial import cKDTree
from torch import Tensor

from scalenet_gp.geometry import exact_size
from scalenet_gp.pipelines.demo import make_demo_volume
from scalenet_gp.volumes import MultiscaleImage

__all__ = ["TASKS", "Box", "Sample", "Task", "Volume", "task_2d", "task_3d", "task_vnc"]

VNC = "SCALENET_VNC"
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
        """Draw a sample whose finest output lies where it may be learned.

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
        for axis, (part, step, begin, shape) in enumerate(
            zip(volume.judged, steps, outputs[finest].begin, outputs[finest].shape, strict=True)
        ):
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


# ------------------------------------------------------------------------------------------------- generated tissue

WINDOW = (0.35, 0.75)
"""The brightness that becomes -1 and 1, as in the demo's configuration."""


def task_2d(quick: bool = False) -> Task:
    """Two kinds of cells in 2D: a mitochondrion is of the kind of its cell, which only the nucleus shows."""
    learned, judged = (256, 192) if quick else (1536, 768)
    return Task(
        name="2D",
        classes=("cell_membrane", "nucleus", *KINDS, "neuron", "glia"),
        scored=("cell_membrane", "nucleus", *KINDS),
        voxel_sizes=tuple(exact_size((nm,) * 2) for nm in (256, 64, 32)),
        network={"downsample_factors": [(2, 2)]},
        voxels=((32, 32),) * 3,
        batch=4,
        factors=(2, 2),
        kernel=(3, 3),
        patch=(128, 128),
        block=(64, 64) if quick else (256, 256),
        train=(section(1, learned),),
        held_out=section(0, judged),
    )


def section(seed: int, voxels: int) -> Volume:
    """Return a section with the look of the demo's volume, 32 nm, in which every cell has its nucleus."""
    rng, nm, pitch = np.random.default_rng(seed), 32, 2500

    def noise(length: float) -> NDArray[np.float32]:
        """Return a field of variance 1 that varies over a length in nm."""
        coarse = max(1, int(length / nm / 4))
        knots = rng.standard_normal([voxels // coarse + 3] * 2, np.float32)
        smooth = zoom(gaussian_filter(knots, length / nm / coarse / 1.5), coarse, order=1)[:voxels, :voxels]
        return smooth / smooth.std()

    cells = max(2, round(voxels * nm / pitch))
    corners = np.argwhere(np.ones((cells, cells)))
    middles = (corners + 0.5 + rng.uniform(-0.2, 0.2, corners.shape)) * voxels * nm / cells
    glia = rng.permutation(np.arange(len(middles)) % 2 == 0)
    radii = rng.uniform(430, 520, middles.shape)
    place = np.moveaxis((np.mgrid[:voxels, :voxels] + 0.5) * nm, 0, -1)
    place += np.stack([200 * noise(900) + 25 * noise(250) for _ in range(2)], axis=-1)
    nearest, other = np.moveaxis(cKDTree(middles).query(place, k=2)[1], -1, 0)
    apart = middles[other] - middles[nearest]
    wall = ((middles[other] + middles[nearest]) / 2 - place) * apart
    wall = wall.sum(-1) / np.linalg.norm(apart, axis=-1)
    offset = place - middles[nearest]
    depth = np.minimum((1 - np.linalg.norm(offset / radii[nearest], axis=-1)) * radii[nearest].mean(-1), wall - 150)
    nucleolus = np.linalg.norm(offset - 0.25 * radii[nearest], axis=-1) < 150
    membrane, nucleus = wall < 36, depth >= 0

    image = 150 + 7 * noise(90) + 9 * rng.standard_normal((voxels, voxels), np.float32)
    image[(np.abs(noise(170)) < 0.13) & (noise(420) > 0.4)] -= 38
    image[membrane] = 72
    inside, chromatin, is_glia = depth >= 56, noise(85), glia[nearest]
    clumped = inside & is_glia & (chromatin + 1.2 * np.exp(-(depth - 56) / 80) > 0.1)
    image[nucleus & ~inside] = 85
    image[inside] = 152 + 6 * chromatin[inside]
    image[clumped] = 88 + 6 * chromatin[clumped]
    image[inside & ~is_glia] += 16
    image[inside & ~is_glia & nucleolus] = 80 + 8 * chromatin[inside & ~is_glia & nucleolus]

    room = distance_transform_edt(~membrane, sampling=nm) > 145 + 36
    room &= distance_transform_edt(~nucleus, sampling=nm) > 400 + 145 + 96
    room &= np.linalg.norm(offset, axis=-1) < 1400
    mitochondria = np.zeros((2, voxels, voxels), bool)
    for centre in rng.permutation(np.argwhere(room)):
        if not room[tuple(centre)]:
            continue
        low, high = np.maximum(0, centre - 12), centre + 13
        near = np.mgrid[tuple(map(slice, low, np.minimum(high, voxels)))]
        room[tuple(near)] &= np.hypot(*(near - centre[:, None, None])) * nm >= 400
        turn, (long, short) = rng.uniform(0, math.pi), sorted(rng.uniform(95, 145, 2))
        near = np.mgrid[tuple(map(slice, np.maximum(0, centre - 5), np.minimum(centre + 6, voxels)))]
        y, x = (near - centre[:, None, None]) * nm
        along, across = y * math.cos(turn) + x * math.sin(turn), x * math.cos(turn) - y * math.sin(turn)
        relative = np.hypot(along / long, across / short)
        body = relative <= 1
        matrix = 112 + 18 * np.sin(8 * across / short + rng.uniform(0, 2 * math.pi))
        image[tuple(near)] = np.where(relative > 1, image[tuple(near)], np.where(relative > 0.75, 70, matrix))
        mitochondria[int(is_glia[tuple(centre)])][tuple(near)] |= body
    image = gaussian_filter(image, 20 / nm) * (1 + 0.04 * noise(2500)) + 8 * rng.standard_normal(image.shape)
    labels = np.stack([membrane, nucleus, *mitochondria, ~is_glia & ~membrane, is_glia & ~membrane])
    return whole_volume(exact_size((nm,) * 2), np.clip(np.round(image), 0, 255), labels)


def task_3d(quick: bool = False) -> Task:
    """The demo's volume, of which the last fifth along x is held out."""
    shape = (64, 64, 160) if quick else (160, 256, 320)
    demo = make_demo_volume(shape=shape)
    classes = tuple(demo.labels)
    volumes = []
    for part in (slice(0, shape[2] * 4 // 5), slice(shape[2] * 4 // 5, shape[2])):
        whole = whole_volume(exact_size((32,) * 3), demo.raw, np.stack([demo.labels[name] for name in classes]))
        volumes.append(replace(whole, judged=(*whole.judged[:2], part)))
    return Task(
        name="3D",
        classes=classes,
        scored=tuple(name for name in classes if name not in ("neuron", "glia")),
        voxel_sizes=tuple(exact_size((nm,) * 3) for nm in (256, 64, 32)),
        network={"downsample_factors": [(2, 2, 2)]},
        voxels=((16, 16, 16),) * 3,
        batch=4,
        factors=(2, 2, 2),
        kernel=(3, 3, 3),
        patch=(64, 64, 64),
        block=(32, 32, 32) if quick else (80, 128, 64),
        train=(volumes[0],),
        held_out=volumes[1],
    )


def whole_volume(voxel_size: tuple[Fraction, ...], raw: NDArray[Any], labels: NDArray[Any]) -> Volume:
    """Return a volume of 8 bit that is annotated everywhere."""
    low, high = WINDOW
    everything = tuple(slice(0, n) for n in raw.shape)
    fractions = (raw.astype(np.float32) / 255 - low) / (high - low) * 2 - 1
    return Volume(voxel_size, fractions, labels.astype(np.uint8), everything, everything)


# --------------------------------------------------------------------------------------------------------- real data


def task_vnc(quick: bool = False) -> Task:
    """Serial sections of a fly's nerve cord, learned from sections 0 to 10 and judged on 11 to 13."""
    path = Path(os.environ.get(VNC, ""))
    if not os.environ.get(VNC) or not path.is_dir():
        raise FileNotFoundError(f"{VNC} does not name the folder of vnc.zarr")
    classes = ("mito", "synapse", "membrane", "glia")
    size = exact_size((50, 4.6, 4.6))
    crop = path / "recon-1" / "labels" / "groundtruth" / "crop1"
    opened = [
        MultiscaleImage.open(each) for each in (path / "recon-1/em/tem-uint8", *(crop / name for name in classes))
    ]
    world = opened[0].world()
    voxel = world.size(size)
    rois = [image.roi(voxel, world) for image in opened[:2]]
    recording, *labels = (image.read(image.roi(voxel, world), voxel, world)[0] for image in opened)
    begin = (rois[1].begin - rois[0].begin) / voxel
    annotated = tuple(slice(at, at + n) for at, n in zip(begin, labels[0].shape, strict=True))
    low, high = 0.1, 0.9
    raw = (recording.astype(np.float32) / 255 - low) / (high - low) * 2 - 1

    def volume(first: int, last: int, pixels: int | None) -> Volume:
        """Return the volume of which these sections, and of them so many pixels, are learned or judged."""
        plane = (slice(s.start, s.stop if pixels is None else s.start + pixels) for s in annotated[1:])
        return Volume(size, raw, np.stack(labels).astype(np.uint8), annotated, (slice(first, last), *plane))

    pixels = 128 if quick else None
    return Task(
        name="vnc",
        classes=classes,
        scored=classes,
        voxel_sizes=(exact_size((50, 18.4, 18.4)), size),
        network={"base_nc": 16, "downsample_factors": [(1, 2, 2)] * 2, "kernel_sizes": [(1, 3, 3)] * 2},
        voxels=((1, 48, 48), (1, 64, 64)),
        batch=8,
        factors=(1, 2, 2),
        kernel=(1, 3, 3),
        patch=(1, 256, 256),
        block=(1, 128, 128) if quick else (1, 384, 448),
        train=(volume(0, 11, None),),
        held_out=volume(11, 14, pixels),
        noise=(0.2, 0.25, 0.08),
    )


TASKS: dict[str, Callable[[bool], Task]] = {"2D": task_2d, "3D": task_3d, "vnc": task_vnc}
