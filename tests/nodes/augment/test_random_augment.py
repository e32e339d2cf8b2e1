from __future__ import annotations

from collections.abc import Callable, Sequence
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
    PipelineRequestError,
    Roi,
    build,
)
from gunpowder.pipeline import PipelineSetupError
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp.nodes.augment.augment import DrawnParameters
from scalenet_gp.nodes.augment.blur_augment import Blur, BlurAugment
from scalenet_gp.nodes.augment.intensity_augment import Intensity, IntensityAugment
from scalenet_gp.nodes.augment.misaligned_sections import MisalignedSections, Misalignment
from scalenet_gp.nodes.augment.noise_augment import Noise, NoiseAugment
from scalenet_gp.nodes.augment.random_augment import RandomAugment
from scalenet_gp.nodes.augment.section_augment import LowContrast, LowContrastSections, Missing, MissingSections
from scalenet_gp.nodes.testing import Field, RampSource

COARSE, FINE, OTHER = (ArrayKey(name) for name in ("COARSE", "FINE", "OTHER"))
BOTH = (COARSE, FINE)
Make = Callable[..., RandomAugment[Any]]

NODES: dict[str, Make] = {
    "intensity": lambda arrays=BOTH, **base: IntensityAugment(arrays, (0.5, 2), (-0.3, 0.3), (0.5, 2), **base),
    "noise": lambda arrays=BOTH, **base: NoiseAugment(arrays, (0.05, 0.1), **base),
    "blur": lambda arrays=BOTH, **base: BlurAugment(arrays, (8, 20), **base),
    "missing_sections": lambda arrays=BOTH, **base: MissingSections(arrays, 8, 0.3, **base),
    "low_contrast_sections": lambda arrays=BOTH, **base: LowContrastSections(arrays, 8, 0.3, factor=(0, 0.5), **base),
    "misaligned_sections": lambda arrays=BOTH, **base: MisalignedSections(arrays, 8, 20.0, slip=0.3, shift=0.1, **base),
}
nodes = pytest.mark.parametrize("make", NODES.values(), ids=NODES)


def wave(centres: np.ndarray) -> np.ndarray:
    waves = 0.5 + 0.5 * np.sin(centres / np.array([29, 41, 53][: len(centres)]).reshape(-1, *(1,) * len(centres)))
    return waves.prod(axis=0).astype(np.float32)[np.newaxis]


def request_of(seed: int | None, keys: Sequence[ArrayKey] = (*BOTH, OTHER), dims: int = 3) -> BatchRequest:
    request = BatchRequest(random_seed=seed)
    rois = {COARSE: ((64, 32, -96), (192, 160, 192)), FINE: ((96, 64, -40), (96, 80, 120))}
    for key in keys:
        begin, shape = rois[COARSE if key == COARSE else FINE]
        request[key] = Roi(begin[:dims], shape[:dims])
    return request


def run(
    node: BatchFilter | None, seed: int | None = 0, keys: Sequence[ArrayKey] = (*BOTH, OTHER), dims: int = 3
) -> Batch:
    source = RampSource({key: Field((size,) * dims, wave, True) for key, size in ((COARSE, 32), (FINE, 8), (OTHER, 8))})
    with build(source if node is None else source + node) as pipeline:
        return pipeline.request_batch(request_of(seed, keys, dims))


def changed(batch: Batch, name: str) -> bool:
    return name in batch[FINE].attrs


@nodes
@pytest.mark.parametrize("dims", [2, 3])
def test_equal_seeds_give_equal_batches_and_one_record_for_all_arrays(make: Make, dims: int) -> None:
    name = make().record_name
    first, second, other, fresh = (run(make(), seed, dims=dims) for seed in (3, 3, 4, None))
    plain = run(None, dims=dims)
    for key in BOTH:
        np.testing.assert_array_equal(first[key].data, second[key].data)
        assert first[key].data.dtype == np.float32
        assert first[key].data.flags.c_contiguous
        assert first[key].spec == plain[key].spec
        assert first[key].attrs == {name: first[FINE].attrs[name]}
    assert not np.array_equal(first[FINE].data, plain[FINE].data)
    assert len({batch[FINE].attrs[name] for batch in (first, second, other, fresh)}) == 3
    np.testing.assert_array_equal(first[OTHER].data, plain[OTHER].data)
    assert not first[OTHER].attrs


@nodes
def test_a_record_gives_the_same_batch_again_whatever_the_seed(make: Make) -> None:
    name = make().record_name
    first = run(make(), 3)
    again = run(make(replay=first[COARSE].attrs[name], p=0.0), None)
    alone = run(make(replay=first[COARSE].attrs[name]), 5, keys=[FINE])
    for key in BOTH:
        np.testing.assert_array_equal(first[key].data, again[key].data)
        assert again[key].attrs == first[key].attrs
    np.testing.assert_array_equal(first[FINE].data, alone[FINE].data)


