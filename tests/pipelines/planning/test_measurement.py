"""Thickness, extent and gaps are those with which shapes were drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from scalenet_gp.pipelines.planning.measurement import measure_objects, measure_thickness


def places(shape, size):
    """The centres of voxels, nm."""
    return np.stack(np.meshgrid(*((np.arange(n) + 0.5) * s for n, s in zip(shape, size, strict=True)), indexing="ij"))


@pytest.mark.parametrize("voxels", [1, 2, 5, 6])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_thickness_of_a_plate_is_exact(voxels, axis):
    plate = np.zeros((16, 16, 16), dtype=bool)
    plate[(slice(None),) * axis + (slice(4, 4 + voxels),)] = True
    size = (4.0, 6.0, 8.0)
    assert measure_thickness(plate, ~plate, size) == pytest.approx(voxels * size[axis])


def test_the_thickness_of_a_rod_and_a_ball_is_their_diameter_to_three_voxels():
    z, y, x = places((48, 48, 48), (4, 4, 4)) - 96
    for inside, diameter in ((y**2 + x**2 < 40**2, 80), (z**2 + y**2 + x**2 < 50**2, 100)):
        thickness = measure_thickness(inside, ~inside, (4, 4, 4))
        assert np.median(thickness) == pytest.approx(diameter, abs=3 * 4)


def test_the_thickness_of_a_nucleus_is_not_that_of_its_uneven_surface():
    """Most maxima of the distance are those of bumps: by their median, a nucleus would seem two voxels thick."""
    hollows = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((48, 48, 48)), 1.5)
    z, y, x = places((48, 48, 48), (32, 32, 32)) - 768
    nucleus = z**2 + (1.3 * y) ** 2 + (1.2 * x) ** 2 < (600 + 40 * hollows / hollows.std()) ** 2
    thickness = np.median(measure_thickness(nucleus, ~nucleus, (32, 32, 32)))
    assert 0.8 * 2 * 600 / 1.3 < thickness <= 2 * 600


@given(arrays(bool, (7, 8), elements=st.booleans()), st.sampled_from([(8, 8), (6, 8)]))
def test_the_thickness_is_that_of_brute_force(present, size):
    """Every voxel of the class as the centre of a ball that ends at the nearest voxel without it."""
    if not present.any() or present.all():
        return
    inside, outside = (np.argwhere(mask) for mask in (present, ~present))
    # to the nearest face of each voxel, at the place of its centre
    gaps = np.abs(inside[:, None] - outside[None]) * np.array(size)
    distances = np.sqrt((np.clip(gaps - np.array(size) / 2, 0, None) ** 2).sum(-1)).min(1)
    apart = np.sqrt((((inside[:, None] - inside[None]) * np.array(size)) ** 2).sum(-1))
    largest = np.where(apart < distances, 2 * distances, 0).max(1)
    found = np.sort(measure_thickness(present, ~present, size))
    held = np.sort(largest[largest > 0])
    # the nearest voxel is that of the nearest centre, and a middle between two voxels is measured exactly
    assert abs(found.max() - held.max()) <= max(size) + 1e-9
    assert len(found) >= len(held) / 2


def test_sections_are_measured_one_by_one():
    rod = np.zeros((5, 32, 32), dtype=bool)
    rod[2, 8:18] = True  # in one section alone
    assert measure_thickness(rod, ~rod, (50, 4, 4)) == pytest.approx(40)


def test_voxels_that_are_not_annotated_bound_nothing():
    plate = np.zeros((24, 8), dtype=bool)
    plate[6:14] = True
    absent = ~plate
    absent[14:] = False  # unknown: the plate may go on there
    assert len(measure_thickness(plate, absent, (8, 8))) == 0  # its middle may lie anywhere
    absent[20:] = True
    assert len(measure_thickness(plate, absent, (8, 8))) > 0
    assert measure_thickness(plate, absent, (8, 8)).max() > 8 * 8
    assert len(measure_thickness(plate, np.zeros_like(plate), (8, 8))) == 0
    assert len(measure_thickness(np.zeros_like(plate), absent, (8, 8))) == 0


def test_extents_and_gaps_are_those_of_brute_force():
    size = np.array((8.0, 4.0, 5.0))
    present = np.zeros((20, 30, 30), dtype=bool)
    boxes = [((2, 6), (3, 9), (2, 12)), ((2, 9), (15, 20), (4, 8)), ((14, 18), (5, 26), (20, 25))]
    for box in boxes:
        present[tuple(slice(*ends) for ends in box)] = True
    found = measure_objects(present, size)
    edges = [max((e - b) * s for (b, e), s in zip(box, size, strict=True)) for box in boxes]
    assert sorted(found.extents) == pytest.approx(sorted(edges))

    def apart(one, other):
        steps = [max(b - f, a - e, 0) for (b, e), (a, f) in zip(one, other, strict=True)]
        return float(np.sqrt(((np.array(steps) * size) ** 2).sum()))

    gaps = [min(apart(one, other) for other in boxes if other is not one) for one in boxes]
    assert sorted(found.gaps) == pytest.approx(sorted(gaps), abs=1e-6)


def test_a_single_object_has_no_gap_and_no_object_no_extent():
    present = np.zeros((8, 8), dtype=bool)
    assert len(measure_objects(present, (8, 8)).extents) == 0
    present[2:4, 2:4] = True
    assert measure_objects(present, (8, 8)).extents.tolist() == [16]
    assert len(measure_objects(present, (8, 8)).gaps) == 0
