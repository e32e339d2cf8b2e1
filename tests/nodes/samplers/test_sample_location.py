"""Samples at locations of a sampler, in gunpowder chains: read there, delivered in place, recorded, repeatable."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gunpowder import (
    Array,
    ArrayKey,
    ArraySpec,
    Batch,
    BatchFilter,
    BatchProvider,
    BatchRequest,
    Coordinate,
    Graph,
    GraphKey,
    GraphSpec,
    MergeProvider,
    Node,
    PipelineRequestError,
    RandomLocation,
    Roi,
    build,
)
from scipy.stats import chisquare

from scalenet_gp.nodes.augment.deform_augment import DeformAugment
from scalenet_gp.nodes.augment.deformation import Deformation
from scalenet_gp.nodes.prefetch import Stack
from scalenet_gp.nodes.samplers.mask_sampler import MaskSampler
from scalenet_gp.nodes.samplers.random_volume import RandomVolume
from scalenet_gp.nodes.samplers.sample_location import SampleLocation, count_draws
from scalenet_gp.nodes.samplers.sampler import Sampler, UniformSampler
from scalenet_gp.nodes.samplers.voxel_index import LabelArray
from scalenet_gp.nodes.samplers.weighted_samplers import ClassSampler
from scalenet_gp.nodes.sources.multiscale_source import MultiscaleSource
from scalenet_gp.nodes.targets.class_targets import ClassTargets
from scalenet_gp.nodes.testing import Field, RampSource, label_ramp, ramp
from scalenet_gp.testing import voxel_centers
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from tests.nodes.train.two_scales import setup_refusal
from tests.scalenet_gp.volumes.ome_zarr_files import VNC, write_multiscale

COARSE, MIDDLE, FINE, LABELS, MASK = (ArrayKey(name) for name in ("COARSE", "MIDDLE", "FINE", "LABELS", "MASK"))
SIZES = {COARSE: 128, MIDDLE: 32, FINE: 8}
MICRO = 1e-6


def scales(dims: int) -> dict[ArrayKey, Field]:
    return {key: ramp((size,) * dims) for key, size in SIZES.items()} | {LABELS: label_ramp((8,) * dims)}


def nested(dims: int) -> dict[ArrayKey, Roi]:
    """ROIs around one place, each on its lattice; the total begins off every lattice's origin."""
    return {
        COARSE: Roi((-256, -384, -128)[:dims], (640, 768, 384)[:dims]),
        MIDDLE: Roi((-32, -64, 0)[:dims], (160, 192, 128)[:dims]),
        FINE: Roi((24, 8, 40)[:dims], (56, 64, 48)[:dims]),
        LABELS: Roi((32, 16, 48)[:dims], (40, 48, 32)[:dims]),
    }


def request_of(rois: Mapping[Any, Roi], seed: int | None = 1) -> BatchRequest:
    request = BatchRequest(random_seed=seed)
    for key, roi in rois.items():
        request[key] = roi
    return request


def batches(chain: BatchProvider, rois: Mapping[Any, Roi], count: int, seed: int | None = 1) -> list[Batch]:
    """``count`` batches, each with a seed of its own if ``seed`` is given."""
    seeds = [None] * count if seed is None else np.random.default_rng(seed).integers(2**31, size=count).tolist()
    with build(chain) as pipeline:
        return [pipeline.request_batch(request_of(rois, s)) for s in seeds]


def record_of(batch: Batch, key: ArrayKey = LABELS) -> dict[str, Any]:
    return json.loads(batch[key].attrs["location"])


def straight(dims: int) -> DeformAugment:
    """A deformation that only shifts."""
    return DeformAugment((512,) * dims, (0,) * dims)


@contextmanager
def refusal(message: str) -> Iterator[None]:
    with pytest.raises(PipelineRequestError) as error:
        yield
    assert re.search(message, str(error.value)), error.value


def shown(array: Array) -> np.ndarray:
    """The displacement of the content of a ramp, which has to be the same everywhere."""
    moved = array.data - voxel_centers(array.spec.roi, array.spec.voxel_size)
    shift = moved.reshape(len(moved), -1).mean(axis=1)
    np.testing.assert_allclose(
        moved, np.broadcast_to(shift.reshape(-1, *(1,) * (moved.ndim - 1)), moved.shape), atol=MICRO
    )
    return shift


