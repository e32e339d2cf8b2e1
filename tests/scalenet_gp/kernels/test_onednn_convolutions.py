"""Convolutions handed to oneDNN are those of torch, also for two voxels at a time; to the bit where torch uses it."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from scalenet_gp.inference import OneDnnConvolutions
from scalenet_gp.kernels.tensors import channels_last

AVX2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX2", reason="pairs convolutions on processors with AVX2 alone"
)

LARGE = channels_last(torch.randn(1, 12, 44, 44, 8))
"""A tensor so large that torch hands it to oneDNN itself."""


class Computed(TorchDispatchMode):
    """Writes down by what, and with how many multiply-accumulates, a convolution is computed."""

    def __init__(self):
        super().__init__()
        self.by, self.macs = None, None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if "convolution" in str(func) and "backward" not in str(func):
            self.by = "oneDNN" if "mkldnn" in str(func) else "torch"
            self.macs = made.numel() * args[1][0].numel()
        return made


def computed(convolve, x, **kwargs):
    """The way in which torch computes a convolution within the context."""
    with torch.no_grad(), OneDnnConvolutions(), Computed() as how:
        convolve(x, **kwargs)
    return how


def macs(convolve, x, **kwargs):
    """The multiply-accumulates, which are more than those of the convolution if two voxels share a kernel."""
    return computed(convolve, x, **kwargs).macs


@settings(max_examples=60, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 40), st.integers(1, 26)),
    kernel=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    extent=st.integers(0, 9),
    batch=st.integers(1, 2),
    bias=st.booleans(),
)
def test_convolutions_are_those_of_torch(channels, kernel, extent, batch, bias):
    torch.manual_seed(0)
    layer = (nn.Conv2d if len(kernel) == 2 else nn.Conv3d)(*channels, tuple(kernel), bias=bias)
    x = channels_last(torch.randn(batch, channels[0], *(k + extent for k in kernel)))
    with torch.no_grad():
        expected = layer(x)
        with OneDnnConvolutions():
            made = layer(x)
    assert made.shape == expected.shape
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


@AVX2
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("channels", [(12, 12), (24, 12), (36, 12), (5, 4)])
def test_large_ones_are_those_of_torch_to_the_bit(channels, threads):
    torch.manual_seed(0)
    layer = nn.Conv3d(*channels, 3).to(memory_format=torch.channels_last_3d)
    x = channels_last(torch.randn(1, channels[0], 40, 110, 46))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            expected = layer(x)
            with OneDnnConvolutions():
                made = layer(x)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made, expected)
    assert made.is_contiguous(memory_format=torch.channels_last_3d)


@AVX2
def test_it_pairs_where_that_fills_the_registers():
    paired = {}
    for channels in (4, 8, 12, 16, 20, 24):
        layer = nn.Conv3d(12, channels, 3)
        paired[channels] = macs(layer, LARGE) > 42 * 42 * 6 * layer.weight.numel()
    assert paired == {4: True, 8: False, 12: True, 16: False, 20: False, 24: False}


@AVX2
@pytest.mark.parametrize(
    "options", [{}, {"padding": 1}, {"padding": "same"}, {"stride": 2}, {"dilation": 2}, {"groups": 2}]
)
def test_it_knows_what_it_cannot_pair(options):
    layer, x = nn.Conv3d(12, 12, 3, **options), LARGE
    with torch.no_grad():
        expected = layer(x)
        with OneDnnConvolutions():
            torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    alone = expected[0, 0].numel() * layer.weight.numel()
    assert (macs(layer, x) > alone) == (not options)
    listed = {name: value if isinstance(value, str) else [value] * 3 for name, value in options.items()}
    listed = {name: value[0] if name == "groups" else value for name, value in listed.items()}
    convolve = partial(functional.conv3d, weight=layer.weight, bias=layer.bias, **listed)
    assert macs(convolve, x) == macs(layer, x)
    assert macs(lambda x: convolve(input=x), x) == macs(layer, x)
    odd = x[..., 1:]
    assert macs(layer, odd) == layer(odd)[0, 0].numel() * layer.weight.numel()
    assert macs(layer.double(), x.double()) == alone


@AVX2
@pytest.mark.parametrize("channels", [12, 24])
def test_small_ones_go_to_onednn_and_agree_to_the_bit_with_the_whole(channels):
    torch.manual_seed(0)
    layer = nn.Conv3d(channels, channels, 3).to(memory_format=torch.channels_last_3d)
    x = channels_last(torch.randn(1, channels, 40, 40, 41))
    assert computed(layer, x[..., :12, :12, :12]).by == "oneDNN"
    with torch.no_grad(), OneDnnConvolutions():
        whole = layer(x)
        for width in (12, 13):  # in pairs, and one by one as the whole
            part = layer(x[..., 8:20, 8:20, 8 : 8 + width])
            assert torch.equal(part, whole[..., 8:18, 8:18, 8 : 6 + width])


@AVX2
@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2}, {"groups": 2}, {"padding": "valid"}])
def test_every_valid_one_goes_to_onednn(options):
    layer, small = nn.Conv3d(12, 12, 3, **options), LARGE[:, :, :8, :8]
    with torch.no_grad():
        expected = layer(small)
        with OneDnnConvolutions():
            torch.testing.assert_close(layer(small), expected, rtol=1e-5, atol=1e-5)
    assert computed(layer, small).by == "oneDNN"


@AVX2
@pytest.mark.parametrize("options", [{"stride": np.int64(2)}, {"dilation": np.int64(2)}, {"padding": [0]}])
def test_numbers_are_those_that_torch_takes(options):
    kernel, small = torch.randn(8, 12, 3, 3, 3) / 18, LARGE[:, :, :8, :8]
    expected = functional.conv3d(small, kernel, **options)
    with torch.no_grad(), OneDnnConvolutions():
        torch.testing.assert_close(functional.conv3d(small, kernel, **options), expected, rtol=1e-5, atol=1e-5)
    assert computed(functional.conv3d, small, weight=kernel, **options).by == "oneDNN"


@AVX2
@pytest.mark.parametrize("channels", [12, 24])
@pytest.mark.parametrize("spread", [lambda n: torch.randn(n, 2)[:, 0], lambda n: torch.randn(1).expand(n)])
def test_a_bias_lies_as_it_will(channels, spread):
    torch.manual_seed(0)
    kernel, bias, small = torch.randn(channels, 12, 3, 3, 3), spread(channels), LARGE[:, :, :8, :8]
    expected = functional.conv3d(small, kernel, bias)
    with torch.no_grad(), OneDnnConvolutions():
        torch.testing.assert_close(functional.conv3d(small, kernel, bias), expected, rtol=1e-4, atol=1e-4)


@AVX2
def test_tensors_that_are_not_channels_last_stay_so():
    layer, x = nn.Conv3d(12, 12, 3), LARGE.contiguous()
    with torch.no_grad(), OneDnnConvolutions():
        assert layer(x).is_contiguous()
        assert nn.Conv3d(1, 12, 3)(x[:, :1].contiguous()).is_contiguous()


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # that this flag, which is set with the others, has no effect
def test_other_convolutions_are_left_to_torch():
    layer, small = nn.Conv3d(12, 12, 3), LARGE[:, :, :8, :8]
    assert computed(nn.Conv3d(12, 12, 3, padding=1), small).by == "torch"
    assert computed(layer.double(), small.double()).by == "torch"
    assert computed(layer.float(), small[0]).by == "torch"
    assert computed(layer, small[:0]).by == "torch"
    with torch.backends.mkldnn.flags(enabled=False):
        assert computed(layer, small).by == "torch"
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), OneDnnConvolutions():
        assert layer(small).dtype == torch.bfloat16
    with FakeTensorMode() as fake, torch.no_grad(), OneDnnConvolutions():
        made = functional.conv3d(fake.from_tensor(small), fake.from_tensor(layer.weight))
    assert made.shape == (1, 12, 6, 6, 6)


def test_gradients_are_left_alone():
    layer = nn.Conv3d(12, 12, 3)
    with OneDnnConvolutions(), Computed() as how:
        layer(LARGE).sum().backward()
    assert layer.weight.grad is not None
    assert how.by == "torch"


@pytest.mark.parametrize(
    "refused",
    [
        lambda: functional.conv3d(LARGE[:, :, :2], torch.zeros(12, 12, 3, 3, 3)),
        lambda: functional.conv3d(LARGE[:, :5], torch.zeros(12, 12, 3, 3, 3)),
        lambda: functional.conv3d(LARGE[:, :, 0], torch.zeros(12, 12, 3, 3)),
        lambda: functional.conv2d(LARGE, torch.zeros(12, 12, 3, 3, 3)),
        lambda: functional.conv3d(LARGE, torch.zeros(12, 12, 3, 3, 3, dtype=torch.bfloat16)),
        lambda: functional.conv3d(LARGE, torch.zeros(12, 12, 3, 3, 3), torch.zeros(3)),
        lambda: functional.conv3d(LARGE, torch.zeros(12, 12, 3, 3, 3), stride=(1, 1)),
        lambda: functional.conv3d(LARGE, torch.zeros(12, 12, 3, 3, 3), stride=(1, 1, 1, 1)),
        lambda: functional.conv3d(LARGE),
        lambda: functional.conv3d(LARGE, LARGE, strides=2),
        lambda: functional.conv3d(LARGE, LARGE, None, 1, 0, 1, 1, 1),
    ],
)
def test_what_torch_refuses_is_refused_as_torch_does(refused):
    with torch.no_grad(), pytest.raises((RuntimeError, TypeError)) as plain:
        refused()
    with torch.no_grad(), OneDnnConvolutions(), pytest.raises(plain.type) as within:
        refused()
    assert str(within.value) == str(plain.value)
