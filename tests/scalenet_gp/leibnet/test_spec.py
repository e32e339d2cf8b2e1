"""Specs: what they hold rebuilds the network, and what they must not hold is refused by name."""

from __future__ import annotations

import copy
import json
import re
from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypedDict

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scalenet_gp import LeibNet, Node, TensorSpec, build_scalenet, build_unet
from scalenet_gp.layers import ConvPass, Head, Pool
from scalenet_gp.leibnet.spec import NetworkSpec
from scalenet_gp.testing import random_inputs
from tests.scalenet_gp.graph.strategies import networks

SMALL: dict[str, Any] = {"base_nc": 1, "downsample_factors": [(2, 2)]}
A = {"a": TensorSpec(("4.6", 8), 1)}
IO = ["a"], ["b"]


class Pointwise(Node):
    """A function applied to each voxel."""

    def __init__(
        self, input_keys: Sequence[str], output_keys: Sequence[str], function: Any, scale: Fraction | None = None
    ) -> None:
        super().__init__(input_keys, output_keys)
        self.function = function
        self.scale = 1 if scale is None else float(Fraction(scale))

    def output_specs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        return inputs

    def input_roi(self, output_roi: Roi) -> Roi:
        return output_roi

    def output_roi(self, input_roi: Roi) -> Roi:
        return input_roi

    def forward(self, *tensors: Tensor) -> Tensor:
        made: Tensor = self.function(tensors[0]) * self.scale
        return made


class Scaled(Pointwise):
    """A kind whose annotations pydantic cannot read: they name a class that JSON knows nothing of."""

    def __init__(self, input_keys: Sequence[str], output_keys: Sequence[str], offset: Coordinate) -> None:
        super().__init__(input_keys, output_keys, nn.Identity())
        self.offset = Coordinate(offset)


def spec(**changes: Any) -> dict[str, Any]:
    """A small network's, with changed fields."""
    return {**build_unet((8, "4.6"), **SMALL).to_spec(), **changes}


def spec_of_node(**changes: Any) -> dict[str, Any]:
    """A small network's, with changed arguments of its first node."""
    made = spec()
    made["nodes"][0] |= changes
    return made


class Cut(Pointwise):
    """A kind whose arguments are of types that JSON has not, and some that it has."""

    def __init__(
        self,
        input_keys: tuple[str],
        output_keys: tuple[str],
        size: tuple[int, int],
        names: frozenset[str] = frozenset(),
        scale: Fraction = Fraction(1),
    ) -> None:
        super().__init__(input_keys, output_keys, nn.Identity())
        self.received = [input_keys, size, names, scale]


@given(st.data())
@settings(max_examples=30)
def test_a_spec_survives_json_and_rebuilds_the_network(data):
    net = data.draw(networks(linear=False))
    described = net.to_spec()
    again = LeibNet.from_spec(json.loads(json.dumps(described)))
    assert again.to_spec() == described
    assert again.fingerprint == net.fingerprint
    shapes = [{name: tensor.shape for name, tensor in n.state_dict().items()} for n in (net, again)]
    assert shapes[0] == shapes[1]
    assert again.specs == net.specs


def test_the_models_and_the_json_have_the_same_fields():
    described = build_scalenet([{"top_resolution": (r, r), **SMALL} for r in (16, 8)]).to_spec()
    model = NetworkSpec.model_validate_json(json.dumps(described))
    assert model.model_dump(mode="json", by_alias=True) == described
    assert described["schema"] == 1
    assert described["inputs"]["1_input"] == {"voxel_size": ["8", "8"], "channels": 1}


def test_fractional_voxel_sizes_stay_exact():
    described = json.loads(json.dumps(spec()))
    assert described["inputs"]["input"]["voxel_size"] == ["8", "23/5"]
    assert LeibNet.from_spec(described).specs["input"].voxel_size == (Fraction(8), Fraction(23, 5))


def test_numbers_of_numpy_are_written_as_pythons():
    arguments = {"base_nc": np.int64(2), "downsample_factors": np.array([[2, 2]]), "dropout_prob": np.float32(0.25)}
    described = json.loads(json.dumps(build_unet(np.array([8, 8]), **arguments).to_spec()))
    assert described["nodes"][0]["output_nc"] == 2
    assert described["nodes"][1]["factor"] == [2, 2]
    LeibNet.from_spec(described)


def test_the_order_of_fields_plays_no_part():
    backwards = dict(reversed([*spec().items()]))
    backwards["nodes"] = [dict(reversed([*node.items()])) for node in backwards["nodes"]]
    assert LeibNet.from_spec(backwards).fingerprint == LeibNet.from_spec(spec()).fingerprint


