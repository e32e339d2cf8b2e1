"""Convolutions in another shape are the same convolutions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scalenet_gp.kernels.recast import (
    FoldedConv2d,
    FoldedConv3d,
    PointwiseConv2d,
    PointwiseConv3d,
    recast_convolutions,
)
from scalenet_gp.kernels.tensors import channels_last

PLAIN = {FoldedConv2d: nn.Conv2d, PointwiseConv2d: nn.Conv2d, FoldedConv3d: nn.Conv3d, PointwiseConv3d: nn.Conv3d}


@given(st.data())
@settings(max_examples=40)
def test_they_compute_what_torch_computes(data):
    dims = data.draw(st.sampled_from((2, 3)))
    kernel = tuple(data.draw(st.integers(1, 3)) for _ in range(dims))
    channels, made = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    kind = recast_convolutions(channels, kernel)
    if kind is None:
        return
    own = kind(channels, made, kernel, bias=data.draw(st.booleans())).double()
    plain = PLAIN[kind](channels, made, kernel, bias=own.bias is not None).double()
    plain.load_state_dict(own.state_dict())
    shape = (data.draw(st.integers(1, 2)), channels, *(k + data.draw(st.integers(0, 3)) for k in kernel))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    x = channels_last(x) if data.draw(st.booleans()) else x
    results = []
    for layer in (own, plain):
        y = layer(x.requires_grad_())
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ((1, (3, 3, 3)), FoldedConv3d),
        ((2, (3, 3)), FoldedConv2d),
        ((64, (1, 1, 1)), PointwiseConv3d),
        ((1, (1, 1)), PointwiseConv2d),
        ((3, (3, 3, 3)), None),
        ((1, (3, 3, 1)), None),
    ],
)
def test_which_are_recast(arguments, kind):
    assert recast_convolutions(*arguments) is kind
    assert recast_convolutions(*arguments, bias=False, padding="valid", padding_mode="reflect") is kind
    for other in ({"padding": "same"}, {"stride": (2, 2, 2)}, {"groups": 2}, {"dilation": (1, 2, 1)}):
        assert recast_convolutions(*arguments, **other) is None


@pytest.mark.parametrize("kind", [FoldedConv3d, PointwiseConv3d])
def test_the_voxels_channels_lie_together(kind):
    y = kind(2, 5, 3 if kind is FoldedConv3d else 1)(torch.rand(1, 2, 70, 70, 6))
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
