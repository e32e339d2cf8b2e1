"""The U-Net of funlib.learn.torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length, exact_size
from scalenet_gp.graph import Node, TensorSpec
from scalenet_gp.interop.weights import load_renamed
from scalenet_gp.layers import Concatenate, ConvPass, Pool, TransposedConv, Upsample, check_whole, is_whole
from scalenet_gp.leibnet import LeibNet

__all__ = ["load_funlib_unet"]

Kernels = Sequence[Sequence[int | Sequence[int]]]


def load_funlib_unet(
    state_dict: Mapping[str, Tensor],
    *,
    in_channels: int,
    num_fmaps: int,
    fmap_inc_factor: int,
    downsample_factors: Sequence[Sequence[int]],
    kernel_size_down: Kernels | None = None,
    kernel_size_up: Kernels | None = None,
    activation: str | None = "ReLU",
    fov: Sequence[Length] | None = None,
    voxel_size: Sequence[Length] | None = None,
    num_fmaps_out: int | None = None,
    num_heads: int = 1,
    constant_upsample: bool = False,
    padding: Literal["valid", "same"] = "valid",
) -> LeibNet:
    """Build the network that ``funlib.learn.torch.models.UNet`` is with these arguments and weights.

    It has one input ``"input"`` (B, ``in_channels``, Z, Y, X) and the output ``"output"`` (B, ``num_fmaps_out``, Z, Y,
    X), or one per decoder, ``"output_0"``, ``"output_1"`` and so on. The arguments are those of its constructor. That
    package returns as many voxels as keep it translation equivariant. Here any ROI can be requested, and the values of
    its voxels are the same.

    Args:
        state_dict: the U-Net's ``state_dict()``, of tensors or arrays.
        in_channels: channels of the input.
        num_fmaps: channels at the finest level.
        fmap_inc_factor: factor of the channels from level to level.
        downsample_factors: voxels per coarser voxel, per level and axis.
        kernel_size_down: the kernels of every level of the encoder and of the bottleneck, from the finest, each a whole
            number or one per axis; twice three per level unless given.
        kernel_size_up: the same for the levels of the decoders, from the finest.
        activation: name of an activation in :mod:`torch.nn`, which follows every convolution; ``None`` for none.
        fov: ignored, as there.
        voxel_size: nm per axis of input and output; one each unless given.
        num_fmaps_out: channels of the outputs; ``num_fmaps`` unless given.
        num_heads: number of decoders, all on one encoder.
        constant_upsample: upsample by nearest neighbor instead of a transposed convolution.
        padding: ``"same"`` pads every convolution with zeros; tiles do not agree with the whole then.

    Raises:
        ArgumentError: an argument is out of its range, or a convolution pass would shift its output by half a voxel.
        CheckpointError: a weight is missing, left over or of another shape, by its name there.
    """
    output_nc = num_fmaps if num_fmaps_out is None else num_fmaps_out
    check_whole(
        in_channels=in_channels,
        num_fmaps=num_fmaps,
        fmap_inc_factor=fmap_inc_factor,
        num_fmaps_out=output_nc,
        num_heads=num_heads,
    )
    factors = [tuple(factor) for factor in downsample_factors]
    if not factors or len({len(factor) for factor in factors}) > 1 or not all(map(is_whole, chain(*factors))):
        raise ArgumentError(
            "downsample_factors needs one factor or more of whole numbers from 1 up, all with as many axes, not "
            f"{factors}"
        )
    dims = len(factors[0])
    unet = _UNet(
        factors=factors,
        channels=[num_fmaps * fmap_inc_factor**level for level in range(len(factors) + 1)],
        down=_kernels("kernel_size_down", kernel_size_down, len(factors) + 1, dims),
        up=_kernels("kernel_size_up", kernel_size_up, len(factors), dims),
        activation=activation,
        constant_upsample=constant_upsample,
        padding=padding,
    )
    nodes = unet.encoder(in_channels)
    outputs = ["output"] if num_heads == 1 else [f"output_{head}" for head in range(num_heads)]
    for head, output in enumerate(outputs):
        prefix = "" if num_heads == 1 else f"{head}_"
        nodes += unet.decoder(head, prefix, output, output_nc)
    size = exact_size((1,) * dims if voxel_size is None else voxel_size)
    net = LeibNet(nodes, {"input": TensorSpec(size, in_channels)}, outputs, name="UNet")
    load_renamed(net, state_dict, dict(unet.renaming(net)))
    return net


@dataclass(frozen=True)
class _UNet:
    """Options that encoder and decoders share, and the names of each node's weights in funlib.learn.torch."""

    factors: list[tuple[int, ...]]
    channels: list[int]
    down: list[list[tuple[int, ...]]]
    up: list[list[tuple[int, ...]]]
    activation: str | None
    constant_upsample: bool
    padding: Literal["valid", "same"]
    their_name: dict[str, str] = field(default_factory=dict)

    def encoder(self, in_channels: int) -> list[Node]:
        """Return the nodes from ``"input"`` to ``"bottleneck"``."""
        nodes: list[Node] = []
        read, nc = "input", in_channels
        for level, factor in enumerate(self.factors):
            made, pooled = f"in_conv_{level}", f"downsample_{level}"
            nodes.append(self._conv_pass(read, made, nc, self.channels[level], self.down[level], f"l_conv.{level}"))
            nodes.append(Pool([made], [pooled], factor))
            read, nc = pooled, self.channels[level]
        theirs = f"l_conv.{len(self.factors)}"
        return [*nodes, self._conv_pass(read, "bottleneck", nc, self.channels[-1], self.down[-1], theirs)]

    def decoder(self, head: int, prefix: str, output: str, output_nc: int) -> list[Node]:
        """Return the nodes from ``"bottleneck"`` to ``output``; the names of other tensors begin with ``prefix``."""
        nodes: list[Node] = []
        read = "bottleneck"
        for level in reversed(range(len(self.factors))):
            skip, upsampled, joined = (f"in_conv_{level}", f"{prefix}upsample_{level}", f"{prefix}join_{level}")
            nodes.append(self._upsampling(read, upsampled, level, f"r_up.{head}.{level}.up"))
            nodes.append(Concatenate([skip, upsampled], [joined]))
            made, out_nc = (f"{prefix}out_conv_{level}", self.channels[level]) if level else (output, output_nc)
            nc, theirs = self.channels[level] + self.channels[level + 1], f"r_conv.{head}.{level}"
            nodes.append(self._conv_pass(joined, made, nc, out_nc, self.up[level], theirs))
            read = made
        return nodes

    def renaming(self, net: LeibNet) -> Iterator[tuple[str, str]]:
        """Yield the names here and there of every weight. There, every second layer of a pass is an activation."""
        for ours in net.state_dict():
            _, node, *inner, kind = ours.split(".")
            theirs = self.their_name[node]
            if inner[0] != "upsample":
                last = inner[0] == "final_activation"
                index = len(net.get_submodule(f"nodes.{node}.layers")) if last else int(inner[1])  # type: ignore[arg-type]
                theirs += f".conv_pass.{index if self.activation is not None else index // 2}"
            yield ours, f"{theirs}.{kind}"

    def _conv_pass(self, read: str, made: str, nc: int, out_nc: int, kernels: list[tuple[int, ...]], key: str) -> Node:
        self.their_name[made] = key
        return ConvPass(
            [read], [made], nc, out_nc, kernels, self.activation, padding=self.padding, padding_mode="zeros"
        )

    def _upsampling(self, read: str, made: str, level: int, key: str) -> Node:
        if self.constant_upsample:
            return Upsample([read], [made], self.factors[level])
        self.their_name[made] = key
        nc = self.channels[level + 1]
        return TransposedConv([read], [made], nc, nc, self.factors[level])


def _kernels(name: str, given: Kernels | None, levels: int, dims: int) -> list[list[tuple[int, ...]]]:
    if given is None:
        return [[(3,) * dims] * 2] * levels
    if len(given) != levels:
        raise ArgumentError(f"{name} needs the kernels of {levels} levels, not of {len(given)}: {given}")
    kernels = [[tuple(size) if isinstance(size, Iterable) else (size,) * dims for size in level] for level in given]
    for level in kernels:
        if not level or any(len(kernel) != dims or not all(map(is_whole, kernel)) for kernel in level):
            raise ArgumentError(
                f"{name} needs at least one kernel per level, each of whole numbers from 1 up on {dims} axes; one "
                f"level has {level}"
            )
    return kernels
