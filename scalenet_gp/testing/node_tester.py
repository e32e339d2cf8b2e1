"""The tester that every kind of node goes through.

For a new kind of node, write a test module with a subclass of :class:`NodeTester`. Every test of it then runs for every
case, in two and in three dimensions. Exporting and compiling, which take longest, alternate between the two from case
to case, and each takes the one that the other does not. The tester does not know what the node computes: that needs a
test of its own, against something independent.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor, nn
from torch.func import functional_call

from scalenet_gp.graph import Node, Plan, TensorSpec
from scalenet_gp.kernels import channels_last
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.testing.tensors import crop_to_roi, random_inputs, randomize

__all__ = ["NodeCase", "NodeTester", "odd_twins"]

SAMPLES = 32  # so many random inputs at once that a maximum or a rectifier lets every voxel through in one of them


@dataclass(frozen=True)
class NodeCase:
    """One variant of a kind of node.

    Args:
        build: builds the node, given the number of spatial axes, 2 or 3.
        inputs: the tensors that it reads, with three axes each; in two dimensions the last axis is left out.
        smallest: voxels per axis of the smallest request, if the computation has no meaning for one voxel.
        dims: the numbers of axes that it can have.

    Example:
        >>> from scalenet_gp import TensorSpec
        >>> from scalenet_gp.layers import Pool
        >>> case = NodeCase(lambda dims: Pool(["a"], ["b"], (2,) * dims), {"a": TensorSpec((8, 8, 8), 1)})
        >>> case.net(2).output_keys
        ('b',)
    """

    build: Callable[[int], Node]
    inputs: Mapping[str, TensorSpec]
    smallest: int = 1
    dims: tuple[int, ...] = (2, 3)

    def net(self, dims: int) -> LeibNet:
        """Return a network of the node, with random weights in float64; all tensors that the node makes are outputs."""
        node = self.build(dims)
        specs = {key: TensorSpec(spec.voxel_size[:dims], spec.channels) for key, spec in self.inputs.items()}
        net = randomize(LeibNet([node], specs, node.output_keys))
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name.endswith("bias"):
                    parameter.abs_()  # few units that a rectifier silences for all inputs
        return net

    def requests(self, net: LeibNet) -> Iterator[dict[str, Roi]]:
        """Yield requests for each output and for all: small ones in every phase to the lattices, below the origin."""
        step = whole_step(net)
        shapes = [(0, 0, 0), (0, 1, 2), (2, 0, 1)]
        phases = max(max(step / net.voxel_size[key]) for key in net.output_keys)
        alone = [(key,) for key in net.output_keys]
        for keys in [*alone, net.output_keys] if len(alone) > 1 else alone:
            for phase, shape in itertools.product(range(phases), shapes):
                yield {
                    key: self._roi(net.voxel_size[key], step, phase + index, shape[index:] + shape[:index])
                    for index, key in enumerate(keys)
                }

    def plan(self, net: LeibNet) -> Plan:
        """Return one plan for all outputs, a few voxels of each."""
        return net.plan({key: self._roi(net.voxel_size[key], whole_step(net), 0, (2, 1, 2)) for key in net.output_keys})

    def _roi(self, size: Coordinate, step: Coordinate, phase: int, more: tuple[int, ...]) -> Roi:
        begin = Coordinate((phase + axis) % (s // v) * v for axis, (s, v) in enumerate(zip(step, size, strict=True)))
        return Roi(begin - step, size * Coordinate(self.smallest + m for m in more[: size.dims]))


class NodeTester:
    """The tests of one kind of node; subclass it as ``class TestMyNode(NodeTester)``.

    It tests that the planned inputs are exactly those that the outputs depend on (by autograd), that tiles agree with
    the whole, that specs rebuild the node, that arguments of any type are refused or come back, that the specialized
    and exported networks and the compiled node are the same, that gradients are right and reach every parameter, and
    that inputs are not written to.

    Attributes:
        cases: by name, a :class:`NodeCase` for every variant of the kind that differs in ROI rule or computation.
        wrong: by name, a function that builds an invalid node (or network), and a part of the message that refuses it.

    Example:
        >>> from scalenet_gp import TensorSpec
        >>> from scalenet_gp.layers import Pool
        >>> class TestPool(NodeTester):
        ...     cases = {"2": NodeCase(lambda dims: Pool(["a"], ["b"], (2,) * dims), {"a": TensorSpec((8, 8, 8), 1)})}
        ...     wrong = {"no factor": (lambda: Pool(["a"], ["b"], (0, 2)), "whole numbers from 1 up")}
        >>> TestPool().test_the_planned_inputs_are_what_the_outputs_depend_on(TestPool.cases["2"], dims=2)
    """

    cases: ClassVar[dict[str, NodeCase]] = {}
    wrong: ClassVar[dict[str, tuple[Callable[[], object], str]]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            runs = {f"{name}-{dims}d": (case, dims) for name, case in self.cases.items() for dims in case.dims}
            metafunc.parametrize(("case", "dims"), runs.values(), ids=runs)
        for first, name in enumerate(("alternating", "alternating_too")):
            if name in metafunc.fixturenames:
                turns = [
                    (key, case, case.dims[-1 - turn % len(case.dims)])
                    for turn, (key, case) in enumerate(self.cases.items(), first)
                ]
                ids = [f"{key}-{dims}d" for key, _, dims in turns]
                metafunc.parametrize(name, [(case, dims) for _, case, dims in turns], ids=ids)
        if "refused" in metafunc.fixturenames:
            metafunc.parametrize("refused", self.wrong.values(), ids=self.wrong)

    def test_the_planned_inputs_are_what_the_outputs_depend_on(self, case: NodeCase, dims: int) -> None:
        """Every face of the planned ROI matters by autograd, and, computed as part of more, nothing outside."""
        net = case.net(dims)
        for request in case.requests(net):
            plan = net.plan(request)
            assert dependence(net, request, request) == plan.inputs, f"{request}: not every face matters"
            if net.tileable:
                more = {key: roi.grow(net.voxel_size[key] * 2, net.voxel_size[key] * 2) for key, roi in request.items()}
                assert dependence(net, more, request) == plan.inputs, f"{request}: other than the plan's inputs matter"

    def test_tiles_agree_with_the_whole_where_the_node_says_so_and_only_there(self, case: NodeCase, dims: int) -> None:
        net = case.net(dims)
        step = whole_step(net)
        whole = net.plan({key: Roi((0,) * dims, step + net.voxel_size[key] * 3) for key in net.output_keys})
        inputs = random_inputs(whole, batch=2)
        worst = 0.0
        with torch.no_grad():
            together = net(inputs, whole)
            for key, roi in whole.outputs.items():
                for tile in halves(roi, net.voxel_size[key], case.smallest):
                    plan = net.plan({key: tile})
                    alone = net(crop_inputs(net, inputs, whole, plan), plan)[key]
                    part = crop_to_roi(together[key], roi, tile, net.voxel_size[key])
                    worst = max(worst, (alone - part).abs().max().item())
        assert (worst < 1e-9) == net.tileable, f"tileable is {net.tileable}, and tiles differ by {worst}"

    def test_the_spec_rebuilds_it(self, case: NodeCase, dims: int) -> None:
        net = case.net(dims)
        twin = LeibNet.from_spec(json.loads(json.dumps(net.to_spec()))).double().eval()
        twin.load_state_dict(net.state_dict())
        assert twin.fingerprint == net.fingerprint
        plan = case.plan(net)
        inputs = random_inputs(plan, batch=2)
        with torch.no_grad():
            same(twin(inputs, plan), net(inputs, plan))

    def test_an_argument_of_any_type_is_refused_or_comes_back(self) -> None:
        """Each argument of the first case in turn: whatever builds is rebuilt from JSON, and computes the same."""
        case = next(iter(self.cases.values()))
        dims = case.dims[0]
        (node,) = case.net(dims).graph.nodes.values()
        specs = {key: TensorSpec(spec.voxel_size[:dims], spec.channels) for key, spec in case.inputs.items()}
        built = 0
        for name, value in node.arguments.items():
            for odd in odd_twins(value):
                try:
                    twin = type(node)(**{**node.arguments, name: odd})
                    net = randomize(LeibNet([twin], specs, twin.output_keys))
                except ValueError:
                    continue
                except Exception as error:
                    pytest.fail(f"{name}={odd!r} ends in {error!r}")
                try:
                    described = json.dumps(net.to_spec(), allow_nan=False)
                except ValueError:
                    continue
                again = LeibNet.from_spec(json.loads(described)).double().eval()
                assert json.dumps(again.to_spec()) == described, f"{name}={odd!r} comes back as another"
                again.load_state_dict(net.state_dict())
                plan = case.plan(net)
                inputs = random_inputs(plan)
                with torch.no_grad():
                    torch.testing.assert_close(again(inputs, plan), net(inputs, plan), rtol=0, atol=0, equal_nan=True)
                built += 1
        assert built, "nothing was built, not even with tuples for lists"

    def test_the_specialized_network_is_the_same(self, case: NodeCase, dims: int) -> None:
        net = case.net(dims)
        plan = case.plan(net)
        inputs = random_inputs(plan, batch=2)
        special = net.specialize(plan)
        with torch.no_grad():
            made = special(*(inputs[key] for key in special.input_keys))
            same(dict(zip(special.output_keys, made, strict=True)), net(inputs, plan))

    def test_the_specialized_network_is_the_same_exported(self, alternating_too: tuple[NodeCase, int]) -> None:
        special, taken = specialized(*alternating_too)
        with torch.no_grad():
            exported = torch.export.export(special, taken).module()
            torch.testing.assert_close(tuple(exported(*taken)), special(*taken))

    def test_the_node_is_the_same_compiled(self, alternating: tuple[NodeCase, int]) -> None:
        """Without what a network does around it, which takes longer to compile and is the same for all."""
        case, dims = alternating
        net = case.net(dims).float()
        (node,) = net.graph.nodes.values()
        inputs = random_inputs(case.plan(net), torch.float32, batch=2)
        read = [channels_last(inputs[key]) for key in node.input_keys]
        torch.compiler.reset()
        with torch.no_grad():
            torch.testing.assert_close(torch.compile(node, fullgraph=True, backend="aot_eager")(*read), node(*read))

    def test_gradients_are_right_in_training(self, case: NodeCase, dims: int) -> None:
        """Finite differences agree, for the inputs and all parameters; random numbers are the same each time."""
        net = case.net(dims).train()
        plan = case.plan(net)
        inputs = random_inputs(plan, batch=2)
        parameters = dict(net.named_parameters())

        def outputs(*tensors: Tensor) -> tuple[Tensor, ...]:
            read, weights = tensors[: len(inputs)], tensors[len(inputs) :]
            with torch.random.fork_rng():
                torch.manual_seed(4)
                made = functional_call(
                    net,
                    dict(zip(parameters, weights, strict=True)),
                    (dict(zip(inputs, read, strict=True)), plan),
                )
            return tuple(made.values())

        leaves = [tensor.detach().clone().requires_grad_() for tensor in (*inputs.values(), *parameters.values())]
        assert torch.autograd.gradcheck(outputs, leaves, fast_mode=True)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    def test_gradients_reach_every_parameter(self, case: NodeCase, dims: int, dtype: torch.dtype) -> None:
        net = case.net(dims).to(dtype).train()
        plan = case.plan(net)
        inputs = random_inputs(plan, dtype, batch=SAMPLES)
        made = net(inputs, plan)
        assert {key: (tensor.dtype, tensor.shape[1]) for key, tensor in made.items()} == {
            key: (dtype, net.specs[key].channels) for key in net.output_keys
        }
        if any(parameter.requires_grad for parameter in net.parameters()):
            weighted_sum(made.values()).backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
            assert parameter.grad.any(), f"the gradient of {name} is zero"

    @pytest.mark.parametrize("training", [False, True], ids=["evaluating", "training"])
    def test_inputs_are_never_written_to_and_their_memory_format_is_kept(
        self, case: NodeCase, dims: int, training: bool
    ) -> None:
        # torch's own convolutions change the format of float64 and, on one thread, of few samples
        net = case.net(dims).float().train(training)
        plan = case.plan(net)
        (node,) = net.graph.nodes.values()
        inputs = random_inputs(plan, torch.float32, batch=SAMPLES)
        read = [channels_last(inputs[key]) for key in node.input_keys]
        before = [tensor.clone() for tensor in read]
        with torch.no_grad():
            made = node(*read)
        for tensor, unchanged in zip(read, before, strict=True):
            assert torch.equal(tensor, unchanged), "the node wrote to an input"
        for key, tensor in zip(node.output_keys, (made,) if isinstance(made, Tensor) else made, strict=True):
            order = [tensor.stride(axis) for axis in (0, *range(2, dims + 2), 1) if tensor.shape[axis] > 1]
            assert order == sorted(order, reverse=True), f"{key!r} is not channels last: {tensor.stride()}"

    def test_what_it_cannot_be_is_refused(self, refused: tuple[Callable[[], object], str]) -> None:
        build, message = refused
        with pytest.raises(ValueError) as caught:
            build()
        assert message in str(caught.value)


def odd_twins(value: object) -> Iterator[object]:
    """Yield values that someone might give instead of an argument: equal ones of other types, and others."""
    if isinstance(value, list):
        yield from (tuple(value), deque(value), np.array(value), iter(value))
        if all(isinstance(item, str | int) for item in value):
            yield from (set(value), dict.fromkeys(value).keys(), [str(item) for item in value])
        if all(isinstance(item, int) for item in value):
            yield from ([float(item) for item in value], [item + 0.5 for item in value], tuple(map(np.int64, value)))
    elif isinstance(value, int | float):
        yield from (np.float64(value), np.int64(value), np.bool_(value), float(value), int(value), bool(value))
    yield from ([value], str(value), None, True, 0, -1, 2, 1.0, 2.5, math.nan, "", "a", b"a", "\ud800")
    yield from ([], ["a"], {}, {"a": 1}, {1}, range(1, 3), object())


def specialized(case: NodeCase, dims: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return the network of a case for one plan, in float32, and inputs for it."""
    net = case.net(dims).float()
    plan = case.plan(net)
    inputs = random_inputs(plan, torch.float32, batch=2)
    special = net.specialize(plan).eval()
    return special, tuple(inputs[key] for key in special.input_keys)


