from __future__ import annotations

import copy
import itertools
import json

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator
from scipy.spatial.transform import Rotation

from scalenet_gp.nodes.augment.deformation import Deformation, ElasticField
from scalenet_gp.nodes.augment.samples import Samples
from scalenet_gp.testing import voxel_centers

MICRO = 1e-6


def signed_permutations(dims: int) -> list[np.ndarray]:
    identity = np.eye(dims)
    return [
        identity[list(order)] * np.array(signs)
        for order in itertools.permutations(range(dims))
        for signs in itertools.product((1.0, -1.0), repeat=dims)
    ]


def random_matrix(dims: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(dims, dims)))
    return rotation * generator.uniform(0.7, 1.4)


@st.composite
def grids(draw: st.DrawFn) -> tuple[Roi, Coordinate]:
    """A ROI on the lattice of a voxel size, in two or three dimensions."""
    dims = draw(st.integers(2, 3))
    axes = st.lists(st.integers(1, 9), min_size=dims, max_size=dims)
    voxel_size, shape = Coordinate(draw(axes)), Coordinate(draw(axes))
    begin = Coordinate(draw(st.lists(st.integers(-10_000, 10_000), min_size=dims, max_size=dims)))
    return Roi(begin * voxel_size, shape * voxel_size), voxel_size


@st.composite
def deformed_grids(draw: st.DrawFn) -> tuple[Roi, Coordinate, Deformation]:
    roi, voxel_size = draw(grids())
    elastic = None
    if draw(st.booleans()):
        spacing = draw(st.lists(st.integers(5, 60), min_size=roi.dims, max_size=roi.dims))
        sigma = draw(st.lists(st.floats(0, 8), min_size=roi.dims, max_size=roi.dims))
        elastic = ElasticField.covering(roi, spacing, sigma, draw(st.integers(0, 2**63 - 1)))
    matrix = random_matrix(roi.dims, draw(st.integers(0, 2**32 - 1)))
    lattice = voxel_size * draw(st.integers(1, 4))
    return roi, voxel_size, Deformation.centred(matrix, roi, lattice, elastic)


def source_positions(deformation: Deformation, roi: Roi, voxel_size: Coordinate) -> np.ndarray:
    """The definition of the map, with scipy's own interpolator of regular grids for its elastic part."""
    targets = voxel_centers(roi, voxel_size).reshape(roi.dims, -1)
    centre = np.array(deformation.target_centre)[:, None]
    sources = np.array(deformation.matrix) @ (targets - centre) + np.array(deformation.source_centre)[:, None]
    if deformation.elastic is not None:
        field = deformation.elastic
        points = [b + s * np.arange(n) for b, s, n in zip(field.begin, field.spacing, field.shape, strict=True)]
        values = np.moveaxis(field.displacements(), 0, -1)
        sources += RegularGridInterpolator(points, values, method="cubic_legacy")(targets.T).T
    return sources.reshape(roi.dims, *(roi.shape / voxel_size))


def world_positions(deformation: Deformation, roi: Roi, voxel_size: Coordinate) -> np.ndarray:
    samples = Samples(deformation, roi, voxel_size)
    # a ramp is read without error, so that what it shows is where it was read
    return samples.read(voxel_centers(samples.box(interpolate=True), voxel_size), interpolate=True)


@settings(max_examples=40, deadline=None)
@given(deformed_grids())
def test_samples_are_where_the_definition_of_the_map_says(case: tuple[Roi, Coordinate, Deformation]) -> None:
    roi, voxel_size, deformation = case
    expected = source_positions(deformation, roi, voxel_size)
    np.testing.assert_allclose(world_positions(deformation, roi, voxel_size), expected, rtol=0, atol=MICRO)


@settings(max_examples=40, deadline=None)
@given(deformed_grids(), st.booleans())
def test_the_box_holds_what_is_read_and_every_face_of_it_is_read(
    case: tuple[Roi, Coordinate, Deformation], interpolate: bool
) -> None:
    roi, voxel_size, deformation = case
    samples = Samples(deformation, roi, voxel_size)
    shape = samples.box(interpolate).shape / voxel_size
    for axis, face in itertools.product(range(roi.dims), (0, -1)):
        data = np.zeros(shape)
        np.moveaxis(data, axis, 0)[face] = 1
        assert samples.read(data, interpolate).any(), (axis, face)


