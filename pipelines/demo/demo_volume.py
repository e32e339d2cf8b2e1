"""A generated volume in which the class of a voxel depends on its surroundings, a micrometre away.

The volume looks like a FIB-SEM recording of densely packed cells of two kinds, neurons and glia. Both have the same
membranes, the same cytoplasm and the same mitochondria; only the nuclei differ, as they do in tissue: those of glia are
full of dark heterochromatin, those of neurons pale with one dark nucleolus. The classes ``mito_neuron`` and
``mito_glia`` are therefore told apart by the nucleus of the cell that a mitochondrion lies in, and by nothing else:
every mitochondrion is more than :data:`MARGIN` away from all that depends on the kind of any cell.

All lengths are in nanometres; Z Y X are voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from scalenet_gp.errors import ConfigError
from scalenet_gp.volumes import MultiscaleWriter, StrPath, create_group

__all__ = ["CLASSES", "MARGIN", "DemoVolume", "make_demo_volume", "write_demo_volume"]

CLASSES = ("cell_membrane", "nucleus", "mito_neuron", "mito_glia")
"""The classes of the demo; no voxel belongs to two of them."""

MARGIN = 400
"""Mitochondria are farther than this (nm) from every voxel that depends on the kind of a cell."""

CELL_PITCH = 2500
NUCLEUS_RADII = (430, 520)
MITOCHONDRION_RADII = (95, 145)
MITOCHONDRION_SPACING = 400
MITOCHONDRION_REACH = 1400  # of the middle of its cell, before warping: the nucleus stays in sight of a network
MEMBRANE_HALF_WIDTH = 36
ENVELOPE_WIDTH = 56
BLUR = 20

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DemoVolume:
    """A recording and its annotation.

    Attributes:
        raw: uint8, Z Y X.
        labels: one uint8 mask (0 or 1) of the shape of ``raw`` for each of :data:`CLASSES`.
    """

    raw: NDArray[np.uint8]
    labels: dict[str, NDArray[np.uint8]]


def make_demo_volume(seed: int = 0, shape: Sequence[int] = (160, 224, 224), voxel_size_nm: int = 32) -> DemoVolume:
    """Return a generated volume; the same arguments give the same volume.

    Args:
        seed: seed of the random generator.
        shape: Z Y X voxels. The cells stand in layers along each axis, about 2.5 µm apart; every layer along X has both
            kinds, so a part held out along X has both too.
        voxel_size_nm: the edge of a voxel; cells and mitochondria keep their size in nm.

    Raises:
        ConfigError: the voxels are too coarse to show a mitochondrion, or the volume is too small for a cell of each
            kind.

    Example:
        >>> volume = make_demo_volume(shape=(40, 80, 80), voxel_size_nm=64)
        >>> volume.raw.shape, sorted(volume.labels)
        ((40, 80, 80), ['cell_membrane', 'mito_glia', 'mito_neuron', 'nucleus'])
    """
    if not 0 < voxel_size_nm <= min(MITOCHONDRION_RADII):
        raise ConfigError(
            f"voxels of {voxel_size_nm} nm do not show mitochondria of {2 * min(MITOCHONDRION_RADII)} nm: "
            f"give a size from 1 to {min(MITOCHONDRION_RADII)} nm"
        )
    if len(shape) != 3 or min(cells := cells_along(shape, voxel_size_nm)) == 0 or max(cells) == 1:
        least = -(-CELL_PITCH // voxel_size_nm)
        raise ConfigError(
            f"a demo volume of {tuple(shape)} voxels of {voxel_size_nm} nm does not hold a cell of each kind: "
            f"{(least, least, 2 * least)} voxels would"
        )
    layout_rng, texture_rng = np.random.default_rng(seed).spawn(2)
    return record(lay_out_tissue(layout_rng, tuple(shape), voxel_size_nm), texture_rng)


def write_demo_volume(
    path: StrPath,
    seed: int = 0,
    shape: Sequence[int] = (160, 224, 224),
    voxel_size_nm: int = 32,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write the volume of :func:`make_demo_volume` as OME-Zarr pyramids of three levels, in the layout of CellMap.

    The recording is at ``<path>/recon-1/em/fibsem-uint8``, the masks at
    ``<path>/recon-1/labels/groundtruth/crop1/<class>``. The first voxel's corner is at 0 nm.

    Args:
        path: path of the Zarr container, which appears when it is whole.
        seed: see :func:`make_demo_volume`.
        shape: see :func:`make_demo_volume`.
        voxel_size_nm: see :func:`make_demo_volume`.
        progress: called with a few words after the volume was made and after each group was written.

    Raises:
        FileExistsError: there is something at ``path``.
        ConfigError: as :func:`make_demo_volume`.
    """
    target = Path(path)
    if target.exists():
        raise FileExistsError(f"{target} exists; choose another path or remove it")
    tell = progress or (lambda _: None)
    volume = make_demo_volume(seed, shape, voxel_size_nm)
    tell("made")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent) as workshop:
        container = Path(workshop, target.name)
        crop = container / "recon-1" / "labels" / "groundtruth" / "crop1"
        recording = container / "recon-1" / "em" / "fibsem-uint8"
        for group in (container, container / "recon-1", recording.parent, *reversed(crop.parents[:2])):
            create_group(group, {})
        create_group(crop, {"classes": list(CLASSES)})
        for place, voxels in {recording: volume.raw, **{crop / name: volume.labels[name] for name in CLASSES}}.items():
            with MultiscaleWriter(
                place,
                voxel_size=(voxel_size_nm,) * 3,
                corner=(0, 0, 0),
                shape=voxels.shape,
                dtype=voxels.dtype,
                levels=3,
                labels=place.parent == crop,
            ) as writer:
                writer.write((0, 0, 0), voxels)
            tell(f"wrote {place.name}")
        container.rename(target)


