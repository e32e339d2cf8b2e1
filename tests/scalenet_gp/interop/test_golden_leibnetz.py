"""Networks with LeibNetz's weights compute what LeibNetz computed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi

from scalenet_gp import LeibNet, build_scalenet, build_unet
from scalenet_gp.interop import leibnetz_arguments, load_leibnetz_weights
from scalenet_gp.testing import crop_to_roi

GOLDEN = Path(__file__).parents[3] / ".." / "shared" / "golden"
NAMES = [
    "leibnetz_scalenet_2d_three_scales",
    "leibnetz_scalenet_3d_two_scales",
    "leibnetz_unet_2d_residual",
    "leibnetz_unet_3d",
    "leibnetz_unet_3d_anisotropic",
]


def golden(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    path = GOLDEN / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"the golden figures {name}.npz are not in ../shared/golden")
    with np.load(path) as file:
        arrays = dict(file)
    return json.loads(bytes(arrays.pop("meta"))), arrays


def part(arrays: dict[str, np.ndarray], start: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}


def built(meta: dict, weights: dict[str, np.ndarray]) -> LeibNet:
    if meta["builder"] == "build_unet":
        net = build_unet(**leibnetz_arguments(meta["args"]))
    else:
        net = build_scalenet([leibnetz_arguments(subnet) for subnet in meta["args"]])
    load_leibnetz_weights(net, {name: torch.from_numpy(weight) for name, weight in weights.items()})
    return net.eval()


def roi(meta: dict, kind: str, key: str, array: np.ndarray) -> Roi:
    return Roi(meta[f"{kind}_offset"][key], Coordinate(array.shape[2:]) * Coordinate(meta["voxel_size"][key]))


def test_every_golden_network_is_tested():
    if not GOLDEN.exists():
        pytest.skip("there is no ../shared/golden")
    assert sorted(path.stem for path in GOLDEN.glob("leibnetz_*.npz")) == NAMES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_outputs_are_reproduced(name, dtype):
    """The tolerance is 1e-5; in float32, where this side rounds as well, it is 1e-5 of the largest value, up to 11."""
    meta, arrays = golden(name)
    net = built(meta, part(arrays, "weight:")).to(dtype)
    assert sum(p.numel() for p in net.parameters()) == meta["param_num"]
    assert {key: tuple(net.voxel_size[key]) for key in meta["voxel_size"]} == {
        key: tuple(size) for key, size in meta["voxel_size"].items()
    }
    expected = part(arrays, "output:")
    plan = net.plan({key: roi(meta, "output", key, array) for key, array in expected.items()})
    inputs = {
        key: crop_to_roi(
            torch.from_numpy(array).to(dtype) / 255,
            roi(meta, "input", key, array),
            plan.inputs[key],
            net.voxel_size[key],
        )
        for key, array in part(arrays, "input:").items()
    }
    with torch.no_grad():
        outputs = net(inputs, plan)
    assert outputs.keys() == expected.keys()
    for key, array in expected.items():
        assert outputs[key].shape == array.shape
        scale = 1.0 if dtype == torch.float64 else np.abs(array).max()
        assert np.abs(outputs[key].numpy() - array).max() <= 1e-5 * scale, key


@pytest.mark.parametrize("name", NAMES)
def test_no_more_is_read_than_leibnetz_read(name):
    """LeibNetz's U-Nets are exact if the output lies in the middle of the coarse voxels; its ScaleNets are padded."""
    meta, arrays = golden(name)
    net = built(meta, part(arrays, "weight:"))
    plan = net.plan({key: roi(meta, "output", key, array) for key, array in part(arrays, "output:").items()})
    for key, array in part(arrays, "input:").items():
        read = roi(meta, "input", key, array)
        assert read.contains(plan.inputs[key])
        assert (read == plan.inputs[key]) == (meta["builder"] == "build_unet" or key == "0_input")


