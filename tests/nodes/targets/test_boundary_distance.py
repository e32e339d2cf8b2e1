import numpy as np
import pytest
import scipy.ndimage
from gunpowder import ArrayKey, Coordinate, PipelineRequestError, PipelineSetupError, Roi, build
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.targets.boundary_distance import BoundaryDistance, boundary_distance
from tests.nodes.targets.derived_arrays import Held, provided, request

TARGET, MASK, DISTANCE, SURE = map(ArrayKey, ("DIST_T", "DIST_M", "DIST", "DIST_SURE"))


def brute_force(inside, known, voxel_size, maximum):
    """Distance of every centre to the box of every voxel that is known to be on the other side, or is unknown."""
    size = np.array(voxel_size, float)
    voxels = np.argwhere(np.ones_like(inside))
    distances, certain = np.zeros(inside.shape), np.zeros(inside.shape, bool)
    for voxel in voxels[known.ravel()]:
        gaps = np.maximum(np.abs(voxels - voxel) - 0.5, 0) * size
        reach = np.sqrt((gaps**2).sum(1))
        other = known.ravel() & (inside.ravel() != inside[tuple(voxel)])
        distance = min(reach[other].min(initial=np.inf), maximum)
        if reach[~known.ravel()].min(initial=np.inf) >= distance:
            certain[tuple(voxel)] = True
            distances[tuple(voxel)] = distance if inside[tuple(voxel)] else -distance
    return distances, certain


@st.composite
def targets(draw):
    dims = draw(st.sampled_from([2, 3]))
    shape = draw(st.tuples(*[st.integers(1, 7 if dims == 3 else 14)] * dims))
    voxel_size = draw(st.tuples(*[st.sampled_from([1, 4, 8, 23, 40, 250])] * dims))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inside = rng.random(shape) < draw(st.sampled_from([0, 0.03, 0.3, 0.5, 0.97, 1]))
    known = rng.random(shape) < draw(st.sampled_from([0, 0.5, 0.97, 1]))
    return inside, known, voxel_size, draw(st.sampled_from([3.0, 20.0, 61.5, 1000.0]))


@settings(deadline=None, max_examples=150)
@given(targets())
def test_distances_are_those_to_the_voxels_of_the_other_side(drawn):
    distances, certain = boundary_distance(*drawn)
    expected, sure = brute_force(*drawn)
    assert distances.dtype == np.float32
    np.testing.assert_array_equal(certain, sure)
    np.testing.assert_allclose(distances, expected, rtol=1e-6)


@pytest.mark.parametrize("voxel_size", [(8, 8, 8), (50, 8, 8)])
def test_distances_are_between_those_of_centres_and_half_a_voxel_less(voxel_size):
    noise = np.random.default_rng(0).random((20, 40, 40))
    inside = scipy.ndimage.gaussian_filter(noise, (1, 3, 3)) > 0.5
    distances, _ = boundary_distance(inside, np.ones_like(inside), voxel_size, 1e4)
    for side in (inside, ~inside):
        centres = scipy.ndimage.distance_transform_edt(side, sampling=voxel_size)[side]
        assert (np.abs(distances[side]) < centres).all()
        assert (np.abs(distances[side]) > centres - np.linalg.norm(voxel_size) / 2 - 1e-3).all()
    assert ((distances > 0) == inside).all()


