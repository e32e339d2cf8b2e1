"""How fast a network could be if it were nothing but its convolutions, each voxel of them computed once."""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch
from funlib.geometry import Coordinate, Roi
from measuring import in_turn, inference
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from scalenet_gp import LeibNet
from scalenet_gp.analysis import predict_cost
from scalenet_gp.inference import OneDnnConvolutions
from scalenet_gp.kernels import channels_last

__all__ = ["Convolutions", "halo_free_macs", "layer_rate", "random_tensor"]


def halo_free_macs(net: LeibNet, output: str) -> float:
    """Multiply-accumulates per voxel of ``output`` in a box so large that its halo counts for nothing.

    What a box takes is a polynomial of first degree in its length along each axis, as that of convolutions is. The
    coefficient of all lengths together is its mixed difference.
    """
    size, step = net.voxel_size[output], net.plan({output: Roi((0,) * net.dims, net.voxel_size[output])}).step
    total = 0
    for steps in itertools.product((1, 2), repeat=net.dims):
        box = Roi((0,) * net.dims, step * Coordinate(steps))
        sign = (-1) ** steps.count(1)
        total += sign * predict_cost(net.graph, net.plan({output: box})).total_macs
    return total / math.prod(step / size)


def layer_rate(
    net: LeibNet, output: str, device: torch.device, dtype: torch.dtype = torch.float32, repeats: int = 3
) -> float:
    """Multiply-accumulates per second of the convolutions of a large pass, each by itself on tensors that are there.

    They are computed as prediction computes them, narrow ones for two voxels at a time.
    """
    roi = Roi((0,) * net.dims, Coordinate((128,) * net.dims) * net.voxel_size[output])
    plan = net.plan({output: roi})
    inputs = {key: torch.rand((1, tensor.channels, *tensor.shape)) for key, tensor in plan.input_tensors.items()}
    with torch.no_grad(), FlopCounterMode(display=False) as counter, Convolutions() as convolutions:
        net.cpu()(inputs, plan)
    seconds = 0.0
    for shapes, options in convolutions.seen:
        tensors = [None if shape is None else random_tensor(shape, device, dtype) for shape in shapes]
        stride, padding, dilation, _, _, groups = options
        convolve = torch.conv2d if len(shapes[0]) == 4 else torch.conv3d
        computed = partial(convolve, *tensors, stride, padding, dilation, groups)
        with OneDnnConvolutions():
            seconds += in_turn([inference(lambda computed=computed: {"": computed()})], repeats, device)[0]
    return counter.get_total_flops() / 2 / seconds


class Convolutions(TorchDispatchMode):
    """Writes down the shapes and options of the convolutions that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[list[torch.Size | None], tuple[object, ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten.convolution.default:
            self.seen.append(([None if tensor is None else tensor.shape for tensor in args[:3]], args[3:]))
        return func(*args, **(kwargs or {}))


def random_tensor(shape: torch.Size, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    tensor = torch.rand(shape, device=device, dtype=dtype)
    return channels_last(tensor) if len(shape) > 1 else tensor
