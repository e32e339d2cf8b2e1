"""The builders of LeibNetz and ours with the same arguments and weights; skipped if LeibNetz is not installed."""

from __future__ import annotations

import itertools
import math
import sys
from types import ModuleType

import pytest
import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor, nn

from scalenet_gp import LeibNet, build_scalenet, build_unet
from scalenet_gp.interop import leibnetz_arguments, load_leibnetz_weights
from scalenet_gp.testing import crop_to_roi


class SqueezeExcitation(nn.Module):
    """torchvision's, as it is documented, in so far as LeibNetz calls it."""

    def __init__(self, input_channels: int, squeeze_channels: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(self.avgpool(x))))) * x


@pytest.fixture(scope="module")
def peer():
    """The module with LeibNetz's builders. Of torchvision, which it imports, two names are enough."""
    operations, utilities = ModuleType("torchvision.ops"), ModuleType("torchvision.utils")
    operations.SqueezeExcitation = SqueezeExcitation
    utilities._log_api_usage_once = lambda _: None
    stubs = {"torchvision": ModuleType("torchvision"), "torchvision.ops": operations, "torchvision.utils": utilities}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stubs.items():
            patch.setitem(sys.modules, name, module)
        yield pytest.importorskip("leibnetz.nets", reason="the package leibnetz is not installed")


def phase(subnet: dict, axis: int) -> tuple[int, int]:
    """The begin of an input whose pooled tensors lie on lattices from the world's origin, and the period of begins.

    LeibNetz counts them from the tensor's first voxel. The unit is a voxel of the input.
    """
    dims = len(subnet["top_resolution"])
    kernels = subnet.get("kernel_sizes") or [(3,) * dims] * subnet.get("convs_per_level", 2)
    margin = sum(kernel[axis] - 1 for kernel in kernels)
    assert margin % 2 == 0
    begin, voxel = 0, 1
    for factor in subnet.get("downsample_factors") or [(2,) * dims] * 2:
        begin -= margin // 2 * voxel
        voxel *= factor[axis]
    return begin, voxel


def centre(shapes: dict[str, tuple[int, ...]], subnets: dict[str, dict], axis: int) -> float | None:
    """A point on which all of LeibNetz's tensors can be centred so that their lattices are ours, if there is one."""
    steps = [phase(subnet, axis)[1] * subnet["top_resolution"][axis] for subnet in subnets.values()]
    for twice in range(2 * math.lcm(*steps)):
        for key, subnet in subnets.items():
            begin, step = phase(subnet, axis)
            size = subnet["top_resolution"][axis]
            first = (twice - shapes[key][axis] * size) / 2 / size
            if (first - begin) % step:
                break
        else:
            return twice / 2
    return None


def centred(shape: tuple[int, ...], voxel_size: Coordinate, centres: list[float]) -> Roi:
    begin = [c - n * v / 2 for c, n, v in zip(centres, shape, voxel_size, strict=True)]
    assert all(b == int(b) for b in begin)
    return Roi([int(b) for b in begin], Coordinate(shape) * voxel_size)


def agree(theirs: nn.Module, ours: LeibNet, subnets: dict[str, dict], *, exact: bool) -> bool:
    """Compare all outputs; ``False`` where LeibNetz's shapes leave no room for one centre.

    ``subnets``: the arguments of the U-Net behind each input; ``exact``: both read the very same voxels.
    """
    load_leibnetz_weights(ours, theirs.state_dict())
    ours.eval()
    theirs.eval()
    shapes = {key: tuple(int(n) for n in entry["shape"]) for key, entry in theirs.input_shapes.items()}
    centres = [centre(shapes, subnets, axis) for axis in range(ours.dims)]
    if None in centres:
        return False
    generator = torch.Generator().manual_seed(0)
    inputs = {
        key: torch.rand((1, ours.specs[key].channels, *shape), generator=generator) for key, shape in shapes.items()
    }
    with torch.no_grad():
        expected = theirs(dict(inputs))
    plan = ours.plan({key: centred(tuple(t.shape[2:]), ours.voxel_size[key], centres) for key, t in expected.items()})
    given = {}
    for key, tensor in inputs.items():
        whole = centred(shapes[key], ours.voxel_size[key], centres)
        assert not exact or whole == plan.inputs[key]
        given[key] = crop_to_roi(tensor, whole, plan.inputs[key], ours.voxel_size[key])
    with torch.no_grad():
        outputs = ours(given, plan)
    assert outputs.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(outputs[key], tensor, rtol=0, atol=1e-5 * max(1, tensor.abs().max().item()))
        assert tensor.std() > 1e-6
    return True


