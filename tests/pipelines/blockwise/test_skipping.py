"""A block is left out if no voxel of the mask touches it, by brute force."""

from fractions import Fraction

import numpy as np
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.nodes import Multiscale
from scalenet_gp.pipelines.blockwise.grid import Grid
from scalenet_gp.pipelines.blockwise.skipping import empty_blocks
from scalenet_gp.world import World


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_blocks_without_any_voxel_of_the_mask_are_empty(seed):
    random = np.random.default_rng(seed)
    data = (random.random(random.integers(1, 7, 3)) < 0.1).astype(np.uint8)
    size = [Fraction(int(n), 2) for n in random.integers(5, 20, 3)]
    corner = [Fraction(int(n), 4) for n in random.integers(-40, 40, 3)]
    mask = Multiscale.from_arrays([data], [size], corner)
    world = World(Fraction(1, 2), tuple(Fraction(int(n), 3) for n in random.integers(-9, 9, 3)))
    roi = Roi(random.integers(-40, 20, 3).tolist(), random.integers(10, 120, 3).tolist())
    grid = Grid(roi, Coordinate(random.integers(7, 60, 3).tolist()), {})

    empty = empty_blocks(mask, grid, world)

    assert empty.shape == grid.shape
    there = np.argwhere(data)
    for index in np.ndindex(grid.shape):
        block = Roi(roi.begin + Coordinate(index) * grid.block, grid.block).intersect(roi)
        low, high = (world.position_in_nm(edge) for edge in (block.begin, block.end))
        touched = any(
            all(
                corner[axis] + (voxel[axis] - 1) * size[axis] < high[axis]
                and corner[axis] + (voxel[axis] + 2) * size[axis] > low[axis]
                for axis in range(3)
            )
            for voxel in there.tolist()
        )
        assert empty[index] == (not touched)
