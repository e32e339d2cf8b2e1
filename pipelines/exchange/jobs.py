"""The job files of imports and exports: all that a worker needs, which shares only the file system with others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError

from scalenet_gp.errors import ConfigError
from scalenet_gp.exchange import VolumeFile, open_volume_file
from scalenet_gp.geometry import exact_size
from scalenet_gp.options import Options, describe_problems
from scalenet_gp.pipelines.blockwise import WorkFolder
from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import ImageLayout

__all__ = ["ExchangeJob", "ExportJob", "ImportJob", "block_shape"]

_VERSION: Literal[1] = 1
_COPIES = 6
"""Blocks in memory: three threads with a block and its copy each."""
_EDGE = 256
"""Voxels beyond which a block does not grow along an axis, unless the file is read in longer pieces."""
_WITHOUT_VOXELS = ("output", "block")


class ExchangeJob(Options):
    """Abstract: the fields that imports and exports share. Paths are absolute.

    Attributes:
        version: version of the file's format.
        kind: import or export.
        source: the path or URL of the volume to read.
        output: the volume to make.
        fingerprint: the state of the source's files, where they can be looked at cheaply.
        block: shape of a block, voxels.
    """

    version: Literal[1] = _VERSION
    kind: str
    source: str
    output: Path
    fingerprint: str
    block: tuple[int, ...]

    @property
    def folder(self) -> WorkFolder:
        """The folder of the unfinished work."""
        return WorkFolder(self.output)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the job in a file.

        Raises:
            FileNotFoundError: there is no such file.
            ConfigError: the file has another format version, or is another kind of job.
        """
        try:
            content = json.loads(path.read_bytes())
            return cls.model_validate(content)
        except ValidationError as error:
            problems = describe_problems(error, cls, content, "the job")
            raise ConfigError(
                f"{path} is not a job that this version of the program began: {'; '.join(problems)}; remove the folder "
                f"{path.parent} to begin again"
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"{path} is not readable: {error}; remove the folder {path.parent} to begin again"
            ) from error

    def write(self) -> None:
        """Write the job to its folder, whole or not at all."""
        with atomic_write(self.folder.job) as beside:
            beside.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    def resumed(self) -> Self | None:
        """Return the job as it began; None if there is no unfinished work.

        Raises:
            ConfigError: the unfinished work is another one.
        """
        folder = self.folder
        if not (folder.job.exists() and folder.group.exists()):
            return None
        begun = type(self).read(folder.job)
        mine, others = (job.model_dump(mode="json") for job in (begun, self))
        differences = [
            f"{name}: {json.dumps(mine[name])} and {json.dumps(others[name])}"
            for name in mine
            if name not in _WITHOUT_VOXELS and mine[name] != others[name]
        ]
        if differences:
            raise ConfigError(
                f"{folder.path} is unfinished work of another kind, there and here: {'; '.join(differences)}. Resume "
                "it with its own settings, remove the folder, or choose another output"
            )
        return begun


class ImportJob(ExchangeJob):
    """An import.

    Attributes:
        dataset: the dataset of the source's file.
        axes: the names of the source's axes, where they are stated.
        ignore_metadata: the metadata of the source are not read.
        unit: the unit of lengths in a source that names none.
        voxel_size: nm, exact numbers.
        corner: the corner of the first voxel, nm, exact numbers.
        shape: voxels.
        channels: the number of channels; None without an axis of channels.
        stored: the name of the dtype.
        labels: the values are names, not quantities.
        levels: the number of levels.
        ome_zarr: the version of OME-Zarr to write.

    Example:
        >>> ImportJob.model_fields["labels"].annotation.__name__
        'bool'
    """

    kind: Literal["import"] = "import"
    dataset: str | None
    axes: str | None
    ignore_metadata: bool
    unit: str | None
    voxel_size: tuple[str, ...]
    corner: tuple[str, ...]
    shape: tuple[int, ...]
    channels: int | None
    stored: str
    labels: bool
    levels: int
    ome_zarr: Literal["0.4", "0.5"]

    def open_source(self) -> VolumeFile:
        """Open the volume to read."""
        return open_volume_file(
            self.source,
            dataset=self.dataset,
            axes=self.axes,
            unit=self.unit,
            voxel_size=None if self.ignore_metadata else exact_size(self.voxel_size),
            ignore_metadata=self.ignore_metadata,
        )

    @property
    def layout(self) -> ImageLayout:
        """The layout of the volume to make."""
        return ImageLayout(
            exact_size(self.voxel_size),
            exact_size(self.corner),
            self.shape,
            tuple(f"channel {index}" for index in range(self.channels or 0)),
            self.stored,
            "labels" if self.labels else "quantities",
            self.levels,
        )


class ExportJob(ExchangeJob):
    """An export.

    Attributes:
        channel: the name or index of the channel to export; all of them unless given.
        labels: the values are names, not quantities.
        corner: the corner of the first voxel, nm, exact numbers.

    Example:
        >>> ExportJob.model_fields["labels"].annotation.__name__
        'bool'
    """

    kind: Literal["export"] = "export"
    channel: str | None
    labels: bool
    corner: tuple[str, ...]


def block_shape(
    shape: Sequence[int], piece: Sequence[int], chunk: Sequence[int], voxel_bytes: int, memory: int
) -> tuple[int, ...]:
    """Return the shape of blocks: whole chunks, and whole pieces of the source where memory allows.

    Args:
        shape: voxels of the volume.
        piece: voxels that the source reads at once.
        chunk: voxels of a chunk of the output.
        voxel_bytes: bytes of a voxel with all channels.
        memory: bytes for the blocks that a process has at a time.

    Raises:
        ConfigError: the memory is too little for a chunk.

    Example:
        >>> block_shape((1000, 2000, 3000), (1, 2000, 3000), (64, 64, 64), 1, 2**31)
        (64, 1024, 3008)
    """
    whole = [-(-n // c) * c for n, c in zip(shape, chunk, strict=True)]
    block = list(chunk)

    def grow(axis: int, longest: int) -> bool:
        grown = [*block[:axis], min(2 * block[axis], longest), *block[axis + 1 :]]
        if grown == block or _bytes(grown, voxel_bytes) > memory:
            return False
        block[:] = grown
        return True

    if _bytes(block, voxel_bytes) > memory:
        raise ConfigError(
            f"{memory / 2**30:.3g} GiB of memory is too little for a chunk of {tuple(chunk)} voxels, of which a "
            f"process has {_COPIES} at a time: give {_bytes(block, voxel_bytes) / 2**30:.3g} GiB or more"
        )
    for axis in reversed(range(len(block))):
        while grow(axis, min(whole[axis], -(-piece[axis] // chunk[axis]) * chunk[axis])):
            pass
    while any(
        grow(axis, min(whole[axis], max(_EDGE, block[axis])))
        for axis in sorted(range(len(block)), key=lambda axis: block[axis])
    ):
        pass
    return tuple(block)


def _bytes(block: Sequence[int], voxel_bytes: int) -> int:
    total = _COPIES * voxel_bytes
    for length in block:
        total *= length
    return total