UNETS = {
    "defaults": {},
    "top_resolution": {"top_resolution": (40, 4)},
    "downsample_factors": {"downsample_factors": [(2, 3), (3, 2)]},
    "one_level": {"downsample_factors": [(4, 2)]},
    "three_levels": {"downsample_factors": [(2, 2)] * 3},
    "kernel_sizes": {"kernel_sizes": [(1, 3), (5, 3), (3, 1)]},
    "convs_per_level": {"convs_per_level": 3},
    "channels": {"input_nc": 2, "output_nc": 3, "base_nc": 5, "nc_increase_factor": 3},
    "num_final_convs": {"num_final_convs": 3, "output_nc": 2},
    "batch": {"norm_layer": "batch"},
    "instance": {"norm_layer": "Instance"},
    "residual": {"residual": True, "convs_per_level": 3},
    "residual_batch": {"residual": True, "norm_layer": "BATCHNORM", "nc_increase_factor": 1},
    "dropout": {"dropout_prob": 0.3, "norm_layer": "batch", "residual": True},
    "activation": {"activation": "GELU"},
    "activation_with_weights": {"activation": "PReLU", "residual": True},
    "final_activation": {"final_activation": "Tanh", "activation": "LeakyReLU"},
    "all": {
        "top_resolution": (6, 4),
        "downsample_factors": [(1, 2), (2, 2)],
        "kernel_sizes": [(3, 3), (1, 3)],
        "input_nc": 3,
        "output_nc": 2,
        "base_nc": 6,
        "num_final_convs": 2,
        "norm_layer": "batch",
        "residual": True,
        "dropout_prob": 0.1,
        "activation": "SiLU",
        "final_activation": "Identity",
    },
}


@pytest.mark.parametrize("name", UNETS)
def test_unets_agree(peer, name):
    arguments = {"top_resolution": (8, 8), "base_nc": 4, **UNETS[name]}
    torch.manual_seed(0)
    ours = build_unet(**leibnetz_arguments(arguments))
    assert agree(peer.build_unet(**arguments), ours, {"input": arguments}, exact=True)


SUBNETS = {
    "squeeze_excitation": {"squeeze_excitation": True},
    "squeeze_ratio": {"squeeze_excitation": True, "squeeze_ratio": 3, "convs_per_level": 3, "output_nc": 6},
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", SUBNETS)
def test_what_only_subnets_have_agrees(peer, name, dims):
    """LeibNetz squeezes by itself in three dimensions, and by torchvision in two."""
    arguments = {
        "top_resolution": (8,) * dims,
        "base_nc": 4,
        "output_nc": 4,
        "downsample_factors": [(2,) * dims],
        "final_activation": "Identity",
        **SUBNETS[name],
    }
    torch.manual_seed(0)
    theirs = peer.build_scalenet([dict(arguments)])
    assert agree(theirs, build_scalenet([leibnetz_arguments(arguments)]), {"0_input": arguments}, exact=True)


SCALENETS = {
    "defaults": [{"top_resolution": (32, 32)}, {"top_resolution": (8, 8)}],
    "three_scales": [{"top_resolution": (r, r), "base_nc": 4} for r in (128, 32, 8)],
    "subnet_id": [
        {"top_resolution": (16, 16), "subnet_id": "wide", "downsample_factors": [(2, 2)]},
        {"top_resolution": (8, 8), "subnet_id": "close", "downsample_factors": [(2, 2)], "output_nc": 2},
    ],
    "anisotropic": [
        {"top_resolution": (40, 8), "base_nc": 3, "residual": True, "downsample_factors": [(1, 2)]},
        {"top_resolution": (40, 4), "base_nc": 5, "input_nc": 2, "downsample_factors": [(1, 2)], "activation": "SiLU"},
    ],
    "batch": [{"top_resolution": (r, r), "norm_layer": "batch", "dropout_prob": 0.2} for r in (32, 8)],
}


@pytest.mark.parametrize("name", SCALENETS)
def test_scalenets_agree(peer, name):
    """LeibNetz goes through sets, so that its shapes differ from build to build: the first that can be centred."""
    subnets = SCALENETS[name]
    ours = build_scalenet([leibnetz_arguments(subnet) for subnet in subnets])
    by_input = dict(zip(ours.input_keys, subnets, strict=True))
    torch.manual_seed(0)
    for _ in itertools.repeat(None, 20):
        if agree(peer.build_scalenet([dict(subnet) for subnet in subnets]), ours, by_input, exact=False):
            return
    pytest.fail("in twenty builds no shapes of LeibNetz have one centre")
