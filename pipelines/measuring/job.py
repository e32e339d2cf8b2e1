"""The job file of a measurement."""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar, Literal

from scalenet_gp.options import Options
from scalenet_gp.pipelines.blockwise import BlockJob
from scalenet_gp.volumes import VolumeFingerprint

__all__ = ["MeasuredClass", "MeasuringJob", "ReadVolume"]


class ReadVolume(Options):
    """A volume that is read beside the ids, at their voxels.

    Attributes:
        source: the volume.
        channel: name of the channel to read; None for a volume with one.
        scale: value = stored number × scale.
    """

    source: VolumeFingerprint
    channel: str | None = None
    scale: float = 1.0


class MeasuredClass(Options):
    """A volume of ids, whose objects are measured.

    Attributes:
        ids: the volume.
        block: shape of a block, voxels.
        values: the volumes whose means are taken, by name.
        parents: the volume of ids in which parents are looked for; None for no parents.
    """

    ids: VolumeFingerprint
    block: tuple[int, ...]
    values: dict[str, ReadVolume]
    parents: ReadVolume | None

    @property
    def voxel_size(self) -> tuple[Fraction, ...]:
        """The size of a voxel, nm."""
        return self.ids.voxel_size


class MeasuringJob(BlockJob):
    """A measurement.

    Attributes:
        version: version of the file's format.
        kind: ``measuring``.
        output: folder to make.
        classes: the volumes of ids, by the names of their classes.
    """

    without_voxels: ClassVar[tuple[str, ...]] = (*BlockJob.without_voxels, "path")

    kind: Literal["measuring"] = "measuring"
    classes: dict[str, MeasuredClass]