@dataclass(frozen=True, slots=True)
class Mitochondrion:
    """An ellipsoid: ``centre`` (nm), ``axes`` (rows: unit vector / radius in nm), and the phase of its cristae."""

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    phase: float


@dataclass(frozen=True, slots=True)
class Tissue:
    """The layout of a tissue. Only :func:`record` reads ``is_glia``, so the kind of a cell shows in its nucleus alone.

    Attributes:
        voxel_size: nm.
        cell: the number of the cell that each voxel lies in.
        membrane: the voxels of cell membranes.
        nucleus_depth: depth (nm) of each voxel inside a nucleus; negative outside.
        nucleolus: the voxels where a neuron would have its nucleolus.
        mitochondria: the mitochondria; each belongs to the cell at its centre.
        is_glia: True for each cell that is a glial cell.
    """

    voxel_size: int
    cell: NDArray[np.uint16]
    membrane: Mask
    nucleus_depth: Array
    nucleolus: Mask
    mitochondria: tuple[Mitochondrion, ...]
    is_glia: Mask


def lay_out_tissue(rng: np.random.Generator, shape: tuple[int, ...], voxel_size: int) -> Tissue:
    """Draw cells (a warped Voronoi tessellation), a nucleus in the middle of each, and mitochondria between."""
    cells = cells_along(shape, voxel_size)
    corners = np.argwhere(np.ones(cells))
    seeds = (corners + 0.5 + rng.uniform(-0.2, 0.2, corners.shape)) * voxel_size * np.array(shape) / cells
    # Every layer of cells along X has as many of one kind as of the other, give or take one.
    layers = [rng.permutation(np.arange(cells[0] * cells[1]) % 2 == layer % 2) for layer in range(cells[2])]
    is_glia = np.stack(layers, axis=-1).reshape(-1)
    radii = rng.uniform(*NUCLEUS_RADII, seeds.shape)
    nucleoli = seeds + rng.uniform(-0.3, 0.3, seeds.shape) * radii

    warp = [
        200 * smooth_noise(rng, shape, voxel_size, 900) + 25 * smooth_noise(rng, shape, voxel_size, 250) for _ in shape
    ]
    cell = np.empty(shape, np.uint16)
    wall, depth, nucleolus_depth, from_seed = (np.empty(shape, np.float32) for _ in range(4))
    for z in range(shape[0]):  # slice by slice, so that memory does not grow with the number of cells
        place = np.stack(np.broadcast_arrays(*np.ogrid[z : z + 1, : shape[1], : shape[2]]), axis=-1)[0]
        place = (place + 0.5) * voxel_size + np.stack([field[z] for field in warp], axis=-1)
        squared = (seeds**2).sum(-1) - 2 * place @ seeds.T  # less the |place|² that is the same for all seeds
        nearest = np.argpartition(squared, 1, axis=-1)[..., :2]
        own, other = np.moveaxis(nearest, -1, 0)
        rise = np.diff(np.take_along_axis(squared, nearest, -1), axis=-1)[..., 0]
        cell[z] = own
        wall[z] = rise / (2 * np.linalg.norm(seeds[other] - seeds[own], axis=-1))
        offset = place - seeds[own]
        from_seed[z] = np.linalg.norm(offset, axis=-1)
        relative = np.linalg.norm(offset / radii[own], axis=-1)
        depth[z] = (1 - relative) * radii[own].mean(-1)
        nucleolus_depth[z] = 150 - np.linalg.norm(place - nucleoli[own], axis=-1)
    depth = np.minimum(depth, wall - 150)  # a nucleus yields to the membrane of its cell

    membrane = wall < MEMBRANE_HALF_WIDTH
    mitochondria = place_mitochondria(rng, voxel_size, membrane, depth >= 0, from_seed)
    return Tissue(voxel_size, cell, membrane, depth, nucleolus_depth > 0, mitochondria, is_glia)