# with a DeformAugment upstream


@pytest.mark.parametrize("dims", [2, 3])
def test_all_scales_show_the_place_that_was_drawn(dims: int) -> None:
    sampler = UniformSampler(Roi((-1000, 4000, 500)[:dims], (600, 500, 700)[:dims]))
    chain = RampSource(scales(dims)) + straight(dims) + SampleLocation(LABELS, sampler)
    for batch in batches(chain, nested(dims), 12):
        record = record_of(batch)
        assert batch[LABELS].spec.roi == nested(dims)[LABELS]
        np.testing.assert_array_equal(np.add(nested(dims)[LABELS].begin, record["shift"]), record["begin"])
        for key in SIZES:
            assert batch[key].spec.roi == nested(dims)[key]
            assert batch[key].attrs["location"] == batch[LABELS].attrs["location"]
            np.testing.assert_allclose(shown(batch[key]), record["shift"], rtol=0, atol=MICRO)
        centres = voxel_centers(Roi(record["begin"], nested(dims)[LABELS].shape), (8,) * dims)
        np.testing.assert_array_equal(batch[LABELS].data, 2 * centres)


def test_places_of_a_chain_are_equally_likely_and_on_the_finest_lattice() -> None:
    # 40 × 48 samples in 64 × 64: 4 × 3 places
    chain = RampSource(scales(2)) + straight(2) + SampleLocation(LABELS, UniformSampler(Roi((808, 1000), (64, 64))))
    rois = {key: nested(2)[key] for key in (COARSE, LABELS)}
    counts = Counter(tuple(record_of(batch)["begin"]) for batch in batches(chain, rois, 400))
    assert set(counts) == set(itertools.product(range(808, 833, 8), range(1000, 1017, 8)))
    assert chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize("dims", [2, 3])
def test_a_deformed_sample_of_a_class_contains_the_class(dims: int) -> None:
    shape, begin = (5, 7, 6)[:dims], (-200, 64, 1000)[:dims]
    data = np.zeros(shape, np.uint8)
    data[(2,) * dims] = 1
    labels = LabelArray(data, (24,) * dims, begin)
    (corner,) = (np.argwhere(data) * 24 + begin).tolist()

    def classes(centres: np.ndarray) -> np.ndarray:
        inside = [(c <= along) & (along < c + 24) for c, along in zip(corner, centres, strict=True)]
        return np.all(inside, axis=0)[None].astype(np.uint8)

    fields = {COARSE: ramp((128,) * dims), LABELS: Field((8,) * dims, classes, interpolatable=False)}
    # around a point of the common lattice, which the deformation then turns about
    rois = {COARSE: Roi((-256,) * dims, (512,) * dims), LABELS: Roi((-48,) * dims, (96,) * dims)}
    deform = DeformAugment(
        (512,) * dims, (4,) * dims, rotation_axes=range(dims), mirror_axes=range(dims), transpose_axes=range(dims)
    )
    chain = RampSource(fields) + deform + SampleLocation(LABELS, ClassSampler({"spot": labels}, {"spot": 1}))
    found = batches(chain, rois, 60)
    assert all(batch[LABELS].data.any() for batch in found)
    assert count_draws((batch[LABELS].attrs["location"] for batch in found), "class") == {"spot": 60}
    # and not always at the same place
    assert len({tuple(record_of(batch)["begin"]) for batch in found}) > 10


def test_classes_come_in_their_shares_through_a_chain() -> None:
    spots = {
        "mito": LabelArray(np.ones((2, 2)), (8, 8), (0, 0)),
        "er": LabelArray(np.ones((1, 9)), (8, 8), (900, 900)),
    }
    sampler = ClassSampler(spots, {"mito": 0.5, "er": 0.2}, UniformSampler(Roi((5000, 5000), (500, 500))))
    chain = RampSource(scales(2)) + straight(2) + SampleLocation(LABELS, sampler)
    counts = count_draws(
        (b[LABELS].attrs["location"] for b in batches(chain, {LABELS: nested(2)[LABELS]}, 300)), "class"
    )
    assert set(counts) == {"mito", "er", None}
    assert chisquare([counts["mito"], counts["er"], counts[None]], [150, 60, 90]).pvalue > 1e-3


class Between(BatchFilter):
    """A node between the two."""

    def process(self, batch: Batch, request: BatchRequest) -> None: ...