WRONG = {
    "another schema": (spec(schema=2), "reads network specs of schema 1, not 2"),
    "no schema": ({"nodes": []}, "reads network specs of schema 1, not None"),
    "a list": ([1], r"a spec is a mapping, as to_spec\(\) makes it; this is of type list"),
    "nothing": (None, "this is of type NoneType"),
    "what is not JSON": (spec(name=object()), "not a spec of a network: JSON cannot hold it .*type object is not JSON"),
    "not a number": (spec(name=float("nan")), "not a spec of a network: JSON cannot hold it .*not JSON compliant"),
    "an unknown field": (
        spec(weights={}),
        "weights is not a field of it; there are schema, name, inputs, ",
    ),
    "a missing field": (
        {k: v for k, v in spec().items() if k != "outputs"},
        "not a spec of a network: outputs is missing",
    ),
    "an unknown field of an input": (
        spec(inputs={"input": {"voxel_size": ["8", "8"], "channels": 1, "axes": "yx"}}),
        r"inputs\.input\.axes is not a field of it; there are voxel_size, channels",
    ),
    "a number for a voxel size": (
        spec(inputs={"input": {"voxel_size": ["8", 4.6], "channels": 1}}),
        r"inputs\.input\.voxel_size\.1 is 4\.6: .*valid string",
    ),
    "a voxel size of nothing": (
        spec(inputs={"input": {"voxel_size": ["8", "0"], "channels": 1}}),
        r"inputs\.input .* 8 × 0 nm has to be positive",
    ),
    "channels in words": (
        spec(inputs={"input": {"voxel_size": ["8", "8"], "channels": "1"}}),
        r"inputs\.input\.channels is '1': .*valid integer",
    ),
    "no list of outputs": (spec(outputs="output"), "outputs is 'output': .*it has to be a list"),
    "a node without a kind": (spec(nodes=[{"input_keys": ["input"]}]), r"nodes\.0\.kind is missing"),
    "an unknown kind": (
        spec_of_node(kind="os.system"),
        r"node 'in_conv_0' of kind 'os\.system' cannot be built: there is no kind .*; there are .*ConvPass, ",
    ),
    "an abstract kind": (spec_of_node(kind="Node"), "of kind 'Node' cannot be built: there is no kind of node 'Node'"),
    "an unknown argument": (spec_of_node(size=3), r"node 'in_conv_0' of kind 'ConvPass' cannot be built: .*'size'"),
    "an argument too few": (spec(nodes=[{"kind": "ConvPass", "input_keys": ["input"]}]), "node '.' .*'output_keys'"),
    "a number for a list": (spec_of_node(kernel_sizes=3), "'in_conv_0' .* kernel_sizes is 3: .*it has to be a list"),
    "a string for a number": (spec_of_node(input_nc="1"), "'in_conv_0' .* input_nc is '1': .*valid integer"),
    "a yes for a truth": (spec_of_node(residual="yes"), "'in_conv_0' .* residual is 'yes': .*valid boolean"),
    "a number for a name": (spec_of_node(identifier="x", activation=1), "node 'x' .* activation is 1: .*valid string"),
    "none of the choices": (spec_of_node(padding="full"), "padding is 'full': it has to be 'valid' or 'same'"),
    "two at once": (spec_of_node(input_nc=1.5, residual=0), "input_nc is 1.5: .*; residual is 0: "),
    "a value out of range": (spec_of_node(squeeze_ratio=0), "'in_conv_0' .* squeeze_ratio is a whole number from 1"),
    "fewer than no channels": (
        spec_of_node(input_nc=-1),
        "'in_conv_0' of kind .* input_nc is a whole number from 1 up, not -1",
    ),
    "a broken graph": (spec(outputs=["nothing"]), "no node makes the output 'nothing'"),
}


