"""Group normalisation: its groups by brute force, and gradients at whose like torch 2.13 ends the process."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from scalenet_gp.kernels.group_norm import GroupNorm, GroupNormGuard, most_groups
from scalenet_gp.kernels.tensors import channels_last

SHAPES = [(2, 4, 3, 4, 5), (2, 1, 3, 4, 5), (1, 4, 1, 2), (2, 6, 5, 4), (2, 4, 1, 1, 2)]

CRASHING = {
    "first layer of a network": """
net = LeibNet([ConvPass(["a"], ["b"], 4, 4, [(3, 3, 3)], norm_layer="group")], {"a": TensorSpec((1, 1, 1), 4)}, ["b"])
""",
    "one channel": """
net = LeibNet([ConvPass(["a"], ["b"], 1, 4, [(3, 3, 3)], norm_layer="group")], {"a": TensorSpec((1, 1, 1), 1)}, ["b"])
""",
    "module": """
norm = ModuleNode(["a"], ["b"], nn.GroupNorm(2, 4), [4], [4], [0, 0, 0], tileable=False)
net = LeibNet([norm], {"a": TensorSpec((1, 1, 1), 4)}, ["b"])
""",
    "module's function": """
class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return nn.functional.group_norm(input=x, num_groups=2, weight=self.weight)

norm = ModuleNode(["a"], ["b"], Normalised(), [4], [4], [0, 0, 0], tileable=False)
net = LeibNet([norm], {"a": TensorSpec((1, 1, 1), 4)}, ["b"])
""",
}
PROGRAM = """
import os
import torch
from torch import nn
from scalenet_gp import LeibNet, TensorSpec
from scalenet_gp.layers import ConvPass, ModuleNode

def run(build):
    names = dict(globals())
    exec(build, names)
    net = names["net"]
    plan = net.smallest_plan
    for wanted in (False, True):
        (tensor,) = plan.input_tensors.values()
        x = torch.randn(2, tensor.channels, *tensor.shape).requires_grad_(wanted)
        loss = net({"a": x}, plan)["b"].square().sum()
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        print(all(gradient.isfinite().all() for gradient in gradients), end=" ", flush=True)

torch.set_num_threads(1)
for name, build in CRASHING.items():
    child = os.fork()
    if child == 0:
        run(build)
        os._exit(0)
    print(name, os.waitpid(child, 0)[1], sep=": ", flush=True)
"""


def test_the_groups_are_the_most_that_leave_two_channels_in_each():
    for channels in range(1, 200):
        fitting = [n for n in range(1, 9) if channels % n == 0 and channels / n > 1]
        assert most_groups(channels) == max(fitting, default=1)
    assert [most_groups(channels) for channels in (1, 2, 4, 8, 12, 16, 36)] == [1, 1, 2, 4, 6, 8, 6]


@pytest.mark.parametrize("channels", range(2, 17))
def test_a_single_voxel_is_normalised_across_the_channels_of_its_group(channels):
    layer = GroupNorm(most_groups(channels), channels).double()
    x = torch.randn(2, channels, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    groups = x.reshape(2, layer.num_groups, -1)
    expected = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    made = layer(x)
    torch.testing.assert_close(made, expected.reshape(x.shape))
    assert made.std() > 0.1


@pytest.fixture(scope="module")
def crashing():
    """The output and exit status of each program, in a process of its own that is forked where torch is imported."""
    program = f"CRASHING = {CRASHING!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", CRASHING)
def test_gradients_of_parameters_alone_do_not_end_the_process(crashing, name):
    """The process would end by a segmentation fault."""
    assert f"True True {name}: 0" in crashing


@pytest.mark.parametrize("wanted", [False, True], ids=["parameters", "input too"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_those_of_torch_in_the_other_memory_format(shape, wanted):
    groups, channels = most_groups(shape[1]), shape[1]
    plain = nn.GroupNorm(groups, channels).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(generator=generator)
    x = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_(wanted)
    layer = GroupNorm(groups, channels).double()
    layer.load_state_dict(plain.state_dict())

    def gradients(module: nn.Module, tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
        made = module(tensor)
        return (made, *torch.autograd.grad(made.pow(3).sum(), [*module.parameters(), *([x] if wanted else [])]))

    expected = gradients(plain, x)
    made = gradients(layer, channels_last(x))
    torch.testing.assert_close(made, expected)
    if min(shape[1:]) > 1:
        assert made[0].is_contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)
    with GroupNormGuard():
        torch.testing.assert_close(gradients(plain, channels_last(x)), expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(channels_last(x)), expected[0].detach())
