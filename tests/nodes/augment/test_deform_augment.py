from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from gunpowder import (
    Array,
    ArrayKey,
    ArraySpec,
    Batch,
    BatchProvider,
    BatchRequest,
    Coordinate,
    GraphKey,
    GraphSpec,
    PipelineRequestError,
    RandomLocation,
    Roi,
    build,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from scalenet_gp.nodes.augment.deform_augment import DeformAugment
from scalenet_gp.nodes.augment.deformation import Deformation
from scalenet_gp.nodes.augment.samples import Samples
from scalenet_gp.nodes.requests import request_shift
from scalenet_gp.nodes.testing import Field, RampSource, label_ramp, ramp
from scalenet_gp.testing import voxel_centers

# One world unit is one nanometre here.
MICRO = 1e-6
COARSE, MIDDLE, FINE, LABELS = (ArrayKey(name) for name in ("COARSE", "MIDDLE", "FINE", "LABELS"))
SHAPES = {COARSE: (11, 15, 13), MIDDLE: (20, 22, 18), FINE: (30, 26, 41), LABELS: (30, 26, 41)}
CENTRE = (1000, -500, 250)
ALL_AXES = (0, 1, 2)
EVERYTHING = {
    "jitter_sigma": (40, 40, 40),
    "rotation_axes": ALL_AXES,
    "mirror_axes": ALL_AXES,
    "transpose_axes": ALL_AXES,
    "scale_interval": (0.7, 1.4),
}
MAPS: dict[str, dict[str, Any]] = {
    "identity": {},
    "jitter": {"jitter_sigma": (40, 30, 20)},
    "rotation in a plane": {"rotation_axes": (1, 2)},
    "rotation in another plane": {"rotation_axes": (2, 0)},
    "any rotation": {"rotation_axes": ALL_AXES},
    "mirror": {"mirror_axes": ALL_AXES},
    "transposition": {"transpose_axes": ALL_AXES},
    "scale": {"scale_interval": (0.7, 1.4)},
    "another scale for each axis": {"scale_interval": ((0.7, 0.8), (1, 1), (1.2, 1.4))},
    "everything": EVERYTHING,
}
maps = pytest.mark.parametrize("arguments", MAPS.values(), ids=MAPS)
seeds = pytest.mark.parametrize("seed", range(3))


def augment(**arguments: Any) -> DeformAugment:
    return DeformAugment(**{"control_point_spacing": (512, 512, 512), "jitter_sigma": (0, 0, 0)} | arguments)


def scales(coarse: int, middle: int, fine: int) -> dict[ArrayKey, Field]:
    """Ramps at three voxel sizes, and labels at the finest."""
    return {
        COARSE: ramp((coarse,) * 3),
        MIDDLE: ramp((middle,) * 3),
        FINE: ramp((fine,) * 3),
        LABELS: label_ramp((fine,) * 3),
    }


def rois_of(fields: dict[ArrayKey, Field]) -> dict[ArrayKey, Roi]:
    """ROIs around one centre, of different sizes, each on its own lattice."""
    rois = {}
    for key, field in fields.items():
        voxel_size, shape = Coordinate(field.voxel_size), Coordinate(SHAPES[key])
        begin = Coordinate(round(c / v - n / 2) for c, v, n in zip(CENTRE, voxel_size, shape, strict=True))
        rois[key] = Roi(begin * voxel_size, shape * voxel_size)
    return rois


def request_of(rois: dict[ArrayKey, Roi], seed: int | None = 0) -> BatchRequest:
    request = BatchRequest(random_seed=seed)
    for key, roi in rois.items():
        request[key] = roi
    return request


def run(source: BatchProvider, node: DeformAugment, rois: dict[ArrayKey, Roi], seed: int | None = 0) -> Batch:
    with build(source + node) as pipeline:
        return pipeline.request_batch(request_of(rois, seed))


def disagreement(coarse: Array, fine: Array) -> float:
    """The largest difference between what two ramps show at the voxel centres of the coarser one."""
    axes = [
        begin + (np.arange(length // size) + 0.5) * size
        for begin, length, size in zip(fine.spec.roi.begin, fine.spec.roi.shape, fine.spec.voxel_size, strict=True)
    ]
    points = np.moveaxis(voxel_centers(coarse.spec.roi, coarse.spec.voxel_size), 0, -1)
    inside = np.all([(a[0] <= points[..., d]) & (points[..., d] <= a[-1]) for d, a in enumerate(axes)], axis=0)
    assert inside.sum() > 1
    shown = RegularGridInterpolator(axes, np.moveaxis(fine.data, 0, -1))(points[inside])
    return float(np.abs(shown - np.moveaxis(coarse.data, 0, -1)[inside]).max())


@maps
@seeds
@pytest.mark.parametrize(
    ("sizes", "tolerance"),
    [
        # A coarse centre is a fine centre: the very same points.
        ((72, 24, 8), MICRO),
        # A coarse centre lies amid eight fine ones, whose mean differs by the curvature of the elastic map.
        ((128, 32, 8), 1.0),
    ],
)
def test_a_point_shows_the_same_content_at_every_voxel_size(
    arguments: dict[str, Any], seed: int, sizes: tuple[int, int, int], tolerance: float
) -> None:
    fields = scales(*sizes)
    batch = run(RampSource(fields), augment(**arguments), rois_of(fields), seed)
    if not any(augment(**arguments).jitter_sigma):
        tolerance = MICRO
    assert disagreement(batch[MIDDLE], batch[FINE]) < tolerance
    assert disagreement(batch[COARSE], batch[MIDDLE]) < tolerance
    assert disagreement(batch[COARSE], batch[FINE]) < tolerance


@maps
@seeds
def test_labels_are_those_of_the_voxel_nearest_to_where_raw_comes_from(arguments: dict[str, Any], seed: int) -> None:
    fields = scales(128, 32, 8)
    batch = run(RampSource(fields), augment(**arguments), rois_of(fields), seed)
    raw, labels = batch[FINE].data, batch[LABELS].data
    assert labels.dtype == np.int64
    nearest = np.floor(raw / 8 + MICRO) * 8 + 4
    border = np.abs(raw / 8 - np.rint(raw / 8)) < 1e-4
    np.testing.assert_array_equal((labels / 2)[~border], nearest[~border])
    assert np.abs(raw - labels / 2).max() <= 4 + MICRO


@seeds
@pytest.mark.parametrize("kind", ["identity", "mirror", "transposition"])
def test_labels_equal_raw_bit_for_bit_where_voxels_map_to_voxels(kind: str, seed: int) -> None:
    def noise(centres: np.ndarray) -> np.ndarray:
        return (centres * [[[[3.7]]], [[[11.9]]], [[[23.3]]]]).sum(axis=0) % 7.1

    fields = {FINE: Field((8, 8, 8), noise, True), LABELS: Field((8, 8, 8), noise, False), COARSE: ramp((128,) * 3)}
    batch = run(RampSource(fields), augment(**MAPS[kind]), rois_of(fields), seed)
    np.testing.assert_array_equal(batch[FINE].data, batch[LABELS].data)
    assert set(np.unique(batch[FINE].data)) <= set(np.unique(noise(batch_source_centres(batch[FINE]))))
    if kind == "identity":
        np.testing.assert_array_equal(batch[FINE].data, noise(voxel_centers(batch[FINE].spec.roi, (8, 8, 8))))


def batch_source_centres(array: Array) -> np.ndarray:
    """The voxel centres of the box that a deformed array was read from, by the map on record."""
    samples = Samples(Deformation.from_json(array.attrs["deformation"]), array.spec.roi, array.spec.voxel_size)
    return voxel_centers(samples.box(interpolate=True), array.spec.voxel_size)


@maps
def test_each_array_reads_the_exact_box_that_its_samples_need(arguments: dict[str, Any]) -> None:
    fields = scales(128, 32, 8)
    source = RampSource(fields)
    batch = run(source, augment(**arguments), rois_of(fields))
    (asked,) = source.requests
    for key in (COARSE, MIDDLE, FINE):
        size = fields[key].voxel_size[0]
        voxels = np.round(batch[key].data / size - 0.5, 6).reshape(3, -1)
        begin, end = np.floor(voxels.min(axis=1)) * size, (np.ceil(voxels.max(axis=1)) + 1) * size
        assert asked[key].roi == Roi(Coordinate(begin), Coordinate(end - begin))
    voxels = (batch[LABELS].data // 2 // 8).reshape(3, -1)
    begin, end = voxels.min(axis=1) * 8, (voxels.max(axis=1) + 1) * 8
    assert asked[LABELS].roi == Roi(Coordinate(begin), Coordinate(end - begin))


def test_the_map_on_record_gives_the_batch_again() -> None:
    fields = scales(128, 32, 8)
    batch = run(RampSource(fields), augment(**EVERYTHING), rois_of(fields))
    for key, field in fields.items():
        array = batch[key]
        samples = Samples(Deformation.from_json(array.attrs["deformation"]), array.spec.roi, array.spec.voxel_size)
        box = samples.box(field.interpolatable)
        source = field.content(voxel_centers(box, field.voxel_size))
        np.testing.assert_array_equal(array.data, samples.read(source, field.interpolatable))


def test_arrays_of_one_voxel_size_agree_where_their_rois_overlap() -> None:
    rois = {
        FINE: Roi((0, 0, 0), (240, 240, 240)),
        MIDDLE: Roi((80, -80, 160), (80, 240, 320)),
        COARSE: Roi((80, 80, 80), (240, 240, 240)),
    }
    batch = run(RampSource({key: ramp((8, 8, 8)) for key in rois}), augment(**EVERYTHING), rois)
    for one, other in itertools.combinations(rois, 2):
        common = rois[one].intersect(rois[other])
        np.testing.assert_allclose(batch[one].crop(common).data, batch[other].crop(common).data, rtol=0, atol=MICRO)


def test_the_elastic_field_covers_all_rois_whatever_the_order_of_the_request() -> None:
    fields = scales(128, 32, 8)
    rois = rois_of(fields)
    for order in (list(rois), list(rois)[::-1]):
        batch = run(RampSource(fields), augment(jitter_sigma=(10, 10, 10)), {key: rois[key] for key in order})
        moved = batch[COARSE].data - voxel_centers(rois[COARSE], (128, 128, 128))
        assert 5 < moved.std() < 15
        assert np.abs(moved).max() < 60


@st.composite
def multiscale_requests(draw: st.DrawFn) -> tuple[dict[ArrayKey, Field], dict[ArrayKey, Roi], int]:
    """Two ramps, the coarser by an odd factor per axis so that their voxel centres meet, in ROIs that overlap."""
    dims = draw(st.integers(2, 3))
    fine = Coordinate(draw(st.lists(st.integers(1, 50), min_size=dims, max_size=dims)))
    coarse = fine * Coordinate(draw(st.lists(st.sampled_from((1, 3, 5)), min_size=dims, max_size=dims)))
    begin = Coordinate(draw(st.lists(st.integers(-1000, 1000), min_size=dims, max_size=dims))) * coarse
    shape = Coordinate(draw(st.lists(st.integers(2, 6), min_size=dims, max_size=dims))) * coarse
    margin = Coordinate(draw(st.lists(st.integers(0, 3), min_size=dims, max_size=dims))) * fine
    fields = {COARSE: ramp(coarse), FINE: ramp(fine)}
    return (
        fields,
        {COARSE: Roi(begin, shape), FINE: Roi(begin, shape).grow(margin, margin)},
        draw(st.integers(0, 2**31)),
    )


@settings(max_examples=40, deadline=None)
@given(
    multiscale_requests(), st.sampled_from([kind for kind in MAPS if "plane" not in kind and "each axis" not in kind])
)
def test_any_voxel_sizes_and_rois_agree(
    case: tuple[dict[ArrayKey, Field], dict[ArrayKey, Roi], int], kind: str
) -> None:
    fields, rois, seed = case
    dims = rois[FINE].dims
    arguments: dict[str, Any] = {"jitter_sigma": ALL_AXES, "control_point_spacing": (512, 512, 512)} | MAPS[kind]
    arguments = {name: value if name == "scale_interval" else value[:dims] for name, value in arguments.items()}
    batch = run(RampSource(fields), DeformAugment(**arguments), rois, seed)
    assert disagreement(batch[COARSE], batch[FINE]) < MICRO


def test_a_seed_repeats_and_another_seed_or_none_does_not() -> None:
    fields = scales(128, 32, 8)
    drawn = {
        seed: [run(RampSource(fields), augment(**EVERYTHING), rois_of(fields), seed)[FINE] for _ in range(2)]
        for seed in (0, 1, None)
    }
    records = {seed: [array.attrs["deformation"] for array in arrays] for seed, arrays in drawn.items()}
    for seed in (0, 1):
        np.testing.assert_array_equal(*(array.data for array in drawn[seed]))
        assert len(set(records[seed])) == 1
    assert len({record for pair in records.values() for record in pair}) == 4


def test_two_nodes_in_one_chain_draw_different_maps() -> None:
    class Recording(DeformAugment):
        def draw(self, *given: Any) -> Deformation:
            drawn.append(super().draw(*given))
            return drawn[-1]

    source = RampSource({FINE: ramp((8, 8, 8))})
    nodes = [Recording((512, 512, 512), (0, 0, 0), rotation_axes=ALL_AXES) for _ in range(2)]
    with build(source + nodes[0] + nodes[1]) as pipeline:
        for seed in (*range(20), None):
            drawn: list[Deformation] = []
            pipeline.request_batch(request_of({FINE: Roi((0, 0, 0), (16, 16, 16))}, seed))
            assert len({deformation.matrix for deformation in drawn}) == 2


def test_every_kind_of_map_is_drawn_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    roi, lattice = Roi((0, 0, 0), (64, 64, 64)), Coordinate((8, 8, 8))

    def matrices(**arguments: Any) -> np.ndarray:
        node = augment(**arguments)
        return np.array([node.draw(generator, roi, lattice).matrix for _ in range(600)])

    mirrored = matrices(mirror_axes=(0, 2))
    np.testing.assert_array_equal(mirrored[:, 1, 1], 1)
    assert np.abs(mirrored[:, [0, 2], [0, 2]].mean(axis=0)).max() < 0.15
    swapped = matrices(transpose_axes=(1, 2))
    assert {tuple(m.argmax(axis=0)) for m in swapped} == {(0, 1, 2), (0, 2, 1)}
    assert len({tuple(m.argmax(axis=0)) for m in matrices(transpose_axes=ALL_AXES)}) == 6
    turned = matrices(rotation_axes=(0, 2))
    np.testing.assert_array_equal(turned[:, 1], [[0, 1, 0]] * 600)
    angles = np.arctan2(turned[:, 2, 0], turned[:, 0, 0])
    assert np.histogram(angles, 6, (-np.pi, np.pi))[0].min() > 60
    free = matrices(rotation_axes=ALL_AXES)
    np.testing.assert_allclose(free @ free.transpose(0, 2, 1), np.tile(np.eye(3), (600, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(free), 1)
    assert np.abs(free.mean(axis=0)).max() < 0.15
    np.testing.assert_allclose((free**2).mean(axis=0), 1 / 3, atol=0.06)
    factors = matrices(scale_interval=(0.5, 2))[:, 0, 0]
    assert 0.5 <= factors.min() < 0.55
    assert 1.95 < factors.max() <= 2


def test_p_leaves_batches_untouched() -> None:
    fields = {FINE: ramp((8, 8, 8))}
    roi = Roi((0, 0, 0), (80, 80, 80))
    node = augment(rotation_axes=ALL_AXES, p=0.5)
    deformed = 0
    with build(RampSource(fields) + node) as pipeline:
        for seed in range(60):
            array = pipeline.request_batch(request_of({FINE: roi}, seed))[FINE]
            untouched = np.array_equal(array.data, voxel_centers(roi, (8, 8, 8)))
            assert untouched == ("deformation" not in array.attrs)
            deformed += not untouched
    assert 15 < deformed < 45


def test_a_random_location_upstream_keeps_the_whole_box_inside_its_data() -> None:
    fields = scales(128, 32, 8)
    bounds = Roi((0, 0, 0), (8192, 8192, 8192))
    with build(RampSource(fields, bounds) + RandomLocation() + augment(**EVERYTHING)) as pipeline:
        for seed in range(5):
            batch = pipeline.request_batch(request_of(rois_of(fields), seed))
            assert disagreement(batch[COARSE], batch[FINE]) < 1
            for key in (COARSE, MIDDLE, FINE):
                assert (batch[key].data.min() >= 0) & (batch[key].data.max() <= 8192)


class WithExtras(RampSource):
    """Serves a nonspatial array, a graph and an array that says nothing about interpolation too."""

    TAG, POINTS, UNKNOWN = ArrayKey("TAG"), GraphKey("POINTS"), ArrayKey("UNKNOWN")

    def setup(self) -> None:
        super().setup()
        self.provides(self.TAG, ArraySpec(nonspatial=True))
        self.provides(self.POINTS, GraphSpec(Roi((None,) * 3, (None,) * 3)))

    def provide(self, request: BatchRequest) -> Batch:
        tagged = self.TAG in request
        if tagged:
            del request[self.TAG]
        batch = super().provide(request)
        if tagged:
            batch[self.TAG] = Array(np.array([1, 2]), ArraySpec(nonspatial=True))
        return batch


def test_nonspatial_arrays_pass_and_placeholders_count_with_their_roi_only() -> None:
    source = WithExtras(scales(128, 32, 8))
    rois = rois_of(source.fields)
    with build(source + augment(mirror_axes=(0,))) as pipeline:
        request = request_of({FINE: rois[FINE]})
        request[WithExtras.TAG] = ArraySpec(nonspatial=True)
        request[COARSE] = ArraySpec(rois[COARSE], placeholder=True)
        batch = pipeline.request_batch(request)
    np.testing.assert_array_equal(batch[WithExtras.TAG].data, [1, 2])
    assert COARSE not in batch
    centre = Deformation.from_json(batch[FINE].attrs["deformation"]).target_centre
    np.testing.assert_array_less(np.abs(np.array(centre) - rois[COARSE].center), 128)


def test_what_cannot_be_deformed_is_refused() -> None:
    source = WithExtras({FINE: ramp((8, 8, 8)), WithExtras.UNKNOWN: Field((8, 8, 8), np.sin, None)})
    roi = Roi((0, 0, 0), (80, 80, 80))
    refusals = {
        "UNKNOWN does not say whether": {WithExtras.UNKNOWN: ArraySpec(roi)},
        "FINE is requested in .* empty": {FINE: ArraySpec(Roi((0, 0, 0), (80, 0, 80)))},
    }
    with build(source + augment()) as pipeline:
        for message, specs in refusals.items():
            request = BatchRequest()
            for key, spec in specs.items():
                request[key] = spec
            with pytest.raises(PipelineRequestError, match=message):
                pipeline.request_batch(request)
    with pytest.raises(PipelineRequestError, match="FINE has 3 spatial axes, control_point_spacing has 2"):
        run(source, DeformAugment((8, 8), (0, 0)), {FINE: roi})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"control_point_spacing": (5.24, 4, 4)}, "whole world units"),
        ({"control_point_spacing": (8, 0, 8)}, "above 0"),
        ({"control_point_spacing": (8,)}, "two or three"),
        ({"jitter_sigma": (1, 1)}, "write 3 numbers"),
        ({"jitter_sigma": (1, 1, -1)}, "none below 0"),
        ({"jitter_sigma": (1, 1, np.nan)}, "none below 0"),
        ({"rotation_axes": (1,)}, "rotation_axes is \\(1,\\)"),
        ({"rotation_axes": (1, 1)}, "different axes"),
        ({"mirror_axes": (3,)}, "between 0 and 2"),
        ({"transpose_axes": (-1, 0)}, "between 0 and 2"),
        ({"transpose_axes": (0,)}, "one axis alone"),
        ({"scale_interval": (0, 1)}, "0 < low <= high"),
        ({"scale_interval": (2, 1)}, "0 < low <= high"),
        ({"scale_interval": ((1, 1), (1, 2))}, "or 3 such pairs"),
        ({"scale_interval": (1, 2, 3)}, "or 3 such pairs"),
        ({"p": 1.5}, "between 0 and 1"),
        ({"replay": Deformation.centred(np.eye(2), Roi((0, 0), (8, 8)), Coordinate((8, 8))).to_json()}, "replay has 2"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment(**arguments)


def test_each_axis_has_a_scale_of_its_own() -> None:
    roi = Roi((0, 0, 0), (800, 800, 800))
    data = run(RampSource({FINE: ramp((8, 8, 8))}), augment(scale_interval=((0.5, 0.5), (1, 1), (2, 2))), {FINE: roi})
    extents = np.ptp(data[FINE].data.reshape(3, -1), axis=1)
    np.testing.assert_allclose(extents, (0.5 * 792, 792, 2 * 792))


@maps
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_shift_below_a_voxel_moves_the_content_of_every_scale(arguments: dict[str, Any], p: float) -> None:
    fields = {key: field for key, field in scales(128, 32, 8).items() if key != LABELS}
    rois = rois_of(fields)
    node = augment(**arguments, p=p)
    offset = Coordinate(8, 104, 56)
    with build(RampSource(fields) + node) as pipeline:
        plain = pipeline.request_batch(request_of(rois))
        shifted = request_of(rois)
        request_shift(shifted, node.shift_key, offset)
        moved = pipeline.request_batch(shifted)
        again = pipeline.request_batch(request_of(rois))
    for key in fields:
        column = np.array(offset).reshape(3, 1, 1, 1)
        np.testing.assert_allclose(moved[key].data, plain[key].data + column, rtol=0, atol=MICRO)
        np.testing.assert_array_equal(again[key].data, plain[key].data)


@maps
def test_a_record_replays_to_the_bit_whatever_the_seed(arguments: dict[str, Any]) -> None:
    fields = scales(128, 32, 8)
    node = augment(**arguments)
    with build(RampSource(fields) + node) as pipeline:
        request = request_of(rois_of(fields), 1)
        request_shift(request, node.shift_key, (8, 16, 24))
        batch = pipeline.request_batch(request)
    record = batch[FINE].attrs["deformation"]
    replayed = run(RampSource(fields), augment(**arguments, replay=record), rois_of(fields), seed=2)
    for key in fields:
        np.testing.assert_array_equal(replayed[key].data, batch[key].data)
        assert replayed[key].attrs["deformation"] == record


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_normalised_integers_are_fractions_of_their_range_and_not_rounded(dtype: str, p: float) -> None:
    def content(centres: np.ndarray) -> np.ndarray:
        return (centres.sum(axis=0) / 8).astype(dtype)

    integers, floats = ArrayKey("INTEGERS"), ArrayKey("FLOATS")
    fields = {
        integers: Field((8, 8, 8), content, True),
        floats: Field((8, 8, 8), lambda centres: content(centres).astype(np.float64), True),
        LABELS: Field((8, 8, 8), content, False),
    }
    rois = dict.fromkeys(fields, Roi((80, 80, 80), (80, 96, 112)))
    batch = run(WithTypes(fields), augment(**EVERYTHING, p=p, normalize=True), rois)
    assert batch[integers].data.dtype == batch[integers].spec.dtype == np.float32
    assert batch[floats].data.dtype == np.float64
    assert batch[LABELS].data.dtype == np.dtype(dtype)
    fractions = batch[floats].data / np.iinfo(dtype).max
    np.testing.assert_allclose(batch[integers].data, fractions, rtol=1e-6, atol=1e-9)
    assert p == 0 or (fractions * np.iinfo(dtype).max % 1 != 0).any()


class WithTypes(RampSource):
    """Says of what type its arrays are."""

    def setup(self) -> None:
        super().setup()
        for key, field in self.fields.items():
            self.spec[key].dtype = field.content(np.zeros((3, 1, 1, 1))).dtype


def test_the_number_of_threads_changes_no_bit() -> None:
    fields = scales(128, 32, 8)
    rois = {key: roi.grow(Coordinate((256,) * 3), Coordinate((256,) * 3)) for key, roi in rois_of(fields).items()}
    threads = torch.get_num_threads()
    batches = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            batches.append(run(RampSource(fields), augment(**EVERYTHING), rois))
    finally:
        torch.set_num_threads(threads)
    for key, other in itertools.product(fields, batches[1:]):
        np.testing.assert_array_equal(other[key].data, batches[0][key].data)


def test_a_record_of_another_place_is_refused() -> None:
    fields = scales(128, 32, 8)
    record = run(RampSource(fields), augment(**EVERYTHING), rois_of(fields))[FINE].attrs["deformation"]
    elsewhere = {key: roi.shift(Coordinate((12800,) * 3)) for key, roi in rois_of(fields).items()}
    with pytest.raises(PipelineRequestError, match=r"outside of the requested.*record of\s+a sample elsewhere"):
        run(RampSource(fields), augment(replay=record), elsewhere)


def test_two_deformations_keep_two_records() -> None:
    fields = {FINE: ramp((8, 8, 8))}
    chain = RampSource(fields) + augment(mirror_axes=(0,)) + augment(rotation_axes=(1, 2))
    with build(chain) as pipeline:
        attrs = pipeline.request_batch(request_of({FINE: Roi((0, 0, 0), (80, 80, 80))})).arrays[FINE].attrs
    assert set(attrs) == {"deformation", "deformation_2"}


@pytest.mark.parametrize("dtype", [">u2", ">f4", "<f2"])
def test_the_order_of_bytes_is_no_matter(dtype: str) -> None:
    content = {key: (lambda centres: (centres.sum(axis=0) / 8).astype(dtype)) for key in (FINE,)}
    native = {key: (lambda centres: (centres.sum(axis=0) / 8).astype(dtype).astype(dtype[1:])) for key in (FINE,)}
    roi = {FINE: Roi((80, 80, 80), (80, 80, 80))}
    one, other = (
        run(RampSource({FINE: Field((8, 8, 8), made[FINE], True)}), augment(**EVERYTHING), roi)[FINE].data
        for made in (content, native)
    )
    np.testing.assert_array_equal(one, other)


ODD = {"matrix": [[1, 0], [0, 1]], "target_centre": [0], "source_centre": [0, 0], "elastic": None}


@pytest.mark.parametrize("text", ["{}", "[]", "x", json.dumps(ODD)])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a record of a deformation"):
        augment(replay=text)
