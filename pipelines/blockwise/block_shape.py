"""The shape of blocks that fit into memory, for tasks whose blocks have no wanted shape."""

from __future__ import annotations

from collections.abc import Sequence

from scalenet_gp.errors import ConfigError

__all__ = ["block_shape"]

_COPIES = 6
"""Blocks in memory: three threads with a block and its copy each."""
_EDGE = 256
"""Voxels beyond which a block does not grow along an axis, unless the source is read in longer pieces."""


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
