"""A generated volume in which the class of a voxel depends on its surroundings, a micrometre away.

The volume looks like a FIB-SEM recording of densely packed cells of two kinds, neurons and glia. Both have the same
membranes, the same cytoplasm and the same mitochondria; only the nuclei differ, as they do in tissue: those of glia are
full of dark heterochromatin, those of neurons pale with one dark nucleolus. The classes ``mito_neuron`` and
``mito_glia`` are therefore told apart by the nucleus of the cell that a mitochondrion lies in, and by nothing else:
every mitochondrion is more than :data:`MARGIN` away from all that depends on the kind of any cell. The classes
``neuron`` and ``glia`` are the whole cells, so that a network can learn at a coarse scale which cell it looks at.

All lengths are in nanometres; Z Y X are voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.demo.recording import Crop, Recording, write_recording
from scalenet_gp.pipelines.demo.textures import Array, interpolate, scan, smooth_noise
from scalenet_gp.volumes import StrPath

__all__ = ["CELL_KINDS", "CLASSES", "MARGIN", "ORGANELLES", "DemoVolume", "make_demo_volume", "write_demo_volume"]

ORGANELLES = ("cell_membrane", "nucleus", "mito_neuron", "mito_glia")
"""The classes to segment; no voxel belongs to two of them."""

CELL_KINDS = ("neuron", "glia")
"""The kind of the cell around each voxel off the membranes, which a coarse scale can learn wherever it looks."""

CLASSES = (*ORGANELLES, *CELL_KINDS)
"""The classes that are annotated."""

MARGIN = 400
"""Mitochondria are farther than this (nm) from every voxel that depends on the kind of a cell."""

CELL_PITCH = 2000
CELL_REACH = 1400  # of mitochondria, from the middle of their cell: its whole nucleus stays in sight of a network
NUCLEUS_RADII = (340, 420)
NUCLEOLUS_RADIUS = 140
MITOCHONDRION_RADII = (95, 145)
MITOCHONDRION_SPACING = 420
MEMBRANE_HALF_WIDTH = 46
ENVELOPE_WIDTH = 56
BLUR = 20

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


def make_demo_volume(seed: int = 0, shape: Sequence[int] = (160, 256, 320), voxel_size_nm: int = 32) -> DemoVolume:
    """Return a generated volume; the same arguments give the same volume.

    Args:
        seed: seed of the random generator.
        shape: Z Y X voxels. The cells stand in layers along each axis, about 2 µm apart; every layer along X has both
            kinds, so a part held out along X has both too.
        voxel_size_nm: the edge of a voxel; cells and mitochondria keep their size in nm.

    Raises:
        ConfigError: the voxels are too coarse to show a mitochondrion, or the volume is too small for a cell of each
            kind.

    Example:
        >>> volume = make_demo_volume(shape=(40, 80, 80), voxel_size_nm=64)
        >>> volume.raw.shape, sorted(volume.labels)
        ((40, 80, 80), ['cell_membrane', 'glia', 'mito_glia', 'mito_neuron', 'neuron', 'nucleus'])
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
    shape: Sequence[int] = (160, 256, 320),
    voxel_size_nm: int = 32,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write the volume of :func:`make_demo_volume` as OME-Zarr pyramids of four levels, in the layout of CellMap.

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

    def make() -> Recording:
        volume = make_demo_volume(seed, shape, voxel_size_nm)
        return Recording(volume.raw, {"crop1": Crop((0, 0, 0), volume.labels)})

    write_recording(path, make, voxel_size_nm, progress)


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
    """Draw cells (a warped Voronoi tessellation), a nucleus in the middle of each, and mitochondria between.

    Distances are smooth, so they are computed for voxels twice as large and interpolated.
    """
    cells = cells_along(shape, voxel_size)
    corners = np.argwhere(np.ones(cells))
    seeds = (corners + 0.5 + rng.uniform(-0.15, 0.15, corners.shape)) * voxel_size * np.array(shape) / cells
    # Every layer of cells along X has as many of one kind as of the other, give or take one.
    layers = [rng.permutation(np.arange(cells[0] * cells[1]) % 2 == layer % 2) for layer in range(cells[2])]
    is_glia = np.stack(layers, axis=-1).reshape(-1)
    radii = rng.uniform(*NUCLEUS_RADII, seeds.shape)
    nucleoli = seeds + rng.uniform(-0.3, 0.3, seeds.shape) * radii

    coarse_size, coarse = 2 * voxel_size, tuple(-(-voxels // 2) for voxels in shape)
    place = np.stack(
        [
            (grid + 0.5) * coarse_size
            + 160 * smooth_noise(rng, coarse, coarse_size, 900)
            + 25 * smooth_noise(rng, coarse, coarse_size, 250)
            for grid in np.ogrid[tuple(map(slice, coarse))]
        ],
        dtype=np.float32,
    )
    cell, wall = nearest_seeds(place, seeds)
    place -= np.moveaxis(seeds.astype(np.float32)[cell], -1, 0)
    from_seed = np.linalg.norm(place, axis=0)
    nucleolus_depth = NUCLEOLUS_RADIUS - np.linalg.norm(
        place - np.moveaxis((nucleoli - seeds).astype(np.float32)[cell], -1, 0), axis=0
    )
    place /= np.moveaxis(radii.astype(np.float32)[cell], -1, 0)
    depth = (1 - np.linalg.norm(place, axis=0)) * radii.mean(-1).astype(np.float32)[cell]
    depth = np.minimum(depth, wall - 150)  # a nucleus yields to the membrane of its cell

    room = room_for_mitochondria(coarse_size, wall < MEMBRANE_HALF_WIDTH, depth >= 0) & (from_seed < CELL_REACH)
    candidates = round(room.sum() * (coarse_size / MITOCHONDRION_SPACING) ** 3 * 4)
    mitochondria = place_mitochondria(rng, (np.argwhere(room) + 0.5) * coarse_size, candidates)
    whole = tuple(map(slice, shape))
    for axis in range(3):
        cell = cell.repeat(2, axis)
    return Tissue(
        voxel_size,
        cell[whole],
        interpolate(wall)[whole] < MEMBRANE_HALF_WIDTH,
        interpolate(depth)[whole],
        interpolate(nucleolus_depth)[whole] > 0,
        mitochondria,
        is_glia,
    )


def nearest_seeds(place: Array, seeds: NDArray[np.float64]) -> tuple[NDArray[np.uint16], Array]:
    """Return for each place the number of its nearest seed, and its distance from the plane to the next one's cell."""
    cell = np.zeros(place.shape[1:], np.uint16)
    wall = np.empty(place.shape[1:], np.float32)
    apart = np.linalg.norm(seeds[:, None] - seeds, axis=-1).astype(np.float32)
    for z in range(len(wall)):  # slice by slice, in the cache of the processor
        shape = wall[z].shape
        own, other = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
        least, next_least = np.full(shape, np.inf, np.float32), np.full(shape, np.inf, np.float32)
        for number, seed in enumerate(seeds.astype(np.float32)):
            squared = (place[0, z] - seed[0]) ** 2
            squared += (place[1, z] - seed[1]) ** 2
            squared += (place[2, z] - seed[2]) ** 2
            if not (second := squared < next_least).any():
                continue
            first = squared < least
            np.copyto(other, np.where(first, own, np.uint16(number)), where=second)
            np.copyto(own, np.uint16(number), where=first)
            np.minimum(next_least, np.maximum(least, squared), out=next_least)
            np.minimum(least, squared, out=least)
        cell[z], wall[z] = own, (next_least - least) / (2 * apart[own, other])
    return cell, wall


def room_for_mitochondria(voxel_size: int, membrane: Mask, nucleus: Mask) -> Mask:
    """Return the voxels that a mitochondrion may have its centre in: off membranes, and :data:`MARGIN` off nuclei."""
    import edt

    radius = max(MITOCHONDRION_RADII)
    inside = 2 * voxel_size  # of the two borders that lie within the voxel that a distance is measured to
    room = edt.edt(~membrane, anisotropy=(voxel_size,) * 3) > radius + MEMBRANE_HALF_WIDTH
    room &= edt.edt(~nucleus, anisotropy=(voxel_size,) * 3) > MARGIN + radius + 2 * BLUR + inside
    return room


def place_mitochondria(
    rng: np.random.Generator, room: NDArray[np.floating], candidates: int
) -> tuple[Mitochondrion, ...]:
    """Place mitochondria apart from each other, at random ones of the places (nm) where there is room."""
    room = rng.permutation(room)[:candidates]
    centres = np.empty((0, 3))
    while len(room):
        centres = np.vstack([centres, room[:1]])
        room = room[((room - room[0]) ** 2).sum(-1) > MITOCHONDRION_SPACING**2]
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
    from scipy.ndimage import gaussian_filter

    shape, voxel_size = tissue.cell.shape, tissue.voxel_size
    labels = {name: np.zeros(shape, np.uint8) for name in CLASSES}
    labels["cell_membrane"][tissue.membrane] = 1
    labels["nucleus"][tissue.nucleus_depth >= 0] = 1
    glia = tissue.is_glia[tissue.cell]
    labels["neuron"][~glia & ~tissue.membrane] = 1
    labels["glia"][glia & ~tissue.membrane] = 1

    image = 150 + 7 * smooth_noise(rng, shape, voxel_size, 90) + 9 * rng.standard_normal(shape, np.float32)
    sheets = np.abs(smooth_noise(rng, shape, voxel_size, 170)) < 0.13
    sheets &= smooth_noise(rng, shape, voxel_size, 420) > 0.4
    image[sheets] -= 38  # endoplasmic reticulum
    image[tissue.membrane] = 72
    draw_nuclei(image, tissue, glia, smooth_noise(rng, shape, voxel_size, 85))
    for mitochondrion in tissue.mitochondria:
        box, inside = draw_mitochondrion(image, mitochondrion, voxel_size)
        middle = tuple((mitochondrion.centre // voxel_size).astype(int))
        kind = "mito_glia" if tissue.is_glia[tissue.cell[middle]] else "mito_neuron"
        labels[kind][box][inside] = 1
    image = gaussian_filter(image, BLUR / voxel_size, radius=-(-2 * BLUR // voxel_size))
    return DemoVolume(scan(image, rng, voxel_size), labels)


def draw_nuclei(image: Array, tissue: Tissue, glia: Mask, chromatin: Array) -> None:
    """Draw nuclei in their envelopes: clumped and dark in glia, pale with a nucleolus in neurons."""
    nucleus = np.nonzero(tissue.nucleus_depth >= 0)
    depth, glia, chromatin = tissue.nucleus_depth[nucleus], glia[nucleus], chromatin[nucleus]
    # Heterochromatin gathers along the envelope.
    clumped = glia & (chromatin + 1.2 * np.exp(-(depth - ENVELOPE_WIDTH) / 80) > 0.1)
    nucleolus = ~glia & tissue.nucleolus[nucleus]
    drawn = np.where(glia, 152, 168) + 6 * chromatin
    drawn[clumped] = 88 + 6 * chromatin[clumped]
    drawn[nucleolus] = 80 + 8 * chromatin[nucleolus]
    drawn[depth < ENVELOPE_WIDTH] = 85
    image[nucleus] = drawn


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


def cells_along(shape: Sequence[int], voxel_size: int) -> list[int]:
    """Return the number of cells along each axis."""
    return [round(voxels * voxel_size / CELL_PITCH) for voxels in shape]
