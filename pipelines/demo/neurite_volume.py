"""A generated volume of packed neurites, with a number for each.

The volume looks like a FIB-SEM recording of neuropil. Thin axons, varicosities and dendrites of 0.1 to 0.7 µm fill it
and touch each other. They bend, branch, and end where there is no room. Only a membrane parts two of them, dark in some
places and hardly visible in others. Mitochondria, vesicles, endoplasmic reticulum and microtubules lie within neurites
and are as dark as membranes, so that no threshold of the brightness finds the neurites.

All lengths are in nanometres; Z Y X are voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.demo.growth import Neurites, box_around, grow_neurites
from scalenet_gp.pipelines.demo.neurite_picture import MEMBRANE_HALF_WIDTH, draw_neuropil
from scalenet_gp.pipelines.demo.recording import Crop, Recording, write_recording
from scalenet_gp.pipelines.demo.textures import Array, interpolate, smooth_noise
from scalenet_gp.volumes import StrPath

__all__ = ["HELD_OUT", "NEURITES", "NeuriteVolume", "make_neurite_volume", "write_neurite_volume"]

NEURITES = "neurites"
"""The name of the label volumes, and of the class."""

HELD_OUT = f"recon-1/labels/groundtruth/crop2/{NEURITES}"
"""The label volume of the held-out part in its container."""

COARSEST = 24
"""The largest voxels (nm) that show membranes."""

NEAREST = 340
"""Voxels are of a neurite whose tube is nearer than this."""

WARP = 60
"""Hardly a surface is displaced by more than this."""

SMALLEST = 64
"""Smaller pieces (voxels), which a face of a crop or a narrow place cuts off a neurite, are left out."""

TRAINING_SHARE = 0.6
"""The part along X that is annotated to learn from; the rest is held out."""


@dataclass(frozen=True, slots=True)
class NeuriteVolume:
    """A recording and its neurites.

    Attributes:
        raw: uint8, Z Y X.
        neurites: the number of the neurite that each voxel lies in, uint16; 0 in membranes. A neurite that leaves the
            volume and comes back is in several pieces.
    """

    raw: NDArray[np.uint8]
    neurites: NDArray[np.uint16]


def make_neurite_volume(
    seed: int = 0, shape: Sequence[int] = (128, 192, 320), voxel_size_nm: int = 16
) -> NeuriteVolume:
    """Return a generated volume of packed neurites; the same arguments give the same volume.

    Args:
        seed: seed of the random generator.
        shape: Z Y X voxels.
        voxel_size_nm: the edge of a voxel; neurites keep their size in nm.

    Raises:
        ConfigError: the voxels are too coarse to show membranes, or the volume is smaller than a neurite.

    Example:
        >>> volume = make_neurite_volume(shape=(32, 48, 48))
        >>> volume.raw.shape, volume.neurites.dtype.name
        ((32, 48, 48), 'uint16')
    """
    if not 0 < voxel_size_nm <= COARSEST:
        raise ConfigError(
            f"voxels of {voxel_size_nm} nm do not show membranes of {2 * MEMBRANE_HALF_WIDTH} nm: give a size from 1 "
            f"to {COARSEST} nm"
        )
    least = -(-NEAREST // voxel_size_nm)
    if len(shape) != 3 or min(shape) < least:
        raise ConfigError(
            f"a volume of {tuple(shape)} voxels of {voxel_size_nm} nm does not hold neurites of {NEAREST} nm: "
            f"{(least,) * 3} voxels would"
        )
    growth_rng, surface_rng, texture_rng = np.random.default_rng(seed).spawn(3)
    neurites = grow_neurites(growth_rng, [n * voxel_size_nm for n in shape])
    number, wall = divide(neurites, surface_rng, tuple(shape), voxel_size_nm)
    raw = draw_neuropil(neurites, number, wall, voxel_size_nm, texture_rng)
    return NeuriteVolume(raw, np.where(wall < MEMBRANE_HALF_WIDTH, 0, number).astype(np.uint16))


def write_neurite_volume(
    path: StrPath,
    seed: int = 0,
    shape: Sequence[int] = (128, 192, 320),
    voxel_size_nm: int = 16,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write the volume of :func:`make_neurite_volume` as OME-Zarr pyramids of four levels, in the layout of CellMap.

    The recording is at ``<path>/recon-1/em/fibsem-uint8``. The label volume ``neurites`` of the crop ``crop1`` has the
    first three fifths along X, to learn from, that of ``crop2`` the rest. Its numbers are those of the pieces within
    the crop, so every number is one connected piece: see :func:`number_pieces`.

    Args:
        path: path of the Zarr container, which appears when it is whole.
        seed: see :func:`make_neurite_volume`.
        shape: see :func:`make_neurite_volume`.
        voxel_size_nm: see :func:`make_neurite_volume`.
        progress: called with a few words after the volume was made and after each group was written.

    Raises:
        FileExistsError: there is something at ``path``.
        ConfigError: as :func:`make_neurite_volume`.
    """

    def make() -> Recording:
        volume = make_neurite_volume(seed, shape, voxel_size_nm)
        border = round(TRAINING_SHARE * shape[2] / 8) * 8  # voxels of all levels lie in one crop
        crops = {
            f"crop{number}": Crop((0, 0, begin), {NEURITES: number_pieces(volume.neurites[..., begin:end])})
            for number, (begin, end) in enumerate(((0, border), (border, shape[2])), start=1)
        }
        return Recording(volume.raw, crops)

    write_recording(path, make, voxel_size_nm, progress)