def test_wrong_weights_are_refused_and_nothing_is_loaded():
    meta, arrays = golden("leibnetz_unet_3d")
    weights = part(arrays, "weight:")
    net = build_unet(**leibnetz_arguments(meta["args"]))
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    first = "nodes_dict.in_conv_0.model.conv_pass.0.weight"
    wrong = {
        "missing nodes_dict.in_conv_0.model.conv_pass.0.weight": {k: w for k, w in weights.items() if k != first},
        "left over nodes_dict.extra.model.conv_pass.0.weight": {
            **weights,
            "nodes_dict.extra.model.conv_pass.0.weight": weights[first],
        },
        r"nodes_dict.in_conv_0.model.conv_pass.0.weight is \(3, 1, 3, 3\) instead of \(3, 1, 3, 3, 3\)": {
            **weights,
            first: weights[first][..., 0],
        },
    }
    for message, state_dict in wrong.items():
        with pytest.raises(ValueError, match=message):
            load_leibnetz_weights(net, state_dict)
        assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())


def listed_twice(net: LeibNet) -> dict[str, torch.Tensor]:
    """Weights as LeibNetz lists them: the activation of a pass wherever it stands, and under its own name beside."""
    theirs = {}
    for name, weight in net.state_dict().items():
        _, node, rest = name.split(".", 2)
        beside = f"nodes_dict.{node}.model.activation.weight"
        shared = theirs.setdefault(beside, torch.rand(1)) if weight.shape == (1,) and "bias" not in rest else None
        given = torch.rand_like(weight) if shared is None else shared
        theirs[f"nodes_dict.{node}.model.{rest.replace('layers.', 'conv_pass.')}"] = given
    return theirs


def test_what_leibnetz_lists_twice_is_loaded_once():
    """An activation with weights stands between the convolutions and, under its own name, beside them."""
    net = build_unet((8, 8), base_nc=2, activation="PReLU", norm_layer=None)
    theirs = listed_twice(net)
    assert len(theirs) == len(net.state_dict()) + len([name for name in theirs if ".activation." in name])
    load_leibnetz_weights(net, theirs)
    loaded = net.state_dict()
    assert torch.equal(
        loaded["nodes.in_conv_0.layers.0.weight"], theirs["nodes_dict.in_conv_0.model.conv_pass.0.weight"]
    )
    alpha = theirs["nodes_dict.in_conv_0.model.activation.weight"]
    for name in ("layers.1.weight", "final_activation.weight"):
        assert torch.equal(loaded[f"nodes.in_conv_0.{name}"], alpha)


def test_an_activation_that_no_convolution_is_followed_by_is_left_out():
    """The last pass, of one convolution, has another final activation: LeibNetz lists the one it does not use."""
    net = build_unet((8, 8), base_nc=2, activation="PReLU", final_activation="Sigmoid", norm_layer=None)
    unused = [key for key, node in net.nodes.items() if node.arguments.get("final_activation") == "Sigmoid"]
    (last,) = unused
    assert len(net.nodes[last].layers) == 1
    load_leibnetz_weights(net, listed_twice(net) | {f"nodes_dict.{last}.model.activation.weight": torch.rand(1)})


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        ("PReLU", "nodes_dict.extra.model.activation.weight"),
        ("PReLU", "nodes_dict.in_conv_0.model.activation.bias"),
        ("PReLU", "nodes_dict.in_conv_0.model.activation.weight"),  # other than where it is used
        ("ReLU", "nodes_dict.in_conv_0.model.activation.weight"),
    ],
)
def test_an_activations_weight_that_fits_nothing_is_refused(activation, name):
    net = build_unet((8, 8), base_nc=2, activation=activation, norm_layer=None)
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    with pytest.raises(ValueError, match=f"left over {name}$"):
        load_leibnetz_weights(net, listed_twice(net) | {name: torch.full((1,), 2.0)})
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())
