"""Thickness, extent and gaps are those with which shapes were drawn."""

import numpy as np
import pytest

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
