"""Inverted residuals and ConvNeXt blocks: the tests of any node, and their values by numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scalenet_gp import TensorSpec
from scalenet_gp.layers import ConvNeXtBlocks, InvertedResiduals
from scalenet_gp.testing import NodeCase, NodeTester

IO = (["a"], ["b"])
INPUT = {"a": TensorSpec((8, 4, 4), 2)}


class TestResidualBlocks(NodeTester):
    cases = {  # noqa: RUF012
        "inverted": NodeCase(lambda dims: InvertedResiduals(*IO, 2, 3, [(1, 3), (3, 1)], 2, "GELU"), INPUT, dims=(2,)),
        "convnext": NodeCase(lambda dims: ConvNeXtBlocks(*IO, 2, 3, [(3, 1, 1), (1, 3, 3)], 2), INPUT, dims=(3,)),
    }
    wrong = {  # noqa: RUF012
        "even": (lambda: InvertedResiduals(*IO, 2, 2, [(3, 2)]), "b: kernel_sizes are one or more kernels of one dim"),
        "none": (lambda: InvertedResiduals(*IO, 2, 2, []), "not []"),
        "expansion": (lambda: InvertedResiduals(*IO, 2, 2, [(3, 3)], 0), "b: expansion is a whole number from 1 up"),
        "padding": (lambda: InvertedResiduals(*IO, 2, 2, [(3, 3)], padding_mode="ones"), "and 'ones'"),
        "one channel": (
            lambda: ConvNeXtBlocks(*IO, 1, 1, [(3, 3)]),
            "layer normalization is across channels, so it needs two or more of them",
        ),
    }


def test_blocks_whose_tiles_do_not_equal_the_whole_say_so():
    assert not InvertedResiduals(*IO, 2, 2, [(3, 3)], padding="same").tileable
    assert InvertedResiduals(*IO, 2, 2, [(1, 1)], padding="same").tileable
    assert not ConvNeXtBlocks(*IO, 2, 2, [(3, 3)], norm_layer="instance").tileable
    same = ConvNeXtBlocks(*IO, 2, 4, [(3, 3)], padding="same")
    assert same(torch.ones(1, 2, 5, 4)).shape == (1, 4, 5, 4)


def depthwise(x, weight):
    """The valid correlation of each channel of (C, Y, X) with its own kernel (C, 1, 3, 3), by shifted slices."""
    y, x_ = (n - 2 for n in x.shape[1:])
    return sum(weight[:, 0, i, j, None, None] * x[:, i : i + y, j : j + x_] for i in range(3) for j in range(3))


def pointwise(x, weight, bias=0.0):
    return np.einsum("oc,cyx->oyx", weight[:, :, 0, 0], x) + np.reshape(bias, (-1, 1, 1))


@pytest.fixture
def image():
    return torch.randn(1, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_an_inverted_residual_by_numpy(image):
    node = InvertedResiduals(*IO, 3, 3, [(3, 3)], 2, norm_layer=None).double()
    expand, spatial, project = (layer.weight.detach().numpy() for layer in list(node.blocks[0])[::2])
    x = image[0].numpy()
    inner = np.clip(depthwise(np.clip(pointwise(x, expand), 0, 6), spatial), 0, 6)
    with torch.no_grad():
        np.testing.assert_allclose(node(image)[0], pointwise(inner, project) + x[:, 1:-1, 1:-1])


def test_a_convnext_block_by_numpy(image):
    node = ConvNeXtBlocks(*IO, 3, 3, [(3, 3)], 2, activation="ReLU").double()
    spatial, norm, expand, _, project, scale = node.blocks[0]
    with torch.no_grad():
        for parameter in node.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
        made = node(image)[0]
    weights = {name: value.detach().numpy() for name, value in node.blocks[0].named_parameters()}
    x = image[0].numpy()
    y = depthwise(x, weights["0.weight"]) + weights["0.bias"][:, None, None]
    y = (y - y.mean(axis=0)) / np.sqrt(y.var(axis=0) + norm.eps)
    y = y * weights["1.weight"][:, None, None] + weights["1.bias"][:, None, None]
    y = pointwise(
        np.maximum(pointwise(y, weights["2.weight"], weights["2.bias"]), 0), weights["4.weight"], weights["4.bias"]
    )
    np.testing.assert_allclose(made, y * weights["5.gamma"] + x[:, 1:-1, 1:-1])
    assert (spatial.groups, expand.out_channels, project.out_channels, scale.gamma.shape) == (3, 6, 3, (3, 1, 1))