def place_mitochondria(
    rng: np.random.Generator, voxel_size: int, membrane: Mask, nucleus: Mask, from_seed: Array
) -> tuple[Mitochondrion, ...]:
    """Fill the room that membranes, nuclei and :data:`MARGIN` leave, in random order, until nothing fits any more."""
    radius = max(MITOCHONDRION_RADII)
    blurred = (blur_radius(voxel_size) + 1) * voxel_size
    room = distance_transform_edt(~membrane, sampling=voxel_size) > radius + MEMBRANE_HALF_WIDTH
    room &= distance_transform_edt(~nucleus, sampling=voxel_size) > MARGIN + radius + blurred
    room &= from_seed < MITOCHONDRION_REACH
    candidates = rng.permutation(np.argwhere(room))[:20_000]
    centres = np.empty((0, 3))
    for candidate in (candidates + 0.5) * voxel_size:
        if not (((centres - candidate) ** 2).sum(-1) < MITOCHONDRION_SPACING**2).any():
            centres = np.vstack([centres, candidate])
    turns = np.linalg.qr(rng.standard_normal((len(centres), 3, 3)))[0]
    radii = np.sort(rng.uniform(*MITOCHONDRION_RADII, (len(centres), 3)))
    phases = rng.uniform(0, 2 * np.pi, len(centres))
    return tuple(
        Mitochondrion(centre, turn / radius[:, None], phase)
        for centre, turn, radius, phase in zip(centres, turns, radii, phases, strict=True)
    )


