"""The model graph as a module: what it refuses, what it keeps in memory, how it is written down and copied."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Sequence

import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from scalenet_gp import LeibNet, Node, TensorSpec, build_scalenet, build_unet
from scalenet_gp.graph.node import build_node
from scalenet_gp.layers import Concatenate, ConvPass, Pool, Upsample
from scalenet_gp.testing import random_inputs, randomize
from tests.scalenet_gp.graph.strategies import networks, requests
from tests.scalenet_gp.helpers import taken_by, values

A = {"a": TensorSpec((8, 8), 1)}


def conv(read: str, made: str, identifier: str | None = None, channels: int = 1) -> ConvPass:
    return ConvPass([read], [made], channels, 1, [(3, 3)], identifier=identifier)


class Alike(Node):
    """Makes every output a copy of its one input."""

    def output_specs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        return inputs * len(self.output_keys)

    def input_roi(self, output_roi: Roi) -> Roi:
        return output_roi

    def output_roi(self, input_roi: Roi) -> Roi:
        return input_roi

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors[0].clone() for _ in self.output_keys)


class Slope(Alike):
    """The difference to the voxel ``reach`` before along the last axis: a kind of node with a one-sided margin."""

    def __init__(self, input_keys: Sequence[str], output_keys: Sequence[str], reach: int = 1) -> None:
        super().__init__(input_keys, output_keys)
        self.reach = reach

    def _before(self) -> Coordinate:
        return self.input_voxel_size * Coordinate((0,) * (self.input_voxel_size.dims - 1) + (self.reach,))

    def input_roi(self, output_roi: Roi) -> Roi:
        return output_roi.grow(self._before(), 0)

    def output_roi(self, input_roi: Roi) -> Roi:
        return input_roi.grow(-self._before(), 0)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        (x,) = tensors
        return (x[..., self.reach :] - x[..., : -self.reach],) * len(self.output_keys)


class Boastful(Alike):
    """Asks for too little: what it makes of that is one voxel smaller."""

    def output_roi(self, input_roi: Roi) -> Roi:
        return input_roi.grow(-self.input_voxel_size, 0)


class Vague(Alike):
    """Asks for a little more than it needs, off the lattice, and keeps what it was asked for."""

    def input_roi(self, output_roi: Roi) -> Roi:
        return output_roi.grow(1, 1)


class Fewer(Alike):
    """Names more outputs than it makes."""

    def output_specs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        return inputs


WRONG_GRAPHS = {
    "cycle": (
        [Concatenate(["a", "d"], ["b"]), conv("b", "c", channels=2), conv("c", "d")],
        A,
        ["d"],
        "the graph has a cycle through the nodes 'b' -> 'c' -> 'd'",
    ),
    "loop": ([Concatenate(["a", "b"], ["b"])], A, ["b"], "the graph has a cycle through the nodes 'b'"),
    "two makers": (
        [conv("a", "b", "first"), conv("a", "b", "second")],
        A,
        ["b"],
        "tensor 'b' has two makers: nodes 'first' and 'second'",
    ),
    "twice by one": ([Alike(["a"], ["b", "b"], "n")], A, ["b"], "tensor 'b' has two makers: nodes 'n' and 'n'"),
    "one name": ([conv("a", "b", "n"), conv("b", "c", "n")], A, ["c"], "two nodes are called 'n'"),
    "made input": (
        [conv("a", "b"), conv("b", "a", "n")],
        A,
        ["b"],
        "'a' is declared as an input, and node 'n' makes it",
    ),
    "unknown input": (
        [conv("x", "b", "n")],
        A,
        ["b"],
        "node 'n' reads 'x', which no node makes and which is not declared as an input; there are a, b",
    ),
    "unknown output": ([conv("a", "b")], A, ["c"], "no node makes the output 'c'; they make b"),
    "input as output": ([conv("a", "b")], A, ["a"], "no node makes the output 'a'; they make b"),
    "no output": ([conv("a", "b")], A, [], "a network needs at least one output"),
    "unread input": ([conv("a", "b")], {**A, "x": A["a"]}, ["b"], "no node reads the declared inputs ['x']"),
    "voxel sizes": (
        [Pool(["a"], ["b"], (2, 2)), Concatenate(["a", "b"], ["c"])],
        A,
        ["c"],
        "node 'c' cannot work on 'a' (1 channels of 8 × 8 nm), 'b' (1 channels of 16 × 16 nm): "
        "the tensors it joins have to share one voxel size: 'a' 8 × 8 nm, 'b' 16 × 16 nm",
    ),
    "voxel sizes of inputs": (
        [Concatenate(["a", "x"], ["c"])],
        {**A, "x": TensorSpec((8, "8.4"), 1)},
        ["c"],
        "have to share one voxel size: 'a' 8 × 8 nm, 'x' 8 × 8.4 nm",
    ),
    "axes of inputs": (
        [Concatenate(["a", "x"], ["c"])],
        {**A, "x": TensorSpec((8, 8, 8), 1)},
        ["c"],
        "share one number of axes: 'a' 1 channels of 8 × 8 nm, 'x' 1 channels of 8 × 8 × 8 nm",
    ),
    "channels": (
        [conv("a", "b", "n", channels=2)],
        A,
        ["b"],
        "node 'n' cannot work on 'a' (1 channels of 8 × 8 nm): it takes 2 channels, its input has 1",
    ),
    "kernel axes": (
        [ConvPass(["a"], ["b"], 1, 1, [(3, 3, 3)])],
        A,
        ["b"],
        "node 'b' cannot work on 'a' (1 channels of 8 × 8 nm): its kernels have 3 axes, its input has 2",
    ),
    "factor axes": ([Upsample(["a"], ["b"], (2, 2, 2))], A, ["b"], "its factor has 3 axes, its input has 2"),
    "too few made": ([Fewer(["a"], ["b", "c"], "n")], A, ["b"], "node 'n' makes 1 tensors, but names ('b', 'c')"),
    "dots": ([conv("a", "b.c")], A, ["b.c"], "no node can be called 'b.c': torch uses that name, or dots, itself"),
    "torch's names": ([conv("a", "values")], A, ["values"], "no node can be called 'values'"),
    "torch's attributes": ([conv("a", "training")], A, ["training"], "no node can be called 'training'"),
    "no name": ([conv("a", "")], A, [""], "no node can be called ''"),
}


@pytest.mark.parametrize("name", WRONG_GRAPHS)
def test_what_is_no_graph_is_refused(name):
    nodes, inputs, outputs, message = WRONG_GRAPHS[name]
    with pytest.raises(ValueError) as caught:
        LeibNet(nodes, inputs, outputs)
    assert message in str(caught.value)


def test_the_order_of_the_nodes_does_not_matter():
    nodes = [conv("b", "c"), Concatenate(["c", "d"], ["e"]), conv("a", "b"), conv("b", "d")]
    net = LeibNet(nodes, A, ["e"])
    assert list(net.nodes) == ["b", "c", "d", "e"]


def test_a_node_belongs_to_one_world():
    node = conv("a", "b")
    net = LeibNet([node], A, ["b"])
    request = {"b": Roi((0, 0), (8, 8))}
    plan = net.plan(request)
    with pytest.raises(ValueError) as caught:
        LeibNet([node], {"a": TensorSpec((32, 16), 1)}, ["b"])
    assert str(caught.value) == (
        "node 'b' belongs to another graph already, with voxel sizes of 'a' (8, 8), 'b' (8, 8) world units; "
        "here they would be 'a' (32, 16), 'b' (32, 16)"
    )
    other = conv("b", "c")
    with pytest.raises(ValueError, match="node 'b' belongs to another graph already"):
        LeibNet([other, node], {"a": TensorSpec((32, 16), 1)}, ["c"])
    with pytest.raises(RuntimeError, match="node 'c' is not part of a graph yet"):
        _ = other.input_voxel_size
    assert net.plan(request) == plan
    assert LeibNet([node], A, ["b"]).plan(request) == plan
    with pytest.raises(RuntimeError, match="node 'b' is not part of a graph yet"):
        _ = conv("a", "b").input_voxel_size


def test_a_node_that_contradicts_itself_is_refused():
    net = LeibNet([Boastful(["a"], ["b"], "n")], A, ["b"])
    with pytest.raises(ValueError) as caught:
        net.plan({"b": Roi((0, 0), (16, 16))})
    assert str(caught.value) == (
        "node 'n' asks for [0:16, 0:16] (16, 16) to make [0:16, 0:16] (16, 16) of 'b', and then makes "
        "[8:16, 8:16] (8, 8): its input_roi and output_roi contradict each other"
    )


@pytest.mark.parametrize(
    ("voxel_size", "channels", "message"),
    [
        ((8,), 1, "a voxel size has 2 or 3 axes, 8 has 1"),
        ((8, 8, 8, 8), 1, "8 × 8 × 8 × 8 has 4"),
        ((8, 0), 1, "voxel size 8 × 0 nm has to be positive on every axis"),
        ((8, -4.6), 1, "voxel size 8 × -4.6 nm has to be positive"),
        ((8, "x"), 1, "'x' is not a finite length"),
        ((8, 8), 0, "a tensor has at least one channel, not 0"),
    ],
)
def test_what_is_no_tensor_is_refused(voxel_size, channels, message):
    with pytest.raises(ValueError) as caught:
        TensorSpec(voxel_size, channels)
    assert message in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- forward


def test_a_plan_is_for_one_network():
    net, other = build_unet((8, 8), base_nc=1), build_unet((8, 8), base_nc=2)
    plan = net.plan({"output": Roi((0, 0), (8, 8))})
    with pytest.raises(ValueError) as caught:
        other(random_inputs(plan, torch.float32), plan)
    assert str(caught.value) == f"the plan is for network {net.fingerprint}, this is UNet {other.fingerprint}"
    twin = build_unet((8, 8), base_nc=1).eval()
    assert twin(random_inputs(plan, torch.float32), plan)["output"].shape == (1, 1, 1, 1)


def test_inputs_that_are_missing_or_of_other_channels():
    net = build_scalenet([{"top_resolution": (r, r), "base_nc": 1, "input_nc": 2} for r in (32, 8)])
    plan = net.plan({"1_output": Roi((0, 0), (8, 8))})
    inputs = random_inputs(plan, torch.float32, batch=3)
    assert net(inputs, plan)["1_output"].shape == (3, 1, 1, 1)
    with pytest.raises(KeyError, match=r"the plan needs '0_input'; there are only \['1_input'\]"):
        net({"1_input": inputs["1_input"]}, plan)
    for wrong in (inputs["1_input"][:, :1], inputs["1_input"][0], inputs["1_input"][..., None]):
        with pytest.raises(ValueError, match=r"'1_input' has shape .* \(batch, 2, .* of 2 channels") as caught:
            net({**inputs, "1_input": wrong}, plan)
        assert str(tuple(wrong.shape)) in str(caught.value)


def test_inputs_that_differ_among_each_other():
    net = build_scalenet([{"top_resolution": (r, r), "base_nc": 1} for r in (32, 8)]).eval()
    plan = net.plan({"1_output": Roi((0, 0), (8, 8))})
    inputs = random_inputs(plan, torch.float32)
    for wrong in (inputs["1_input"].expand(2, -1, -1, -1), inputs["1_input"].double(), inputs["1_input"].to("meta")):
        with pytest.raises(ValueError, match="all inputs share one batch size, one type and one device") as caught:
            net({**inputs, "1_input": wrong}, plan)
        assert f"'1_input': {len(wrong)} of {wrong.dtype} on {wrong.device}" in str(caught.value)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda x: (x, x, x), "node 'n' made 3 tensors where its output_keys are 'b', 'c'"),
        (lambda x: x, "node 'n' made 1 tensors where its output_keys are 'b', 'c'"),
        (lambda x: (x, x[..., 1:]), "node 'n' made (2, 1) voxels of 'c' where its output_roi says (2, 2)"),
        (lambda x: (x.expand(-1, 4, -1, -1), x), "node 'n' made 4 channels of 'b' where its output_specs says 1"),
    ],
    ids=["more tensors", "fewer tensors", "fewer voxels", "more channels"],
)
def test_a_node_that_makes_other_than_it_says_is_named(made, message):
    node = Alike(["a"], ["b", "c"], "n")
    node.forward = lambda *tensors: made(tensors[0])
    net = LeibNet([node], A, ["b", "c"])
    plan = net.plan({key: Roi((0, 0), (16, 16)) for key in ("b", "c")})
    with pytest.raises(ValueError) as caught:
        net(random_inputs(plan), plan)
    assert str(caught.value) == message


@given(st.data())
@settings(max_examples=60)
def test_only_what_is_still_needed_is_in_memory(data):
    """Before each node runs, what is alive of earlier results is what it or a later node reads, and the outputs."""
    net = data.draw(networks(linear=False))
    request = data.draw(requests(net))
    plan = net.plan(request)
    assume(values(plan) < 150_000)
    assert_freed(randomize(net), plan)


def test_an_output_that_nobody_wants_is_let_go_of():
    nodes = [Alike(["a"], ["b", "unwanted"], "split"), conv("b", "c"), conv("c", "d")]
    net = LeibNet(nodes, A, ["d", "unwanted"])
    plan = net.plan({"d": Roi((0, 0), (8, 8))})
    assert "unwanted" not in plan.rois
    assert_freed(randomize(net), plan)


def assert_freed(net: LeibNet, plan) -> None:
    needed, expected, taken = set(plan.outputs), [], taken_by(net)
    for node in reversed(net.nodes.values()):
        if needed & set(node.output_keys):
            needed |= set(taken[node.identifier])
            expected.insert(0, node)
    storages: dict[str, StorageWeakRef] = {}
    ran: list[Node] = []

    def alive() -> set[str]:
        return {key for key, storage in storages.items() if not storage.expired()}

    def before(node: Node, _: object) -> None:
        ran.append(node)
        to_come = {key for later in expected[len(ran) - 1 :] for key in taken[later.identifier]} | set(plan.outputs)
        assert alive() == set(storages) & to_come, node.identifier

    def after(node: Node, _: object, made: Tensor | tuple[Tensor, ...]) -> None:
        tensors = (made,) if isinstance(made, Tensor) else made
        for key, tensor in zip(node.output_keys, tensors, strict=True):
            storages[key] = StorageWeakRef(tensor.untyped_storage())

    for node in net.nodes.values():
        node.register_forward_pre_hook(before)
        node.register_forward_hook(after)
    with torch.no_grad():
        outputs = net(random_inputs(plan), plan)
    assert ran == expected
    assert alive() == set(outputs) == set(plan.outputs)


# ------------------------------------------------------------------------------------------------ specs and copies


@given(st.data())
@settings(max_examples=40)
def test_a_spec_builds_the_same_network(data):
    net = data.draw(networks(linear=False))
    plan = net.plan(data.draw(requests(net)))
    assume(values(plan) < 100_000)
    randomize(net)
    again = LeibNet.from_spec(json.loads(json.dumps(net.to_spec())))
    assert again.fingerprint == net.fingerprint
    assert again.to_spec() == json.loads(json.dumps(net.to_spec()))
    assert (again.name, again.unit, again.voxel_size, again.specs) == (net.name, net.unit, net.voxel_size, net.specs)
    assert (again.input_keys, again.output_keys) == (net.input_keys, net.output_keys)
    again.to(torch.float64).eval().load_state_dict(net.state_dict())
    inputs = random_inputs(plan)
    with torch.no_grad():
        first, second = net(inputs, plan), again(inputs, plan)
    assert all(torch.equal(first[key], second[key]) for key in plan.outputs)


def test_networks_that_differ_have_other_fingerprints():
    arguments = [{}, {"residual": True}, {"activation": "GELU"}, {"kernel_sizes": [(3, 3), (1, 1)]}, {"input_nc": 2}]
    nets = [build_unet((8, 8), base_nc=1, **argument) for argument in arguments]
    nets += [build_unet((8, 4), base_nc=1), build_scalenet([{"top_resolution": (8, 8), "base_nc": 1}])]
    assert len({net.fingerprint for net in nets}) == len(nets)
    assert build_unet(("8", 8.0), base_nc=1).fingerprint == nets[0].fingerprint
    assert len(nets[0].fingerprint) == 16


def test_a_users_kind_of_node_is_planned_run_and_written_down():
    net = LeibNet([Slope(["a"], ["b"], reach=2), conv("b", "c")], A, ["c"])
    plan = net.plan({"c": Roi((0, 0), (8, 8))})
    assert plan.inputs["a"] == Roi((-8, -24), (24, 40))
    again = LeibNet.from_spec(json.loads(json.dumps(net.to_spec())))
    assert isinstance(again.nodes["b"], Slope)
    assert again.nodes["b"].reach == 2
    assert again.fingerprint == net.fingerprint
    again.load_state_dict(net.state_dict())
    inputs = random_inputs(plan, torch.float32)
    assert torch.equal(net(inputs, plan)["c"], again(inputs, plan)["c"])


def test_what_a_node_asks_for_is_snapped_outwards():
    plan = LeibNet([Vague(["a"], ["b"])], A, ["b"]).plan({"b": Roi((0, -8), (8, 16))})
    assert plan.inputs == {"a": Roi((-8, -16), (24, 32))}
    assert plan.steps[0].keeps == (("b", ((1, 2), (1, 3))),)


def test_specs_that_cannot_be_read():
    spec = build_unet((8, 8), base_nc=1).to_spec()
    with pytest.raises(ValueError, match="reads network specs of schema 1, not 2"):
        LeibNet.from_spec({**spec, "schema": 2})
    with pytest.raises(ValueError, match="schema 1, not None"):
        LeibNet.from_spec({})
    with pytest.raises(ValueError, match=r"there is no kind of node 'Warp'; there are .*ConvPass, .*Pool"):
        build_node("Warp")
    with pytest.raises(ValueError, match=r"a node of kind 'Pool' cannot be built from .*'size': 2.*: .*'size'"):
        build_node("Pool", input_keys=["a"], output_keys=["b"], factor=(2, 2), size=2)
    with pytest.raises(ValueError, match="there is no kind of node 'Node'"):
        build_node("Node", input_keys=["a"], output_keys=["b"])


def test_a_kind_of_node_whose_arguments_no_spec_can_hold():
    with pytest.raises(TypeError, match=r"node kind Loose: a spec cannot hold the argument \*\*options"):

        class Loose(Alike):
            def __init__(self, **options: object) -> None:
                super().__init__(["a"], ["b"])

    with pytest.raises(TypeError, match="node kind Kind: a spec cannot hold the argument kind: 'str'; name each"):

        class Kind(Alike):
            def __init__(self, kind: str) -> None:
                super().__init__(["a"], ["b"])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_a_copy_is_the_same_network_with_its_own_weights(copied):
    net = build_scalenet([{"top_resolution": (r, r), "base_nc": 1} for r in (32, 8)]).eval()
    plan = net.plan({"1_output": Roi((0, 0), (8, 8))})
    inputs = random_inputs(plan, torch.float32)
    expected = net(inputs, plan)["1_output"].detach().clone()
    twin = copied(net)
    assert twin.fingerprint == net.fingerprint
    assert twin.plan({"1_output": Roi((0, 0), (8, 8))}) == plan
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert torch.equal(twin(inputs, plan)["1_output"], expected)


def test_it_is_a_torch_module():
    options = {"residual": True, "norm_layer": "batch", "normalize_input": True}
    net = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)], **options)
    assert list(net.state_dict())[:11] == [
        "nodes.in_conv_0.layers.0.weight",
        "nodes.in_conv_0.layers.0.bias",
        "nodes.in_conv_0.layers.0.running_mean",
        "nodes.in_conv_0.layers.0.running_var",
        "nodes.in_conv_0.layers.0.num_batches_tracked",
        "nodes.in_conv_0.layers.1.weight",
        "nodes.in_conv_0.layers.1.bias",
        "nodes.in_conv_0.layers.2.weight",
        "nodes.in_conv_0.layers.2.bias",
        "nodes.in_conv_0.layers.2.running_mean",
        "nodes.in_conv_0.layers.2.running_var",
    ]
    nodes = ["in_conv_0", "downsample_0", "bottleneck", "upsample_0", "join_0", "out_conv_0", "output"]
    assert list(net.nodes) == nodes
    assert all(node.training for node in net.nodes.values())
    assert not any(node.training for node in net.eval().nodes.values())
    net.to(torch.float64)
    plan = net.plan({"output": Roi((0, 0), (8, 8))})
    output = net(random_inputs(plan), plan)["output"]
    assert output.dtype == torch.float64
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert repr(net).startswith("LeibNet(\n  UNet, input -> output\n")


# ------------------------------------------------------------------------------------------------- seeing and sizing


def test_leibnetz_reads_as_much_for_its_smallest_unet():
    """44 voxels for 4, at the place where they lie in the middle of the coarse voxels; from the origin it takes 48."""
    net = build_unet((8, 8, 8))
    assert net.input_shapes == {"input": {"shape": (44, 44, 44), "scale": (8.0, 8.0, 8.0)}}
    assert net.output_shapes == {"output": {"shape": (4, 4, 4), "scale": (8.0, 8.0, 8.0)}}
    assert net.plan({"output": Roi((0,) * 3, (32,) * 3)}).tensor("input").shape == (48, 48, 48)


def test_a_notebook_shows_tensors_and_fields_of_view():
    net = build_scalenet([{"top_resolution": (r, r), "base_nc": 1} for r in (32, 8)])
    plan = net.plan({"1_output": Roi((0, 0), (16, 16))})
    assert str(net.summary()) == str(net.summary(net.smallest_plan)) != str(net.summary(plan))
    shown = net._repr_html_()
    assert net.summary()._repr_html_() in shown
    assert shown.rstrip().endswith("</svg>")
    assert net.to_mermaid().startswith("flowchart TD")
    other = build_unet((8, 8), base_nc=2).smallest_plan
    for look in (net.summary, net.figure, net.specialize):
        with pytest.raises(ValueError, match=f"the plan is for network {other.network}, this is ScaleNet"):
            look(other)


def test_what_one_voxel_sees():
    net = build_scalenet([{"top_resolution": (r, r), "base_nc": 1} for r in (32, 8)])
    sizes = net.receptive_field("1_output")
    for place in range(0, 128, 8):
        inputs = net.plan({"1_output": Roi((place, place), (8, 8))}).inputs
        assert all(inputs[key].shape[0] <= sizes[key][0] for key in sizes)
    assert list(sizes) == ["0_input", "1_input"]


def test_tiles_that_share_a_plan():
    net = build_unet((8, 8), base_nc=2)
    assert net.valid_output_shapes("output", (13, 8)) == ((4, 8, 12), (4, 8))
    plan = net.largest_plan(2**20)
    shape = next(iter(plan.outputs.values())).shape
    assert all(tuple(shape / 8)[axis] in net.valid_output_shapes("output", (999, 999))[axis] for axis in range(2))
    assert plan.shifted(shape) == net.plan({key: roi + shape for key, roi in plan.outputs.items()})


def test_written_and_read(tmp_path):
    net = build_unet((8, 8), base_nc=2).eval()
    again = LeibNet.load(net.save(tmp_path / "net.safetensors"))
    inputs = random_inputs(net.smallest_plan, torch.float32)
    assert torch.equal(again(inputs, net.smallest_plan)["output"], net(inputs, net.smallest_plan)["output"])
