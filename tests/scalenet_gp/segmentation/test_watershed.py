"""The watershed on the distance to the boundary, against scikit-image's flooding and on shapes with known necks."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from scalenet_gp.segmentation import ComponentsOptions, Heights, WatershedOptions, find_objects

VOXEL = Fraction(8)
BALLS = [((15, 15, 15), 11), ((15, 15, 32), 10), ((33, 30, 30), 12), ((30, 12, 14), 6)]


def balls(size=(1, 1, 1)):
    """Balls of voxels, (z, y, x), of which two pairs touch."""
    places = np.indices([-(-48 // length) for length in size])
    places = [place * length for place, length in zip(places, size, strict=True)]
    mask = np.zeros(places[0].shape, bool)
    for centre, radius in BALLS:
        mask |= sum((place - c) ** 2 for place, c in zip(places, centre, strict=True)) <= radius**2
    return mask


def objects(mask, depth, size=(VOXEL,) * 3, **options):
    return find_objects(mask, size[-mask.ndim :], WatershedOptions(depth=depth, **options))


def test_objects_are_those_of_a_flooding_from_the_maxima_of_the_depth():
    mask = balls()
    found = objects(mask, 8)
    distance = ndimage.distance_transform_edt(mask)
    markers, count = ndimage.label(h_maxima(distance, 1.01), np.ones((3, 3, 3)))
    flooded = watershed(-distance, markers, mask=mask, connectivity=3)
    assert count == found.max() == len(BALLS)
    np.testing.assert_array_equal(found > 0, mask)
    # the same objects; voxels that differ are near the border between two of them
    assert len(np.unique(np.stack([found, flooded])[:, found > 0], axis=1).T) < count + 4
    middles = ndimage.center_of_mass(mask, flooded, range(1, count + 1))
    pairs = [(found[tuple(map(round, middle))], number) for number, middle in enumerate(middles, start=1)]
    assert sorted(one for one, _ in pairs) == [1, 2, 3, 4]
    for one, other in pairs:
        differing = (found == one) ^ (flooded == other)
        border = ndimage.binary_dilation(found == one) & mask & (found != one)
        assert differing.sum() < 0.05 * (found == one).sum()
        if differing.any():
            assert ndimage.distance_transform_edt(~border)[differing].max() <= 3


@pytest.mark.parametrize(("depth", "count"), [(1, 4), (8, 4), (24, 3), (40, 2)])
def test_only_necks_that_are_deep_enough_part_objects(depth, count):
    """One neck is narrower than its smaller ball by 1 to 3 voxels of 8 nm, the other by 3 to 5."""
    assert objects(balls(), depth).max() == count


def test_voxels_may_have_any_size():
    size = (2 * VOXEL, VOXEL, VOXEL)
    found = objects(balls((2, 1, 1)), 8, size)
    assert found.max() == len(BALLS)
    whole = objects(balls(), 8)[::2]
    assert (found == whole).mean() > 0.97
    flat = objects(balls()[15], 8)
    assert flat.max() == 2


def test_distances_beyond_the_reach_part_nothing():
    assert objects(balls(), 8, reach=6 * VOXEL).max() == 3  # the neck of the large pair is wider
    heights = Heights(2 * VOXEL, (VOXEL,) * 3)(balls())
    assert heights.max() == 4
    assert heights.dtype == np.uint32


def test_a_class_without_voxels_has_no_objects():
    assert objects(np.zeros((4, 5, 6), bool), 8).max() == 0
    assert objects(np.ones((4, 5, 6), bool), 8).max() == 1


def test_the_smallest_size_counts_after_the_parting():
    mask = balls()
    assert find_objects(mask, (VOXEL,) * 3, ComponentsOptions()).max() == 2
    assert objects(mask, 8, smallest=2000 * VOXEL**3).max() == 3


def test_a_depth_and_a_reach_are_above_zero():
    with pytest.raises(ValueError, match=r"depth.*has to be above 0"):
        WatershedOptions(depth=0)
    with pytest.raises(ValueError, match=r"reach.*has to be above 0"):
        WatershedOptions(depth=1, reach=-1)