def record(tissue: Tissue, rng: np.random.Generator) -> DemoVolume:
    """Draw the tissue as a FIB-SEM would show it, and its annotation.

    Random draws do not depend on the kinds of the cells: the same tissue with other kinds differs in the nuclei only.
    """
    shape, voxel_size = tissue.cell.shape, tissue.voxel_size
    labels = {name: np.zeros(shape, np.uint8) for name in CLASSES}
    labels["cell_membrane"][tissue.membrane] = 1
    labels["nucleus"][tissue.nucleus_depth >= 0] = 1

    image = 150 + 7 * smooth_noise(rng, shape, voxel_size, 90) + 9 * rng.standard_normal(shape, np.float32)
    sheets = np.abs(smooth_noise(rng, shape, voxel_size, 170)) < 0.13
    sheets &= smooth_noise(rng, shape, voxel_size, 420) > 0.4
    image[sheets] -= 38  # endoplasmic reticulum
    image[tissue.membrane] = 72
    draw_nuclei(image, tissue, smooth_noise(rng, shape, voxel_size, 85))
    for mitochondrion in tissue.mitochondria:
        box, inside = draw_mitochondrion(image, mitochondrion, voxel_size)
        middle = tuple((mitochondrion.centre // voxel_size).astype(int))
        kind = "mito_glia" if tissue.is_glia[tissue.cell[middle]] else "mito_neuron"
        labels[kind][box][inside] = 1
    image = gaussian_filter(image, BLUR / voxel_size, radius=blur_radius(voxel_size))
    return DemoVolume(scan(image, rng, voxel_size), labels)


def draw_nuclei(image: Array, tissue: Tissue, chromatin: Array) -> None:
    """Draw nuclei in their envelopes: clumped and dark in glia, pale with a nucleolus in neurons."""
    depth = tissue.nucleus_depth
    glia = tissue.is_glia[tissue.cell]
    inside = depth >= ENVELOPE_WIDTH
    # Heterochromatin gathers along the envelope.
    clumped = inside & glia & (chromatin + 1.2 * np.exp(-(depth - ENVELOPE_WIDTH) / 80) > 0.1)
    pale = inside & ~glia
    image[(depth >= 0) & ~inside] = 85
    image[inside] = 152 + 6 * chromatin[inside]
    image[clumped] = 88 + 6 * chromatin[clumped]
    image[pale] += 16
    image[pale & tissue.nucleolus] = 80 + 8 * chromatin[pale & tissue.nucleolus]


def draw_mitochondrion(image: Array, mitochondrion: Mitochondrion, voxel_size: int) -> tuple[tuple[slice, ...], Mask]:
    """Draw an ellipsoid with a dark rim and cristae; return its box and its voxels in that box."""
    radius = max(MITOCHONDRION_RADII)
    begin = np.maximum(0, (mitochondrion.centre - radius) // voxel_size).astype(int)
    end = np.minimum(image.shape, (mitochondrion.centre + radius) // voxel_size + 1).astype(int)
    box = tuple(map(slice, begin, end))
    place = (np.moveaxis(np.mgrid[box], 0, -1) + 0.5) * voxel_size - mitochondrion.centre
    body = place @ mitochondrion.axes.T
    relative = np.linalg.norm(body, axis=-1)
    inside = relative <= 1
    matrix = 112 + 18 * np.sin(8 * body[..., 2] + mitochondrion.phase)
    image[box][inside] = np.where(relative > 0.75, 70, matrix)[inside]
    return box, inside


def scan(image: Array, rng: np.random.Generator, voxel_size: int) -> NDArray[np.uint8]:
    """Return the image with uneven staining, slices of uneven brightness, curtains of the ion beam, and shot noise."""
    shape = image.shape
    image = image * (1 + 0.04 * smooth_noise(rng, shape, voxel_size, 2500))
    image += 1.5 * rng.standard_normal((shape[0], 1, 1), np.float32)
    image += 1.5 * smooth_noise(rng, (shape[0], 1, shape[2]), voxel_size, 2 * voxel_size)
    image += 8 * rng.standard_normal(shape, np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def cells_along(shape: Sequence[int], voxel_size: int) -> list[int]:
    """Return the number of cells along each axis."""
    return [round(voxels * voxel_size / CELL_PITCH) for voxels in shape]


def blur_radius(voxel_size: int) -> int:
    """Return the reach of the blur in voxels, by which a nucleus changes the image around it."""
    return -(-2 * BLUR // voxel_size)


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], voxel_size: int, length: float) -> Array:
    """Return a Gaussian random field of mean 0 and variance 1 everywhere, that varies over ``length`` nm."""
    knots = [int(np.ceil(voxels * voxel_size / length)) + 4 for voxels in shape]
    field = rng.standard_normal(knots, np.float32)
    for voxels, count in zip(shape, knots, strict=True):
        distance = (np.arange(voxels)[:, None] + 0.5) * voxel_size / length - (np.arange(count) - 1.5)
        weights = np.exp(-0.5 * (distance / 0.7) ** 2)
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        # Contracts the first axis and puts the voxels last: after all axes, the order is as at the start.
        field = np.tensordot(field, weights.astype(np.float32), axes=(0, 1))
    return field
