"""Any module as a node: what is declared of it is tried, and what is not so is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from pydantic import Field
from scipy import ndimage
from torch import Tensor, nn

from scalenet_gp import LeibNet, Node, TensorSpec
from scalenet_gp.layers import ModuleNode
from scalenet_gp.testing import NodeCase, NodeTester

SIZE = (8, 4, 4)
IO = (["a"], ["b"])


class GaussianBlur(nn.Module):
    """A separable Gaussian, each channel by itself."""

    def __init__(self, sigma: float, channels: int, dims: int) -> None:
        super().__init__()
        self.radius = math.ceil(3 * sigma)
        kernel = torch.exp(-(torch.arange(-self.radius, self.radius + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
        self.register_buffer("kernel", (kernel / kernel.sum()).float())
        self.channels, self.dims = channels, dims

    def forward(self, x: Tensor) -> Tensor:
        convolve = nn.functional.conv2d if self.dims == 2 else nn.functional.conv3d
        for axis in range(self.dims):
            shape = [-1 if a == axis else 1 for a in range(self.dims)]
            weight = self.kernel.reshape(1, 1, *shape).expand(self.channels, 1, *self.kernel.reshape(shape).shape)
            x = convolve(x, weight, groups=self.channels)
        return x


class Blur(ModuleNode):
    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        sigma: Annotated[float, Field(gt=0)],
        input_nc: int,
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        blur = GaussianBlur(sigma, input_nc, dims)
        margin = (blur.radius,) * dims
        super().__init__(input_keys, output_keys, blur, [input_nc], [input_nc], margin, identifier=identifier)


def conv(dims: int, *arguments: int, transposed: bool = False, **options: object) -> nn.Module:
    kinds = {2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, nn.ConvTranspose3d)}
    return kinds[dims][transposed](*arguments, **options)


class Coarser(ModuleNode):
    """A convolution with stride two and a margin of one."""

    def __init__(self, input_keys: Sequence[str], output_keys: Sequence[str], dims: int) -> None:
        super().__init__(
            input_keys, output_keys, conv(dims, 2, 3, 4, stride=2), [2], [3], (1,) * dims, downsample=(2,) * dims
        )


class Finer(ModuleNode):
    """A convolution, and a transposed one that fills each voxel."""

    def __init__(self, input_keys: Sequence[str], output_keys: Sequence[str], dims: int) -> None:
        module = nn.Sequential(conv(dims, 2, 3, 3), conv(dims, 3, 2, 2, stride=2, transposed=True))
        super().__init__(input_keys, output_keys, module, [2], [2], (1,) * dims, upsample=(2,) * dims)


class TwoMaps(nn.Module):
    """Two tensors in and two out."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.conv = conv(dims, 3, 3, 3)
        self.crop = (..., *(slice(1, -1),) * dims)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        made = torch.tanh(self.conv(torch.cat((x, y), dim=1)))
        return made, made[:, :1] * y[self.crop]


class Twice(ModuleNode):
    def __init__(self, input_keys: Sequence[str], output_keys: Sequence[str], dims: int) -> None:
        super().__init__(input_keys, output_keys, TwoMaps(dims), [2, 1], [3, 1], (1,) * dims)


class Whitened(ModuleNode):
    """A module that looks at all of its input."""

    def __init__(self, input_keys: Sequence[str], output_keys: Sequence[str], dims: int) -> None:
        module = nn.Sequential(conv(dims, 2, 2, 1), nn.GroupNorm(1, 2))
        super().__init__(input_keys, output_keys, module, [2], [2], (0,) * dims, tileable=False)


class Shifted(nn.Module):
    """Each voxel's lower neighbour, without padding or a loss of voxels, and so in the wrong place."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :-2, :-2]


class FromTheMiddle(nn.Module):
    """Every voxel times its distance from the middle of the tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.linspace(-1, 1, x.shape[-1])


class Last(nn.Module):
    """The last of its inputs: the others have no effect."""

    def forward(self, *tensors: Tensor) -> Tensor:
        return 2 * tensors[-1]


class Gated(nn.Module):
    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * (gate.abs() > 3)


