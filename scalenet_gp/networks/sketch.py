"""A network in the making: nodes added one after another, with the channels of every tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from scalenet_gp.graph import Node
from scalenet_gp.layers import Concatenate, StridedConv, Sum, Upsample
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks import pieces
from scalenet_gp.networks.options import NetworkOptions

__all__ = ["Sketch"]


class Sketch:
    """The nodes of a network of one input, ``"input"``; every method adds one and returns the name of its tensor.

    Args:
        options: options of the network, which the nodes are built by.

    Attributes:
        nodes: the nodes so far.
    """

    def __init__(self, options: NetworkOptions) -> None:
        self.options = options
        self.nodes: list[Node] = []
        self._channels = {"input": options.input_nc}

    def channels(self, name: str) -> int:
        """Return the channels of a tensor."""
        return self._channels[name]

    def add(self, node: Node, channels: int) -> str:
        """Add a node that makes one tensor of so many channels."""
        self.nodes.append(node)
        (made,) = node.output_keys
        self._channels[made] = channels
        return made

    def conv_pass(
        self,
        read: str,
        made: str,
        level: int,
        *,
        output_nc: int | None = None,
        kernels: Sequence[Sequence[int]] | None = None,
    ) -> str:
        """Add a pass of convolutions or blocks; arguments as those of :func:`.pieces.conv_pass`."""
        nc = self.options.channels(level) if output_nc is None else output_nc
        node = pieces.conv_pass(
            self.options,
            read,
            made,
            self.channels(read),
            level,
            output_nc=nc,
            kernels=kernels,
            of_input=read == "input",
        )
        return self.add(node, nc)

    def encoder(self, passes: int) -> list[str]:
        """Add passes at so many levels from the finest, and what makes voxels coarser between them.

        Returns:
            The names of the passes, ``"in_conv_0"`` and so on.
        """
        made = [self.conv_pass("input", "in_conv_0", 0)]
        for level in range(1, passes):
            read = self.downsample(made[-1], f"downsample_{level - 1}", self.options.factors[level - 1])
            made.append(self.conv_pass(read, f"in_conv_{level}", level))
        return made

    def single_conv(self, read: str, made: str, level: int, output_nc: int) -> str:
        """Add a pass with the first kernel of the level alone."""
        return self.conv_pass(read, made, level, output_nc=output_nc, kernels=self.options.kernels(level)[:1])

    def point_conv(self, read: str, made: str, output_nc: int) -> str:
        """Add a 1³ convolution alone, without an activation."""
        return self.add(pieces.point_conv(self.options, read, made, self.channels(read), output_nc), output_nc)

    def downsample(self, read: str, made: str, factor: Sequence[int]) -> str:
        """Add a node that makes coarser voxels."""
        nc = self.channels(read)
        return self.add(pieces.downsampling(self.options, read, made, nc, factor), nc)

    def strided_conv(self, read: str, made: str, factor: Sequence[int], output_nc: int, activation: str | None) -> str:
        """Add a strided convolution, whatever the options say about other downsampling."""
        node = StridedConv([read], [made], self.channels(read), output_nc, factor, activation=activation)
        return self.add(node, output_nc)

    def upsample(self, read: str, made: str, factor: Sequence[int]) -> str:
        """Add a node that makes finer voxels, as the options say."""
        nc = self.channels(read)
        return self.add(pieces.upsampling(self.options, read, made, nc, factor), nc)

    def resize(self, read: str, made: str, coarse: int, fine: int) -> str:
        """Add a node that makes the voxels of level ``fine`` of those of ``coarse``, linearly or by repetition.

        Returns ``read`` itself if the levels have the same voxels.
        """
        factor = self.factor(fine, coarse)
        if max(factor) == 1:
            return read
        mode: Literal["nearest", "linear"] = "linear" if self.options.upsample_mode == "linear" else "nearest"
        return self.add(Upsample([read], [made], factor, mode), self.channels(read))

    def factor(self, fine: int, coarse: int) -> tuple[int, ...]:
        """Return the voxels of level ``fine`` per voxel of level ``coarse``, per axis."""
        factors = self.options.factors[fine:coarse]
        return tuple(math.prod(axis) for axis in zip(*[(1,) * self.options.dims, *factors], strict=True))

    def concatenate(self, reads: Sequence[str], made: str) -> str:
        """Add a node that joins tensors by their channels."""
        return self.add(Concatenate(reads, [made]), sum(map(self.channels, reads)))

    def sum(self, reads: Sequence[str], made: str) -> str:
        """Add a node that adds tensors up, or return the only one."""
        if len(reads) == 1:
            return reads[0]
        ncs = [self.channels(read) for read in reads]
        return self.add(Sum(reads, [made], ncs, dims=self.options.dims), ncs[0])

    def output(self, read: str, made: str) -> str:
        """Add the node that makes an output of features."""
        return self.add(pieces.output(self.options, read, made, self.channels(read)), self.options.output_channels)

    def outputs(self, read: str) -> list[str]:
        """Add the nodes that make ``"output"``, if there is one, and the heads, of features; return their names."""
        made = [self.output(read, "output")] if self.options.output_channels else []
        for node in pieces.heads(self.options, read, self.channels(read)):
            made.append(self.add(node, 0))
        return made

    def network(self, outputs: Sequence[str], name: str) -> LeibNet:
        """Return the network of these nodes."""
        return LeibNet(self.nodes, self.options.input_specs, outputs, name=name)
