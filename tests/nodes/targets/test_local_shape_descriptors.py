"""Local shape descriptors against loops over voxels, against lsd-lite, and at the edges of requests."""

from math import exp

import numpy as np
import pytest
from gunpowder import ArrayKey, Coordinate, PipelineRequestError, PipelineSetupError, Roi, build
from hypothesis import given, settings
from hypothesis import strategies as st
from lsd_lite import get_lsds
from scipy.ndimage import gaussian_filter

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.targets import shape_descriptors
from scalenet_gp.nodes.targets.local_shape_descriptors import LocalShapeDescriptors
from scalenet_gp.nodes.targets.shape_descriptors import descriptor_names, descriptor_radius, local_shape_descriptors
from tests.nodes.targets.derived_arrays import Held, provided, request

LABELS, MASK, LSD, LSD_MASK = map(ArrayKey, ("LSD_L", "LSD_M", "LSD", "LSD_LM"))
BIG = np.array([0, 1, 1 + 2**32, 2**63, 2**64 - 1], np.uint64)


def brute_force(labels, voxel_size, sigma, downsample):
    """The descriptors by their definition, in double precision, with distances from each voxel."""
    dims = labels.ndim
    radius = np.array(descriptor_radius(voxel_size, sigma, downsample))
    steps = np.array(voxel_size, float) * downsample
    coarse = labels[(slice(None, None, downsample),) * dims]
    places = np.argwhere(np.ones_like(coarse, bool))
    pairs = [(a, b) for a in range(dims) for b in range(a + 1, dims)]
    lines = zip(radius, steps / sigma, strict=True)
    whole = [sum(exp(-0.5 * (n * step) ** 2) for n in range(-r, r + 1)) for r, step in lines]
    result, described = np.zeros((len(descriptor_names(dims)), *labels.shape)), np.zeros(labels.shape, bool)
    for voxel in np.argwhere(labels > 0):
        away = places - voxel // downsample
        inside = (coarse.ravel() == labels[tuple(voxel)]) & (np.abs(away) <= radius).all(axis=1)
        if not inside.any():
            continue
        d = away[inside] * steps
        w = np.exp(-0.5 * ((d / sigma) ** 2).sum(axis=1)) / np.prod(whole)
        mean = w @ d / w.sum()
        covariance = (w[:, None] * (d - mean)).T @ (d - mean) / w.sum()
        variance = np.maximum(np.diag(covariance), 1e-3)
        correlations = [covariance[a, b] / np.sqrt(variance[a] * variance[b]) / 2 + 0.5 for a, b in pairs]
        scaled = variance / np.array(sigma) ** 2
        result[(slice(None), *voxel)] = [*(mean / sigma / 2 + 0.5), *scaled, *correlations, w.sum()]
        described[tuple(voxel)] = True
    return result.clip(0, 1), described


def comparable(descriptors, dims):
    """True but for correlations of variances that are rounded away."""
    there = np.ones(descriptors.shape, bool)
    there[2 * dims : -1, (descriptors[dims : 2 * dims] < 1e-4).any(axis=0)] = False
    return there


@st.composite
def instances(draw):
    dims = draw(st.sampled_from([2, 3]))
    shape = draw(st.tuples(*[st.integers(1, 5 if dims == 3 else 9)] * dims))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.choice(BIG[: rng.integers(1, 6)], shape)
    voxel_size = draw(st.tuples(*[st.sampled_from([4, 8, 40])] * dims))
    sigma = draw(st.tuples(*[st.sampled_from([5.0, 16.0])] * dims))
    return labels, voxel_size, sigma, draw(st.sampled_from([1, 1, 2, 3]))


@settings(deadline=None, max_examples=14)
@given(instances())
def test_descriptors_are_those_of_loops_over_voxels(drawn):
    labels, voxel_size, sigma, downsample = drawn
    descriptors, described = local_shape_descriptors(labels, voxel_size, sigma, downsample=downsample)
    expected, there = brute_force(*drawn)
    assert descriptors.dtype == np.float32
    np.testing.assert_array_equal(described, there)
    np.testing.assert_allclose(descriptors, expected, rtol=0, atol=1e-6)


