"""U-Nets of funlib.learn.torch compute here what they compute there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor
from torch.nn import functional

from scalenet_gp.interop import load_funlib_unet
from scalenet_gp.testing import crop_to_roi

GOLDEN = Path(__file__).parents[3] / ".." / "shared" / "golden"
NAMES = ["funlib_unet_2d", "funlib_unet_3d_constant_upsample", "funlib_unet_3d_transposed"]


def golden(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    path = GOLDEN / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"the golden figures {name}.npz are not in ../shared/golden")
    with np.load(path) as file:
        arrays = dict(file)
    return json.loads(bytes(arrays.pop("meta"))), arrays


def weights_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key.removeprefix("weight:"): array for key, array in arrays.items() if key.startswith("weight:")}


def where_to_begin(arguments: dict, dims: int) -> tuple[int, ...]:
    """The first voxel in the world of an input whose pooled tensors all lie on lattices from the world's origin.

    There they are counted from the tensor's first voxel.
    """
    begin, voxel = np.zeros(dims, int), np.ones(dims, int)
    factors = arguments["downsample_factors"]
    if arguments.get("padding") != "same":
        for level, factor in enumerate(factors):
            for kernel in arguments.get("kernel_size_down", [[3, 3]] * len(factors))[level]:
                begin -= voxel * (np.broadcast_to(kernel, dims) - 1)
            voxel *= factor
    assert not (begin % 2).any()
    return tuple(int(b) for b in begin // 2)


def test_every_golden_network_is_tested():
    if not GOLDEN.exists():
        pytest.skip("there is no ../shared/golden")
    assert sorted(path.stem for path in GOLDEN.glob("funlib_*.npz")) == NAMES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_outputs_are_reproduced(name, dtype):
    meta, arrays = golden(name)
    size = (5, 4, 3)[: len(meta["output_offset_voxels"])]
    net = load_funlib_unet(weights_of(arrays), **meta["kwargs"], voxel_size=size).to(dtype).eval()
    assert (net.input_keys, net.output_keys) == (("input",), ("output",))
    voxel_size = net.voxel_size["output"]
    assert voxel_size == Coordinate(size)
    expected = arrays["output:0"]
    begin = Coordinate(where_to_begin(meta["kwargs"], len(size))) * voxel_size
    offset = Coordinate(meta["output_offset_voxels"]) * voxel_size
    plan = net.plan({"output": Roi(begin + offset, Coordinate(expected.shape[2:]) * voxel_size)})
    whole = torch.from_numpy(arrays["input"]).to(dtype) / 255
    of = Roi(begin, Coordinate(whole.shape[2:]) * voxel_size)
    with torch.no_grad():
        output = net({"input": crop_to_roi(whole, of, plan.inputs["input"], voxel_size)}, plan)["output"]
    assert np.abs(output.numpy() - expected).max() <= 1e-5


def obvious(weights: dict[str, Tensor], arguments: dict, x: Tensor, head: int) -> tuple[Tensor, Tensor]:
    """The U-Net on all of ``x``, written out; and, per axis, where its output begins in the input.

    Skip connections are cropped by the known offsets of the tensors, in voxels of the finest level.
    """
    dims = x.ndim - 2
    convolve = {2: functional.conv2d, 3: functional.conv3d}[dims]
    transposed = {2: functional.conv_transpose2d, 3: functional.conv_transpose3d}[dims]
    pool = {2: functional.max_pool2d, 3: functional.max_pool3d}[dims]
    activation = arguments.get("activation", "ReLU")
    same = arguments.get("padding") == "same"
    factors = arguments["downsample_factors"]

    def conv_pass(x: Tensor, name: str, begin: Tensor, voxel: Tensor) -> tuple[Tensor, Tensor]:
        found = sorted({int(key.split(".")[-2]) for key in weights if key.startswith(f"{name}.conv_pass.")})
        for index in found:
            weight = weights[f"{name}.conv_pass.{index}.weight"]
            if weight.ndim == 1:  # the activation's
                continue
            kernel = torch.tensor(weight.shape[2:])
            padding = [k // 2 for k in kernel.tolist()] if same else 0
            x = convolve(x, weight, weights[f"{name}.conv_pass.{index}.bias"], padding=padding)
            begin = begin if same else begin + voxel * (kernel - 1) / 2
            if activation == "PReLU":
                x = functional.prelu(x, weights[f"{name}.conv_pass.{index + 1}.weight"])
            elif activation is not None:
                x = getattr(torch.nn, activation)()(x)
        return x, begin

    begin, voxel = torch.zeros(dims), torch.ones(dims)
    skips = []
    for level, factor in enumerate(factors):
        x, begin = conv_pass(x, f"l_conv.{level}", begin, voxel)
        skips.append((x, begin, voxel))
        x, voxel = pool(x, tuple(factor)), voxel * torch.tensor(factor)
    x, begin = conv_pass(x, f"l_conv.{len(factors)}", begin, voxel)
    for level in reversed(range(len(factors))):
        factor = tuple(factors[level])
        if arguments.get("constant_upsample"):
            for axis, f in enumerate(factor):
                x = x.repeat_interleave(f, dim=axis + 2)
        else:
            name = f"r_up.{head}.{level}.up"
            x = transposed(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=factor)
        skip, skip_begin, voxel = skips[level]
        for axis in range(dims):
            first = round(((begin - skip_begin) / voxel)[axis].item())
            skip = skip.narrow(axis + 2, first, x.shape[axis + 2])
        x, begin = conv_pass(torch.cat([skip, x], dim=1), f"r_conv.{head}.{level}", begin, voxel)
    return x, begin


def random_weights(arguments: dict, dims: int) -> dict[str, Tensor]:
    """A state dictionary of such a U-Net: names and shapes by counting, as its constructor does."""
    generator = torch.Generator().manual_seed(0)
    factors = arguments["downsample_factors"]
    channels = [arguments["num_fmaps"] * arguments["fmap_inc_factor"] ** level for level in range(len(factors) + 1)]
    default = [[3, 3]] * (len(factors) + 1)
    activation = arguments.get("activation", "ReLU")
    weights: dict[str, Tensor] = {}

    def drawn(name: str, *shape: int) -> None:
        weights[name] = torch.randn(shape, generator=generator, dtype=torch.float64) / max(1, np.prod(shape[1:])) ** 0.5

    def conv_pass(name: str, nc: int, out_nc: int, kernels: list) -> None:
        for index, kernel in enumerate(kernels):
            layer = index if activation is None else 2 * index
            drawn(
                f"{name}.conv_pass.{layer}.weight",
                out_nc,
                nc,
                *([kernel] * dims if isinstance(kernel, int) else kernel),
            )
            drawn(f"{name}.conv_pass.{layer}.bias", out_nc)
            if activation == "PReLU":
                drawn(f"{name}.conv_pass.{layer + 1}.weight", 1)
            nc = out_nc

    nc = arguments["in_channels"]
    for level, kernels in enumerate(arguments.get("kernel_size_down", default)):
        conv_pass(f"l_conv.{level}", nc, channels[level], kernels)
        nc = channels[level]
    for head in range(arguments.get("num_heads", 1)):
        for level, kernels in enumerate(arguments.get("kernel_size_up", default[1:])):
            nc, out_nc = channels[level + 1], channels[level]
            if not arguments.get("constant_upsample"):
                drawn(f"r_up.{head}.{level}.up.weight", nc, nc, *factors[level])
                drawn(f"r_up.{head}.{level}.up.bias", nc)
            out_nc = arguments.get("num_fmaps_out", out_nc) if level == 0 else out_nc
            conv_pass(f"r_conv.{head}.{level}", nc + channels[level], out_nc, kernels)
    return weights


SMALL = {"in_channels": 2, "num_fmaps": 2, "fmap_inc_factor": 2}
VARIANTS = {
    "two_heads": (2, {"downsample_factors": [(2, 2), (2, 2)], "num_heads": 2, "num_fmaps_out": 3}),
    "three_heads_constant": (
        2,
        {"downsample_factors": [(3, 2)], "num_heads": 3, "constant_upsample": True, "activation": "LeakyReLU"},
    ),
    "anisotropic": (
        3,
        {
            "downsample_factors": [(1, 2, 2), (2, 2, 2)],
            "kernel_size_down": [[(1, 3, 3), (1, 3, 3)], [(1, 3, 3), 3], [3]],
            "kernel_size_up": [[(1, 3, 3), (3, 1, 1)], [3]],
        },
    ),
    "kernels_of_one_number": (
        2,
        {
            "downsample_factors": [(2, 2), (2, 3)],
            "kernel_size_down": [[3, 1, 5], [2, 2], [3]],
            "kernel_size_up": [[1], [5, 2, 2]],
        },
    ),
    "no_activation": (2, {"downsample_factors": [(2, 2)], "activation": None}),
    "an_activation_with_weights": (2, {"downsample_factors": [(2, 2)], "activation": "PReLU", "num_heads": 2}),
    "sigmoid": (2, {"downsample_factors": [(2, 2)], "activation": "Sigmoid"}),
    "padded": (2, {"downsample_factors": [(2, 2), (2, 2)], "padding": "same", "num_heads": 2}),
    "padded_constant": (
        3,
        {
            "downsample_factors": [(1, 2, 2)],
            "padding": "same",
            "constant_upsample": True,
            "kernel_size_down": [[(1, 3, 3)], [(3, 5, 5)]],
            "kernel_size_up": [[(3, 3, 3)]],
        },
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_argument_against_the_network_written_out(name):
    dims, arguments = VARIANTS[name]
    arguments = {**SMALL, **arguments}
    weights = random_weights(arguments, dims)
    net = load_funlib_unet(weights, **arguments).to(torch.float64).eval()
    for key, weight in weights.items():  # loaded as float32, so compared at that precision
        weights[key] = weight.float().double()
    net.load_state_dict({key: weight.double() for key, weight in net.state_dict().items()})
    assert net.tileable == (arguments.get("padding") != "same")
    heads = arguments.get("num_heads", 1)
    assert net.output_keys == (("output",) if heads == 1 else tuple(f"output_{head}" for head in range(heads)))

    begin = Coordinate(where_to_begin(arguments, dims))
    size = [
        int(factor * (24 // dims) - 2 * b)
        for factor, b in zip(np.prod(arguments["downsample_factors"], axis=0), begin, strict=True)
    ]
    x = torch.randn((1, 2, *size), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for head, key in enumerate(net.output_keys):
        expected, offset = obvious(weights, arguments, x, head)
        wanted = Roi(begin + Coordinate(offset.int().tolist()), expected.shape[2:])
        plan = net.plan({key: wanted})
        given = crop_to_roi(x, Roi(begin, x.shape[2:]), plan.inputs["input"], net.voxel_size["input"])
        with torch.no_grad():
            output = net({"input": given}, plan)[key]
        assert output.shape[1] == expected.shape[1]
        torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)


def test_wrong_weights_are_refused_and_counted():
    arguments = {**SMALL, "downsample_factors": [(2, 2)]}
    weights = random_weights(arguments, 2)
    first = "l_conv.0.conv_pass.0.weight"
    wrong = {
        "missing l_conv.0.conv_pass.0.weight$": {k: w for k, w in weights.items() if k != first},
        "left over r_conv.1.0.conv_pass.0.weight$": {**weights, "r_conv.1.0.conv_pass.0.weight": weights[first]},
        r"l_conv.0.conv_pass.0.weight is \(2, 2, 3\) instead of \(2, 2, 3, 3\)$": {
            **weights,
            first: weights[first][..., 0],
        },
        f"and {len(weights) - 8} more$": {},
    }
    for message, state_dict in wrong.items():
        with pytest.raises(ValueError, match=message):
            load_funlib_unet(state_dict, **arguments)


WRONG = {
    "no factor": ({"downsample_factors": []}, "downsample_factors needs one factor or more of whole"),
    "axes": ({"downsample_factors": [(2, 2), (2, 2, 2)]}, r"with as many axes, not \[\(2, 2\), \(2, 2, 2\)\]"),
    "factors": ({"downsample_factors": [(2, 2.0)]}, r"of whole numbers from 1 up, .*, not \[\(2, 2\.0\)\]"),
    "factor of nothing": ({"downsample_factors": [(2, 0)]}, r"of whole numbers from 1 up, .*, not \[\(2, 0\)\]"),
    "heads": ({"num_heads": 0}, "num_heads is a whole number from 1 up, not 0"),
    "half a head": ({"num_heads": 1.5}, "num_heads is a whole number from 1 up, not 1.5"),
    "channels": ({"in_channels": 0}, "in_channels is a whole number from 1 up, not 0"),
    "half a channel": ({"num_fmaps": 2.5}, "num_fmaps is a whole number from 1 up, not 2.5"),
    "increase": ({"fmap_inc_factor": 1.5}, "fmap_inc_factor is a whole number from 1 up, not 1.5"),
    "no output": ({"num_fmaps_out": 0}, "num_fmaps_out is a whole number from 1 up, not 0"),
    "kernel": (
        {"kernel_size_down": [[3.5], [3]]},
        r"whole numbers from 1 up on 2 axes; one level has \[\(3\.5, 3\.5\)\]",
    ),
    "levels": ({"kernel_size_up": [[3], [3]]}, "kernel_size_up needs the kernels of 1 levels, not of 2"),
    "no kernel": ({"kernel_size_down": [[3], []]}, r"at least one kernel per level, .* one level has \[\]"),
    "kernel axes": (
        {"kernel_size_down": [[(3, 3, 3)], [3]]},
        "kernel_size_down needs .* whole numbers from 1 up on 2 axes",
    ),
    "half a voxel": ({"kernel_size_down": [[2], [3]]}, "an odd number would shift the output by half a voxel"),
    "padding": ({"padding": "reflect"}, "padding is 'reflect': it has to be 'valid' or 'same'"),
    "no name": ({"activation": ""}, "torch.nn has no activation ''"),
    "activation": ({"activation": "Loud"}, "torch.nn has no activation 'Loud'"),
    "four axes": ({"downsample_factors": [(1, 2, 2, 2)]}, "a kernel has 2 or 3 axes|2 or 3 axes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_no_unet_can_be_is_refused(name):
    arguments, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        load_funlib_unet({}, **{**SMALL, "downsample_factors": [(2, 2)], **arguments})


def test_the_whole_constructor_is_taken_and_fov_has_no_effect_as_there():
    arguments = {**SMALL, "downsample_factors": [(2, 2)]}
    weights = random_weights(arguments, 2)
    net = load_funlib_unet(weights, **arguments)
    again = load_funlib_unet(
        weights,
        **arguments,
        kernel_size_down=None,
        kernel_size_up=None,
        activation="ReLU",
        fov=(1, 1, 1),
        voxel_size=(1, 1),
        num_fmaps_out=None,
        num_heads=1,
        constant_upsample=False,
        padding="valid",
    )
    assert again.fingerprint == net.fingerprint
    assert all(torch.equal(weight, net.state_dict()[name]) for name, weight in again.state_dict().items())
