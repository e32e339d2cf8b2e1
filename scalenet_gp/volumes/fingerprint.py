"""A fingerprint of a volume: its place, its metadata, and a digest of a few blocks of its voxels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import final

import numpy as np

from scalenet_gp.geometry import format_size
from scalenet_gp.options import Options, Size
from scalenet_gp.volumes.intensity_sample import spread_blocks
from scalenet_gp.volumes.multiscale_image import MultiscaleImage

__all__ = ["VolumeFingerprint", "labels_digest"]

_BLOCKS = 8


@final
class VolumeFingerprint(Options):
    """The volume that something was made of, so that another one is not taken for it.

    Attributes:
        path: path of the volume. It may have been moved since.
        shape: voxels of the finest level.
        voxel_size: nm.
        begin: corner of the first voxel, nm.
        channels: number of channels.
        dtype: type of the voxels.
        voxels: digests of the voxels of a few blocks of the finest level, which are spread over it; None for a block
            that could not be read.

    Example:
        >>> import numpy as np
        >>> image = MultiscaleImage.from_arrays([np.zeros((4, 4, 4), np.uint8)], [(8, 8, 8)], name="a")
        >>> there = VolumeFingerprint.of(image)
        >>> str(there)
        'a (4 × 4 × 4 voxels of 8 × 8 × 8 nm, uint8)'
        >>> other = MultiscaleImage.from_arrays([np.ones((4, 4, 4), np.uint8)], [(8, 8, 8)], name="b")
        >>> there.differences(VolumeFingerprint.of(other))
        ['the voxels differ']
    """

    path: str
    shape: tuple[int, ...]
    voxel_size: Size
    begin: Size
    channels: int
    dtype: str
    voxels: tuple[str | None, ...]

    def __str__(self) -> str:
        shape = " × ".join(map(str, self.shape))
        return f"{self.path} ({shape} voxels of {format_size(self.voxel_size)} nm, {self.dtype})"

    @classmethod
    def of(cls, image: MultiscaleImage) -> VolumeFingerprint:
        """Return the fingerprint of a volume, of which a few blocks are read."""
        level = image.levels[0]
        return cls(
            path=image.path,
            shape=level.shape,
            voxel_size=level.voxel_size,
            begin=level.begin,
            channels=image.channels,
            dtype=image.dtype.name,
            voxels=tuple(map(_digest, spread_blocks(image, level, _BLOCKS))),
        )

    def differences(self, other: VolumeFingerprint) -> list[str]:
        """Return what differs between this volume and another one, wherever they lie; nothing if they are the same."""
        found = []
        for name in ("shape", "voxel_size", "begin", "channels", "dtype"):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                shown = [format_size(value) if isinstance(value, tuple) else str(value) for value in (mine, others)]
                found.append(f"{name.replace('_', ' ')}: {shown[0]} and {shown[1]}")
        pairs = zip(self.voxels, other.voxels, strict=False)
        if not found and any(mine != others for mine, others in pairs if None not in (mine, others)):
            found.append("the voxels differ")
        return found


def labels_digest(volumes: Iterable[tuple[str, MultiscaleImage]]) -> str | None:
    """Return a digest of label volumes: of their names and metadata, and of the voxels of a block of each.

    It does not depend on the place of their files.

    Args:
        volumes: the volumes, each with a name.

    Returns:
        16 hexadecimal digits; None if a block cannot be read.

    Example:
        >>> import numpy as np
        >>> ids = [MultiscaleImage.from_arrays([np.full((4, 4), n)], [(8, 8)]) for n in (3, 4)]
        >>> labels_digest([("crop1", ids[0])]) == labels_digest([("crop1", ids[1])])
        False
    """
    found = hashlib.sha256()
    for name, image in volumes:
        level = image.levels[0]
        place = (name, level.shape, *map(str, (*level.voxel_size, *level.begin)), image.dtype.name)
        voxels = [_digest(block) for block in spread_blocks(image, level, 1)]
        if None in voxels:
            return None
        found.update(repr((place, voxels)).encode())
    return found.hexdigest()[:16]


def _digest(block: np.ndarray | None) -> str | None:
    if block is None:
        return None
    stored = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<"))
    return hashlib.sha256(stored.tobytes()).hexdigest()[:16]
