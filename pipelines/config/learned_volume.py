"""The part ``learned_from`` of the run file that a run writes."""

from __future__ import annotations

from scalenet_gp.options import Options
from scalenet_gp.volumes import VolumeFingerprint

__all__ = ["LearnedVolume"]


class LearnedVolume(Options):
    """A raw volume that a run has learned from.

    Attributes:
        raw: its fingerprint.
        intensities: the stored values that the network sees as -1 and 1, if they were sampled.
        labels: digest of the labels that were learned from in this volume.

    Example:
        >>> size = (8, 8, 8)
        >>> raw = VolumeFingerprint(
        ...     path="em", shape=size, voxel_size=size, begin=size, channels=1, dtype="uint8", voxels=("0",)
        ... )
        >>> LearnedVolume(raw=raw, intensities=(52, 200)).intensities
        (52.0, 200.0)
    """

    raw: VolumeFingerprint
    intensities: tuple[float, float] | None = None
    labels: str | None = None
