"""The part ``learned_from`` of the run file that a run writes: the volumes that it has read."""

from __future__ import annotations

from scalenet_gp.options import Options
from scalenet_gp.volumes import VolumeFingerprint

__all__ = ["LearnedInput", "LearnedVolume"]


class LearnedInput(Options):
    """A volume that a run has read beside raw data.

    Attributes:
        name: the name of the input.
        volume: its fingerprint.
        channels: the names of its channels.
        output: the output of a network that it is the prediction of, as its folder names it; None if it is not one.
        networks: digests of the checkpoints that predicted it.

    Example:
        >>> size = (8, 8, 8)
        >>> volume = VolumeFingerprint(
        ...     path="p.zarr/output", shape=size, voxel_size=size, begin=size, channels=1, dtype="uint8", voxels=("0",)
        ... )
        >>> one = LearnedInput(name="mito", volume=volume, channels=["mito"], output="output", networks=["ab12"])
        >>> one.is_like(one.model_copy(update={"networks": ("cd34",)}))
        False
    """

    name: str
    volume: VolumeFingerprint
    channels: tuple[str, ...]
    output: str | None = None
    networks: tuple[str, ...] = ()

    def is_like(self, other: LearnedInput) -> bool:
        """Return whether the same networks made both volumes, of whatever data."""
        return (self.output, self.networks) == (other.output, other.networks)

    def differences(self, other: LearnedInput) -> list[str]:
        """Return what differs between the volumes, wherever they lie; nothing if they are the same."""
        found = self.volume.differences(other.volume)
        return [f"the input {self.name}: {difference}" for difference in found]


class LearnedVolume(Options):
    """A raw volume that a run has learned from.

    Attributes:
        raw: its fingerprint.
        intensities: the stored values that the network sees as -1 and 1, if they were sampled.
        labels: digest of the labels that were learned from in this volume.
        inputs: the volumes that were read beside it.

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
    inputs: tuple[LearnedInput, ...] = ()

    def differences(self, other: LearnedVolume) -> list[str]:
        """Return what differs between the volumes of two runs, labels apart; nothing if they are the same."""
        found = self.raw.differences(other.raw)
        if [one.name for one in self.inputs] != [one.name for one in other.inputs]:
            return [*found, "they have other inputs"]
        pairs = zip(self.inputs, other.inputs, strict=True)
        return found + [difference for mine, others in pairs for difference in mine.differences(others)]