def blobs(shape=(24, 32, 40)):
    """Touching objects of many voxels, and some background."""
    rng = np.random.default_rng(0)
    fields = [gaussian_filter(rng.random(shape), 3) for _ in range(6)]
    labels = np.argmax(fields, axis=0).astype(np.uint64) + 2**40
    labels[gaussian_filter(rng.random(shape), 2) > 0.52] = 0
    return labels


@pytest.mark.parametrize(("voxel_size", "downsample"), [((8, 8, 8), 1), ((40, 8, 8), 1), ((16, 8, 8), 2), ((8, 8), 1)])
def test_descriptors_are_those_of_lsd_lite(voxel_size, downsample):
    labels = blobs()[(0,) * (3 - len(voxel_size))]
    sigma = (40, 30, 20)[-len(voxel_size) :]
    descriptors, described = local_shape_descriptors(labels, voxel_size, sigma, downsample=downsample)
    peer = get_lsds(labels.astype(np.int64), sigma, voxel_size=voxel_size, downsample=downsample)
    assert described.mean() > 0.6
    there = comparable(descriptors, labels.ndim) & described
    # the peer counts coordinates from the corner of the array in single precision, and its small variances suffer
    np.testing.assert_allclose(descriptors[there], peer[there], atol=2e-3)


def test_a_part_is_the_same_part_of_the_whole_also_of_objects_in_tiles(monkeypatch):
    labels = blobs()
    whole, described = local_shape_descriptors(labels, (40, 8, 8), (60, 24, 24))
    monkeypatch.setattr(shape_descriptors, "_EDGE", 7)
    inner = (slice(3, 20), slice(5, 6), slice(2, 37))
    part, there = local_shape_descriptors(labels, (40, 8, 8), (60, 24, 24), inner)
    np.testing.assert_array_equal(part, whole[(slice(None), *inner)])
    np.testing.assert_array_equal(there, described[inner])


def test_a_cube_is_described_at_its_centre_by_its_size():
    labels = np.zeros((41, 41, 41), np.uint8)
    labels[10:31, 15:26, 10:31] = 1
    descriptors, _ = local_shape_descriptors(labels, (4, 4, 4), (40, 40, 40))
    centre = descriptors[:, 20, 20, 20]
    np.testing.assert_allclose(centre[[0, 1, 2, 6, 7, 8]], 0.5, atol=1e-6)
    assert centre[4] < centre[3] == centre[5] < 1
    assert descriptors[0, 10, 20, 20] > 0.8  # at its lower face, the mean lies above
    assert descriptors[0, 30, 20, 20] < 0.2