class FreshRequest(BatchFilter):
    """A node between the two that asks for arrays by a request of its own, as gunpowder's MergeProvider does."""

    def provide(self, request: BatchRequest) -> Batch:
        asked = BatchRequest(random_seed=request.random_seed)
        for key, spec in request.items():
            if spec.roi is not None:
                asked[key] = spec
        return self.get_upstream_provider().request_batch(asked)


def test_the_nearest_deformation_reads_the_rest_of_the_shift_through_other_nodes() -> None:
    location = SampleLocation(LABELS, UniformSampler(Roi((1000, 1000), (500, 500))))
    chain = RampSource(scales(2)) + straight(2) + straight(2) + Between() + Between() + Stack(1) + location
    rests = []
    for batch in batches(chain, nested(2), 20):
        attrs = {name: values[0] for name, values in batch[FINE].attrs.items() if name != "location"}
        first, nearest = (Deformation.from_json(attrs[name]) for name in ("deformation", "deformation_2"))
        assert first.source_centre == first.target_centre
        rests.append(tuple(np.subtract(nearest.source_centre, nearest.target_centre).tolist()))
        np.testing.assert_array_equal(rests[-1], np.mod(json.loads(batch[FINE].attrs["location"])["shift"], 128))
        assert set(batch.arrays) == set(nested(2))
    assert len(set(rests)) > 10


def test_the_rest_of_a_shift_that_nobody_applies_is_an_error() -> None:
    location = SampleLocation(LABELS, UniformSampler(Roi((1000, 1000), (500, 500))))
    with refusal(r"SUBVOXEL_SHIFT_\d+ requested, but FreshRequest did not provide it"):
        batches(RampSource(scales(2)) + straight(2) + FreshRequest() + location, nested(2), 1)


class Forgetful(FreshRequest):
    """A node that answers what it did not do."""

    def provide(self, request: BatchRequest) -> Batch:
        batch = super().provide(request)
        (key,) = (key for key in request.array_specs if key.identifier.startswith("SUBVOXEL_SHIFT"))
        batch[key] = Array(np.zeros(2), ArraySpec(nonspatial=True))
        return batch


def test_a_random_location_below_a_deformation_is_refused_with_the_right_order() -> None:
    sampler = SampleLocation(LABELS, UniformSampler(Roi((0, 0), (1024, 1024))))
    chain = RampSource(scales(2)) + straight(2) + RandomLocation() + sampler
    message = "a RandomLocation is between DeformAugment and SampleLocation, .* leave RandomLocation out; the order is"
    with setup_refusal(message), build(chain):
        pass


def test_another_shift_than_the_requested_one_is_an_error() -> None:
    location = SampleLocation(LABELS, UniformSampler(Roi((1000, 1000), (500, 500))))
    with refusal("SampleLocation asked for content .* world units further on, upstream applied"):
        batches(RampSource(scales(2)) + straight(2) + Forgetful() + location, nested(2), 5)


def test_branches_may_each_have_a_deformation() -> None:
    fields = scales(2)
    branches = tuple(RampSource({key: fields[key]}) + straight(2) for key in (FINE, LABELS))
    location = SampleLocation(LABELS, UniformSampler(Roi((1000, 1000), (500, 500))))
    asked = {key: nested(2)[key] for key in (FINE, LABELS)}
    for batch in batches(branches + MergeProvider() + location, asked, 3):
        shift = json.loads(batch[FINE].attrs["location"])["shift"]
        common = np.lcm(*(np.array(fields[key].voxel_size) for key in asked))
        np.testing.assert_array_equal(np.mod(shift, common), 0)  # beyond a merge, only whole voxels of all arrays
        assert set(batch.arrays) == {FINE, LABELS}


def test_a_deformation_of_one_branch_alone_is_not_asked_to_shift() -> None:
    branches = (
        RampSource({COARSE: scales(2)[COARSE]}) + straight(2),
        RampSource({LABELS: scales(2)[LABELS]}),
    )
    location = SampleLocation(LABELS, UniformSampler(Roi((1000, 1000), (500, 500))))
    rois = {COARSE: nested(2)[COARSE], LABELS: nested(2)[LABELS]}
    for batch in batches(branches + MergeProvider() + location, rois, 5):
        assert not np.mod(record_of(batch)["shift"], 128).any()


