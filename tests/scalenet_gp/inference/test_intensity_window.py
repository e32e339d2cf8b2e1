"""Raw data that are shown slab by slab are what the network was trained on."""

import gunpowder as gp
import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp import build_unet
from scalenet_gp.errors import ArgumentError
from scalenet_gp.inference import IntensityWindow, SlabbedInference
from scalenet_gp.nodes.chains.building import build_chain
from scalenet_gp.nodes.sources.to_unit_range import ToUnitRange
from scalenet_gp.testing import randomize

RAW = gp.ArrayKey("RAW_INTENSITIES")
LOW, HIGH = 51, 216.75


class Stored(gp.BatchProvider):
    """Provides one array."""

    def __init__(self, data):
        self.data = data

    def setup(self):
        roi = Roi((0, 0, 0), self.data.shape)
        self.provides(RAW, gp.ArraySpec(roi, Coordinate((1, 1, 1)), interpolatable=True, dtype=self.data.dtype))

    def provide(self, request):
        spec = self.spec[RAW].copy()
        spec.roi = request[RAW].roi
        batch = gp.Batch()
        batch[RAW] = gp.Array(self.data.copy(), spec)
        return batch


def trained_on(data, window):
    """The data as the nodes of training deliver them."""
    chain = Stored(data) + ToUnitRange(RAW, bounds=None if window.of_type else window.bounds)
    chain += gp.IntensityScaleShift(RAW, window.scale, window.shift)
    with build_chain(chain) as pipeline:
        return pipeline.request_batch(gp.BatchRequest({RAW: gp.ArraySpec(Roi((0, 0, 0), data.shape))}))[RAW].data


DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float16", "float32", "float64"]


@st.composite
def stored_values(draw):
    """An array of any type of numbers, and a window that its type can hold."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    if dtype.kind == "f":
        scale = draw(st.sampled_from([1.0, 255.0, 3e4]))
        shift = draw(st.sampled_from([0.0, 0.25, -0.5])) * scale
        ends = shift, shift + scale
    else:
        ends = np.iinfo(dtype).min, np.iinfo(dtype).max
    cuts = draw(st.tuples(st.floats(0, 1), st.floats(0.01, 1)))
    low = ends[0] + (ends[1] - ends[0]) * cuts[0] * 0.9
    high = low + max((ends[1] - low) * cuts[1], 1e-2)
    values = np.random.default_rng(draw(st.integers(0, 99))).random((5, 6, 7))
    values = ends[0] + values * (float(ends[1]) - ends[0])
    if dtype.kind == "f":
        values[1, 2, 3] = np.nan
    else:
        values = np.minimum(values, ends[1] * 0.999)  # the largest of 64 bits is no float
    return values.astype(dtype), low, high


@settings(max_examples=40, deadline=None)
@given(stored_values())
def test_it_is_to_the_bit_what_the_network_was_trained_on(drawn):
    data, low, high = drawn
    tensor = torch.from_numpy(data.copy())
    window = IntensityWindow(tensor.dtype, low, high)
    seen = window.apply(tensor).numpy()
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(seen, trained_on(data, window))
    np.testing.assert_array_equal(tensor.numpy(), data)
    least, most = window.bounds
    assert least <= low < high <= most
    plain = 2 * (np.clip(data.astype(np.float64), least, most) - low) / (high - low) - 1
    # single precision, of numbers as large as the bounds
    within = 4e-7 * (1 + 4 * max(abs(least), abs(most)) / (high - low))
    np.testing.assert_allclose(seen, plain, rtol=1e-5, atol=within)


def test_what_is_black_and_white_is_seen_as_such():
    shown = IntensityWindow(torch.uint8, 51, 153).apply(torch.tensor([51, 102, 153]).byte())
    torch.testing.assert_close(shown, torch.tensor([-1.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    assert IntensityWindow.of_range(torch.bool).apply(torch.tensor([False, True])).tolist() == [-1, 1]
    assert IntensityWindow.of_range(torch.int8).apply(torch.tensor([-128, 127]).char()).tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("dtype", "window", "bounds"),
    [
        (torch.uint8, (51, 204), (0, 255)),
        (torch.uint8, (100, 120), (90, 130)),
        (torch.int16, (-200, 300), (-450, 550)),
        (torch.float32, (0.1, 0.9), (0, 1)),
        (torch.float32, (60, 200), (-10, 270)),
    ],
)
def test_augmentation_counts_in_the_range_of_the_type_or_in_twice_the_window(dtype, window, bounds):
    assert IntensityWindow(dtype, *window).bounds == bounds


@pytest.mark.parametrize("window", [(1, 1), (2, 1), (float("nan"), 1), (0, float("inf"))])
def test_a_window_goes_up(window):
    with pytest.raises(ArgumentError, match="the lower one first"):
        IntensityWindow(torch.float32, *window)


def test_raw_data_of_another_type_are_refused():
    with pytest.raises(ValueError, match=r"for raw data of torch\.uint8, not of torch\.int16"):
        IntensityWindow.of_range(torch.uint8).apply(torch.zeros(1, dtype=torch.int16))


@pytest.mark.parametrize("thickness", [None, 64])
def test_a_sweep_shows_the_network_what_is_given_of_the_raw_data(thickness):
    net = build_unet(top_resolution=(8, 8, 8), base_nc=2, downsample_factors=[(2, 2, 2)])
    randomize(net)
    sweep = SlabbedInference.of(net, {"output": Roi((0, 0, 0), (320, 64, 64))}, thickness)
    raw = {
        name: torch.randint(0, 255, (1, tensor.channels, *tensor.shape), dtype=torch.uint8)
        for name, tensor in sweep.plan.input_tensors.items()
    }
    intensities = IntensityWindow(torch.uint8, LOW, HIGH)
    with torch.no_grad():
        made = sweep.run(net, raw, dict.fromkeys(raw, intensities))["output"]
        shown = {name: intensities.apply(tensor) for name, tensor in raw.items()}
        assert torch.equal(made, sweep.run(net, shown)["output"])
    with pytest.raises(ValueError, match=r"for raw data of torch\.uint8"), torch.no_grad():
        sweep.run(net, shown, dict.fromkeys(raw, intensities))
