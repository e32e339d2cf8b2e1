"""The tester of node kinds finds what is wrong with these."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from scalenet_gp import TensorSpec
from scalenet_gp.layers.same_lattice import SameLattice, without_margin
from scalenet_gp.testing import NodeCase, NodeTester


class FaultyNode(SameLattice):
    """Keeps the channels; computes what the test tells it to."""

    compute: Callable[[nn.Module, Tensor], Tensor]
    claims = True

    def __init__(self, input_keys: list[str], output_keys: list[str]) -> None:
        super().__init__(input_keys, output_keys)
        self.weight = nn.Parameter(torch.ones(2))

    @property
    def tileable(self) -> bool:
        return self.claims

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        return input_channels

    def forward(self, *tensors: Tensor) -> Tensor:
        return type(self).compute(self, *tensors)


def weighed(node: nn.Module, x: Tensor) -> Tensor:
    return (x.movedim(1, -1) * node.weight).movedim(-1, 1)


FAULTS = {
    "reads too much": (
        "the_planned_inputs_are_what_the_outputs_depend_on",
        lambda node, x: weighed(node, without_margin(x, (1, 1))),
        {"margin": 1},
        "not every face matters",
    ),
    "depends on more": (
        "the_planned_inputs_are_what_the_outputs_depend_on",
        lambda node, x: weighed(node, x + x.mean(dim=(2, 3), keepdim=True)),
        {},
        "other than the plan's inputs matter",
    ),
    "claims to tile": (
        "tiles_agree_with_the_whole_where_the_node_says_so_and_only_there",
        lambda node, x: weighed(node, x + x.mean(dim=(2, 3), keepdim=True)),
        {},
        "tileable is True, and tiles differ",
    ),
    "claims not to tile": (
        "tiles_agree_with_the_whole_where_the_node_says_so_and_only_there",
        weighed,
        {"claims": False},
        "tileable is False, and tiles differ by 0.0",
    ),
    "random": ("the_spec_rebuilds_it", lambda node, x: weighed(node, x + torch.randn(1)), {}, "'b' differs by"),
    "parameter without effect": (
        "gradients_reach_every_parameter",
        lambda node, x: x + 0 * weighed(node, x),
        {},
        "the gradient of nodes.b.weight is zero",
    ),
    "gradient cut": (
        "gradients_are_right_in_training",
        lambda node, x: weighed(node, x * x.detach()),
        {},
        "Jacobian mismatch",
    ),
    "writes to its input": (
        "inputs_are_never_written_to_and_their_memory_format_is_kept",
        lambda node, x: weighed(node, x.mul_(2)),
        {},
        "the node wrote to an input",
    ),
    "cannot be exported in two dimensions": (
        "the_specialized_network_is_the_same_exported",
        lambda node, x: weighed(node, x) * (1.0 if x.dim() == 5 or x.sum().item() < 1e9 else 2.0),
        {},
        "data-dependent",
    ),
    "cannot be compiled in two dimensions": (
        "the_node_is_the_same_compiled",
        lambda node, x: weighed(node, x) * (1.0 if x.dim() == 5 or x.sum().item() < 1e9 else 2.0),
        {},
        "data-dependent|item",
    ),
    "turns channels around": (
        "inputs_are_never_written_to_and_their_memory_format_is_kept",
        lambda node, x: weighed(node, x).contiguous(),
        {},
        "'b' is not channels last",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name, monkeypatch):
    test, compute, attributes, message = FAULTS[name]
    arguments = {
        "gradients_reach_every_parameter": {"dtype": torch.float32},
        "inputs_are_never_written_to_and_their_memory_format_is_kept": {"training": False},
    }.get(test, {})
    for attribute, value in {"compute": compute, **attributes}.items():
        monkeypatch.setattr(FaultyNode, attribute, value, raising=False)
    case = NodeCase(lambda dims: FaultyNode(["a"], ["b"]), {"a": TensorSpec((8, 8, 8), 2)})
    turns = {"compiled": "alternating", "exported": "alternating_too"}
    turn = turns.get(test.rpartition("_")[2])
    arguments |= {"case": case, "dims": 2} if turn is None else {turn: (case, 2)}
    with pytest.raises((AssertionError, RuntimeError), match=message):
        getattr(NodeTester(), f"test_{test}")(**arguments)


class Forgetful(SameLattice):
    """A node whose output depends on more than its spec holds, if ``factor`` is not a float."""

    built = 0

    def __init__(self, input_keys: list[str], output_keys: list[str], factor=0.5):  # type: ignore[no-untyped-def]
        super().__init__(input_keys, output_keys)
        if self.strict and not isinstance(factor, float):
            raise ValueError(f"factor is {factor!r}, and takes a number")
        type(self).built += 1
        self.factor = factor if isinstance(factor, float) else type(self).built + float(factor)

    strict = False

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        return input_channels

    def forward(self, *tensors: Tensor) -> Tensor:
        return tensors[0] * self.factor


@pytest.mark.parametrize(("strict", "message"), [(False, r"ends in TypeError|differ|not equal"), (True, None)])
def test_arguments_that_are_accepted_and_do_not_come_back_are_found(strict, message, monkeypatch):
    monkeypatch.setattr(Forgetful, "strict", strict)
    tester = NodeTester()
    monkeypatch.setattr(
        NodeTester, "cases", {"one": NodeCase(lambda dims: Forgetful(["a"], ["b"]), {"a": TensorSpec((8, 8, 8), 2)})}
    )
    if message is None:
        tester.test_an_argument_of_any_type_is_refused_or_comes_back()
        return
    with pytest.raises((AssertionError, pytest.fail.Exception), match=message):
        tester.test_an_argument_of_any_type_is_refused_or_comes_back()


def test_a_node_without_fault_passes(monkeypatch):
    monkeypatch.setattr(FaultyNode, "compute", weighed, raising=False)
    case = NodeCase(lambda dims: FaultyNode(["a"], ["b"]), {"a": TensorSpec((8, 8, 8), 2)})
    tester = NodeTester()
    tester.test_the_planned_inputs_are_what_the_outputs_depend_on(case, 2)
    tester.test_tiles_agree_with_the_whole_where_the_node_says_so_and_only_there(case, 2)
    tester.test_gradients_are_right_in_training(case, 3)
    tester.test_inputs_are_never_written_to_and_their_memory_format_is_kept(case, 3, training=True)
