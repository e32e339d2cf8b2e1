"""Dense and recurrent residual blocks: through the tester, and against their formulas."""

import torch
from torch.nn import functional

from scalenet_gp import TensorSpec
from scalenet_gp.layers import DenseBlock, RecurrentResiduals
from scalenet_gp.testing import NodeCase, NodeTester

READ = {"a": TensorSpec((8, 4, 4), 2)}
KERNELS = [(1, 3, 3), (3, 1, 3)]
IO = (["a"], ["b"])


class TestDenseBlock(NodeTester):
    cases = {  # noqa: RUF012
        "": NodeCase(lambda dims: DenseBlock(*IO, 2, 3, [k[-dims:] for k in KERNELS], "Softplus"), READ, dims=(2,)),
    }
    wrong = {"even": (lambda: DenseBlock(*IO, 2, 3, [(2, 3)]), "of odd sizes")}  # noqa: RUF012


class TestRecurrentResiduals(NodeTester):
    cases = {  # noqa: RUF012
        "": NodeCase(lambda dims: RecurrentResiduals(*IO, 2, 3, [(1, 3, 1)[:dims]], "Softplus"), READ, dims=(3,)),
    }
    wrong = {"even": (lambda: RecurrentResiduals(*IO, 2, 3, [(2, 3)]), "of odd sizes")}  # noqa: RUF012


def conv(layer, x):
    return functional.conv2d(x, layer[0].weight, layer[0].bias).relu()


def test_a_recurrent_block_applies_one_convolution_three_times_and_adds_its_input():
    torch.manual_seed(0)
    node = RecurrentResiduals(*IO, 2, 2, [(3, 3)], norm_layer=None)
    x = torch.randn(1, 2, 8, 9)
    layer = node.blocks[0].layer
    state = conv(layer, x)
    for crop in (1, 2):
        state = conv(layer, x[:, :, crop:-crop, crop:-crop] + state)
    torch.testing.assert_close(node(x), x[:, :, 3:-3, 3:-3] + state)


def test_a_dense_block_joins_all_results():
    torch.manual_seed(0)
    node = DenseBlock(*IO, 2, 3, [(3, 3), (1, 3)], norm_layer=None)
    x = torch.randn(1, 2, 5, 8)
    first, second = (block.layer for block in node.blocks)
    once = torch.cat([x[:, :, 1:-1, 1:-1], conv(first, x)], dim=1)
    twice = torch.cat([once[..., 1:-1], conv(second, once)], dim=1)
    expected = functional.conv2d(twice, node.exit.weight, node.exit.bias)
    torch.testing.assert_close(node(x), expected)
