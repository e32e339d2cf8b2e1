"""IntensityWindow for a network: against a deformation that deforms nothing, which training has in its place."""

import gunpowder as gp
import numpy as np
import pytest
from gunpowder import Array, ArrayKey, ArraySpec, BatchRequest, Coordinate, Roi

from scalenet_gp.errors import ArgumentError
from scalenet_gp.nodes import DeformAugment
from scalenet_gp.nodes.chains.building import build_chain
from scalenet_gp.nodes.sources.to_unit_range import ToUnitRange

RAW, LABELS = ArrayKey("RAW"), ArrayKey("LABELS")
SHAPE = (4, 5, 6)


class Fixed(gp.BatchProvider):
    """The same arrays always."""

    def __init__(self, **arrays):
        self.arrays = {ArrayKey(name): data for name, data in arrays.items()}

    def setup(self):
        for key, data in self.arrays.items():
            roi = Roi((0,) * 3, data.shape)
            self.provides(key, ArraySpec(roi, Coordinate((1,) * 3), interpolatable=key == RAW, dtype=data.dtype))

    def provide(self, request):
        batch = gp.Batch()
        for key, spec in request.array_specs.items():
            served = self.spec[key].copy()
            served.roi = spec.roi
            box = tuple(slice(b, e) for b, e in zip(spec.roi.begin, spec.roi.end, strict=True))
            batch[key] = Array(self.arrays[key][box].copy(), served)
        return batch


def through(node, **arrays):
    """The arrays that a node delivers, and the specs that it announces for them."""
    with build_chain(Fixed(**arrays) + node) as pipeline:
        request = BatchRequest({ArrayKey(name): ArraySpec(Roi((0,) * 3, SHAPE)) for name in arrays})
        return pipeline.request_batch(request), pipeline.spec


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", ">u2", "uint32", "float32", "float64"])
def test_it_is_what_training_has_raw_data_be(dtype):
    kind = np.dtype(dtype)
    raw = np.random.default_rng(0).random(SHAPE)
    if kind.kind in "iu":
        raw = np.floor(raw * np.iinfo(kind).max)
        raw.flat[:2] = np.iinfo(kind).max, np.iinfo(kind).min
    raw = raw.astype(kind)
    ours, spec = through(ToUnitRange(RAW), RAW=raw)
    theirs, _ = through(DeformAugment((1,) * 3, (0,) * 3, normalize=True), RAW=raw)
    assert ours[RAW].data.dtype == ours[RAW].spec.dtype == spec[RAW].dtype == theirs[RAW].data.dtype
    np.testing.assert_array_equal(ours[RAW].data, theirs[RAW].data)
    if kind.kind in "iu":
        np.testing.assert_allclose(ours[RAW].data, raw / np.iinfo(kind).max, rtol=1e-6)


def test_what_is_no_number_or_beyond_passes():
    raw = np.linspace(-1, 2, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
    raw[1, 2, 3] = np.nan
    np.testing.assert_array_equal(through(ToUnitRange(RAW), RAW=raw)[0][RAW].data, raw)


def test_other_arrays_stay_as_they_are():
    labels = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)
    batch, spec = through(ToUnitRange(RAW), RAW=labels, LABELS=labels)
    np.testing.assert_array_equal(batch[LABELS].data, labels)
    assert spec[LABELS].dtype == np.uint8


@pytest.mark.parametrize("dtype", ["int16", "float64"])
def test_values_become_fractions_between_bounds_and_stop_there(dtype):
    raw = np.linspace(-900, 900, int(np.prod(SHAPE))).reshape(SHAPE).astype(dtype)
    batch, spec = through(ToUnitRange(RAW, bounds=(-450, 550)), RAW=raw)
    assert batch[RAW].data.dtype == spec[RAW].dtype == np.float32
    np.testing.assert_allclose(batch[RAW].data, np.clip((raw.astype(float) + 450) / 1000, 0, 1), atol=1e-6)


def test_bounds_that_do_not_go_up_are_refused():
    with pytest.raises(ArgumentError, match="lower one first"):
        ToUnitRange(RAW, bounds=(1, 1))
