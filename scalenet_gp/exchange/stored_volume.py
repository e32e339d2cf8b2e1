"""Volumes of chunks, read through the volumes' own readers: zarr, N5, neuroglancer's precomputed."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.exchange.volume_file import Stated, VolumeFile
from scalenet_gp.volumes import MultiscaleImage, open_array

__all__ = ["open_stored", "volume_of"]

_DEFAULTS = {2: "yx", 3: "zyx", 4: "czyx"}


def open_stored(
    path: str, axes: str | None, unit: str | None, voxel_size: Sequence[Fraction] | None, ignore_metadata: bool
) -> VolumeFile:
    """Open the finest level of a volume, or an array.

    Args:
        path: the path or URL.
        axes: the names of the axes of an array whose metadata are ignored; by default zyx, or czyx.
        unit: the unit of lengths in metadata that name none.
        voxel_size: the voxel size (nm) of an array without metadata.
        ignore_metadata: open the array alone, whatever the metadata say.

    Raises:
        ArgumentError: axes of a volume whose metadata name them.
        FileNotFoundError, VolumeFormatError: as :meth:`.MultiscaleImage.open`.
    """
    if ignore_metadata:
        array = open_array(path)
        named = axes or _DEFAULTS.get(array.ndim, "")
        return VolumeFile(path, named, array.shape, array.dtype, lambda box: array[box], piece=array.chunks)
    if axes is not None:
        raise ArgumentError(f"{path}: --axes names those of an array without metadata: give --ignore-metadata too")
    try:
        image = MultiscaleImage.open(path, unit=unit)
    except VolumeFormatError:
        if voxel_size is None:
            raise
        return volume_of(MultiscaleImage.open(path, unit=unit, voxel_size=voxel_size), 0).without_metadata()
    return volume_of(image, 0)


def volume_of(image: MultiscaleImage, index: int) -> VolumeFile:
    """Return one level of an image as a volume to read."""
    level = image.levels[index]
    world = image.world(level.voxel_size)
    size = world.size(level.voxel_size)
    origin = image.roi(size, world).begin
    channelled = image.channels > 1

    def read(box: tuple[slice, ...]) -> np.ndarray:
        place = box[-len(level.shape) :]
        begin = Coordinate(part.start for part in place)
        shape = Coordinate(part.stop - part.start for part in place)
        data = image.read(Roi(origin + begin * size, shape * size), size, world)
        return data[box[0]] if channelled else data[0]

    names = ("z", "y", "x")[-len(level.shape) :]
    return VolumeFile(
        image.path,
        ("c", *names) if channelled else names,
        (image.channels, *level.shape) if channelled else level.shape,
        image.dtype,
        read,
        piece=(64,) * (len(level.shape) + channelled),
        stated=lambda: Stated("its metadata", level.voxel_size, "nm", level.begin),
    )