def test_two_locations_add_their_shifts() -> None:
    sampler = UniformSampler(Roi((1000, 1000), (500, 500)))
    chain = RampSource(scales(2)) + straight(2) + SampleLocation(LABELS, sampler) + SampleLocation(LABELS, sampler)
    for batch in batches(chain, nested(2), 5):
        centres = voxel_centers(nested(2)[LABELS], (8, 8))
        np.testing.assert_allclose(shown(batch[FINE]), (batch[LABELS].data / 2 - centres)[:, 0, 0], atol=MICRO)


def test_bounded_arrays_stay_inside_under_a_shift_on_the_finest_lattice() -> None:
    source = RampSource(scales(2), Roi((0, 0), (1280, 1024)))
    chain = source + straight(2) + SampleLocation(LABELS, UniformSampler())
    found = {tuple(record_of(batch)["shift"]) for batch in batches(chain, nested(2), 200)}
    # the coarse ROI goes from 0 to 640 less its own begin; whatever is read lies inside, or gunpowder stops
    assert {shift[0] for shift in found} <= set(range(256, 256 + 641, 8))
    assert {shift[1] for shift in found} <= set(range(384, 384 + 257, 8))
    assert len(found) > 150


def test_a_bounded_array_off_the_common_lattice_stays_inside_too() -> None:
    source = RampSource(
        {FINE: ramp((8, 8)), COARSE: Field((128, 128), lambda c: c, True)}, Roi((120, 120), (2000, 2000))
    )
    rois = {FINE: Roi((0, 0), (64, 64)), COARSE: Roi((0, 0), (128, 128))}
    found = batches(source + straight(2) + SampleLocation(FINE, UniformSampler()), rois, 100)
    assert all(min(record_of(batch, FINE)["begin"]) >= 128 for batch in found)


# without one


def test_places_equal_those_of_gunpowders_random_location() -> None:
    volume = Roi((-256, 128), (1152, 1280))
    found, rois = [], {key: nested(2)[key] for key in (COARSE, FINE)}
    for location in (SampleLocation(FINE, UniformSampler()), RandomLocation()):
        got = batches(RampSource(scales(2), volume) + location, rois, 250)
        found.append({tuple(shown(batch[FINE]).round(6)) for batch in got})
    assert found[0] == found[1]
    assert len(found[0]) == 5 * 5


@pytest.mark.parametrize(
    "sampler",
    [MaskSampler(LabelArray(np.ones((3, 3)), (128, 128), (512, 512))), UniformSampler(Roi((0, 0), (512, 640)))],
)
def test_without_a_deformation_shifts_are_multiples_of_the_common_lattice(sampler: Sampler) -> None:
    rois = {COARSE: Roi((0, 0), (384, 384)), FINE: Roi((8, 8), (256, 256))}
    for batch in batches(RampSource(scales(2)) + SampleLocation(FINE, sampler), rois, 50):
        shift = record_of(batch, FINE)["shift"]
        assert all(length % 128 == 0 for length in shift)
        for key in rois:
            np.testing.assert_allclose(shown(batch[key]), shift, rtol=0, atol=MICRO)


def test_an_array_that_is_too_small_says_how_much_is_missing() -> None:
    chain = RampSource(scales(2), Roi((0, 0), (512, 1024))) + SampleLocation(LABELS, UniformSampler())
    with (
        build(chain) as pipeline,
        refusal(r"COARSE can never be met: it offers .*\(640, 768\).* \(128, 0\) world units"),
    ):
        pipeline.request_batch(request_of(nested(2)))


def test_arrays_that_pull_apart_are_named() -> None:
    bounded = {COARSE: Roi((0, 0), (640, 768)), FINE: Roi((640, 0), (256, 768))}
    sources = tuple(RampSource({key: ramp((SIZES[key],) * 2)}, roi) for key, roi in bounded.items())
    chain = sources + MergeProvider() + SampleLocation(FINE, UniformSampler())
    rois = {key: nested(2)[key] for key in bounded}
    with build(chain) as pipeline, refusal(r"640 or later \(FINE\) and at 280 or earlier \(COARSE\): 360 world units"):
        pipeline.request_batch(request_of(rois))