@pytest.mark.parametrize("downsample", [1, 2])
def test_tiles_agree_with_the_whole_to_the_bit(downsample):
    labels = blobs()
    mask = np.ones(labels.shape, np.uint8)
    mask[:4, 10:20] = 0
    voxel_size = Coordinate(40, 8, 8)
    source = Held({LABELS: labels, MASK: mask}, voxel_size, Coordinate(-3, 5, 1) * voxel_size, unbounded=True)
    node = LocalShapeDescriptors(
        LABELS, LSD, 50, world=World(), mask=MASK, descriptors_mask=LSD_MASK, downsample=downsample
    )
    roi = Roi(Coordinate(-3, 5, 1) * voxel_size, voxel_size * Coordinate(labels.shape))
    whole = provided(source + node, LSD=roi, LSD_LM=roi)
    assert 0.5 < whole["LSD_LM"].mean() < 0.9
    with build(source + node) as pipeline:
        for begin in np.ndindex(2, 2, 2):
            tile = Roi(roi.begin + Coordinate(begin) * Coordinate(9, 15, 13) * voxel_size, (11 * 40, 13 * 8, 17 * 8))
            batch = pipeline.request_batch(request(LSD=tile, LSD_LM=tile))
            voxels = (slice(None), *((tile - roi.begin) // voxel_size).to_slices())
            np.testing.assert_array_equal(batch[LSD].data, whole["LSD"][voxels])
            np.testing.assert_array_equal(batch[LSD_MASK].data, whole["LSD_LM"][voxels])


def test_background_and_voxels_that_nobody_annotated_are_masked_and_of_no_object():
    labels = np.array([[1, 1, 1, 255, 0, 2, 2, 3]], np.uint8)
    mask = np.array([[[1, 1, 1, 1, 1, 1, 0, 1]]], np.uint8)
    source = Held({LABELS: labels[None], MASK: mask}, (8, 8), unbounded=True)
    node = LocalShapeDescriptors(LABELS, LSD, (8, 16), world=World(), mask=MASK, descriptors_mask=LSD_MASK, unknown=255)
    roi = Roi((0, 0), (8, 64))
    data = provided(source + node, LSD=roi, LSD_LM=roi)
    assert data["LSD_LM"].tolist() == [[[1, 1, 1, 0, 0, 1, 0, 1]]] * 6
    known = np.where((labels == 255) | (mask[0] == 0), 0, labels)
    np.testing.assert_array_equal(data["LSD"], local_shape_descriptors(known, (8, 8), (8, 16))[0])
    assert not data["LSD"][:, data["LSD_LM"][0] == 0].any()


def test_it_asks_for_three_standard_deviations_and_knows_nanometres():
    source = Held({LABELS: np.ones((4, 40), np.uint8)}, (250, 23), unbounded=True)
    node = LocalShapeDescriptors(LABELS, LSD, "46", world=World("1/5"))  # voxels of 50 and 4.6 nm
    with build(source + node) as pipeline:
        batch = pipeline.request_batch(request(LSD=Roi((250, 46), (250, 23))))
        spec = pipeline.spec[LSD]
    assert source.asked[0][LABELS].roi == Roi((250 - 3 * 250, 46 - 30 * 23), (7 * 250, 61 * 23))
    assert spec.dtype == np.float32
    expected, _ = local_shape_descriptors(np.ones((4, 33), np.uint8), (50, 4.6), (46, 46))
    np.testing.assert_array_equal(batch[LSD].data[:, 0, 0], expected[:, 1, 2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma": 0}, "sigma=0 nm has to be positive"),
        ({"sigma": (8, -1)}, r"sigma=\(8, -1\) nm has to be positive"),
        ({"sigma": ()}, r"sigma=\(\) nm has to be positive"),
        ({"downsample": 0}, "downsample=0 has to be a whole number of voxels"),
        ({"downsample": 1.5}, "downsample=1.5 has to be a whole number of voxels"),
    ],
)
def test_arguments_are_checked(given, message):
    with pytest.raises(ValueError, match=message):
        LocalShapeDescriptors(LABELS, LSD, **{"sigma": 8, "world": World(), **given})


def test_labels_that_do_not_fit_are_refused():
    node = LocalShapeDescriptors(LABELS, LSD, (8, 8, 8), world=World())
    with pytest.raises(PipelineSetupError) as error:
        provided(Held({LABELS: np.zeros((4, 4), np.uint8)}, (8, 8)) + node, LSD=Roi((0, 0), (8, 8)))
    assert "sigma has 3 axes, LSD_L has 2" in str(error.value.__cause__)
    node = LocalShapeDescriptors(LABELS, LSD, 8, world=World())
    source = Held({LABELS: np.zeros((2, 4, 4), np.uint8)}, (8, 8), unbounded=True)
    with pytest.raises(PipelineRequestError, match="the labels LSD_L have 2 channels"):
        provided(source + node, LSD=Roi((0, 0), (8, 8)))
