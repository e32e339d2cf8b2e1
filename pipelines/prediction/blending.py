"""Tiles that overlap, as a job asks for them: their shape, the tiles that are needed, and what the output states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import World
from scalenet_gp.inference import OverlappingTiles, Seam
from scalenet_gp.options import to_yaml_length
from scalenet_gp.pipelines.blockwise import Grid
from scalenet_gp.pipelines.config import PredictionOptions
from scalenet_gp.pipelines.data import Dataset
from scalenet_gp.volumes import group_attributes

__all__ = ["blending_attributes", "blending_tiles", "describe_seam", "unneeded_tiles"]

_QUARTER = 4


def blending_tiles(options: PredictionOptions, dataset: Dataset, roi: Roi) -> OverlappingTiles | None:
    """Return the tiles to blend in a region; None if the network's tiles agree, or if one tile is enough.

    A tile has the shape of a block. It overlaps the next one by ``options.overlap``, or by a quarter unless given.

    Raises:
        ConfigError: the overlap is not for this network, not whole voxels of every output, or not smaller than a block.
    """
    net, block = dataset.net, dataset.shape(options.block_shape, "prediction.block_shape", options.outputs)
    options.check_network(net)
    if net.tileable:
        return None
    lattice = dataset.lattice(options.outputs)
    if options.overlap is None:
        steps = (int(length) // _QUARTER // int(step) for length, step in zip(block, lattice, strict=True))
        overlap = Coordinate(max(1, count) * step for count, step in zip(steps, lattice, strict=True))
    else:
        overlap = dataset.shape(options.overlap, "prediction.overlap", options.outputs)
    # along an axis with one tile nothing overlaps
    divided = [extent > length for extent, length in zip(roi.shape, block, strict=True)]
    if not any(divided):
        return None
    for axis, (length, least) in enumerate(zip(block, overlap, strict=True)):
        if divided[axis] and least >= length:
            size = _nm(dataset.world, block)[axis]
            raise ConfigError(
                f"prediction.block_shape is {size} nm along axis {axis}, one voxel, but blocks of {net.name} have to "
                "overlap, as it depends on the whole of its input; make them larger"
            )
    return OverlappingTiles.covering(roi, block, overlap, lattice)


def unneeded_tiles(tiles: OverlappingTiles, grid: Grid, skipped: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 1 for each tile that no block has a part of, other than those that are left out.

    Args:
        tiles: the tiles.
        grid: the blocks.
        skipped: nonzero for each block that is left out, in the shape of the grid.
    """
    needed = (skipped == 0).astype(np.int64)
    for axis, count in enumerate(grid.shape):
        reach = np.array([tiles.reach(axis, _layer(grid, axis, block)) for block in range(count)])
        needed = np.moveaxis(np.tensordot(needed, reach.astype(np.int64), (axis, 0)), -1, axis).clip(max=1)
    return (needed == 0).astype(np.uint8)


def blending_attributes(tiles: OverlappingTiles, world: World, seams: dict[str, Seam] | None = None) -> dict[str, Any]:
    """Return what the attributes of a prediction state about its blending, as plain values.

    Args:
        tiles: the tiles.
        world: the coordinates of the tiles.
        seams: the seam of each output, once it is known.
    """
    attributes = {
        "tile": _nm(world, tiles.tile),
        "overlap": _nm(world, tiles.overlap),
        "tiles": list(tiles.shape),
        "window": "linear",
        "cost": float(f"{tiles.cost:.4g}"),
    }
    if seams is not None:
        attributes["seam"] = {output: seam.summary() for output, seam in seams.items()}
    return attributes


def describe_seam(prediction: Path) -> str | None:
    """Return a line on the seams of a finished prediction; None if its tiles agree, or if there is one tile."""
    blending = group_attributes(prediction).get("blending")
    if blending is None:
        return None
    seams = (
        f"{output} {seam['mean']:.2g} on average, {seam['max']:.2g} at most"
        for output, seam in blending["seam"].items()
    )
    return (
        f"{' × '.join(map(str, blending['tiles']))} tiles were blended, as the network depends on the whole of its "
        f"input; where they overlap they differ by: {'; '.join(seams)}"
    )


def _layer(grid: Grid, axis: int, block: int) -> Roi:
    """Return the region's part that a layer of blocks, across an axis, takes."""
    begin, shape = list(grid.roi.begin), list(grid.roi.shape)
    begin[axis] += block * grid.block[axis]
    shape[axis] = grid.block[axis]
    return Roi(begin, shape).intersect(grid.roi)


def _nm(world: World, size: Sequence[int]) -> list[int | float | str | None]:
    return [to_yaml_length(length) for length in world.size_in_nm(Coordinate(size))]