@pytest.mark.parametrize(("described", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_spec_is_said(described: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LeibNet.from_spec(described)


def test_a_spec_of_ones_own_kind_with_annotations_of_ones_own():
    net = LeibNet([Scaled(["a"], ["b"], Coordinate(1, 2))], A, ["b"])
    again = LeibNet.from_spec(json.loads(json.dumps(net.to_spec())))
    assert again.nodes["b"].offset == Coordinate(1, 2)
    described = net.to_spec()
    described["nodes"][0]["input_keys"] = 3
    with pytest.raises(
        ValueError, match=r"node 'b' of kind 'Scaled' cannot be built: .*input_keys is 3: .*it has to be a list"
    ):
        LeibNet.from_spec(described)


@pytest.mark.parametrize("function", [nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), torch.tanh, float("nan")])
def test_what_no_spec_can_hold_is_named_and_the_network_works_on(function):
    net = LeibNet([Pointwise(["a"], ["b"], function, Fraction(1, 3))], A, ["b"])
    with pytest.raises(
        ValueError,
        match=r"no spec can hold the argument function of the Pointwise that makes 'b' .*write a subclass of Pointwise",
    ):
        net.to_spec()
    assert len(net.fingerprint) == 16
    assert copy.deepcopy(net).fingerprint == net.fingerprint


def test_a_network_that_no_spec_can_hold_still_plans_and_runs():
    net = LeibNet([Pointwise(["a"], ["b"], nn.Conv2d(1, 1, 1), Fraction(1, 3))], A, ["b"])
    plan = net.plan({"b": Roi((0, 0), (46, 80))})
    x = torch.rand(1, 1, *plan.tensor("a").shape)
    assert torch.equal(net({"a": x}, plan)["b"], net.nodes["b"].function(x) * (1 / 3))


def test_fingerprints_of_modules_tell_them_apart_but_not_where_they_are():
    def net(function: Any) -> LeibNet:
        return LeibNet([Pointwise(["a"], ["b"], function)], A, ["b"])

    assert net(nn.ReLU()).fingerprint == net(nn.ReLU()).fingerprint
    assert net(nn.ReLU()).fingerprint != net(nn.GELU()).fingerprint
    assert net(object()).fingerprint == net(object()).fingerprint


def test_fingerprints_do_not_depend_on_the_name():
    net, other = build_unet((8, 8), **SMALL), build_unet((8, 8), **SMALL)
    plan = net.plan({"output": Roi((0, 0), (16, 16))})
    other.name = "mine"
    assert other.fingerprint == net.fingerprint
    again = LeibNet.from_spec(other.to_spec())
    assert (again.name, again.fingerprint) == ("mine", net.fingerprint)
    again.load_state_dict(net.state_dict())
    inputs = random_inputs(plan, torch.float32)
    assert torch.equal(again(inputs, plan)["output"], net(inputs, plan)["output"])


# -------------------------------------------------------------------------- what is built is what a spec can build

ODD = {
    "a number for a truth": (lambda: conv_pass(residual=1), "ConvPass ['b']: residual is 1: .*valid boolean"),
    "a truth for a number": (lambda: conv_pass(groups=True), "groups is True: .*valid integer"),
    "numbers with points": (lambda: Pool(*IO, factor=(2, 2.0)), "Pool ['b']: factor[1] is 2.0: .*valid integer"),
    "an array with points": (lambda: Pool(*IO, np.array([2.0, 2])), "Pool ['b']: factor[0] is 2.0: .*valid integer"),
    "numbers for tuples": (lambda: conv_pass(kernel_sizes=[3, 3]), "kernel_sizes[0] is 3: .*it has to be a list"),
    "a set": (lambda: Head(*IO, 1, {"er"}), "Head ['b']: classes is {'er'}: .*Sequence"),
    "a mapping": (lambda: Head(*IO, 1, {"er": 1}), "Head ['b']: classes is {'er': 1}: .*it has to be a list"),
    "one name": (lambda: Pool("a", ["b"], (2, 2)), "Pool ['b']: input_keys is 'a': .*it has to be a list"),
    "bytes": (lambda: Pool([b"a"], ["b"], (2, 2)), "input_keys[0] is b'a': .*valid string"),
    "a function": (lambda: conv_pass(activation=torch.relu), "activation is <built-in .*valid string"),
    "half a character": (lambda: conv_pass(activation="\ud800"), "activation is .*"),
    "two at once": (
        lambda: conv_pass(eca="no", output_nc="1"),
        "eca is 'no': .*valid boolean.*; output_nc is '1': .*valid integer",
    ),
    "half a channel": (lambda: TensorSpec((8, 8), 1.5), "channels are a whole number, not 1.5"),  # type: ignore[arg-type]
}


def conv_pass(**arguments: Any) -> Node:
    return ConvPass(*IO, **{"input_nc": 1, "output_nc": 1, "kernel_sizes": [(3, 3)], **arguments})


@pytest.mark.parametrize(("build", "message"), ODD.values(), ids=ODD)
def test_what_no_spec_could_build_again_is_not_built(build: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        build()
    assert re.search(re.escape(message).replace(r"\.\*", ".*"), str(caught.value)), str(caught.value)


def test_other_sequences_and_numbers_are_written_as_lists_and_numbers():
    nodes = [
        Pool(deque(["a"]), {"b": 1}.keys(), range(2, 4)),
        Head(("b",), ["c"], np.int64(1), {"er": 1, "mito": 2}.keys(), hidden_nc=np.array([3]), dims=2),
    ]
    net = LeibNet(nodes, {"a": TensorSpec(np.array([8, 4.6]), np.int64(1))}, ["c"])  # type: ignore[arg-type]
    described = net.to_spec()
    assert described["inputs"] == {"a": {"voxel_size": ["8", "23/5"], "channels": 1}}
    assert (
        described["nodes"][0] | {"factor": [2, 3], "input_keys": ["a"], "output_keys": ["b"]} == described["nodes"][0]
    )
    assert [described["nodes"][1][key] for key in ("classes", "hidden_nc")] == [["er", "mito"], [3]]
    assert LeibNet.from_spec(json.loads(json.dumps(described))).to_spec() == described


def test_arguments_arrive_as_they_are_annotated_whether_given_or_read():
    node = Cut(["a"], ["b"], [1, 2], ["er", "er"], "1/3")
    again = LeibNet.from_spec(json.loads(json.dumps(LeibNet([node], A, ["b"]).to_spec()))).nodes["b"]
    assert node.received == again.received == [("a",), (1, 2), frozenset({"er"}), Fraction(1, 3)]
    with pytest.raises(ValueError, match=r"Cut \['b'\]: size\[1\] is 1\.5: .*valid integer"):
        Cut(["a"], ["b"], (1, 1.5))


def test_annotations_that_cannot_be_read_are_no_hindrance():
    class Size(TypedDict):
        """A typed dictionary, which before Python 3.12 pydantic takes only from another package."""

        depth: int

    class Sized(Pointwise):
        def __init__(self, input_keys: list[str], output_keys: list[str], size: Size) -> None:
            super().__init__(input_keys, output_keys, nn.Identity())
            self.size = size

    class SizedOtherwise(Sized):
        def __init__(self, input_keys, output_keys, size) -> None:  # type: ignore[no-untyped-def]
            super().__init__(input_keys, output_keys, size)

    SizedOtherwise.__init__.__annotations__["size"] = Size
    for kind in (Sized, SizedOtherwise):
        net = LeibNet([kind(["a"], ["b"], {"depth": np.int64(3)})], A, ["b"])
        assert LeibNet.from_spec(json.loads(json.dumps(net.to_spec()))).nodes["b"].size == {"depth": 3}


def test_a_node_does_not_share_its_lists_with_who_built_it():
    factor = [2, 2]
    node = Pool(*IO, factor)
    factor[0] = 3
    assert node.arguments["factor"] == [2, 2]


def test_what_json_cannot_hold_is_checked_where_it_can_be():
    with pytest.raises(ValueError, match=r"Cut \['b'\]: size is <object object at .*>: it has to be a list"):
        Cut(["a"], ["b"], object())
    held = LeibNet([Cut(["a"], ["b"], (1, 2), frozenset({"er"}))], A, ["b"])
    with pytest.raises(ValueError, match="no spec can hold the argument names of the Cut that makes 'b'"):
        held.to_spec()


def test_an_argument_too_few_names_the_kind():
    with pytest.raises(TypeError, match=r"^ConvPass: missing a required argument: 'output_nc'$"):
        ConvPass(*IO, 1)
    with pytest.raises(TypeError, match=r"^Pool: got an unexpected keyword argument 'size'$"):
        Pool(*IO, (2, 2), size=3)


def test_a_kind_whose_arguments_have_no_names_is_refused():
    with pytest.raises(TypeError, match="node kind Nameless: a spec cannot hold the argument size"):

        class Nameless(Pointwise):
            def __init__(self, size: int, /) -> None:
                super().__init__(["a"], ["b"], size)


def test_a_name_that_no_spec_can_hold_is_refused():
    net = build_unet((8, 8), **SMALL)
    net.name = 3
    with pytest.raises(ValueError, match=r"no spec can hold the network: name is 3: .*valid string"):
        net.to_spec()


def test_a_fraction_is_checked_as_text():
    described = LeibNet([Pointwise(["a"], ["b"], None, Fraction(1, 3))], A, ["b"]).to_spec()
    assert described["nodes"][0]["scale"] == "1/3"
    assert LeibNet.from_spec(described).nodes["b"].scale == 1 / 3
    described["nodes"][0]["scale"] = "a third"
    with pytest.raises(ValueError, match=r"node 'b' of kind 'Pointwise' cannot be built: .*scale is 'a third'"):
        LeibNet.from_spec(described)


def test_weights_play_no_part():
    net, other = build_unet((8, 8), **SMALL), build_unet((8, 8), **SMALL)
    assert not torch.equal(net.nodes["in_conv_0"].layers[0].weight, other.nodes["in_conv_0"].layers[0].weight)
    assert net.fingerprint == other.fingerprint
    assert isinstance(net.nodes["in_conv_0"], ConvPass)
