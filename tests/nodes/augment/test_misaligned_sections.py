from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from gunpowder import ArrayKey, Batch, BatchRequest, Coordinate, PipelineRequestError, Roi, build
from gunpowder.pipeline import PipelineSetupError
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import shift
from scipy.stats import kstest

from scalenet_gp.nodes.augment.misaligned_sections import MisalignedSections, Misalignment
from scalenet_gp.nodes.testing import Field, RampSource, label_ramp, ramp
from scalenet_gp.testing import voxel_centers

COARSE, MIDDLE, FINE, LABELS, COARSE_LABELS = (
    ArrayKey(name) for name in ("COARSE", "MIDDLE", "FINE", "LABELS", "COARSE_LABELS")
)
MICRO = 1e-6
KINDS: dict[str, dict[str, float]] = {
    "slip": {"slip": 0.3},
    "shift": {"shift": 0.2},
    "both": {"slip": 0.2, "shift": 0.1},
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def run(
    node: MisalignedSections | None, fields: Mapping[ArrayKey, Field], rois: Mapping[ArrayKey, Roi], seed: int = 0
) -> tuple[Batch, RampSource]:
    source = RampSource(fields)
    request = BatchRequest(random_seed=seed)
    for key, roi in rois.items():
        request[key] = roi
    with build(source if node is None else source + node) as pipeline:
        return pipeline.request_batch(request), source


def record_of(batch: Batch, key: ArrayKey) -> Misalignment:
    return Misalignment.from_json(batch[key].attrs["misaligned_sections"])


def displacement(record: Misalignment, section: int, axes: int) -> np.ndarray:
    """The oracle: what the record says, one section at a time."""
    moved = np.zeros(axes)
    for other, displaced in record.shifts.items():
        moved += np.array(displaced) * (section >= other)
    return moved + record.slips.get(section, (0.0,) * axes)


@kinds
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_moved_sections_show_the_same_at_every_voxel_size(kind: dict[str, float], axis: int, seed: int) -> None:
    """A coarse voxel's ramp is the mean of the ramps of the fine voxels in it."""
    fields = {FINE: ramp((8, 8, 8)), MIDDLE: ramp((32, 32, 32)), COARSE: ramp((128, 128, 128))}
    whole = Roi((-128, 256, 0), (256, 256, 384))
    node = MisalignedSections(list(fields), 8, 30.0, axis=axis, **kind)
    batch, _ = run(node, fields, dict.fromkeys(fields, whole), seed)
    fine = batch[FINE].data
    for key, factor in ((MIDDLE, 4), (COARSE, 16)):
        z, y, x = batch[key].data.shape[1:]
        means = fine.reshape(3, z, factor, y, factor, x, factor).mean((2, 4, 6))
        np.testing.assert_allclose(batch[key].data, means, rtol=0, atol=MICRO)
    moved = np.abs(fine - voxel_centers(whole, (8, 8, 8)))
    assert moved.max() > 20
    assert moved[axis].max() < MICRO


@kinds
@pytest.mark.parametrize(("thickness", "origin"), [(8, 0), (40, -8), (12, 5)])
@pytest.mark.parametrize("dims", [2, 3])
def test_every_voxel_is_read_where_its_sections_lie(
    kind: dict[str, float], thickness: int, origin: int, dims: int
) -> None:
    """Sections of any thickness: a ramp is displaced by the mean over the world units of a voxel."""
    fields = {FINE: ramp((8,) * dims), COARSE: ramp((32,) * dims)}
    rois = {FINE: Roi((40,) * dims, (80,) * dims), COARSE: Roi((-32,) * dims, (192,) * dims)}
    node = MisalignedSections(list(fields), thickness, (25.0, 10.0)[: dims - 1], origin=origin, **kind)
    batch, _ = run(node, fields, rois)
    record = record_of(batch, FINE)
    for key, size in ((FINE, 8), (COARSE, 32)):
        roi = rois[key]
        units = [
            displacement(record, (unit - origin) // thickness, dims - 1) for unit in range(roi.begin[0], roi.end[0])
        ]
        mean = np.array(units).reshape(-1, size, dims - 1).mean(axis=1)  # (plane, axis)
        expected = voxel_centers(roi, (size,) * dims)
        expected[1:] += mean.T.reshape(dims - 1, -1, *(1,) * (dims - 1))
        np.testing.assert_allclose(batch[key].data, expected, rtol=0, atol=MICRO)


def checker(centres: np.ndarray) -> np.ndarray:
    return (np.sin(np.tensordot([12.9, 78.2, 37.7], centres, 1)) * 43758.5 % 1)[np.newaxis].astype(np.float32)


@kinds
def test_content_is_interpolated_linearly_within_the_plane(kind: dict[str, float]) -> None:
    fields = {FINE: Field((8, 8, 8), checker, True)}
    roi = Roi((0, 0, 0), (160, 240, 200))
    batch, _ = run(MisalignedSections([FINE], 8, 20.0, **kind), fields, {FINE: roi})
    record = record_of(batch, FINE)
    margin = Coordinate(0, 240, 240)
    wide = checker(voxel_centers(roi.grow(margin, margin), (8, 8, 8)))[0]
    for plane in range(20):
        moved = displacement(record, plane, 2)
        expected = shift(wide[plane].astype(float), -moved / 8, order=1)[30:-30, 30:-30]
        np.testing.assert_allclose(batch[FINE].data[0, plane], expected, rtol=0, atol=1e-5)
        if not moved.any():
            np.testing.assert_array_equal(batch[FINE].data[0, plane], wide[plane, 30:-30, 30:-30])
    assert batch[FINE].data.dtype == np.float32


@kinds
def test_labels_show_the_voxel_nearest_to_where_raw_comes_from(kind: dict[str, float]) -> None:
    fields = {FINE: ramp((8, 8, 8)), LABELS: label_ramp((8, 8, 8))}
    roi = Roi((0, 40, -80), (160, 80, 64))
    batch, _ = run(MisalignedSections(list(fields), 8, 30.0, **kind), fields, dict.fromkeys(fields, roi))
    raw, labels = batch[FINE].data, batch[LABELS].data
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels / 2, np.floor(raw / 8) * 8 + 4)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_coarse_labels_move_where_more_than_half_of_the_voxel_does(count: int) -> None:
    """Four sections in a voxel, the last ``count`` of which are displaced by two voxels."""
    fields = {COARSE_LABELS: label_ramp((32, 32, 32)), COARSE: ramp((32, 32, 32))}
    roi = Roi((0, 0, 0), (64, 64, 64))
    slips = dict.fromkeys(range(4 - count, 4), (64.0, -32.0))
    for record in (
        Misalignment(slips=slips, shifts={}),
        Misalignment(slips={}, shifts={4 - count: (64.0, -32.0), 4: (-64.0, 32.0)}),
    ):
        node = MisalignedSections(list(fields), 8, 1.0, replay=record.to_json())
        batch, _ = run(node, fields, dict.fromkeys(fields, roi))
        moved = batch[COARSE_LABELS].data / 2 - voxel_centers(roi, (32, 32, 32))
        np.testing.assert_array_equal(moved[1, 0], 64 * (count > 2))
        np.testing.assert_array_equal(moved[2, 0], -32 * (count > 2))
        np.testing.assert_array_equal(moved[:, 1], 0)
        raw = batch[COARSE].data - voxel_centers(roi, (32, 32, 32))
        np.testing.assert_allclose(raw[1, 0], 64 * count / 4, atol=MICRO)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=4, max_size=4), st.integers(0, 7))
