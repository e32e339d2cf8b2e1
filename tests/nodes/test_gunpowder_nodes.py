"""The behaviour of gunpowder's own nodes with several voxel sizes: the tables of docs/reference/gunpowder_nodes.md.

A test that fails after an upgrade of gunpowder means that a table, and perhaps a node of ours, has to change.
gunpowder 1.4.4 and 1.5.0 do the same throughout.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import gunpowder as gp
import numpy as np
import pytest
from gunpowder import (
    Array,
    ArrayKey,
    ArraySpec,
    Batch,
    BatchProvider,
    BatchRequest,
    Coordinate,
    PipelineRequestError,
    Roi,
    build,
)
from gunpowder.nodes import gp_array_source, random_location
from gunpowder.nodes.batch_provider import BatchRequestError
from scipy.interpolate import RegularGridInterpolator

from scalenet_gp.nodes.augment.deform_augment import DeformAugment
from scalenet_gp.nodes.testing import Field, RampSource, label_ramp, ramp
from scalenet_gp.testing import voxel_centers
from tests.nodes.targets.derived_arrays import Held
from tests.scalenet_gp.volumes.volume_files import write_json, write_zarr2

COARSE, MIDDLE, FINE, LABELS = (ArrayKey(name) for name in ("COARSE", "MIDDLE", "FINE", "LABELS"))
MASK, DERIVED, CHANNELS = (ArrayKey(name) for name in ("MASK", "DERIVED", "CHANNELS"))
SIZES = {COARSE: 128, MIDDLE: 32, FINE: 8}
SCALES = {key: ramp((size,) * 3) for key, size in SIZES.items()}
NESTED = {
    COARSE: Roi((-384, -256, -384), (1024, 896, 1024)),
    MIDDLE: Roi((-32, 64, -32), (256, 288, 224)),
    FINE: Roi((72, 128, 40), (88, 104, 64)),
}


def fetch(pipeline: BatchProvider, rois: Mapping[ArrayKey, Roi], seed: int | None = 1) -> Batch:
    request = BatchRequest(random_seed=seed)
    for key, roi in rois.items():
        request[key] = roi
    return pipeline.request_batch(request)


def refusal(message: str) -> AbstractContextManager[object]:
    return pytest.raises(PipelineRequestError, match=message)


def affine_map(data: np.ndarray, roi: Roi, size: int) -> np.ndarray:
    """The matrix and the offset, (3, 4), by which a ramp was moved: source = matrix @ target + offset."""
    targets = voxel_centers(roi, (size,) * 3).reshape(3, -1)
    targets = np.vstack([targets, np.ones(targets.shape[1])])
    found = np.linalg.lstsq(targets.T, data.reshape(3, -1).T, rcond=None)[0].T
    np.testing.assert_allclose(found @ targets, data.reshape(3, -1), rtol=0, atol=1e-6)
    return np.round(found, 6)


def common_map(batch: Batch, rois: Mapping[ArrayKey, Roi]) -> np.ndarray:
    """The map by which all ramps of a batch were moved alike."""
    maps = [affine_map(batch[key].data, roi, SIZES[key]) for key, roi in rois.items()]
    for other in maps[1:]:
        np.testing.assert_allclose(maps[0], other, rtol=0, atol=1e-5)
    return maps[0]


def brightness(centres: np.ndarray) -> np.ndarray:
    """IntensityWindow between 0.2 and 0.8 that depend on the world position alone."""
    return (0.5 + 0.3 * np.sin(centres.sum(axis=0) / 500)).astype(np.float32)


BRIGHT = {key: Field((size,) * 3, brightness, True) for key, size in SIZES.items()}


# Right for several voxel sizes


def test_random_location_reaches_every_place_that_keeps_all_lattices_and_no_other() -> None:
    bounds = Roi((-1000, -700, -500), (1640, 1400, 1200))
    source = RampSource(SCALES, bounds)
    seen = set()
    with build(source + gp.RandomLocation()) as pipeline:
        provided = {key: source.spec[key].roi for key in SIZES}
        for seed in range(200):
            moved = common_map(fetch(pipeline, NESTED, seed), NESTED)
            np.testing.assert_array_equal(moved[:, :3], np.eye(3))
            seen.add(tuple(moved[:, 3].astype(int).tolist()))
    steps = range(-2048, 2048, 128)
    places = {
        (z, y, x)
        for z in steps
        for y in steps
        for x in steps
        if all(provided[key].contains(roi.shift(Coordinate((z, y, x)))) for key, roi in NESTED.items())
    }
    assert 8 <= len(places) <= 24
    assert seen == places


def test_random_location_draws_without_end_under_a_mask_that_no_place_fulfils(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []

    def drawn(low: int, high: int) -> int:
        draws.append(random.randint(low, high))
        if len(draws) == 2000:
            raise TimeoutError("2000 draws")
        return draws[-1]

    monkeypatch.setattr(random_location, "randint", drawn)
    source = Held({MASK: np.zeros((16, 16), np.uint8)}, (8, 8))
    with build(source + gp.RandomLocation(min_masked=0.5, mask=MASK)) as pipeline, refusal("2000 draws"):
        fetch(pipeline, {MASK: Roi((0, 0), (64, 64))})


@pytest.mark.parametrize(
    "options", [{"transpose_only": []}, {"mirror_only": []}, {}], ids=["mirror", "transpose", "both"]
)
def test_simple_augment_moves_all_scales_alike(options: dict[str, list[int]]) -> None:
    seen = set()
    with build(RampSource(SCALES) + gp.SimpleAugment(**options)) as pipeline:
        for seed in range(40):
            seen.add(common_map(fetch(pipeline, NESTED, seed), NESTED)[:, :3].tobytes())
    assert len(seen) >= 6


def test_simple_augment_needs_the_union_of_the_rois_on_every_lattice() -> None:
    rois = {MIDDLE: Roi((0, 0, 0), (320, 320, 320)), FINE: Roi((0, 0, 0), (360, 360, 360))}
    theirs = gp.SimpleAugment(transpose_only=[], mirror_probs=[1, 1, 1])
    with build(RampSource(SCALES) + theirs) as pipeline, refusal(r"ROI offset \(40, 40, 40\) must be a multiple"):
        fetch(pipeline, rois)
    ours = DeformAugment((512,) * 3, (0,) * 3, mirror_axes=(0, 1, 2))
    with build(RampSource(SCALES) + ours) as pipeline:
        assert {common_map(fetch(pipeline, rois, seed), rois)[0, 0] for seed in range(9)} == {1, -1}


def test_noise_augment_changes_its_own_array_only() -> None:
    source = RampSource(BRIGHT) + gp.NoiseAugment(FINE, var=0.0025) + gp.NoiseAugment(MIDDLE, var=0.0025)
    with build(source) as pipeline:
        first, again, other = (fetch(pipeline, NESTED, seed) for seed in (1, 1, 2))
    clean = {key: brightness(voxel_centers(roi, (SIZES[key],) * 3)) for key, roi in NESTED.items()}
    np.testing.assert_array_equal(first[COARSE].data, clean[COARSE])
    noise = {key: (first[key].data - clean[key]).ravel() for key in (FINE, MIDDLE)}
    for key, values in noise.items():
        assert first[key].data.dtype == np.float32
        assert values.std() == pytest.approx(0.05, rel=0.1)
        np.testing.assert_array_equal(first[key].data, again[key].data)
        assert not np.array_equal(first[key].data, other[key].data)
    length = min(map(len, noise.values()))
    assert abs(np.corrcoef(noise[FINE][:length], noise[MIDDLE][:length])[0, 1]) < 0.2


def test_noise_augment_clips_to_a_range_that_depends_on_the_crop() -> None:
    dark = np.linspace(-0.001, 1, 64)[:, None].repeat(64, axis=1)
    rois = [Roi((begin, 0), (256, 512)) for begin in (0, 8)]
    with build(Held({FINE: dark}, (8, 8)) + gp.NoiseAugment(FINE, var=0.1)) as pipeline:
        whole, positive = (fetch(pipeline, {FINE: roi})[FINE].data for roi in rois)
    assert whole[1:].min() < -0.5
    assert positive.min() == 0


def test_nodes_seed_the_global_generators_anew() -> None:
    def next_numbers() -> tuple[float, float]:
        return random.random(), np.random.random_sample()  # noqa: NPY002

    with build(RampSource({FINE: ramp((8,) * 3)})) as pipeline:
        found = []
        for mine in (5, 6):
            random.seed(mine)
            np.random.seed(mine)  # noqa: NPY002
            fetch(pipeline, {FINE: NESTED[FINE]}, seed=7)
            found.append(next_numbers())
    assert found[0] == found[1]


def test_normalize_and_unsqueeze_change_the_named_arrays_only_and_go_between_ours() -> None:
    def grey(centres: np.ndarray) -> np.ndarray:
        return (255 * brightness(centres)).astype(np.uint8)

    fields = {key: Field((size,) * 3, grey, True) for key, size in SIZES.items()} | {LABELS: label_ramp((8,) * 3)}
    rois = NESTED | {LABELS: NESTED[FINE]}
    mirrored = DeformAugment((512,) * 3, (0,) * 3, mirror_axes=(0, 1, 2))
    pipeline = RampSource(fields) + gp.Normalize(FINE) + gp.Normalize(COARSE) + mirrored + gp.Unsqueeze([FINE, COARSE])
    with build(pipeline) as built:
        for seed in (None, 1):
            batch = fetch(built, rois, seed)
            for key in (FINE, COARSE):
                assert batch[key].data.shape == (1, *(NESTED[key].shape / SIZES[key]))
                assert batch[key].data.dtype == np.float32
                assert batch[key].spec.roi == NESTED[key]
                assert np.unique(batch[key].data).size > 8
            assert batch[MIDDLE].data.dtype == np.uint8
            labels = batch[LABELS].data / 2
            np.testing.assert_allclose(batch[FINE].data[0] * 255, grey(labels), atol=1e-4)


def test_stack_stacks_every_scale_in_step_and_drops_what_augmentations_recorded() -> None:
    bounds = Roi((-4096,) * 3, (8192,) * 3)
    turned = DeformAugment((512,) * 3, (0,) * 3, rotation_axes=(0, 1, 2))
    with build(RampSource(SCALES, bounds) + gp.RandomLocation() + turned + gp.Stack(3)) as pipeline:
        for seed in (None, 1):
            batch = fetch(pipeline, NESTED, seed)
            maps = []
            for repetition in range(3):
                parts = [affine_map(batch[key].data[repetition], roi, SIZES[key]) for key, roi in NESTED.items()]
                np.testing.assert_allclose(parts[0], parts[1], atol=1e-5)
                np.testing.assert_allclose(parts[0], parts[2], atol=1e-5)
                maps.append(parts[0].tobytes())
            assert len(set(maps)) == 3
            assert not batch[FINE].attrs


def test_pad_fills_outside_and_keeps_what_is_inside_in_place() -> None:
    bounds = Roi((0, 0, 0), (512, 512, 512))
    pads = [gp.Pad(key, None if key is FINE else Coordinate((512,) * 3), value=-1) for key in SIZES]
    with build(RampSource(SCALES, bounds) + pads[0] + pads[1] + pads[2]) as pipeline:
        batch = fetch(pipeline, NESTED)
    for key, roi in NESTED.items():
        centres = voxel_centers(roi, (SIZES[key],) * 3)
        inside = ((centres > 0) & (centres < 512)).all(axis=0)
        np.testing.assert_array_equal(batch[key].data, np.where(inside, centres, -1))


def test_pad_fails_where_one_scale_lies_outside_altogether() -> None:
    rois = {COARSE: Roi((0, 0, 0), (1024, 1024, 1024)), FINE: Roi((600, 600, 600), (80, 80, 80))}
    source = RampSource(SCALES, Roi((0, 0, 0), (512, 512, 512)))
    with build(source + gp.Pad(COARSE, None) + gp.Pad(FINE, None)) as pipeline, refusal("negative"):
        fetch(pipeline, rois)


def test_random_provider_takes_all_scales_from_one_source() -> None:
    shifted = {
        key: Field((size,) * 3, lambda centres: centres + 10_000, interpolatable=True) for key, size in SIZES.items()
    }
    sources = (RampSource(SCALES), RampSource(shifted))
    with build(sources + gp.RandomProvider([1, 3])) as pipeline:
        offsets = [common_map(fetch(pipeline, NESTED, seed), NESTED)[0, 3] for seed in range(80)]
    assert set(offsets) == {0, 10_000}
    assert np.mean(np.array(offsets) > 0) == pytest.approx(0.75, abs=0.15)


def test_random_provider_with_a_key_fails_where_that_key_is_not_requested() -> None:
    sources = (RampSource({FINE: ramp((8,) * 3)}), RampSource({FINE: ramp((8,) * 3)}))
    with build(sources + gp.RandomProvider(random_provider_key=DERIVED)) as pipeline, refusal("KeyError: DERIVED"):
        fetch(pipeline, {FINE: NESTED[FINE]})


def test_random_provider_refuses_a_source_of_another_voxel_size() -> None:
    sources = (RampSource({FINE: ramp((8,) * 3)}), RampSource({FINE: ramp((16,) * 3)}))
    with build(sources + gp.RandomProvider([0, 1])) as pipeline, refusal("voxel size of"):
        fetch(pipeline, {FINE: Roi((0, 0, 0), (64, 64, 64))})


def test_merge_provider_keeps_sources_in_step_if_the_location_is_drawn_after_it() -> None:
    bounds = Roi((-8192,) * 3, (16384,) * 3)
    sources = [RampSource({key: field}, bounds) for key, field in SCALES.items()]
    with build(tuple(sources) + gp.MergeProvider() + gp.RandomLocation()) as pipeline:
        for seed in range(5):
            common_map(fetch(pipeline, NESTED, seed), NESTED)
    each = tuple(source + gp.RandomLocation() for source in sources)
    with build(each + gp.MergeProvider()) as pipeline:
        batch = fetch(pipeline, NESTED)
        with pytest.raises(AssertionError, match="Not equal to tolerance"):
            common_map(batch, NESTED)


forking = pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="PreCache needs forked workers")


@forking
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_pre_cache_delivers_scales_in_step_and_batches_that_differ() -> None:
    bounds = Roi((-8192,) * 3, (16384,) * 3)
    chain = (
        RampSource(SCALES, bounds) + gp.RandomLocation() + DeformAugment((512,) * 3, (0,) * 3, rotation_axes=(0, 1, 2))
    )
    with build(chain + gp.PreCache(cache_size=4, num_workers=2)) as pipeline:
        maps = [common_map(fetch(pipeline, NESTED, None), NESTED).tobytes() for _ in range(8)]
    assert len(set(maps)) == 8


@forking
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_pre_cache_repeats_one_batch_for_ever_if_the_request_has_a_seed() -> None:
    chain = RampSource(SCALES, Roi((-8192,) * 3, (16384,) * 3)) + gp.RandomLocation()
    with build(chain + gp.PreCache(cache_size=4, num_workers=2)) as pipeline:
        maps = [common_map(fetch(pipeline, NESTED, 1), NESTED).tobytes() for _ in range(8)]
    assert len(set(maps)) == 1


def test_another_process_finds_an_array_by_its_key_only_with_the_pickling_of_ours() -> None:
    # what keeps PreCache from working under spawn: a key keeps the hash of its name, which differs between processes
    theirs, ours = io.BytesIO(), io.BytesIO()
    pickler = pickle.Pickler(theirs)
    pickler.dispatch_table = {}  # as if batch_transport had not been imported
    pickler.dump({FINE: "data"})
    pickle.Pickler(ours).dump({FINE: "data"})
    find = (
        "import pickle, sys, gunpowder as gp\n"
        "print(*(gp.ArrayKey('FINE') in pickle.load(sys.stdin.buffer) for _ in range(2)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", find],
        input=theirs.getvalue() + ours.getvalue(),
        env=os.environ | {"PYTHONHASHSEED": "random"},
        capture_output=True,
        check=True,
    )
    assert found.stdout.split() == [b"False", b"True"]


# Wrong for several voxel sizes: nodes of our own take their place


def test_gunpowders_identity_deformation_moves_content_and_parts_the_scales() -> None:
    cube = dict.fromkeys(SIZES, Roi((0, 0, 0), (1024, 1024, 1024)))
    with build(RampSource(SCALES) + gp.DeformAugment((512,) * 3, (0,) * 3, rotate=False)) as pipeline:
        batch = fetch(pipeline, cube)
    moved = {
        key: np.linalg.norm(batch[key].data - voxel_centers(roi, (SIZES[key],) * 3), axis=0).mean()
        for key, roi in cube.items()
    }
    assert moved == {
        FINE: pytest.approx(485, abs=1),
        MIDDLE: pytest.approx(464, abs=1),
        COARSE: pytest.approx(379, abs=1),
    }
    axis = np.arange(4, 1024, 8)
    fine = RegularGridInterpolator([axis] * 3, np.moveaxis(batch[FINE].data, 0, -1))
    points = np.moveaxis(voxel_centers(cube[COARSE], (128,) * 3), 0, -1)
    parted = np.linalg.norm(fine(points) - np.moveaxis(batch[COARSE].data, 0, -1), axis=-1)
    assert parted.mean() == pytest.approx(108, abs=1)
    assert parted.max() == pytest.approx(156, abs=1)


def test_gunpowders_identity_deformation_turns_a_small_label_crop_into_one_label() -> None:
    roi = Roi((64, 64, 64), (416, 416, 416))
    with build(
        RampSource({LABELS: label_ramp((8,) * 3)}) + gp.DeformAugment((512,) * 3, (0,) * 3, rotate=False)
    ) as built:
        labels = fetch(built, {LABELS: roi})[LABELS].data
    assert all(np.unique(axis).size == 1 for axis in labels)
    with build(RampSource({LABELS: label_ramp((8,) * 3)}) + DeformAugment((512,) * 3, (0,) * 3)) as built:
        np.testing.assert_array_equal(fetch(built, {LABELS: roi})[LABELS].data / 2, voxel_centers(roi, (8,) * 3))


def test_gunpowders_intensity_augment_gives_one_intensity_different_values() -> None:
    chain = RampSource(BRIGHT)
    for key in SIZES:
        chain += gp.IntensityAugment(key, 0.5, 0.5, 0, 0, clip=False)
    with build(chain) as pipeline:
        batch = fetch(pipeline, NESTED)
    # what an intensity of one half became: the same factor for all, yet each array turns about its own mean
    pivots = [
        (batch[key].data - 0.5 * brightness(voxel_centers(roi, (SIZES[key],) * 3))).mean()
        for key, roi in NESTED.items()
    ]
    assert np.ptp(pivots) > 0.02
    chain = RampSource(BRIGHT)
    for key in SIZES:
        chain += gp.IntensityAugment(key, 1, 1, -0.2, 0.2, clip=False)
    with build(chain) as pipeline:
        batch = fetch(pipeline, NESTED)
    shifts = [
        (batch[key].data - brightness(voxel_centers(roi, (SIZES[key],) * 3))).mean() for key, roi in NESTED.items()
    ]
    assert np.unique(np.round(shifts, 4)).size == 3


def missing(array: Array) -> np.ndarray:
    return (array.data == 0).all(axis=(-1, -2)).squeeze()


def test_defect_augment_draws_for_every_array_anew() -> None:
    chain = RampSource(BRIGHT)
    for key in (FINE, MIDDLE):
        chain += gp.DefectAugment(key, prob_missing=0.3, prob_low_contrast=0)
    rois = dict.fromkeys((FINE, MIDDLE), Roi((0, 0, 0), (512, 64, 64)))
    with build(chain) as pipeline:
        batch = fetch(pipeline, rois)
    shares = missing(batch[FINE]).reshape(16, 4).mean(axis=1)
    assert 0 < shares.mean() < 1
    assert shares[missing(batch[MIDDLE])].min() < 1


def test_defect_augment_takes_a_channel_for_a_section() -> None:
    with_channel = {CHANNELS: Field((8,) * 3, lambda centres: brightness(centres)[None], True)}
    chain = RampSource(with_channel) + gp.DefectAugment(CHANNELS, prob_missing=0.3, prob_low_contrast=0)
    with build(chain) as pipeline:
        shares = [
            missing(fetch(pipeline, {CHANNELS: Roi((0, 0, 0), (256, 64, 64))}, seed)[CHANNELS]).mean()
            for seed in range(40)
        ]
    assert set(shares) == {0, 1}
    assert np.mean(shares) == pytest.approx(0.3, abs=0.2)


def test_defect_augments_folds_do_not_fit() -> None:
    chain = RampSource(BRIGHT) + gp.DefectAugment(FINE, prob_missing=0, prob_low_contrast=0, prob_deform=1)
    with build(chain) as pipeline, refusal("cannot reshape array of size"):
        fetch(pipeline, {FINE: Roi((0, 0, 0), (256, 256, 256))})


def test_shift_augment_displaces_by_whole_voxels_and_knows_one_voxel_size_and_no_channels() -> None:
    heights = {key: Field((SIZES[key],) * 3, lambda centres: centres[1], True) for key in (FINE, MIDDLE)}
    heights[CHANNELS] = Field((8,) * 3, lambda centres: centres[1:2], True)
    roi = Roi((0, 0, 0), (256, 256, 256))
    with build(RampSource(heights) + gp.ShiftAugment(prob_slip=0.5, sigma=20)) as pipeline:
        moved = fetch(pipeline, {FINE: roi})[FINE].data[:, 0, 0] - 4
        assert np.unique(moved).size > 3
        assert set(moved % 8) == {0}
        with refusal("is not the same as generated array shape"):
            fetch(pipeline, {FINE: roi, MIDDLE: roi})
        with refusal("array shift axis length 1 is not divisible"):
            fetch(pipeline, {CHANNELS: roi})


def test_add_affinities_cuts_labels_to_32_bits_and_takes_a_channel_for_an_axis() -> None:
    labels = np.array([[7, 7 + 2**32, 2**33, 2**33]], np.uint64)
    with build(Held({LABELS: labels}, (8, 8)) + gp.AddAffinities([(0, 1)], LABELS, DERIVED)) as pipeline:
        affinities = fetch(pipeline, {DERIVED: Roi((0, 0), (8, 24))})[DERIVED].data
    assert affinities.tolist() == [[[1, 0, 0]]]  # true: [[[0, 0, 1]]]
    source = Held({LABELS: np.ones((1, 4, 4, 4), np.uint64)}, (8, 8, 8))
    with build(source + gp.AddAffinities([(1, 0, 0)], LABELS, DERIVED)) as pipeline, refusal("does not align"):
        fetch(pipeline, {DERIVED: Roi((0, 0, 0), (24, 32, 32))})


def test_grow_boundary_counts_voxels_of_its_own_array_and_sees_nothing_beyond_the_request() -> None:
    labels = {8: np.zeros((48, 48), np.uint64), 32: np.zeros((12, 12), np.uint64)}
    grown = {}
    for size, array in labels.items():
        array[: 192 // size], array[192 // size :] = 1, 2  # two instances that touch at 192 nm
        with build(Held({LABELS: array}, (size, size)) + gp.GrowBoundary(LABELS, steps=2)) as pipeline:
            whole = fetch(pipeline, {LABELS: Roi((0, 0), (384, 384))})[LABELS].data
            part = fetch(pipeline, {LABELS: Roi((0, 0), (192, 384))})[LABELS].data
        grown[size] = int((whole[:, 0] == 0).sum()) * size
        assert part.all()  # the boundary lies at its edge
    assert grown == {8: 32, 32: 128}
    source = Held({LABELS: np.ones((1, 4, 4, 4), np.uint64)}, (8, 8, 8))
    with build(source + gp.GrowBoundary(LABELS, only_xy=True)) as pipeline, refusal("AssertionError"):
        fetch(pipeline, {LABELS: Roi((0, 0, 0), (32, 32, 32))})


def test_balance_labels_balances_all_channels_as_one_and_needs_a_mask_for_each() -> None:
    target = np.zeros((2, 10, 10), np.uint8)
    target[0, :, :5], target[1, 0, :2] = 1, 1
    roi = Roi((0, 0), (80, 80))
    source = Held({LABELS: target, MASK: np.ones_like(target)}, (8, 8))
    with build(source + gp.BalanceLabels(LABELS, DERIVED, MASK)) as pipeline:
        weights = fetch(pipeline, {DERIVED: roi})[DERIVED].data
    sums = [[weights[c][target[c] == value].sum() for value in (1, 0)] for c in (0, 1)]
    np.testing.assert_allclose(sums, [[96, 34], [4, 66]], atol=0.5)
    source = Held({LABELS: target, MASK: np.ones((1, 10, 10), np.uint8)}, (8, 8))
    with build(source + gp.BalanceLabels(LABELS, DERIVED, MASK)) as pipeline, refusal("Shape of mask"):
        fetch(pipeline, {DERIVED: roi})


# Sources


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A group whose array ``raw`` holds the number of its row."""
    write_json(tmp_path, ".zgroup", {"zarr_format": 2})
    write_zarr2(tmp_path / "raw", np.arange(1000.0)[:, None].repeat(8, axis=1), chunk=1000)
    return tmp_path


