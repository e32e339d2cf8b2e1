"""PoolingPyramid: through the tester, and against means of one window after the other."""

import numpy as np
import torch

from scalenet_gp import TensorSpec
from scalenet_gp.layers import PoolingPyramid
from scalenet_gp.testing import NodeCase, NodeTester

WINDOWS = [(1, 3, 3), (3, 5, 1)]


class TestPoolingPyramid(NodeTester):
    cases = {  # noqa: RUF012
        "": NodeCase(
            lambda dims: PoolingPyramid(["a"], ["b"], 3, 2, [w[:dims] for w in WINDOWS], "Softplus", dims=dims),
            {"a": TensorSpec((8, 4, 4), 3)},
        ),
    }
    wrong = {  # noqa: RUF012
        "even": (lambda: PoolingPyramid(["a"], ["b"], 3, 2, [3, 4]), "windows are one or more odd numbers"),
        "axes": (lambda: PoolingPyramid(["a"], ["b"], 3, 2, [(3, 3)]), "one for each of 3"),
        "none": (lambda: PoolingPyramid(["a"], ["b"], 3, 2, []), "one or more"),
    }


def test_each_branch_is_the_mean_of_its_window():
    torch.manual_seed(0)
    node = PoolingPyramid(["a"], ["b"], 2, 3, [3, (1, 5)], activation=None, dims=2)
    x = torch.randn(1, 2, 5, 7)
    made = node(x).detach().numpy()[0]
    assert made.shape == (3, 3, 3)
    first, second, join = (
        (layer[0].weight.detach().numpy()[..., 0, 0], layer[0].bias.detach().numpy())
        for layer in (*node.branches, node.join)
    )
    for y, z in np.ndindex(3, 3):
        at, values = (y + 1, z + 2), x.numpy()[0]
        small = values[:, at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2].mean(axis=(1, 2))
        wide = values[:, at[0], at[1] - 2 : at[1] + 3].mean(axis=1)
        joined = np.concatenate([values[:, *at], first[0] @ small + first[1], second[0] @ wide + second[1]])
        np.testing.assert_allclose(made[:, y, z], join[0] @ joined + join[1], rtol=1e-4, atol=1e-5)
