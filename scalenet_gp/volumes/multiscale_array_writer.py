"""OME-Zarr volumes that many processes write, block by block. All volumes are written in this way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, final

import numpy as np
from pydantic import BaseModel, ValidationError

from scalenet_gp.errors import ArgumentError, DataError, LatticeError, VolumeFormatError
from scalenet_gp.volumes.array_creation import create_array, create_array_3, create_group, create_group_3
from scalenet_gp.volumes.image_layout import ImageLayout, Kind
from scalenet_gp.volumes.location import StrPath
from scalenet_gp.volumes.metadata import Level, ReadOptions, malformed_error
from scalenet_gp.volumes.ome_zarr import (
    WrittenVersion,
    channel_names,
    is_ome_zarr,
    multiscale_attributes,
    read_ome_zarr,
)
from scalenet_gp.volumes.reduction import block_majority, block_mean
from scalenet_gp.volumes.storage import find_node, open_array
from scalenet_gp.volumes.stored_array import StoredArray

__all__ = ["MultiscaleArrayWriter", "StoredValues", "create_image", "volume_attributes"]

_OURS = "scalenet_gp"
_RESERVED = ("multiscales", "ome", "omero", _OURS)


class StoredValues(BaseModel, frozen=True, extra="forbid"):
    """The meaning of the stored values of a volume, from its attributes.

    Attributes:
        kind: the kind of the values; None if the volume does not state it.
        scale: value = stored number × scale.

    Example:
        >>> StoredValues.of("mito", {"scalenet_gp": {"values": {"kind": "fractions", "scale": 1 / 255}}}).kind
        'fractions'
    """

    kind: Kind | None = None
    scale: float = 1.0

    @classmethod
    def of(cls, path: StrPath, attributes: Mapping[str, Any]) -> Self:
        """Read them from the attributes of the group at ``path``.

        Raises:
            VolumeFormatError: they are malformed.
        """
        ours = attributes.get(_OURS, {})
        try:
            return cls.model_validate(ours.get("values", {}) if isinstance(ours, dict) else ours)
        except ValidationError as error:
            raise malformed_error(str(path), f"attributes {_OURS}.values", error) from error


@final
@dataclass(frozen=True, slots=True, eq=False)
class MultiscaleArrayWriter:
    """Writes the blocks of a volume: see :meth:`open`.

    Any number of processes can write at once. Blocks that begin and end at multiples of ``layout.chunks``, or at the
    end of the volume, are fastest. Other blocks are right too, but their chunks are read, merged and written again.

    Args:
        path: the path of the multiscale group.
        layout: the layout of the volume.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     create_image(f"{folder}/mito", ImageLayout((8, 8, 8), (0, 0, 0), (4, 4, 4)))
        ...     writer = MultiscaleArrayWriter.open(f"{folder}/mito")
        ...     writer.write((0, 0, 0), np.ones((4, 4, 2), np.float32))
        >>> writer.levels[0].shape
        (4, 4, 4)
    """

    path: Path
    layout: ImageLayout
    _arrays: tuple[StoredArray, ...]

    @classmethod
    def open(cls, path: StrPath) -> MultiscaleArrayWriter:
        """Open a volume that :func:`create_image` made.

        Raises:
            FileNotFoundError: there is nothing at ``path``.
            VolumeFormatError: there is another kind of volume, or something else.
        """
        node = find_node(path)
        if node is None:
            raise FileNotFoundError(f"{path}: no such volume")
        kind = StoredValues.of(path, node.attributes).kind
        if kind is None or not is_ome_zarr(node):
            raise VolumeFormatError(f"{path}: no volume that this package made to be written block by block")
        metadata = read_ome_zarr(node, ReadOptions())
        arrays = tuple(open_array(Path(path, level.path)) for level in metadata.levels)
        first = metadata.levels[0]
        layout = ImageLayout(
            first.voxel_size,
            first.begin,
            first.shape,
            channel_names(node) if metadata.channels is not None else (),
            metadata.dtype.name,
            kind,
            len(arrays),
            arrays[0].chunks[-len(first.shape) :],
        )
        if layout.pyramid != metadata.levels:
            raise VolumeFormatError(f"{path}: its levels are not those that this package makes: {metadata.levels}")
        return cls(Path(path), layout, arrays)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels, from fine to coarse."""
        return self.layout.pyramid

    def write(self, begin: Sequence[int], data: np.ndarray) -> None:
        """Write a block of the finest level; it is on the disk when this returns.

        Args:
            begin: its first voxel, per spatial axis, counted from the volume's corner.
            data: (channel, z, y, x), or (z, y, x) if the volume has no channels; see :meth:`ImageLayout.encode`.

        Raises:
            ArgumentError: the block has another shape than the volume allows.
            LatticeError: the block reaches out of the volume.
            DataError: a value cannot be stored.
            OSError: the block cannot be written, as on a full disk.
        """
        layout, shape, dims = self.layout, data.shape, len(self.layout.shape)
        leading = (len(layout.channels),) if layout.channels else ()
        if len(begin) != dims or shape[: len(shape) - dims] != leading or len(shape) != dims + len(leading):
            raise ArgumentError(
                f"{self.path}: a block of shape {shape} at {tuple(begin)} does not go into a volume of shape "
                f"{leading + layout.shape}"
            )
        box = self._box(0, begin, shape[-dims:])
        try:
            stored = layout.encode(data)
        except ValueError as error:
            raise DataError(f"{self.path}: the block from voxel {tuple(begin)}: {error}") from error
        self._arrays[0].write((slice(None),) * len(leading) + box, stored)

    def coarsen(self, level: int, begin: Sequence[int], shape: Sequence[int]) -> None:
        """Make a box of a coarser level from the level before it, which has to be written there.

        Fractions and quantities are averaged in float64, and rounded to what is stored; of labels the most frequent
        one is taken. One chunk of the result is in memory at a time.

        Args:
            level: 1 is the first that can be made.
            begin: first voxel of the box, counted in voxels of ``level`` from the volume's corner.
            shape: voxels of ``level``.

        Raises:
            ArgumentError: there is no such level.
            LatticeError: the box reaches out of the level.
            OSError: the level before cannot be read, or this one not be written.
        """
        if not 1 <= level < len(self._arrays):
            raise ArgumentError(f"{self.path}: level {level} is not made of another: 1 to {len(self._arrays) - 1} are")
        factor = self.layout.factors[level - 1]
        fine, coarse = self._arrays[level - 1], self._arrays[level]
        reduce = block_majority if self.layout.kind == "labels" else block_mean
        leading: list[tuple[slice, ...]] = [(slice(c, c + 1),) for c in range(len(self.layout.channels))] or [()]
        boxes = _chunks_of(self._box(level, begin, shape), self.layout.chunks)
        for box, channel in itertools.product(boxes, leading):
            source = tuple(slice(part.start * f, part.stop * f) for part, f in zip(box, factor, strict=True))
            coarse.write((*channel, *box), reduce(fine[(*channel, *source)], factor))

    def _box(self, level: int, begin: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
        whole = self.levels[level].shape
        end = tuple(b + n for b, n in zip(begin, shape, strict=True))
        if min(begin) < 0 or min(shape) < 0 or any(e > n for e, n in zip(end, whole, strict=True)):
            raise LatticeError(
                f"{self.path}: a block from voxel {tuple(begin)} to {end} reaches out of the volume's {whole}"
                + (f" at level {level}" if level else "")
            )
        return tuple(slice(int(b), int(e)) for b, e in zip(begin, end, strict=True))


def create_image(
    path: StrPath,
    layout: ImageLayout,
    attributes: Mapping[str, object] | None = None,
    name: str | None = None,
    version: WrittenVersion = "0.4",
) -> None:
    """Create a volume of zeros: its metadata and the arrays of all its levels, so that viewers show it from then on.

    It is there as a whole or not at all, also if this process is killed.

    Args:
        path: the path of the multiscale group to make; its parent folders are made.
        layout: the layout of the volume.
        attributes: further attributes of the group, JSON: the origin of the data, for example.
        name: the name of the image; by default that of the folder.
        version: the version of OME-Zarr: 0.4 is zarr of format 2, and 0.5 of format 3.

    Raises:
        FileExistsError: there is something at ``path``.
        ArgumentError: the attributes are not JSON, or named as those of the format; or a length of the layout cannot be
            stored.
    """
    path = Path(path)
    everything = volume_attributes(name or path.name, layout, attributes, version)
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another path or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    leading = (len(layout.channels),) if layout.channels else ()
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as workshop:
        group = Path(workshop, path.name)
        (create_group if version == "0.4" else create_group_3)(group, everything)
        for level in layout.pyramid:
            shape, cut = leading + level.shape, zip(layout.chunks, level.shape, strict=True)
            chunks = (1,) * len(leading) + tuple(min(c, n) for c, n in cut)
            if version == "0.4":
                create_array(group / level.path, shape, chunks, layout.dtype)
            else:
                names = ("c", *layout.axes) if leading else layout.axes
                create_array_3(group / level.path, shape, chunks, layout.dtype, names)
        group.rename(path)


def volume_attributes(
    name: str, layout: ImageLayout, attributes: Mapping[str, object] | None, version: WrittenVersion = "0.4"
) -> dict[str, Any]:
    """Return all attributes of a volume's group: those of :func:`create_image`, of OME-Zarr, and the kind of values.

    Raises:
        ArgumentError: as there.
    """
    further = dict(attributes or {})
    if taken := [key for key in _RESERVED if key in further]:
        raise ArgumentError(f"{name}: the attribute {taken[0]!r} is written by the format; choose another name")
    try:
        json.dumps(further)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name}: the attributes are not JSON: {error}") from error
    values = StoredValues(kind=layout.kind, scale=float(layout.scale))
    ome = multiscale_attributes(name, layout.axes, layout.pyramid, layout.channels, layout.dtype, version)
    return {**further, _OURS: {"values": values.model_dump()}, **ome}


def _chunks_of(box: Sequence[slice], chunks: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield the parts of a box, cut where chunks meet."""
    return itertools.product(
        *(
            [slice(max(b, part.start), min(b + c, part.stop)) for b in range(part.start // c * c, part.stop, c)]
            for part, c in zip(box, chunks, strict=True)
        )
    )