def test_zarr_source_serves_what_begins_half_a_voxel_off_the_lattice_as_if_it_began_on_it(rows: Path) -> None:
    write_json(rows / "raw", ".zattrs", {"resolution": [8, 8], "offset": [4, 0]})
    with build(gp.ZarrSource(str(rows), {FINE: "raw"})) as pipeline:
        served = fetch(pipeline, {FINE: Roi((16, 0), (16, 64))})[FINE].data
    assert served[:, 0].tolist() == [2, 3]  # true: 1.5 and 2.5


def test_zarr_source_cuts_a_fractional_resolution(rows: Path) -> None:
    write_json(rows / "raw", ".zattrs", {"resolution": [5.24, 4], "offset": [0, 0]})
    with build(gp.ZarrSource(str(rows), {FINE: "raw"})) as pipeline:
        assert pipeline.spec[FINE].voxel_size == (5, 4)
        assert pipeline.spec[FINE].roi.shape == (5000, 32)
        served = fetch(pipeline, {FINE: Roi((4500, 0), (5, 4))})[FINE].data
    assert served.tolist() == [[900]]  # true: 858


def test_gp_array_source_does_not_import_what_it_uses() -> None:
    roi = Roi((0, 0), (8, 8))
    source = gp_array_source.ArraySource(FINE, Array(np.zeros((8, 8)), ArraySpec(roi, (1, 1))))
    with build(source) as pipeline, pytest.raises(BatchRequestError, match="NameError: name 'Batch' is not defined"):
        fetch(pipeline, {FINE: roi})