def test_a_region_that_the_arrays_do_not_reach_is_refused() -> None:
    chain = RampSource(scales(2), Roi((0, 0), (1280, 1280))) + SampleLocation(
        LABELS, UniformSampler(Roi((5000, 0), (64, 640)))
    )
    with (
        build(chain) as pipeline,
        refusal(r"region .* along axis 0: .*\(the region\) and at \d+ or earlier \(COARSE\)"),
    ):
        pipeline.request_batch(request_of(nested(2)))


# seeds and records


@pytest.mark.parametrize("dims", [2, 3])
def test_equal_seeds_give_equal_batches(dims: int) -> None:
    chain = (
        RampSource(scales(dims))
        + straight(dims)
        + SampleLocation(LABELS, UniformSampler(Roi((0,) * dims, (4000,) * dims)))
    )
    one, two = (batches(chain, nested(dims), 5, seed=7) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert a[LABELS].attrs == b[LABELS].attrs
        np.testing.assert_array_equal(a[COARSE].data, b[COARSE].data)
    assert len({batch[LABELS].attrs["location"] for batch in one}) == 5
    unseeded = batches(chain, nested(dims), 5, seed=None)
    assert len({batch[LABELS].attrs["location"] for batch in unseeded}) == 5


def test_a_record_puts_the_sample_back() -> None:
    data = LabelArray(np.ones((5, 5)), (8, 8), (400, 600))
    sampler = ClassSampler({"mito": data}, {"mito": 1})
    source = RampSource(scales(2))
    deform = DeformAugment((512, 512), (20, 20), rotation_axes=(0, 1))
    (batch,) = batches(source + deform + SampleLocation(LABELS, sampler), nested(2), 1)
    location, deformation = batch[LABELS].attrs["location"], batch[LABELS].attrs["deformation"]
    again = DeformAugment((512, 512), (20, 20), rotation_axes=(0, 1), replay=deformation)
    # nothing is drawn: a strategy that could not is no hindrance
    never = MaskSampler(LabelArray(np.zeros((5, 5)), (8, 8), (0, 0)))
    chain = source + again + SampleLocation(LABELS, never, replay=location)
    for repeated in batches(chain, nested(2), 3, seed=99):
        assert repeated[LABELS].attrs["location"] == location
        for key in nested(2):
            np.testing.assert_array_equal(repeated[key].data, batch[key].data)
    # elsewhere in the request, it is the same place of the world
    moved = {key: roi.shift(Coordinate(128, -256)) for key, roi in nested(2).items()}
    (elsewhere,) = batches(source + straight(2) + SampleLocation(LABELS, never, replay=location), moved, 1)
    assert record_of(elsewhere)["begin"] == record_of(batch)["begin"]
    assert record_of(elsewhere)["class"] == "mito"


def test_records_that_do_not_fit_are_refused() -> None:
    for record in ("nothing", "[]", '{"shift": [0, 0]}', '{"begin": 3}'):
        with pytest.raises(ValueError, match="is not a text of"):
            SampleLocation(LABELS, UniformSampler(), replay=record)
    source = RampSource(scales(2), Roi((0, 0), (1280, 1280)))
    for begin, message in (([8, 8], "along axis 0: .* COARSE"), ([8, 8, 8], "the sample has 2 axes")):
        chain = source + SampleLocation(LABELS, UniformSampler(), replay=json.dumps({"begin": begin}))
        with build(chain) as pipeline, refusal("replay.*" + message.replace(" COARSE", r"\(COARSE\)")):
            pipeline.request_batch(request_of(nested(2)))


# what passes


WHICH, POINTS = ArrayKey("WHICH"), GraphKey("POINTS")


class Points(BatchProvider):
    """Serves the points (8 n, 8 n), and an array outside space."""

    def setup(self) -> None:
        self.provides(POINTS, GraphSpec(Roi((None, None), (None, None)), directed=False))
        self.provides(WHICH, ArraySpec(nonspatial=True))

    def provide(self, request: BatchRequest) -> Batch:
        batch = Batch()
        if POINTS in request:
            roi = request[POINTS].roi
            nodes = [Node(n, np.array([8.0 * n, 8.0 * n])) for n in range(500) if roi.contains((8 * n, 8 * n))]
            batch[POINTS] = Graph(nodes, [], GraphSpec(roi, directed=False))
        if WHICH in request:
            batch[WHICH] = Array(np.array(5), ArraySpec(nonspatial=True))
        return batch


def test_graphs_move_along_and_arrays_outside_space_pass() -> None:
    chain = (
        (RampSource(scales(2)), Points())
        + MergeProvider()
        + SampleLocation(FINE, UniformSampler(Roi((512, 512), (512, 512))))
    )
    with build(chain) as pipeline:
        request = request_of({FINE: Roi((0, 0), (256, 256))}, seed=3)
        request[POINTS] = GraphSpec(Roi((0, 0), (256, 256)))
        request[WHICH] = ArraySpec(nonspatial=True)
        batch = pipeline.request_batch(request)
    assert batch[WHICH].data == 5
    assert "location" not in batch[WHICH].attrs
    shift = np.array(record_of(batch, FINE)["shift"])
    world = [node.location + shift for node in batch[POINTS].nodes]
    expected = [(8.0 * n, 8.0 * n) for n in range(500) if np.all((shift <= 8 * n) & (8 * n < shift + 256))]
    assert sorted(map(tuple, world)) == expected


@pytest.mark.parametrize("dims", [2, 3])
def test_a_placeholder_moves_along(dims: int) -> None:
    source = RampSource(scales(dims))
    chain = source + straight(dims) + SampleLocation(LABELS, UniformSampler(Roi((0,) * dims, (4000,) * dims)))
    request = request_of({FINE: nested(dims)[FINE]})
    request[LABELS] = ArraySpec(nested(dims)[LABELS], placeholder=True)
    with build(chain) as pipeline:
        batch = pipeline.request_batch(request)
    assert LABELS not in batch
    np.testing.assert_allclose(shown(batch[FINE]), record_of(batch, FINE)["shift"], atol=MICRO)


def test_a_crop_smaller_than_the_sample_is_padded_and_masked(tmp_path: Path) -> None:
    data = np.arange(1, 26, dtype=np.uint8).reshape(5, 5)
    volume = MultiscaleImage.open(write_multiscale(tmp_path / "crop", [data], [(8, 8)], [(404, 804)], axes="yx"))
    source = MultiscaleSource(volume, {LABELS: (8, 8)}, labels=True, padding="constant", masks={LABELS: MASK})
    crop = volume.roi((8, 8), source.world)
    rois = {LABELS: Roi((0, 0), (64, 80)), MASK: Roi((0, 0), (64, 80))}
    found = batches(source + straight(2) + SampleLocation(LABELS, UniformSampler(crop)), rois, 150)
    for batch in found:
        np.testing.assert_array_equal(np.sort(batch[LABELS].data[batch[MASK].data > 0]), np.arange(1, 26))
        assert not batch[LABELS].data[batch[MASK].data == 0].any()
    assert {tuple(record_of(b)["begin"]) for b in found} == set(
        itertools.product(range(440 - 64, 401, 8), range(840 - 80, 801, 8))
    )


@pytest.mark.skipif(not VNC.exists(), reason="the real data ../shared/data/vnc.zarr is absent")
def test_real_serial_sections() -> None:
    raw = MultiscaleImage.open(VNC / "recon-1/em/tem-uint8")
    crop = VNC / "recon-1/labels/groundtruth/crop1"
    classes = {name: MultiscaleImage.open(crop / name) for name in ("synapse", "mito")}
    world = raw.world()
    fine, coarse = (tuple(world.size(size)) for size in ((50, 4.6, 4.6), (50, 18.4, 18.4)))
    sources = (
        MultiscaleSource(raw, {COARSE: coarse, FINE: fine}, world, padding="reflect"),
        ClassTargets(classes, {LABELS: fine}, {LABELS: MASK}, world),
    )
    annotated = classes["mito"].roi(fine, world)
    sampler = ClassSampler(classes, {"synapse": 0.5, "mito": 0.25}, UniformSampler(annotated), world)
    deform = DeformAugment((2500, 2500, 2500), (0, 50, 50), rotation_axes=(1, 2), mirror_axes=(0, 1, 2))
    chain = sources + MergeProvider() + deform + SampleLocation(LABELS, sampler)
    label_roi = Roi((0, 0, 0), Coordinate(8, 64, 64) * Coordinate(fine))
    rois = {
        COARSE: Roi(Coordinate(-4, -24, -24) * Coordinate(coarse), Coordinate(16, 64, 64) * Coordinate(coarse)),
        FINE: label_roi,
        LABELS: label_roi,
        MASK: label_roi,
    }
    found = batches(chain, rois, 30)
    assert set(count_draws((batch[LABELS].attrs["location"] for batch in found), "class")) == {"synapse", "mito", None}
    for batch in found:
        name = record_of(batch)["class"]
        assert batch[MASK].data.any()
        assert name is None or batch[LABELS].data[list(classes).index(name)].any()


def test_what_cannot_be_is_refused() -> None:
    source = RampSource({FINE: ramp((8, 8))})
    region = UniformSampler(Roi((0, 0), (128, 128)))
    with (
        setup_refusal("the reference LABELS is not an array of voxels .* FINE"),
        build(source + SampleLocation(LABELS, region)),
    ):
        pass
    both = (RampSource({FINE: ramp((8, 8))}), RampSource({LABELS: label_ramp((8, 8, 8))})) + MergeProvider()
    with build(both + SampleLocation(FINE, region)) as pipeline:
        with refusal("the reference FINE is not requested"):
            pipeline.request_batch(request_of({LABELS: Roi((0, 0, 0), (8, 8, 8))}))
        with refusal("LABELS has 3 spatial axes, the reference FINE has 2"):
            pipeline.request_batch(request_of({FINE: Roi((0, 0), (8, 8)), LABELS: Roi((0, 0, 0), (8, 8, 8))}))


# several volumes


def volumes() -> tuple[BatchProvider, ...]:
    """Two branches, at 1000 and at 9000."""
    return tuple(
        RampSource(scales(2)) + straight(2) + SampleLocation(LABELS, UniformSampler(Roi((at, at), (512, 512))))
        for at in (1000, 9000)
    )


def test_volumes_are_drawn_by_weight_and_recorded() -> None:
    chain = volumes() + RandomVolume({"hela": 3, "jurkat": 1})
    rois = {LABELS: nested(2)[LABELS], FINE: nested(2)[FINE]}
    found = batches(chain, rois, 200)
    for batch in found:
        record = record_of(batch, FINE)
        assert (record["begin"][0] >= 9000) == (record["volume"] == "jurkat")
        np.testing.assert_allclose(shown(batch[FINE]), record["shift"], rtol=0, atol=MICRO)
    counts = count_draws((batch[FINE].attrs["location"] for batch in found), "volume")
    assert chisquare([counts["hela"], counts["jurkat"]], [150, 50]).pvalue > 1e-3
    with build(chain) as pipeline:
        again = [pipeline.request_batch(request_of(rois, seed)) for seed in (5, 6, 5, 6)]
    assert record_of(again[0]) == record_of(again[2]) != record_of(again[1]) == record_of(again[3])


def test_a_record_names_the_volume() -> None:
    (batch,) = batches(volumes() + RandomVolume({"hela": 0, "jurkat": 1}), nested(2), 1)
    chain = volumes() + RandomVolume({"hela": 1, "jurkat": 0}, replay=batch[LABELS].attrs["location"])
    assert {record_of(b)["volume"] for b in batches(chain, nested(2), 5)} == {"jurkat"}
    with pytest.raises(ValueError, match="replay names the volume None"):
        RandomVolume({"hela": 1}, replay="{}")


def test_volumes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="'hela' is -1"):
        RandomVolume({"hela": -1})
    with pytest.raises(ValueError, match="all 0"):
        RandomVolume({"hela": 0})
    with setup_refusal(r"names 1 volumes \(hela\), but 2 branches"), build(volumes() + RandomVolume({"hela": 1})):
        pass
    other = RampSource({LABELS: label_ramp((16, 16))})
    chain = (RampSource(scales(2)), other) + RandomVolume({"hela": 1, "jurkat": 1})
    with setup_refusal(r"voxel_size of LABELS is \(8, 8\) in hela, but \(16, 16\) in jurkat"), build(chain):
        pass


def test_the_deformation_that_is_recorded_holds_the_shift() -> None:
    chain = RampSource(scales(2)) + straight(2) + SampleLocation(LABELS, UniformSampler(Roi((1000, 1000), (500, 500))))
    for batch in batches(chain, nested(2), 10):
        if "deformation" in batch[FINE].attrs:
            deformation = Deformation.from_json(batch[FINE].attrs["deformation"])
            rest = np.subtract(deformation.source_centre, deformation.target_centre)
            np.testing.assert_array_equal(rest, np.mod(record_of(batch)["shift"], 128))