def whole_step(net: LeibNet) -> Coordinate:
    """Return the smallest box on which the lattices of all tensors close."""
    return net.smallest_plan.step


def dependence(
    net: LeibNet, computed: dict[str, Roi], wanted: dict[str, Roi], samples: int = SAMPLES
) -> dict[str, Roi]:
    """Return the smallest world ROI of each input that the part ``wanted`` of the outputs ``computed`` depends on.

    The gradient is that of a sum with random weights: in a plain sum a normalization or a softmax would cancel.
    """
    plan = net.plan(computed)
    inputs = {key: tensor.requires_grad_() for key, tensor in random_inputs(plan, batch=samples).items()}
    made = net(inputs, plan)
    total = weighted_sum(crop_to_roi(made[key], computed[key], roi, net.voxel_size[key]) for key, roi in wanted.items())
    gradients = dict(zip(inputs, torch.autograd.grad(total, list(inputs.values())), strict=True))
    boxes = {}
    for key, roi in plan.inputs.items():
        strength = gradients[key].abs().sum(dim=(0, 1))
        where = (strength > 1e-9 * strength.max()).nonzero()  # less is rounding, in the weights of an interpolation
        first, past = Coordinate(where.min(dim=0).values.tolist()), Coordinate((where.max(dim=0).values + 1).tolist())
        boxes[key] = Roi(roi.begin + first * net.voxel_size[key], (past - first) * net.voxel_size[key])
    return boxes


