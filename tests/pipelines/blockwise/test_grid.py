"""Blocks are whole voxels and whole chunks of every output."""

import math

from funlib.geometry import Coordinate, Roi
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp.pipelines.blockwise.grid import Grid


@st.composite
def requests(draw):
    """A region, a wanted block and voxel sizes along one axis, all on the common lattice."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    step = math.lcm(*sizes)
    begin, extent, wanted = (draw(st.integers(*bounds)) * step for bounds in ((-50, 50), (1, 1000), (1, 400)))
    return begin, extent, wanted, sizes


@given(st.lists(requests(), min_size=2, max_size=3))
def test_no_two_blocks_share_a_voxel_or_a_chunk(along):
    count = min(len(sizes) for *_, sizes in along)
    voxel_sizes = {str(n): Coordinate(sizes[n] for *_, sizes in along) for n in range(count)}
    begin, extent, wanted = (Coordinate(request[n] for request in along) for n in range(3))
    roi = Roi(begin, extent)
    if any(e % math.lcm(*sizes) for e, sizes in zip(extent, zip(*voxel_sizes.values(), strict=True), strict=True)):
        return
    grid = Grid.fitting(roi, wanted, voxel_sizes)
    for name, size in voxel_sizes.items():
        for axis in range(roi.dims):
            chunk, voxel, block = grid.chunks[name][axis], size[axis], grid.block[axis]
            assert 1 <= chunk <= 64
            assert block % voxel == 0
            if grid.shape[axis] > 1:
                assert block % (chunk * voxel) == 0
                assert chunk >= min(32, block // voxel)
    for axis in range(roi.dims):
        assert grid.block[axis] >= min(wanted[axis], extent[axis])
        assert (grid.shape[axis] - 1) * grid.block[axis] < extent[axis] <= grid.shape[axis] * grid.block[axis]


def test_blocks_stay_as_they_are_wanted_where_they_can_be_divided():
    sizes = {"fine": Coordinate(8, 8), "coarse": Coordinate(128, 128)}
    grid = Grid.fitting(Roi((0, 0), (10240, 10240)), Coordinate(2048, 4096), sizes)
    assert grid.block == Coordinate(2048, 4096)
    assert grid.chunks == {"fine": Coordinate(64, 64), "coarse": Coordinate(16, 32)}
    # 127 voxels are prime, and 128 are not
    odd = Grid.fitting(Roi((0, 0), (10240, 10240)), Coordinate(127, 100), {"fine": Coordinate(1, 1)})
    assert odd.block == Coordinate(128, 100)
    assert odd.chunks == {"fine": Coordinate(64, 50)}
