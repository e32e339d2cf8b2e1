"""PrototypeMemory: through the tester, and against the attention of one voxel after the other."""

import numpy as np
import torch

from scalenet_gp import TensorSpec
from scalenet_gp.layers import PrototypeMemory
from scalenet_gp.testing import NodeCase, NodeTester


class TestPrototypeMemory(NodeTester):
    cases = {  # noqa: RUF012
        "": NodeCase(lambda dims: PrototypeMemory(["a"], ["b"], 3, 4, dims=dims), {"a": TensorSpec((8, 4, 4), 3)}),
    }
    wrong = {"one": (lambda: PrototypeMemory(["a"], ["b"], 3, 1), "prototypes is a whole number from 2 up")}  # noqa: RUF012


def test_each_voxel_recalls_a_mixture_of_values_by_its_likeness_to_the_keys():
    torch.manual_seed(0)
    node = PrototypeMemory(["a"], ["b"], 3, 4, dims=2)
    x = torch.randn(1, 3, 2, 2)
    made = node(x).detach().numpy()[0]
    keys, values = (layer.weight.detach().numpy()[..., 0, 0] for layer in (node.keys, node.values))
    for at in np.ndindex(2, 2):
        voxel = x.numpy()[(0, slice(None), *at)]
        scores = np.exp(keys @ voxel / np.sqrt(3))
        expected = voxel + values @ (scores / scores.sum())
        np.testing.assert_allclose(made[(slice(None), *at)], expected, rtol=1e-5)
