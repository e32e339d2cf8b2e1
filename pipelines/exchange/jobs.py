"""The job files of imports and exports."""

from __future__ import annotations

from typing import Literal

from scalenet_gp.exchange import VolumeFile, open_volume_file
from scalenet_gp.geometry import exact_size
from scalenet_gp.pipelines.blockwise import BlockJob
from scalenet_gp.volumes import ImageLayout

__all__ = ["ExchangeJob", "ExportJob", "ImportJob"]


class ExchangeJob(BlockJob):
    """Abstract: the fields that imports and exports share. Paths are absolute.

    Attributes:
        version: version of the file's format.
        kind: import or export.
        source: the path or URL of the volume to read.
        output: the volume to make.
        fingerprint: the state of the source's files, where they can be looked at cheaply.
        block: shape of a block, voxels.
    """

    source: str
    fingerprint: str
    block: tuple[int, ...]


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