@nodes
def test_p_is_how_often_batches_change(make: Make) -> None:
    with build(
        RampSource({FINE: Field((8, 8), wave, True), COARSE: Field((32, 32), wave, True)}) + make(p=0.25)
    ) as pipeline:
        seeds = np.random.default_rng(0).integers(2**31, size=400)
        count = sum(
            make().record_name in pipeline.request_batch(request_of(int(seed), [FINE], 2))[FINE].attrs for seed in seeds
        )
    assert 70 < count < 130  # 100 ± 3.5 standard deviations
    assert changed(run(make(p=1.0)), make().record_name)
    assert not changed(run(make(p=0.0)), make().record_name)


@nodes
def test_a_second_node_of_the_same_kind_keeps_the_first_ones_record(make: Make) -> None:
    name = make().record_name

    def chain(first: RandomAugment[Any], second: RandomAugment[Any]) -> Batch:
        source = RampSource({FINE: Field((8, 8, 8), wave, True)})
        with build(source + first + second) as pipeline:
            return pipeline.request_batch(request_of(1, [FINE]))

    twice = chain(make([FINE]), make([FINE]))
    assert set(twice[FINE].attrs) == {name, f"{name}_2"}
    assert twice[FINE].attrs[name] != twice[FINE].attrs[f"{name}_2"]
    again = chain(*(make([FINE], replay=record) for record in twice[FINE].attrs.values()))
    np.testing.assert_array_equal(twice[FINE].data, again[FINE].data)


class Remembering(BatchProvider):
    """Serves the same memory every time: whole, or a view of it as a source does that holds its volume."""

    def __init__(self) -> None:
        self.volume = wave(np.stack(np.meshgrid(*[np.arange(160) * 8.0] * 2, indexing="ij"))).copy()

    def setup(self) -> None:
        self.provides(FINE, ArraySpec(Roi((0, 0), (1280, 1280)), Coordinate(8, 8), interpolatable=True))

    def provide(self, request: BatchRequest) -> Batch:
        spec = self.spec[FINE].copy()
        whole, spec.roi = spec.roi, request[FINE].roi
        inside = (spec.roi // spec.voxel_size).to_slices()
        batch = Batch()
        batch[FINE] = Array(self.volume if spec.roi == whole else self.volume[:, *inside], spec)
        return batch


def run_in_memory(source: Remembering, node: BatchFilter, roi: Roi) -> np.ndarray:
    request = BatchRequest(random_seed=0)
    request[FINE] = roi
    with build(source + node) as pipeline:
        return pipeline.request_batch(request)[FINE].data


@nodes
def test_memory_that_may_be_the_sources_stays_as_it_is(make: Make) -> None:
    source = Remembering()
    before = source.volume.copy()
    data = run_in_memory(source, make([FINE]), Roi((320, 320), (640, 640)))
    np.testing.assert_array_equal(source.volume, before)
    assert not np.shares_memory(data, source.volume)


@pytest.mark.parametrize("name", ["intensity", "noise", "missing_sections", "low_contrast_sections"])
def test_memory_of_the_batch_is_written_to_unless_it_is_read_only(name: str) -> None:
    source = Remembering()
    whole = Roi((0, 0), (1280, 1280))
    source.volume.setflags(write=False)
    assert not np.shares_memory(run_in_memory(source, NODES[name]([FINE]), whole), source.volume)
    source.volume.setflags(write=True)
    assert np.shares_memory(run_in_memory(source, NODES[name]([FINE]), whole), source.volume)


@nodes
def test_what_is_not_asked_for_is_left_out(make: Make) -> None:
    assert set(run(make(), keys=[FINE]).arrays) == {FINE}
    assert not run(make(), keys=[OTHER])[OTHER].attrs


@nodes
def test_bad_base_arguments_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="arrays is empty; name the arrays"):
        make([])
    with pytest.raises(ValueError, match=r"arrays is FINE; write a list of keys, \[FINE\]"):
        make(FINE)
    with pytest.raises(ValueError, match=r"p is 1\.5; a probability lies between 0 and 1"):
        make(p=1.5)
    with pytest.raises(ValueError, match=r"Field required|Extra inputs"):
        make(replay='{"angle": 3}')
    with pytest.raises(ValueError, match="Invalid JSON"):
        make(replay="no JSON")
    with pytest.raises(PipelineSetupError) as error:
        run(make([ArrayKey("UNKNOWN")]))
    assert "is to change UNKNOWN, upstream provides" in str(error.value.__cause__)


@nodes
def test_integers_are_refused(make: Make) -> None:
    source = RampSource({FINE: Field((8, 8, 8), lambda centres: centres[0].astype(np.uint8), True)})
    with (
        build(source + make([FINE])) as pipeline,
        pytest.raises(Exception, match=r"FINE is of type uint8; put a Normalize node.*DeformAugment\(normalize=True\)"),
    ):
        pipeline.request_batch(request_of(0, [FINE]))


