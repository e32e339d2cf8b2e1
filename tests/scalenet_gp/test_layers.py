"""The layers that node kinds are built from, against numpy and against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scalenet_gp.kinds import ConvPass
from scalenet_gp.kinds.layers import EfficientChannelAttention, activation_layer


@pytest.mark.parametrize(("channels", "kernel"), [(1, 1), (4, 1), (8, 3), (64, 3), (128, 5), (256, 5), (1024, 5)])
def test_the_kernel_of_efficient_channel_attention_is_the_papers(channels, kernel):
    """As the authors' code has it: t = int(abs((log2(C) + 1) / 2)), and the next odd number."""
    assert EfficientChannelAttention(channels).conv.kernel_size == (kernel,)


def test_efficient_channel_attention_by_numpy():
    attention = EfficientChannelAttention(16).double()
    x = torch.randn(2, 16, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean = np.pad(x.numpy().mean(axis=(2, 3, 4)), ((0, 0), (1, 1)))
    kernel = attention.conv.weight.detach().numpy().ravel()
    logits = sum(kernel[i] * mean[:, i : i + 16] for i in range(3))
    weights = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(attention(x).detach().numpy(), x.numpy() * weights[..., None, None, None], rtol=1e-12)


@pytest.mark.parametrize("name", nn.modules.activation.__all__)
def test_every_activation_of_torch_is_right_in_place_or_refused(name):
    if name in ("GLU", "MultiheadAttention", "Softmax2d", "Threshold"):
        with pytest.raises(ValueError, match=f"'{name}' cannot be the activation of a node: it "):
            activation_layer(name)
        return
    layer = activation_layer(name).double()
    plain = getattr(nn, name)(**({"dim": 1} if "max" in name or "min" in name else {})).double()
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def seeded(module: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return module(tensor)

    torch.testing.assert_close(seeded(layer, 1 * x), seeded(plain, x), rtol=1e-14, atol=0)
    assert torch.autograd.gradcheck(lambda tensor: seeded(layer, 1 * tensor), x)
    if getattr(layer, "inplace", False):
        overwritten = x.detach().clone()
        assert layer(overwritten) is overwritten


def test_a_softmax_is_across_the_channels():
    node = ConvPass(["a"], ["b"], 2, 3, [(1, 1, 1)], final_activation="Softmax")
    torch.testing.assert_close(node(torch.randn(2, 2, 3, 4, 5)).sum(dim=1), torch.ones(2, 3, 4, 5))