@pytest.mark.parametrize("voxel_size", [(4, 4, 4), (12, 4, 4)])
def test_a_ball_is_as_far_as_its_radius_says(voxel_size):
    axes = [(np.arange(240 // size) + 0.5) * size - 120 for size in voxel_size]
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    distances, certain = boundary_distance(radius < 70, np.ones(radius.shape, bool), voxel_size, 40.0)
    assert certain.all()
    # the faces of voxels lie within half a voxel's diagonal of the sphere
    error = distances - np.clip(70 - radius, -40, 40)
    assert np.abs(error).max() <= np.linalg.norm(voxel_size) / 2
    assert np.abs(error).mean() < min(voxel_size) / 2


def test_a_plane_is_half_a_voxel_away():
    inside = np.zeros((6, 4, 4), bool)
    inside[:3] = True
    distances, _ = boundary_distance(inside, np.ones_like(inside), (50, 8, 8), 1000.0)
    np.testing.assert_array_equal(distances[:, 2, 1], [125, 75, 25, -25, -75, -125])


def test_the_nearer_box_counts_and_not_the_nearer_centre():
    inside = np.ones((1, 2, 10), bool)
    inside[0, 1, 0] = inside[0, 0, 9] = False  # 40 nm below, and 36 nm beside: their boxes are 20 and 34 nm away
    distances, _ = boundary_distance(inside, np.ones_like(inside), (40, 40, 4), 1000.0)
    assert distances[0, 0, 0] == 20


@pytest.fixture
def volume():
    rng = np.random.default_rng(3)
    noise = scipy.ndimage.gaussian_filter(rng.random((2, 14, 60, 50)), (0, 1, 4, 4))
    target = (noise > np.median(noise)).astype(np.uint8)
    mask = np.ones_like(target)
    mask[0, :3, :, :20] = mask[1, :, 30:33, 20:] = 0
    return target * mask, mask


def test_tiles_agree_with_the_whole_to_the_bit(volume):
    target, mask = volume
    voxel_size, maximum = Coordinate(50, 8, 8), 61
    source = Held({TARGET: target, MASK: mask}, voxel_size, unbounded=True)
    node = BoundaryDistance(TARGET, DISTANCE, maximum, world=World(), mask=MASK, distance_mask=SURE)
    roi = Roi((0, 0, 0), voxel_size * Coordinate(target.shape[1:]))
    whole = provided(source + node, DIST=roi, DIST_SURE=roi)
    assert 0.3 < whole["DIST_SURE"].mean() < 0.95
    with build(source + node) as pipeline:
        for begin in np.ndindex(2, 3, 2):
            tile = Roi(Coordinate(begin) * Coordinate(350, 160, 200), (350, 160, 200))
            batch = pipeline.request_batch(request(DIST=tile, DIST_SURE=tile))
            voxels = (slice(None), *(tile // voxel_size).to_slices())
            np.testing.assert_array_equal(batch[DISTANCE].data, whole["DIST"][voxels])
            np.testing.assert_array_equal(batch[SURE].data, whole["DIST_SURE"][voxels])


def test_every_channel_is_that_of_the_brute_force_with_the_edge_of_the_annotation_masked():
    rng = np.random.default_rng(5)
    target = rng.integers(0, 2, (2, 5, 6, 7)).astype(np.uint8)
    source = Held({TARGET: target, MASK: np.ones((1, 5, 6, 7), np.uint8)}, (8, 4, 4), unbounded=True)
    node = BoundaryDistance(TARGET, DISTANCE, 9, world=World(), mask=MASK, distance_mask=SURE, unit=3)
    roi = Roi((0, 0, 0), (40, 24, 28))
    data = provided(source + node, DIST=roi, DIST_SURE=roi)
    pad = ((3, 3),) * 3
    for channel in range(2):
        inside, known = np.pad(target[channel], pad) > 0, np.pad(np.ones((5, 6, 7), bool), pad)
        expected, sure = (array[3:-3, 3:-3, 3:-3] for array in brute_force(inside, known, (8, 4, 4), 9))
        np.testing.assert_allclose(data["DIST"][channel], expected / 3, rtol=1e-6)
        np.testing.assert_array_equal(data["DIST_SURE"][channel], sure)


def test_world_units_become_nanometres():
    inside = np.zeros((1, 6, 40), np.uint8)
    inside[:, :3] = 1
    source = Held({TARGET: inside}, (250, 23), unbounded=True)
    world = World(unit="1/5")  # voxels of 50 and 4.6 nm
    node = BoundaryDistance(TARGET, DISTANCE, "110", world=world)
    with build(source + node) as pipeline:
        batch = pipeline.request_batch(request(DIST=Roi((0, 46), (1500, 23))))
        spec = pipeline.spec[DISTANCE]
    assert spec.dtype == np.float32
    assert spec.interpolatable
    assert source.asked[0][TARGET].roi == Roi((-500, 46 - 24 * 23), (2500, 49 * 23))
    # nm: the lower face of the block, its left one, and two that are half and one and a half voxels below
    np.testing.assert_allclose(batch[DISTANCE].data[0, :, 0], [11.5, 11.5, 11.5, -25, -75, -110], rtol=1e-6)


def test_nanometres_are_not_guessed():
    with pytest.raises(TypeError, match="world"):
        BoundaryDistance(TARGET, DISTANCE, 9)


def test_a_bounded_target_ends_a_margin_earlier():
    source = Held({TARGET: np.zeros((10, 10), np.uint8)}, (8, 4), (80, 0))
    with build(source + BoundaryDistance(TARGET, DISTANCE, 9, world=World())) as pipeline:
        assert pipeline.spec[DISTANCE].roi == Roi((88, 8), (64, 24))


def test_nothing_known_and_nothing_to_tell_apart():
    nothing = np.zeros((3, 4), bool)
    for inside in (nothing, ~nothing):
        distances, certain = boundary_distance(inside, nothing, (8, 8), 20.0)
        assert not distances.any()
        assert not certain.any()
        distances, certain = boundary_distance(inside, ~nothing, (8, 8), 20.0)
        assert (distances == (20 if inside.any() else -20)).all()
        assert certain.all()


@pytest.mark.parametrize(("options", "name"), [({"maximum": 0}, "maximum"), ({"maximum": 8, "unit": -1}, "unit")])
def test_lengths_are_positive(options, name):
    with pytest.raises(ValueError, match=f"{name}=.* nm has to be positive"):
        BoundaryDistance(TARGET, DISTANCE, world=World(), **options)


def test_masks_that_do_not_fit_are_refused():
    node = BoundaryDistance(TARGET, DISTANCE, 8, world=World(), mask=MASK)
    source = Held({TARGET: np.zeros((3, 4, 4), np.uint8), MASK: np.ones((2, 4, 4), np.uint8)}, (8, 8), unbounded=True)
    with pytest.raises(PipelineRequestError, match="the mask DIST_M has 2 channels, DIST_T has 3"):
        provided(source + node, DIST=Roi((0, 0), (8, 8)))
    source = Held({TARGET: np.zeros((1, 1, 3, 4, 4), np.uint8)}, (8, 8), unbounded=True)
    with pytest.raises(PipelineRequestError, match=r"DIST_T has shape .* goes before Stack"):
        provided(source + BoundaryDistance(TARGET, DISTANCE, 8, world=World()), DIST=Roi((0, 0), (8, 8)))


def test_a_missing_mask_is_named_when_the_pipeline_is_built():
    source = Held({TARGET: np.zeros((4, 4), np.uint8)}, (8, 8))
    with pytest.raises(PipelineSetupError) as error:
        provided(source + BoundaryDistance(TARGET, DISTANCE, 8, world=World(), mask=MASK), DIST=Roi((0, 0), (8, 8)))
    assert "reads DIST_M, which no node upstream provides" in str(error.value.__cause__)
