"""The job file of a segmentation."""

from __future__ import annotations

from abc import abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from scalenet_gp.options import Options
from scalenet_gp.pipelines.blockwise import BlockJob
from scalenet_gp.pipelines.config import TargetOptions
from scalenet_gp.segmentation import AffinityMethod, SegmentationMethod
from scalenet_gp.volumes import ImageLayout, VolumeFingerprint, default_levels

__all__ = ["KindVolume", "SegmentationJob", "SegmentedAffinities", "SegmentedClass", "SegmentedVolume"]


class SegmentedVolume(Options):
    """Abstract: the segmentation of one output of a network.

    Attributes:
        volume: name of the output.
        source: the output's volume.
        begin: first voxel of the region, in voxels of the source.
        shape: voxels of the region.
        chunks: voxels of a chunk.
        block: voxels of a block.
    """

    volume: str
    source: VolumeFingerprint
    begin: tuple[int, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    block: tuple[int, ...]

    @property
    def voxel_size(self) -> tuple[Fraction, ...]:
        """The size of a voxel, nm."""
        return self.source.voxel_size

    @property
    def corner(self) -> tuple[Fraction, ...]:
        """The corner of the first voxel of the region, nm."""
        parts = zip(self.source.begin, self.begin, self.voxel_size, strict=True)
        return tuple(corner + first * size for corner, first, size in parts)

    def layout(self, largest: int) -> ImageLayout:
        """Return the layout of the volume of objects, with ids of the smallest type.

        Args:
            largest: the largest id.
        """
        levels = default_levels(self.voxel_size, self.shape)
        stored = np.min_scalar_type(largest).name
        return ImageLayout(self.voxel_size, self.corner, self.shape, (), stored, "labels", levels, self.chunks)

    @property
    @abstractmethod
    def keeps_fragments(self) -> bool:
        """True if the fragments stay beside the objects, with their look-up tables."""

    def fragments_layout(self) -> ImageLayout:
        """Return the layout of the volume of fragments, whose levels are those of the objects."""
        levels = default_levels(self.voxel_size, self.shape)
        return ImageLayout(self.voxel_size, self.corner, self.shape, (), "uint64", "labels", levels, self.chunks)


class SegmentedClass(SegmentedVolume):
    """The segmentation of one class.

    Attributes:
        channel: index of the class among the output's channels.
        targets: what the output learned, which tells how its values decide.
        options: the method, with its threshold.
    """

    channel: int
    targets: TargetOptions
    options: SegmentationMethod

    @property
    def keeps_fragments(self) -> bool:
        """True if the options say so."""
        return self.options.keep_fragments

    @property
    def exclusive(self) -> bool:
        """True if the most probable of the output's classes counts."""
        return self.targets.kind == "classes" and self.targets.exclusive


class KindVolume(Options):
    """The output that tells kinds of fragments apart.

    Attributes:
        volume: name of the output.
        channels: indices of the kinds among its channels.
        source: the output's volume.
    """

    volume: str
    channels: tuple[int, ...]
    source: VolumeFingerprint


class SegmentedAffinities(SegmentedVolume):
    """The segmentation of an output that learned affinities.

    Attributes:
        offsets: of its channels, in voxels.
        options: the method, with its threshold.
        kinds: where the kinds of fragments are read; None if there are none.
    """

    offsets: tuple[tuple[int, ...], ...]
    options: AffinityMethod
    kinds: KindVolume | None = None

    @property
    def keeps_fragments(self) -> bool:
        """True always: their scores took the longest."""
        return True


class SegmentationJob(BlockJob):
    """A segmentation.

    Attributes:
        version: version of the file's format.
        kind: ``segmentation``.
        output: zarr group to make.
        prediction: the predicted zarr group.
        networks: digests of the checkpoints that predicted it.
        classes: the classes to segment, by name.
        objects: the objects that affinities make, by name.
    """

    without_voxels: ClassVar[tuple[str, ...]] = (
        *BlockJob.without_voxels,
        *("prediction", "path", "loss", "weight", "class_weights", "graph"),
    )

    kind: Literal["segmentation"] = "segmentation"
    prediction: Path
    networks: tuple[str, ...]
    classes: dict[str, SegmentedClass]
    objects: dict[str, SegmentedAffinities] = Field(default_factory=dict)

    @property
    def parts(self) -> dict[str, SegmentedClass | SegmentedAffinities]:
        """All that is segmented, by name."""
        return {**self.classes, **self.objects}
