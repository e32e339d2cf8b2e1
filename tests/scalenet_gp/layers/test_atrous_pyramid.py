"""Convolutions of several dilations side by side."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate

from scalenet_gp import LeibNet, TensorSpec
from scalenet_gp.layers import AtrousPyramid
from scalenet_gp.testing import NodeCase, NodeTester

IO = (["a"], ["b"])
INPUT = {"a": TensorSpec((8, 4, 4), 2)}


class TestAtrousPyramid(NodeTester):
    cases = {  # noqa: RUF012
        "pyramid": NodeCase(lambda dims: AtrousPyramid(*IO, 2, 4, (1, 2), dims=dims), INPUT),
        "per axis": NodeCase(
            lambda dims: AtrousPyramid(
                *IO, 2, 4, [(1, 2, 2)[:dims], (2, 1, 1)[:dims]], (3, 3, 1)[:dims], activation="GELU", dims=dims
            ),
            INPUT,
        ),
        "pooling": NodeCase(lambda dims: AtrousPyramid(*IO, 2, 4, [1], image_pooling=True, dims=dims), INPUT),
    }
    wrong = {  # noqa: RUF012
        "none": (lambda: AtrousPyramid(*IO, 2, 3, []), "b: dilations are one or more whole numbers from 1 up, or 3 of"),
        "zero": (lambda: AtrousPyramid(*IO, 2, 3, [1, 0]), "not [1, 0]"),
        "no whole number": (lambda: AtrousPyramid(*IO, 2, 3, [1, 2.0]), "dilations[1] is 2.0: it has to be a valid"),
        "axes": (lambda: AtrousPyramid(*IO, 2, 3, [(1, 2)]), "not [[1, 2]]"),
        "kernel axes": (lambda: AtrousPyramid(*IO, 2, 3, [1], (3, 3)), "b: the kernel (3, 3) has 2 axes, not 3"),
        "half a voxel": (
            lambda: AtrousPyramid(*IO, 2, 3, [2, 3], (2, 2, 3)),
            "takes [[2, 2, 4], [3, 3, 6]] voxels off the axes; an odd number would shift a branch by half a voxel",
        ),
        "activation": (lambda: AtrousPyramid(*IO, 2, 3, activation="relu"), "torch.nn has no activation 'relu'"),
        "channels": (
            lambda: LeibNet([AtrousPyramid(*IO, 3, 3)], INPUT, ["b"]),
            "it takes 3 channels, its input has 2",
        ),
    }


@pytest.mark.parametrize("pooling", [False, True])
def test_a_pyramid_by_numpy(pooling: bool) -> None:
    """Each branch is a sum over shifted slices of the input."""
    node = AtrousPyramid(*IO, 2, 3, [(1, 2), (3, 4)], (3, 2), pooling, dims=2).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in node.parameters():
            parameter.normal_(generator=generator)
    x = torch.randn(2, 2, 9, 8, generator=generator, dtype=torch.float64)
    assert node.margin == Coordinate(3, 2)
    size = (3, 4)
    branches = []
    for layer, reach, dilation in zip(node.branches, [(0, 0), (1, 1), (3, 2)], [(1, 1), (1, 2), (3, 4)], strict=True):
        weight, total = layer.weight.detach().numpy(), 0
        for element in itertools.product(*map(range, weight.shape[2:])):
            first = [m - r + e * d for m, r, e, d in zip((3, 2), reach, element, dilation, strict=True)]
            part = x.numpy()[:, :, first[0] : first[0] + size[0], first[1] : first[1] + size[1]]
            total = total + np.einsum("oc,bcyx->boyx", weight[(..., *element)], part)
        branches.append(total + layer.bias.detach().numpy()[:, None, None])
    if pooling:
        mean = np.einsum("oc,bc->bo", node.pooled.weight.detach().numpy()[..., 0, 0], x.numpy().mean(axis=(2, 3)))
        mean = mean + node.pooled.bias.detach().numpy()
        branches.append(np.broadcast_to(mean[:, :, None, None], branches[0].shape))
    joined = np.maximum(np.concatenate(branches, axis=1), 0)
    weight = node.projection.weight.detach().numpy()[..., 0, 0]
    made = np.einsum("oc,bcyx->boyx", weight, joined) + node.projection.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(node(x).detach(), np.maximum(made, 0), rtol=1e-9, atol=1e-12)