@nodes
@pytest.mark.parametrize("dtype", [">f4", "<f8", "float16"])
def test_every_float_type_is_varied_and_given_back(make: Make, dtype: str) -> None:
    def batch(type_of_data: str) -> Array:
        source = RampSource({FINE: Field((8, 8, 8), lambda centres: wave(centres).astype(type_of_data), True)})
        with build(source + make([FINE])) as pipeline:
            return pipeline.request_batch(request_of(3, [FINE]))[FINE]

    varied, native = batch(dtype), batch("float32")
    assert varied.data.dtype == np.dtype(dtype)
    if make().record_name != "noise":  # whose values differ from type to type
        np.testing.assert_allclose(varied.data, native.data, rtol=0, atol=4e-3 if dtype == "float16" else 2e-6)
    assert varied.attrs == native.attrs


@nodes
@pytest.mark.parametrize("dtype", ["complex64", "longdouble"])
def test_types_that_nothing_computes_with_are_refused(make: Make, dtype: str) -> None:
    source = RampSource({FINE: Field((8, 8, 8), lambda centres: wave(centres).astype(dtype), True)})
    with (
        build(source + make([FINE])) as pipeline,
        pytest.raises(PipelineRequestError, match=f"FINE is of type {np.dtype(dtype)}; put a Normalize node"),
    ):
        pipeline.request_batch(request_of(0, [FINE]))


@pytest.mark.parametrize("second", ["intensity", "noise"])
@pytest.mark.parametrize(
    ("first", "dtype"),
    [
        (lambda: MisalignedSections([COARSE], 3, 20.0, slip=0.6, shift=0.3), "float32"),
        (lambda: BlurAugment([COARSE], (0, 80)), "float64"),
    ],
    ids=["sections", "blur"],
)
def test_rounding_beyond_the_range_is_no_fault(first: Make, dtype: str, second: str) -> None:
    """A mean of white voxels is a float's step brighter than white, now and then."""
    white = Field((32, 32, 32), lambda centres: np.ones((1, *centres.shape[1:]), dtype), True)
    with build(RampSource({COARSE: white}) + first()) as plain:
        brightest = max(plain.request_batch(request_of(seed, [COARSE]))[COARSE].data.max() for seed in range(60))
    assert brightest > 1
    with build(RampSource({COARSE: white}) + first() + NODES[second]([COARSE])) as pipeline:
        for seed in range(60):
            data = pipeline.request_batch(request_of(seed, [COARSE]))[COARSE].data
            assert data.min() >= 0
            assert data.max() <= 1


@pytest.mark.parametrize("beyond", [-1e-5, 1 + 1e-5, np.inf])
@pytest.mark.parametrize("name", ["intensity", "noise"])
def test_more_than_rounding_is_refused(name: str, beyond: float) -> None:
    field = Field((8, 8, 8), lambda centres: np.full((1, *centres.shape[1:]), beyond, np.float32), True)
    with (
        build(RampSource({FINE: field}) + NODES[name]([FINE])) as pipeline,
        pytest.raises(PipelineRequestError, match=r"FINE has intensities from .*, outside \[0, 1\]"),
    ):
        pipeline.request_batch(request_of(0, [FINE]))


@pytest.mark.parametrize("name", ["intensity", "noise"])
def test_what_is_no_number_stays_so_and_spoils_nothing_else(name: str) -> None:
    def holed(centres: np.ndarray) -> np.ndarray:
        return np.where(centres[:1] < centres[:1].mean(), np.nan, 0.5).astype(np.float32)

    with build(RampSource({FINE: Field((4, 4, 4), holed, True)}) + NODES[name]([FINE])) as pipeline:
        data = pipeline.request_batch(request_of(1, [FINE]))[FINE].data
    with build(RampSource({FINE: Field((4, 4, 4), holed, True)})) as pipeline:
        before = pipeline.request_batch(request_of(1, [FINE]))[FINE].data
    np.testing.assert_array_equal(np.isnan(data), np.isnan(before))
    assert 0 < np.isnan(data).mean() < 1
    assert ((data >= 0) & (data <= 1))[~np.isnan(data)].all()


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PAIRS = st.dictionaries(st.integers(-(2**40), 2**40), st.tuples(NUMBERS, NUMBERS), max_size=4)
RECORDS = st.one_of(
    st.builds(Intensity, scale=NUMBERS, shift=NUMBERS, gamma=NUMBERS),
    st.builds(Noise, sigma=NUMBERS, seed=st.integers(0, 2**63 - 1)),
    st.builds(Blur, sigma=st.tuples(NUMBERS, NUMBERS)),
    st.builds(Missing, sections=st.lists(st.integers(), max_size=4).map(tuple)),
    st.builds(LowContrast, factors=st.dictionaries(st.integers(), NUMBERS, max_size=4)),
    st.builds(Misalignment, slips=PAIRS, shifts=PAIRS),
)


@given(RECORDS)
def test_records_come_back_equal_to_the_bit(record: DrawnParameters) -> None:
    again = type(record).from_json(record.to_json())
    assert again == record
    assert repr(again) == repr(record)