def test_coarse_labels_move_by_the_median_of_their_sections(moves: list[tuple[int, int]], origin: int) -> None:
    record = Misalignment(slips={n: tuple(32.0 * m for m in move) for n, move in enumerate(moves)}, shifts={})
    node = MisalignedSections([COARSE_LABELS], 8, 1.0, origin=origin, replay=record.to_json())
    roi = Roi((0, 0, 0), (32, 32, 32))
    batch, _ = run(node, {COARSE_LABELS: label_ramp((32, 32, 32))}, {COARSE_LABELS: roi})
    units = np.array([displacement(record, (unit - origin) // 8, 2) for unit in range(32)])
    ordered = np.sort(units, axis=0)
    expected = [min(pair, key=abs) for pair in ordered[15:17].T]
    moved = batch[COARSE_LABELS].data / 2 - voxel_centers(roi, (32, 32, 32))
    np.testing.assert_array_equal(moved[1:, 0, 0, 0], expected)


@kinds
def test_a_part_equals_the_whole_to_the_bit_and_reads_no_more_than_it_needs(kind: dict[str, float]) -> None:
    fields = {FINE: Field((8, 8, 8), checker, True), COARSE: Field((32, 32, 32), checker, True)}
    roi = Roi((-96, 0, 64), (192, 192, 160))
    whole, _ = run(MisalignedSections(list(fields), 12, 20.0, **kind), fields, dict.fromkeys(fields, roi))
    record = record_of(whole, FINE)
    part = Roi((0, 64, 96), (64, 32, 96))
    node = MisalignedSections(list(fields), 12, 20.0, replay=record.to_json())
    batch, source = run(node, fields, dict.fromkeys(fields, part))
    for key, size in ((FINE, 8), (COARSE, 32)):
        np.testing.assert_array_equal(batch[key].data, whole[key].crop(part).data)
        moves = [displacement(record, unit // 12, 2) / size for unit in range(0, 64)] + [np.zeros(2)]
        low, high = np.floor(np.min(moves, axis=0)) * size, np.ceil(np.max(moves, axis=0)) * size
        grown = part.grow(Coordinate(0, *-low.astype(int)), Coordinate(0, *high.astype(int)))
        assert source.requests[0][key].roi == grown


def test_displacements_are_drawn_as_told() -> None:
    node = MisalignedSections([FINE], 10, (5.0, 20.0), slip=0.2, shift=0.05)
    with build(RampSource({FINE: ramp((8, 8, 8))}) + node):
        generator = np.random.default_rng(0)
        drawn = [node.draw(generator, {FINE: Roi((0, 0, 0), (200, 80, 80))}) for _ in range(500)]
    for part, probability in (("slips", 0.2), ("shifts", 0.05)):
        moves = np.array([move for record in drawn for move in getattr(record, part).values()])
        expected = 500 * 20 * probability
        assert abs(len(moves) - expected) < 4 * np.sqrt(expected)
        assert kstest(moves[:, 0] / 5, "norm").pvalue > 0.01
        assert kstest(moves[:, 1] / 20, "norm").pvalue > 0.01
        assert {section for record in drawn for section in getattr(record, part)} == set(range(20))


def test_without_displaced_sections_nothing_changes() -> None:
    fields = {FINE: ramp((8, 8, 8)), LABELS: label_ramp((8, 8, 8))}
    roi = Roi((0, 0, 0), (80, 80, 80))
    batch, source = run(MisalignedSections(list(fields), 8, 10.0), fields, dict.fromkeys(fields, roi))
    np.testing.assert_array_equal(batch[FINE].data, voxel_centers(roi, (8, 8, 8)))
    assert all(spec.roi == roi for spec in source.requests[0].array_specs.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": -1.0}, "at least 0"),
        ({"sigma": (1.0, np.nan)}, "at least 0"),
        ({"sigma": ((1.0,),)}, "one per axis within a section"),
        ({"sigma": ((1.0,), 2.0)}, r"sigma is \(\(1\.0,\), 2\.0\); write one length"),
        ({"slip": 1.5}, r"slip is 1\.5"),
        ({"shift": -0.5}, r"shift is -0\.5"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MisalignedSections(**{"arrays": [FINE], "thickness": 8, "sigma": 10.0} | arguments)


@pytest.mark.parametrize(
    ("fields", "sigma", "message"),
    [
        ({FINE: ramp((8, 8, 8))}, (1.0, 2.0, 3.0), "there are 2 axes within a section"),
        ({FINE: ramp((8, 8, 8)), LABELS: label_ramp((8, 8))}, 1.0, "LABELS has other spatial axes than FINE"),
        ({FINE: Field((8, 8, 8), checker, None)}, 1.0, "does not say whether it may be interpolated"),
    ],
)
def test_arrays_that_cannot_move_together_are_refused(fields: dict[ArrayKey, Field], sigma: Any, message: str) -> None:
    with pytest.raises(PipelineSetupError) as error:
        run(MisalignedSections(list(fields), 8, sigma), fields, {FINE: Roi((0, 0, 0), (16, 16, 16))})
    assert message in str(error.value.__cause__)


@pytest.mark.parametrize(
    "record",
    [Misalignment(slips={3: (8.0,)}, shifts={}), Misalignment(slips={3: (8.0, 1.0)}, shifts={4: (1.0, 2.0, 3.0)})],
    ids=["fewer", "more"],
)
def test_a_record_of_other_axes_is_refused_when_the_pipeline_is_built(record: Misalignment) -> None:
    with pytest.raises(PipelineSetupError) as error:
        run(
            MisalignedSections([FINE], 8, 1.0, replay=record.to_json()),
            {FINE: ramp((8, 8, 8))},
            {FINE: Roi((0, 0, 0), (16, 16, 16))},
        )
    assert "along each of the 2 axes within a section" in str(error.value.__cause__)


def test_integers_are_interpolated_as_labels_only() -> None:
    fields = {FINE: Field((8, 8, 8), label_ramp((8, 8, 8)).content, True)}
    with pytest.raises(PipelineRequestError, match="FINE is of type int64"):
        run(MisalignedSections([FINE], 8, 5.0, slip=1.0), fields, {FINE: Roi((0, 0, 0), (16, 16, 16))})