def number_pieces(numbers: NDArray[np.unsignedinteger]) -> NDArray[np.uint16]:
    """Return numbers from 1 on of the connected pieces of neurites that have at least :data:`SMALLEST` voxels.

    Voxels are connected that share a face.

    Example:
        >>> numbers = np.zeros((9, 4, 9), np.uint16)
        >>> numbers[..., :4], numbers[..., 5:] = 7, 7
        >>> np.unique(number_pieces(numbers)).tolist()
        [0, 1, 2]
    """
    import cc3d

    pieces = cc3d.connected_components(numbers, connectivity=6)
    large = np.bincount(pieces.ravel()) >= SMALLEST
    large[0] = False
    return np.where(large, np.cumsum(large), 0).astype(np.uint16)[pieces]


def divide(
    neurites: Neurites, rng: np.random.Generator, shape: tuple[int, ...], voxel_size: int
) -> tuple[NDArray[np.uint16], Array]:
    """Return the number of the neurite whose tube is nearest to each voxel, from 1 on, and the depth below its wall.

    The wall is where the tube of another neurite is as near: a neurite is connected, as each of its voxels sees the
    nearest point of its tube. Distances are smooth, so they are computed for voxels twice as large and interpolated.
    Surfaces are roughened: the space is warped.
    """
    coarse_size, coarse = 2 * voxel_size, tuple(-(-n // 2) for n in shape)
    place = np.stack(
        [
            (grid + 0.5) * coarse_size
            + 14 * smooth_noise(rng, coarse, coarse_size, 200)
            + 8 * smooth_noise(rng, coarse, coarse_size, 90)
            for grid in np.ogrid[tuple(map(slice, coarse))]
        ],
        dtype=np.float32,
    )
    number, nearest, other = nearest_tubes(neurites, place, coarse_size)
    wall = interpolate((other - nearest) * np.float32(0.5))
    for axis in range(3):
        number = number.repeat(2, axis)
    whole = tuple(map(slice, shape))
    number, wall = number[whole], wall[whole]
    for axis in range(3):
        # where space is warped most, walls may pass between voxels that both lie deep
        lines = np.moveaxis(number, axis, 0), np.moveaxis(wall, axis, 0)
        differ = lines[0][1:] != lines[0][:-1]
        lines[1][1:][differ] = 0
        lines[1][:-1][differ] = 0
    return number, wall


def nearest_tubes(neurites: Neurites, place: Array, grid: float) -> tuple[NDArray[np.uint16], Array, Array]:
    """Return the number of the neurite whose tube is nearest, its distance, and that of the nearest of another neurite.

    Args:
        neurites: the tubes; the first has the number 1.
        place: the position that each voxel shows, (3, z, y, x).
        grid: edge of a voxel; hardly one shows a position :data:`WARP` away from its own.
    """
    shape = place.shape[1:]
    number = np.zeros(shape, np.uint16)
    nearest, other = np.full(shape, NEAREST, np.float32), np.full(shape, NEAREST, np.float32)
    middles, radii = neurites.positions.astype(np.float32), neurites.radii.astype(np.float32)
    for middle, radius, own in zip(middles, radii, neurites.numbers + 1, strict=True):
        box = box_around(middle / grid, (NEAREST + radius + WARP) / grid, shape)
        away = (place[0][box] - middle[0]) ** 2
        away += (place[1][box] - middle[1]) ** 2
        away += (place[2][box] - middle[2]) ** 2
        np.sqrt(away, out=away)
        away -= radius
        is_own, nearer = number[box] == own, away < nearest[box]
        np.copyto(other[box], nearest[box], where=nearer & ~is_own)
        np.copyto(other[box], np.minimum(other[box], away), where=~nearer & ~is_own)
        np.copyto(number[box], np.uint16(own), where=nearer)
        np.copyto(nearest[box], away, where=nearer)
    return number, nearest, other
