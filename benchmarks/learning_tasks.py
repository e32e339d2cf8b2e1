"""The tasks of `learning.py`: generated tissue in sections and in a volume, and recorded sections."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from learning_volumes import KINDS, Task, Volume
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom
from scipy.spatial import cKDTree

from scalenet_gp.geometry import exact_size
from scalenet_gp.pipelines.demo import make_demo_volume
from scalenet_gp.volumes import MultiscaleImage

__all__ = ["TASKS", "task_2d", "task_3d", "task_vnc"]

VNC = "SCALENET_VNC"

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
