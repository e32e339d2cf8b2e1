"""Convolutions for two voxels at a time are those of torch, to the bit."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from scalenet_gp.inference import PairedConvolutions
from scalenet_gp.tensors import channels_last

AVX2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX2", reason="pairs convolutions on processors with AVX2 alone"
)

LARGE = torch.randn(1, 12, 44, 44, 8)
"""So that oneDNN computes it."""


def macs(convolve, x, **kwargs):
    """Multiply-accumulates of torch's own convolutions within the context: more where two voxels share a kernel."""
    with torch.no_grad(), PairedConvolutions(), FlopCounterMode(display=False) as counter:
        convolve(x, **kwargs)
    return counter.get_total_flops() // 2


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
        with PairedConvolutions():
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
            with PairedConvolutions():
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
        with PairedConvolutions():
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
def test_gradients_are_left_alone():
    layer = nn.Conv3d(12, 12, 3)
    with PairedConvolutions(), FlopCounterMode(display=False) as counter:
        layer(LARGE).sum()
    assert counter.get_total_flops() // 2 == 42 * 42 * 6 * layer.weight.numel()


@AVX2
def test_what_torch_computes_itself_is_left_to_it():
    layer, small = nn.Conv3d(12, 12, 3), LARGE[:, :, :8, :8]
    assert macs(layer, small) == 6**3 * layer.weight.numel()
