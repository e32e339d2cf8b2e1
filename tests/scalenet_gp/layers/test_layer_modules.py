"""The layers that node kinds are built from, against numpy and against torch's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from scalenet_gp.layers import CalibratedGroupNorm, ConvPass
from scalenet_gp.layers.modules import EfficientChannelAttention, activation_layer, convolution


@pytest.mark.parametrize(("channels", "kernel"), [(1, 1), (4, 1), (8, 3), (64, 3), (128, 5), (256, 5), (1024, 5)])
def test_the_kernel_of_efficient_channel_attention_is_the_papers(channels, kernel):
    """The authors' code has t = int(abs((log2(C) + 1) / 2)), and the next odd number."""
    assert EfficientChannelAttention(channels).conv.kernel_size == (kernel,)


def test_efficient_channel_attention_by_numpy():
    attention = EfficientChannelAttention(16).double()
    x = torch.randn(2, 16, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean = np.pad(x.numpy().mean(axis=(2, 3, 4)), ((0, 0), (1, 1)))
    kernel = attention.conv.weight.detach().numpy().ravel()
    logits = sum(kernel[i] * mean[:, i : i + 16] for i in range(3))
    weights = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(attention(x).detach().numpy(), x.numpy() * weights[..., None, None, None], rtol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 12, 16])
def test_calibrated_group_normalization_trains_as_torchs_own_and_predicts_by_fixed_statistics(channels):
    layer = CalibratedGroupNorm(channels).double()
    twin = nn.GroupNorm(layer.num_groups, channels).double()
    generator = torch.Generator().manual_seed(channels)
    for mine, other in zip(layer.parameters(), twin.parameters(), strict=True):
        mine.data = other.data = torch.randn(channels, dtype=torch.float64, generator=generator)
    x = 3 + 2 * torch.randn(3, channels, 4, 5, 6, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(layer(x), twin(x))
    groups = x.unflatten(1, (layer.num_groups, -1)).movedim(1, 0).flatten(1)
    torch.testing.assert_close(layer.running_mean, 0.1 * groups.mean(1))
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * groups.var(1))
    each = channels // layer.num_groups
    expected = torch.stack(
        [
            (x[:, c] - layer.running_mean[c // each]) / (layer.running_var[c // each] + 1e-5).sqrt() * layer.weight[c]
            + layer.bias[c]
            for c in range(channels)
        ],
        dim=1,
    )
    torch.testing.assert_close(layer.eval()(x), expected)


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


LAYERS = {
    "plain": ((32, 48, (3, 3)), {}, 32 * 9),
    "grouped": ((32, 48, (3, 3, 3)), {"groups": 4}, 8 * 27),
    "pointwise": ((64, 32, (1, 1, 1)), {}, 64),
    "strided": ((32, 48, (4, 4)), {"stride": (2, 2)}, 32 * 16),
    "transposed": ((64, 32, (2, 2, 2)), {"transposed": True, "stride": (2, 2, 2)}, 64),
    "transposed, more channels": ((24, 96, (3, 2)), {"transposed": True, "stride": (3, 2)}, 24),
    "transposed, overlapping": ((48, 16, (4, 6)), {"transposed": True, "stride": (2, 3)}, 48 * 4),
    "transposed and grouped": ((64, 64, (2, 2)), {"transposed": True, "stride": 2, "groups": 8}, 8),
}


@pytest.mark.parametrize("name", LAYERS)
def test_weights_are_drawn_by_how_many_values_are_summed(name):
    """He et al. 2015: a variance of two by their number, here counted by what a layer of ones makes of ones."""
    arguments, options, summed = LAYERS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = convolution(*arguments, **options)
    weights = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.fill_(1)
        size = (12,) * len(arguments[2])
        made = layer(torch.ones(1, arguments[0], *size))[0, 0]
        inner = tuple(slice(n // 3, 2 * n // 3) for n in made.shape)
        assert (made[inner] == summed).all()
    assert not layer.bias.any()
    tolerance = 4 / (2 * weights.numel()) ** 0.5
    assert weights.std().item() == pytest.approx(math.sqrt(2 / summed), rel=tolerance)
    assert abs(weights.mean().item()) < 4 * math.sqrt(2 / summed / weights.numel())


@pytest.mark.parametrize("name", LAYERS)
def test_the_variance_of_rectified_values_is_kept_through_a_layer(name):
    arguments, options, _ = LAYERS[name]
    generator = torch.Generator().manual_seed(0)
    variances = []
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for _ in range(20):
            rectified = torch.randn(2, arguments[0], *(12,) * len(arguments[2]), generator=generator).relu()
            made = convolution(*arguments, **options)(rectified)
            inner = tuple(slice(n // 3, 2 * n // 3) for n in made.shape[2:])
            variances.append(made[(..., *inner)].square().mean().item())
    assert np.mean(variances) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, (3, 3)), "one channel or more on either side, not 0 and 1"),
        ((2.0, 1, (3, 3)), r"one channel or more on either side, not 2\.0 and 1"),
        ((1, True, (3, 3)), "not 1 and True"),
        ((1, 1, (3, 3.0)), r"a kernel has 2 or 3 axes of at least one voxel, not \(3, 3\.0\)"),
    ],
)
def test_what_no_convolution_can_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        convolution(*arguments)