@settings(max_examples=40, deadline=None)
@given(deformed_grids(), st.integers(0, 2**32 - 1))
def test_reading_agrees_with_an_interpolator_in_world_coordinates(
    case: tuple[Roi, Coordinate, Deformation], seed: int
) -> None:
    roi, voxel_size, deformation = case
    samples = Samples(deformation, roi, voxel_size)
    targets = np.moveaxis(source_positions(deformation, roi, voxel_size), 0, -1)
    for interpolate in (True, False):
        box = samples.box(interpolate).grow(voxel_size, voxel_size)  # scipy's wants two points per axis
        data = np.random.default_rng(seed).random((2, *(box.shape / voxel_size)))
        axes = [b + v * (np.arange(n // v) + 0.5) for b, v, n in zip(box.begin, voxel_size, box.shape, strict=True)]
        read = samples.read(data[(slice(None), *(slice(1, -1),) * roi.dims)], interpolate)
        for channel, got in zip(data, read, strict=True):
            if interpolate:
                np.testing.assert_allclose(got, RegularGridInterpolator(axes, channel)(targets), rtol=0, atol=MICRO)
            else:
                index = [np.abs(along - targets[..., axis, None]).argmin(axis=-1) for axis, along in enumerate(axes)]
                distance = [
                    np.abs(np.abs(along - targets[..., axis, None]) - voxel_size[axis] / 2).min(axis=-1)
                    for axis, along in enumerate(axes)
                ]
                clear = np.min(distance, axis=0) > MICRO  # nearly halfway between two voxels, either will do
                np.testing.assert_array_equal(got[clear], channel[tuple(index)][clear])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bool", "uint8", "int16", "uint64"])
@pytest.mark.parametrize("interpolate", [True, False])
def test_a_map_that_keeps_the_lattice_copies_bit_for_bit(dims: int, dtype: str, interpolate: bool) -> None:
    generator = np.random.default_rng(0)
    lattice = Coordinate((12,) * dims)
    for voxel_size in (Coordinate((4,) * dims), Coordinate((3,) * dims)):
        roi = Roi(Coordinate(range(-36, -36 + 12 * dims, 12)), Coordinate(range(24, 24 + 12 * dims, 12)))
        for matrix in signed_permutations(dims):
            samples = Samples(Deformation.centred(matrix, roi, lattice), roi, voxel_size)
            data = (generator.random((2, *(samples.box(interpolate).shape / voxel_size))) * 200).astype(dtype)
            source_axes = np.abs(matrix).argmax(axis=0)
            flips = [axis for axis in range(dims) if matrix[:, axis].sum() < 0]
            expected = np.flip(data.transpose(0, *(1 + source_axes)), [1 + axis for axis in flips])
            read = samples.read(data, interpolate)
            assert read.dtype == data.dtype
            np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_copy_bit_for_bit_although_their_cosine_is_no_zero(turns: int) -> None:
    roi, voxel_size = Roi((80, 160, 240), (64, 96, 96)), Coordinate((8, 8, 8))
    matrix = Rotation.from_rotvec([turns * np.pi / 2, 0, 0]).as_matrix()
    assert (np.abs(matrix) % 1 != 0).any()
    samples = Samples(Deformation.centred(matrix, roi, Coordinate((32, 32, 32))), roi, voxel_size)
    data = np.random.default_rng(turns).random(samples.box(True).shape / voxel_size)
    np.testing.assert_array_equal(samples.read(data, True), np.rot90(data, -turns, axes=(1, 2)))


@given(grids(), st.integers(1, 5))
def test_mirroring_a_roi_on_the_lattice_reads_that_roi(grid: tuple[Roi, Coordinate], multiple: int) -> None:
    roi, voxel_size = grid
    roi = Roi(roi.begin * multiple, roi.shape * multiple)  # on the coarsest lattice, odd numbers of voxels included
    deformation = Deformation.centred(-np.eye(roi.dims), roi, voxel_size * multiple)
    assert Samples(deformation, roi, voxel_size).box(interpolate=True) == roi


@given(deformed_grids())
def test_the_centre_stays_to_a_world_unit(case: tuple[Roi, Coordinate, Deformation]) -> None:
    roi, voxel_size, _ = case
    matrix = random_matrix(roi.dims, 1)
    deformation = Deformation.centred(matrix, roi, voxel_size)
    centre = (np.array(roi.begin) + np.array(roi.end)) / 2
    moved = matrix @ (centre - deformation.target_centre) + deformation.source_centre - centre
    assert (np.abs(moved) <= np.sqrt(roi.dims)).all()


@given(grids(), st.data())
def test_what_permutes_axes_keeps_the_centre_to_half_a_step_and_the_lattice(
    grid: tuple[Roi, Coordinate], data: st.DataObject
) -> None:
    roi, lattice = grid
    matrix = data.draw(st.sampled_from(signed_permutations(roi.dims)))
    deformation = Deformation.centred(matrix, roi, lattice)
    centre = (np.array(roi.begin) + np.array(roi.end)) / 2
    moved = matrix @ (centre - deformation.target_centre) + deformation.source_centre - centre
    assert (np.abs(moved) <= np.array(lattice) / 2 + MICRO).all()
    for place in (deformation.target_centre, deformation.source_centre):
        assert not (np.array(place) % np.array(lattice)).any()


def test_the_elastic_field_goes_through_its_control_points_and_covers_the_roi() -> None:
    roi = Roi((-7, 20, 3), (50, 61, 9))
    field = ElasticField.covering(roi, (10, 20, 30), (1.0, 2.0, 0.0), seed=5)
    points = [b + s * np.arange(n) for b, s, n in zip(field.begin, field.spacing, field.shape, strict=True)]
    shown = field.coefficients()
    for axis, along in enumerate(points):
        weights, first = field.basis(axis, np.array(along, dtype=float))
        matrix = np.zeros((len(along), field.shape[axis]))
        for m in range(4):
            matrix[np.arange(len(along)), first + m] = weights[m]
        shown = np.moveaxis(np.tensordot(matrix, shown, axes=(1, axis + 1)), 0, axis + 1)
    np.testing.assert_allclose(shown, field.displacements(), rtol=0, atol=1e-12)
    for along, spacing, begin, end in zip(points, field.spacing, roi.begin, roi.end, strict=True):
        assert along[0] <= begin - spacing
        assert along[-1] >= end + spacing


def test_the_displacements_have_the_spread_that_was_asked_for() -> None:
    field = ElasticField((0, 0), (10, 10), (100, 100), (3.0, 0.5), seed=1)
    np.testing.assert_allclose(field.displacements().std(axis=(1, 2)), (3.0, 0.5), rtol=0.05)
    np.testing.assert_array_equal(field.displacements(), field.displacements())


def test_integers_are_rounded_not_truncated() -> None:
    roi, voxel_size = Roi((0, 0), (4, 16)), Coordinate((4, 4))
    shifted = Deformation(((1, 0), (0, 1)), (0, 0), (0, 3))  # three quarters of a voxel
    data = np.array([[0, 1, 0, 1, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(Samples(shifted, roi, voxel_size).read(data, True), [[1, 0, 1, 192]])


def test_halfway_between_two_voxels_the_upper_one_is_nearest() -> None:
    half_a_voxel = Deformation(((1, 0), (0, 1)), (0, 0), (0, 2))
    samples = Samples(half_a_voxel, Roi((0, 0), (4, 16)), Coordinate((4, 4)))
    assert samples.box(interpolate=False) == Roi((0, 4), (4, 16))
    np.testing.assert_array_equal(samples.read(np.array([[1, 2, 3, 4]]), False), [[1, 2, 3, 4]])


def test_large_labels_survive() -> None:
    roi, voxel_size = Roi((0, 0), (8, 8)), Coordinate((4, 4))
    data = np.array([[2**53 + 1, 2**64 - 1], [2**63 + 1, 3]], dtype=np.uint64)
    identity = Deformation.centred(np.eye(2), roi, voxel_size)
    np.testing.assert_array_equal(Samples(identity, roi, voxel_size).read(data, False), data)


@given(deformed_grids())
def test_a_map_is_plain_numbers_that_come_back_from_json(case: tuple[Roi, Coordinate, Deformation]) -> None:
    deformation = case[2]
    text = deformation.to_json()
    assert set(json.loads(text)) == {"matrix", "target_centre", "source_centre", "elastic"}
    restored = Deformation.from_json(text)
    assert restored == deformation == copy.deepcopy(deformation)
    assert hash(restored) == hash(deformation)
