from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from gunpowder import ArrayKey, Batch, BatchFilter, BatchRequest, Coordinate, PipelineSetupError, Roi, build
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from scalenet_gp.nodes.augment.section_augment import LowContrast, LowContrastSections, Missing, MissingSections
from scalenet_gp.nodes.testing import Field, RampSource

COARSE, FINE = ArrayKey("COARSE"), ArrayKey("FINE")


def run(
    node: BatchFilter | None, fields: Mapping[ArrayKey, Field], rois: Mapping[ArrayKey, Roi], seed: int | None = 0
) -> Batch:
    source = RampSource(fields)
    request = BatchRequest(random_seed=seed)
    for key, roi in rois.items():
        request[key] = roi
    with build(source if node is None else source + node) as pipeline:
        return pipeline.request_batch(request)


def in_plane(axis: int) -> Any:
    """Values that are the same in all sections: then the share is exact."""

    def values(centres: np.ndarray) -> np.ndarray:
        return 0.5 + 0.4 * np.sin(np.delete(centres, axis, axis=0).sum(axis=0)[np.newaxis] / 90)

    return values


def units_altered(sections: set[int], begin: int, end: int, thickness: int, origin: int) -> np.ndarray:
    """The oracle: for every world unit, whether it lies in an altered section."""
    return np.array([(unit - origin) // thickness in sections for unit in range(begin, end)])


@settings(max_examples=200)
@given(
    st.integers(1, 40),
    st.integers(-60, 60),
    st.integers(1, 50),
    st.integers(-5, 5),
    st.integers(1, 6),
    st.sets(st.integers(-20, 20)),
)
def test_overlaps_count_world_units(
    thickness: int, origin: int, length: int, first: int, voxels: int, altered: set[int]
) -> None:
    node = MissingSections([FINE], thickness, 0.1, axis=1, origin=origin)
    roi = Roi((0, first * length), (8, voxels * length))
    sections, overlaps = node.overlaps(roi, length)
    assert overlaps.shape == (voxels, len(sections))
    assert (overlaps.sum(axis=1) == length).all()
    assert overlaps.any(axis=0).all()
    units = units_altered(altered, roi.begin[1], roi.end[1], thickness, origin)
    chosen = np.isin(sections, list(altered))
    np.testing.assert_array_equal(overlaps @ chosen, units.reshape(voxels, length).sum(axis=1))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("thickness", "origin"), [(8, 0), (40, -16), (12, 5)])
def test_a_coarse_voxel_changes_by_the_shares_of_the_missing_sections(
    dims: int, axis: int, thickness: int, origin: int
) -> None:
    fields = {key: Field((size,) * dims, in_plane(axis), True) for key, size in ((COARSE, 32), (FINE, 8))}
    rois = {COARSE: Roi((-64,) * dims, (256,) * dims), FINE: Roi((0, -32, 16)[:dims], (96, 128, 40)[:dims])}
    plain = run(None, fields, rois)
    node = MissingSections([COARSE, FINE], thickness, 0.3, value=0.1, axis=axis, origin=origin)
    batch = run(node, fields, rois)
    missing = set(Missing.from_json(batch[FINE].attrs["missing_sections"]).sections)
    assert missing
    for key, size in ((COARSE, 32), (FINE, 8)):
        begin, end = rois[key].begin[axis], rois[key].end[axis]
        share = units_altered(missing, begin, end, thickness, origin).reshape(-1, size).mean(axis=1)
        share = share.reshape(-1, *(1,) * (dims - 1 - axis))
        expected = (1 - share) * plain[key].data + share * 0.1
        np.testing.assert_allclose(batch[key].data, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "node",
    [
        MissingSections([COARSE, FINE], 8, 0.4, value=0.2),
        LowContrastSections([COARSE, FINE], 8, 0.4, factor=(0.0, 0.6)),
    ],
    ids=["missing", "low contrast"],
)
def test_averaging_fine_voxels_gives_the_coarse_ones(node: BatchFilter) -> None:
    """Fine voxels are a section thick; coarse ones span four, and content is alike in all sections."""
    fine = in_plane(0)

    def coarse(centres: np.ndarray) -> np.ndarray:
        return np.mean([fine(centres + offset) for offset in (-12, -4, 4, 12)], axis=0)

    fields = {
        FINE: Field((8, 8, 8), lambda centres: fine(centres * [[[[1]]], [[[1]]], [[[0]]]]), True),
        COARSE: Field((32, 32, 32), lambda centres: coarse(centres * [[[[1]]], [[[1]]], [[[0]]]]), True),
    }
    # in the plane only y varies: the four offsets of y are those of the fine voxels in a coarse one
    fields[COARSE] = Field(
        (32, 32, 32),
        lambda c: np.mean([fine(np.stack([c[0], c[1] + o, 0 * c[2]])) for o in (-12, -4, 4, 12)], axis=0),
        True,
    )
    roi = Roi((64, 0, 0), (256, 128, 64))
    batch = run(node, fields, {COARSE: roi, FINE: roi})
    means = batch[FINE].data[0].reshape(8, 4, 4, 4, 2, 4).mean((1, 3, 5))
    np.testing.assert_allclose(batch[COARSE].data[0], means, rtol=0, atol=1e-12)
    assert np.abs(means - run(None, fields, {COARSE: roi})[COARSE].data).max() > 0.02


def test_low_contrast_is_about_the_middle_and_whole_at_the_finest_scale() -> None:
    fields = {FINE: Field((8, 8, 8), in_plane(0), True)}
    roi = {FINE: Roi((0, 0, 0), (400, 64, 64))}
    plain, batch = run(None, fields, roi)[FINE].data, run(LowContrastSections([FINE], 8, 0.2), fields, roi)[FINE]
    factors = LowContrast.from_json(batch.attrs["low_contrast_sections"]).factors
    assert set(factors.values()) == {0.1}
    for section in range(50):
        expected = plain[:, section]
        if section in factors:
            np.testing.assert_allclose(batch.data[:, section], (expected - 0.5) * 0.1 + 0.5, rtol=0, atol=1e-12)
        else:
            np.testing.assert_array_equal(batch.data[:, section], expected)


def test_a_missing_section_is_replaced_wholly_and_others_are_not_touched() -> None:
    fields = {FINE: Field((8, 4, 4), lambda c: in_plane(0)(c).astype(np.float32), True)}
    roi = {FINE: Roi((80, 0, 0), (400, 64, 64))}
    plain, batch = run(None, fields, roi)[FINE].data, run(MissingSections([FINE], 8, 0.2, value=0.3), fields, roi)[FINE]
    missing = set(Missing.from_json(batch.attrs["missing_sections"]).sections)
    for plane, section in enumerate(range(10, 60)):
        expected = np.full((1, 16, 16), np.float32(0.3)) if section in missing else plain[:, plane]
        np.testing.assert_array_equal(batch.data[:, plane], expected)
    assert 0 < len(missing) < 30


def test_every_section_of_the_union_is_drawn_with_its_probability() -> None:
    node = LowContrastSections([FINE, COARSE], 10, 0.15, factor=(0.2, 0.7), origin=3)
    generator = np.random.default_rng(0)
    rois = {FINE: Roi((40, 0), (40, 8)), COARSE: Roi((0, 0), (64, 8))}
    drawn = [node.draw(generator, rois).factors for _ in range(2000)]
    counts = np.array([sum(section in factors for factors in drawn) for section in range(-3, 12)])
    assert (counts[:2] == 0).all()
    assert (counts[-4:] == 0).all()
    inside = counts[2:-4]  # sections -1 to 7: world units -7 to 83
    assert (np.abs(inside - 300) < 4 * np.sqrt(2000 * 0.15 * 0.85)).all()
    assert kstest([f for factors in drawn for f in factors.values()], "uniform", (0.2, 0.5)).pvalue > 0.01


def test_sections_are_counted_in_the_world_and_not_in_the_roi() -> None:
    """The same record in another ROI alters the same sections."""
    fields = {FINE: Field((8, 8), in_plane(0), True)}
    replay = Missing(sections=(3, 5, 40)).to_json()
    node = MissingSections([FINE], 8, 0.5, replay=replay)
    whole = run(node, fields, {FINE: Roi((0, 0), (80, 32))})[FINE]
    part = run(MissingSections([FINE], 8, 0.5, replay=replay), fields, {FINE: Roi((40, 8), (40, 16))})[FINE]
    np.testing.assert_array_equal(part.data, whole.crop(part.spec.roi).data)
    assert list(np.flatnonzero((whole.data[0] == 0).all(axis=1))) == [3, 5]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (MissingSections, {"thickness": 0}, "at least one world unit"),
        (MissingSections, {"thickness": 8.5}, r"thickness is 8\.5; write a whole number of world units"),
        (MissingSections, {"origin": 0.5}, r"origin is 0\.5; write a whole"),
        (MissingSections, {"axis": -1}, "spatial axes count from 0"),
        (MissingSections, {"axis": 1.0}, r"axis is 1\.0; write a whole number, spatial axes count from 0"),
        (MissingSections, {"probability": 1.2}, "probability is 1.2"),
        (MissingSections, {"value": np.nan}, "finite intensity"),
        (LowContrastSections, {"factor": -0.1}, "0 <= low"),
        (LowContrastSections, {"probability": -1}, "probability is -1"),
    ],
)
def test_bad_arguments_are_refused(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**{"arrays": [FINE], "thickness": 8, "probability": 0.1} | arguments)


def test_a_missing_axis_is_refused() -> None:
    with pytest.raises(PipelineSetupError) as error:
        run(
            MissingSections([FINE], 8, 0.1, axis=2),
            {FINE: Field((8, 8), in_plane(0), True)},
            {FINE: Roi((0, 0), Coordinate(16, 16))},
        )
    assert "has no axis 2 across sections" in str(error.value.__cause__)
