"""Blocks are whole voxels and whole chunks of every output."""

import math

from funlib.geometry import Coordinate, Roi
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp.pipelines.blockwise import Grid


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
    # 127 voxels are prime, and 128 are not; 100 are two chunks
    odd = Grid.fitting(Roi((0, 0), (10240, 10240)), Coordinate(127, 100), {"fine": Coordinate(1, 1)})
    assert odd.block == Coordinate(128, 100)
    assert odd.chunks == {"fine": Coordinate(64, 50)}


def chunks_left(grid, axis, sizes):
    """Chunks along a block's axis where it cannot be halved any more, of the output that has most."""
    left = 0
    for name, size in sizes.items():
        chunks = grid.block[axis] // size[axis] // grid.chunks[name][axis]
        while chunks % 2 == 0:
            chunks //= 2
        left = max(left, chunks)
    return left


@given(st.integers(1, 1000), st.sampled_from([16, 64, 100, 128]))
def test_blocks_can_be_halved_down_to_one_chunk(wanted, chunk):
    sizes = {"only": Coordinate((8,))}
    grid = Grid.fitting(Roi((0,), (8 * 21504,)), Coordinate((8 * wanted,)), sizes, chunk)
    assert chunks_left(grid, 0, sizes) == 1
    assert wanted <= grid.block[0] // 8 <= wanted * (1 + 2 / chunk)


@given(st.integers(1, 300), st.sampled_from([(1, 2), (1, 2, 8), (1, 3), (2, 3), (1, 5), (3, 4, 12)]))
def test_no_block_near_by_can_be_halved_further(wanted, ratios):
    step = math.lcm(*ratios)
    sizes = {str(ratio): Coordinate((ratio,)) for ratio in ratios}
    roi = Roi((0,), (10**5 * step,))
    grid = Grid.fitting(roi, Coordinate((wanted * step,)), sizes)

    def options(length):
        """The fewest chunks left, brute force; None where the chunks of an output would be too small."""
        fewest = 0
        for ratio in ratios:
            voxels = length // ratio
            possible = [voxels] if voxels <= 64 else [c for c in range(32, 65) if voxels % c == 0]
            if not possible:
                return None
            fewest = max(fewest, min(chunks // math.gcd(chunks, 2**20) for chunks in (voxels // c for c in possible)))
        return fewest

    near = [options(length) for length in range(wanted * step, wanted * step * 5 // 4 + 1, step)]
    near = [left for left in near if left is not None]
    if near:
        assert grid.block[0] <= wanted * step * 5 / 4
        assert chunks_left(grid, 0, sizes) == min(near)