def weighted_sum(tensors: Iterable[Tensor]) -> Tensor:
    """Return the sum of all values times random numbers."""
    generator = torch.Generator().manual_seed(3)
    sums = [(t * torch.randn(t.shape, dtype=t.dtype, generator=generator)).sum() for t in tensors]
    return torch.stack(sums).sum()


def halves(roi: Roi, voxel_size: Coordinate, smallest: int) -> list[Roi]:
    """Return ``roi`` in two unequal parts per axis."""
    cuts = [
        [(begin, begin + size * smallest), (begin + size * smallest, end)]
        for begin, end, size in zip(roi.begin, roi.end, voxel_size, strict=True)
    ]
    return [
        Roi([first for first, _ in tile], [past - first for first, past in tile]) for tile in itertools.product(*cuts)
    ]


def crop_inputs(net: LeibNet, inputs: Mapping[str, Tensor], whole: Plan, part: Plan) -> dict[str, Tensor]:
    """Return the parts of the inputs of a larger plan that a smaller one needs."""
    return {
        key: crop_to_roi(inputs[key], whole.inputs[key], roi, net.voxel_size[key]) for key, roi in part.inputs.items()
    }


def same(made: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Assert that all tensors are equal to the bit."""
    assert list(made) == list(expected)
    for key, tensor in expected.items():
        assert torch.equal(made[key], tensor), f"{key!r} differs by {(made[key] - tensor).abs().max()}"
