"""Raw data that are shown slab by slab are what the network was trained on."""

import gunpowder as gp
import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi

from scalenet_gp import build_unet
from scalenet_gp.inference import IntensityWindow, SlabbedInference
from scalenet_gp.nodes.chains.building import build_chain
from scalenet_gp.nodes.sources.to_unit_range import ToUnitRange
from scalenet_gp.testing import randomize

RAW = gp.ArrayKey("RAW_INTENSITIES")
LOW, HIGH = 0.2, 0.85


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


def trained_on(data):
    """The data as the nodes of training deliver them."""
    chain = Stored(data) + ToUnitRange(RAW)
    chain += gp.IntensityScaleShift(RAW, 2 / (HIGH - LOW), -(HIGH + LOW) / (HIGH - LOW))
    with build_chain(chain) as pipeline:
        return pipeline.request_batch(gp.BatchRequest({RAW: gp.ArraySpec(Roi((0, 0, 0), data.shape))}))[RAW].data


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "float16", "float32", "float64"])
def test_it_is_to_the_bit_what_the_network_was_trained_on(dtype):
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        data = rng.normal(size=(5, 6, 7)).astype(dtype)
        data[1, 2, 3] = np.nan
    else:
        ends = np.iinfo(dtype)
        data = rng.integers(ends.min, ends.max, (5, 6, 7), dtype, endpoint=True)
    tensor = torch.from_numpy(data.copy())
    shown = IntensityWindow(tensor.dtype, LOW, HIGH).apply(tensor)
    expected = trained_on(data)
    assert shown.numpy().dtype == expected.dtype
    np.testing.assert_array_equal(shown.numpy(), expected)
    np.testing.assert_array_equal(tensor.numpy(), data)


def test_what_is_black_and_white_is_seen_as_such():
    shown = IntensityWindow(torch.uint8, 0.2, 0.6).apply(torch.tensor([0.2 * 255, 0.4 * 255, 0.6 * 255]).round().byte())
    torch.testing.assert_close(shown, torch.tensor([-1.0, 0.0, 1.0]), atol=0.01, rtol=0)
    assert IntensityWindow(torch.bool).apply(torch.tensor([False, True])).tolist() == [-1, 1]


def test_raw_data_of_another_type_are_refused():
    with pytest.raises(ValueError, match=r"for raw data of torch\.uint8, not of torch\.int16"):
        IntensityWindow(torch.uint8).apply(torch.zeros(1, dtype=torch.int16))


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
        made = sweep.run(net, raw, intensities)["output"]
        shown = {name: intensities.apply(tensor) for name, tensor in raw.items()}
        assert torch.equal(made, sweep.run(net, shown)["output"])
    with pytest.raises(ValueError, match=r"for raw data of torch\.uint8"), torch.no_grad():
        sweep.run(net, shown, intensities)