class AllLoud(nn.Module):
    """The sum where all voxels are far from zero: a few decide nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x) + (x.abs() > 3).all() * x.sum()


class SmallerInTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * (x[..., 1:] if self.training else x)


class Many(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"b": x}


def declared(module: nn.Module, margin: Sequence[int], **declaration: object) -> Callable[[], Node]:
    channels = {"input_ncs": [1], "output_ncs": [1], **declaration}
    return lambda: ModuleNode(*IO, module, margin=margin, **channels)


def conv2(kernel: int, **options: object) -> nn.Module:
    return conv(2, 1, 1, kernel, **options)


WRONG = {
    "margin too small": (
        declared(conv2(5), (1, 1)),
        "of (1, 5, 6) it makes (1, 1, 2) (channels, voxels), not (1, 3, 4)",
    ),
    "margin too large": (
        declared(conv2(3), (2, 2)),
        "of (1, 7, 8) it makes (1, 5, 6) (channels, voxels), not (1, 3, 4)",
    ),
    "more read than used": (
        declared(nn.Sequential(nn.ZeroPad2d(-1), conv2(3)), (2, 2)),
        "b: the module is not what is declared, margin (2, 2), downsample (1, 1), upsample (1, 1), tileable True: it "
        "depends on no more than (1, 1) voxels below and (1, 1) above the block",
    ),
    "more used than read": (
        declared(nn.Sequential(conv2(5, padding=2), nn.ZeroPad2d(-1)), (1, 1)),
        "a part computed alone differs by up to",
    ),
    "same padding": (
        declared(conv2(3, padding=1), (0, 0)),
        "depends on the extent of its input, as if that is padded",
    ),
    "padding with a margin": (declared(conv2(3, padding=1), (1, 1)), "of (1, 5, 6) it makes (1, 5, 6)"),
    "normalised": (declared(nn.InstanceNorm2d(1), (0, 0)), "a part computed alone differs"),
    "of the place": (declared(FromTheMiddle(), (0, 0)), "does not move with its input voxel by voxel"),
    "output channels": (declared(conv(2, 1, 2, 3), (1, 1)), "it makes (2, 3, 4) (channels, voxels), not (1, 3, 4)"),
    "input channels": (
        declared(conv2(3), (1, 1), input_ncs=[2]),
        "it cannot take tensors of the shapes (2, 2, 5, 6): ",
    ),
    "axes": (declared(conv2(3), (1, 1, 1)), "it cannot take tensors of the shapes (2, 1, 5, 6, 7): "),
    "names": (declared(Named(), (0, 0)), "it returns neither a tensor nor a tuple of tensors, but a dict"),
    "in place": (declared(nn.ReLU(inplace=True), (0, 0)), "it writes to its input, which other nodes may read too"),
    "in place in training": (
        declared(nn.Dropout(0.5, inplace=True), (0, 0)),
        "in training, it writes to its input, which other nodes may read too",
    ),
    "in place in training, inside": (
        declared(nn.Sequential(nn.Dropout(0.1, inplace=True), conv2(3)), (1, 1)),
        "in training, it writes to its input",
    ),
    "another shape in training": (
        declared(SmallerInTraining(), (0, 0)),
        "in training, of (1, 3, 4) it makes (1, 3, 3) (channels, voxels), not (1, 3, 4)",
    ),
    "an input without effect": (
        lambda: ModuleNode(["a", "c"], ["b"], Last(), [1, 1], [1], (0, 0)),
        "its output does not depend on its input 'a'",
    ),
    "no single plane": (
        declared(AllLoud(), (0, 0), tileable=False),
        "its output does not depend on any single plane of its input",
    ),
    "two outputs": (declared(Many(), (0, 0)), "it makes (1, 3, 4) and (1, 3, 4) (channels, voxels), not (1, 3, 4)"),
    "factor": (declared(nn.MaxPool2d(2), (0, 0), downsample=(3, 3)), "of (1, 9, 12) it makes (1, 4, 6)"),
    "no factor": (
        declared(nn.Upsample(scale_factor=2.0), (0, 0)),
        "it makes (1, 6, 8) (channels, voxels), not (1, 3, 4)",
    ),
    "axes of the factor swapped": (declared(nn.MaxPool2d((1, 2)), (0, 0), downsample=(2, 1)), "it makes (1, 6, 2)"),
    "half a voxel": (declared(conv2(2), (1, 1)), "of (1, 5, 6) it makes (1, 4, 5) (channels, voxels), not (1, 3, 4)"),
    "half a voxel coarser": (
        declared(conv2(3, stride=2), (1, 1), downsample=(2, 2)),
        "depends on no more than (1, 1) voxels below and (0, 0) above the block, so it shifts its input by "
        "half a voxel or more",
    ),
    "half a voxel, padded": (
        declared(nn.Sequential(nn.ZeroPad2d((1, 2, 1, 2)), conv2(4)), (0, 0)),
        "a part computed alone differs",
    ),
    "one voxel": (
        declared(Shifted(), (1, 1)),
        "no more than (1, 1) voxels below and (-1, -1) above the block, so it",
    ),
    "smooth upsampling": (
        declared(nn.Upsample(scale_factor=2.0, mode="bilinear"), (0, 0), upsample=(2, 2)),
        "a part computed alone differs",
    ),
    "nothing read": (declared(nn.Threshold(1e9, 0.0), (0, 0)), "its output does not depend on its input"),
    "both factors": (declared(conv2(1), (0, 0), downsample=(2, 2), upsample=(2, 2)), "coarser or finer, not both"),
    "factor's axes": (declared(conv2(1), (0, 0), downsample=(2, 2, 2)), "downsample takes whole numbers from 1 up"),
    "factor of nothing": (
        declared(conv2(1), (0, 0), upsample=(2, 0)),
        "upsample takes whole numbers from 1 up, not (2, 0)",
    ),
    "one axis": (declared(conv2(1), (0,)), "the same 2 or 3 axes, and margin takes whole numbers from 0 up, not (0,)"),
    "negative margin": (declared(conv2(1), (0, -1)), "margin takes whole numbers from 0 up, not (0, -1)"),
    "broken margin": (declared(conv2(1), (0.5, 0)), "margin[0] is 0.5: it has to be a valid integer"),
    "a channel number too many": (
        declared(conv2(1), (0, 0), input_ncs=[1, 1]),
        "every tensor has its number of channels",
    ),
    "half a channel": (declared(conv2(1), (0, 0), output_ncs=[0.5]), "output_ncs[0] is 0.5: it has to be a valid"),
}


class TestSubclasses(NodeTester):
    cases = {  # noqa: RUF012
        "blur": NodeCase(lambda dims: Blur(*IO, 0.6, 2, dims=dims), {"a": TensorSpec(SIZE, 2)}),
        "coarser": NodeCase(lambda dims: Coarser(*IO, dims), {"a": TensorSpec(SIZE, 2)}),
        "finer": NodeCase(lambda dims: Finer(*IO, dims), {"a": TensorSpec(SIZE, 2)}),
        "two maps": NodeCase(
            lambda dims: Twice(["a", "b"], ["c", "d"], dims), {"a": TensorSpec(SIZE, 2), "b": TensorSpec(SIZE, 1)}
        ),
        "whitened": NodeCase(lambda dims: Whitened(*IO, dims), {"a": TensorSpec(SIZE, 2)}),
    }
    wrong = WRONG


RECTIFIED = nn.Sequential(conv(2, 1, 16, 3), nn.ReLU(), conv(2, 16, 16, 3), nn.ReLU())
RIGHT = {
    "two even kernels": declared(nn.Sequential(conv2(2), conv2(2)), (1, 1)),
    "dilated": declared(conv2(3, dilation=(1, 4)), (1, 4)),
    "nothing but rectifiers": declared(RECTIFIED, (2, 2), output_ncs=[16]),
    "same padding": declared(conv2(3, padding=1), (0, 0), tileable=False),
    "normalised": declared(nn.InstanceNorm2d(1), (0, 0), tileable=False),
    "large pool": declared(nn.MaxPool2d((9, 1)), (0, 0), downsample=(9, 1)),
    "no gradient": declared(nn.Sequential(nn.MaxPool2d(2), nn.Threshold(0.0, 0.0)), (0, 0), downsample=(2, 2)),
    "half precision": declared(conv2(3).bfloat16(), (1, 1)),
    "double precision": declared(conv2(3).double(), (1, 1)),
    "batch normalised": declared(nn.BatchNorm2d(1), (0, 0)),
    "dropout in place after a convolution": declared(nn.Sequential(conv2(3), nn.Dropout(0.5, inplace=True)), (1, 1)),
    "two inputs, one behind a threshold": lambda: ModuleNode(["a", "c"], ["b"], Gated(), [1, 1], [1], (0, 0)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_declaration_is_taken(name: str) -> None:
    assert isinstance(RIGHT[name](), ModuleNode)


def test_the_trial_changes_neither_the_module_nor_the_random_state() -> None:
    module = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), conv2(3)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = torch.get_rng_state()
    node = ModuleNode(*IO, module, [1], [1], (1, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert node.module is module
    assert module[0].training
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_a_blur_is_that_of_scipy(sigma: float) -> None:
    node = Blur(*IO, sigma, 2)
    x = np.random.default_rng(0).normal(size=(2, 9, 10, 11))
    blurred = np.stack(
        [ndimage.gaussian_filter(channel, sigma, truncate=math.ceil(3 * sigma) / sigma) for channel in x]
    )
    m = node.module.radius
    made = node(torch.from_numpy(x).float()[None])[0].numpy()
    np.testing.assert_allclose(made, blurred[:, m:-m, m:-m, m:-m], rtol=1e-4, atol=1e-6)


def test_the_arguments_of_a_subclass_are_its_own() -> None:
    expected = {"input_keys": ["a"], "output_keys": ["b"], "sigma": 0.5, "input_nc": 2, "dims": 3, "identifier": None}
    assert Blur(*IO, 0.5, 2).arguments == expected


def test_a_node_of_a_module_plans_and_runs_and_says_that_no_spec_can_hold_it() -> None:
    module = conv(3, 1, 2, (1, 3, 5))
    net = LeibNet([ModuleNode(*IO, module, [1], [2], (0, 1, 2))], {"a": TensorSpec(SIZE, 1)}, ["b"])
    size = net.voxel_size["a"]
    plan = net.plan({"b": Roi(size * 5, size * 3)})
    assert plan.inputs == {"a": Roi(size * Coordinate(5, 4, 3), size * Coordinate(3, 5, 7))}
    x = torch.randn(1, 1, 3, 5, 7)
    assert torch.equal(net({"a": x}, plan)["b"], module(x))
    assert [name for name, _ in net.named_parameters()] == ["nodes.b.module.weight", "nodes.b.module.bias"]
    with pytest.raises(ValueError, match="subclass of ModuleNode"):
        net.to_spec()


def test_what_is_no_module_is_refused():
    with pytest.raises(ValueError, match=r"b: module is a torch\.nn\.Module, not 3"):
        ModuleNode(["a"], ["b"], 3, [1], [1], (0, 0))
