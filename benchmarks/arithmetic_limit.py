"""The time that a network's convolutions alone take, if every voxel is computed once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from funlib.geometry import Coordinate, Roi
from measuring import in_turn, inference
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from scalenet_gp import LeibNet
from scalenet_gp.analysis import predict_cost
from scalenet_gp.inference import OneDnnConvolutions
from scalenet_gp.kernels import channels_last, watch_operations

__all__ = ["halo_free_macs", "layer_rate", "random_tensor", "record_convolutions"]

Convolution = tuple[list[torch.Size | None], tuple[Any, ...]]
"""The shapes of input, kernel and bias, and the options as ``torch.ops.aten.convolution`` takes them."""


def halo_free_macs(net: LeibNet, output: str) -> float:
    """Return the multiply-accumulates per voxel of ``output`` in a box so large that its halo does not count.

    The multiply-accumulates of a box are a polynomial of first degree in its length along each axis. The coefficient of
    the product of all lengths is its mixed difference.
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
    """Return the multiply-accumulates per second of the convolutions of a large pass, each run by itself.

    They are computed as prediction computes them: narrow ones for two voxels at a time. Making the tensors is not
    measured.
    """
    roi = Roi((0,) * net.dims, Coordinate((128,) * net.dims) * net.voxel_size[output])
    plan = net.plan({output: roi})
    inputs = {key: torch.rand((1, tensor.channels, *tensor.shape)) for key, tensor in plan.input_tensors.items()}
    with torch.no_grad(), FlopCounterMode(display=False) as counter, record_convolutions() as convolutions:
        net.cpu()(inputs, plan)
    seconds = 0.0
    for shapes, options in convolutions:
        tensors = [None if shape is None else random_tensor(shape, device, dtype) for shape in shapes]
        stride, padding, dilation, _, _, groups = options
        convolve = torch.conv2d if len(shapes[0]) == 4 else torch.conv3d
        computed = partial(convolve, *tensors, stride, padding, dilation, groups)
        with OneDnnConvolutions():
            seconds += in_turn([inference(lambda computed=computed: {"": computed()})], repeats, device)[0]
    return counter.get_total_flops() / 2 / seconds


@contextmanager
def record_convolutions() -> Iterator[list[Convolution]]:
    """Append every convolution that is computed within the context to a list."""
    convolutions: list[Convolution] = []

    def listen(operation: Any, arguments: tuple[Any, ...], result: Any) -> Any:
        if operation is torch.ops.aten.convolution.default:
            shapes = [None if tensor is None else tensor.shape for tensor in arguments[:3]]
            convolutions.append((shapes, arguments[3:]))
        return result

    with watch_operations(listen):
        yield convolutions


def random_tensor(shape: torch.Size, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a random tensor, channels last."""
    tensor = torch.rand(shape, device=device, dtype=dtype)
    return channels_last(tensor) if len(shape) > 1 else tensor
