"""The parts that U-Nets and autoencoders are put together from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from scalenet_gp.graph import Node, TensorSpec
from scalenet_gp.layers import (
    AtrousPyramid,
    AttentionGate,
    Concatenate,
    PoolingPyramid,
    PrototypeMemory,
    TransformerBlock,
)
from scalenet_gp.networks import pieces
from scalenet_gp.networks.unet_options import EncoderDecoderOptions

__all__ = ["Enter", "Parts", "UNetNodes"]

Enter = Callable[[str, str, TensorSpec], tuple[list[Node], int]]
"""A function that returns the nodes by which other features join a tensor: see :meth:`Parts.unet`."""


@dataclass(frozen=True, slots=True)
class UNetNodes:
    """The nodes of a U-Net.

    Attributes:
        nodes: all but those that make outputs.
        outputs: those that make outputs, one each.
        features: name of the tensor that outputs are made of.
        features_nc: its channels.
    """

    nodes: list[Node]
    outputs: list[Node]
    features: str
    features_nc: int

    @property
    def output_keys(self) -> list[str]:
        """Names of the outputs."""
        return [node.output_keys[0] for node in self.outputs]


@dataclass(frozen=True)
class Parts:
    """The nodes of encoder, bottleneck, decoder and outputs; the tensors bear LeibNetz's names after ``prefix``.

    Args:
        options: options of the network.
        prefix: text before the name of every tensor, as in ``"2_"``.
        entry: the tensor that the encoder reads, without the prefix; the input unless given, or ``"inputs"``, all of
            them concatenated.
    """

    options: EncoderDecoderOptions
    prefix: str = ""
    entry: str | None = None

    def unet(self, enter: Enter | None = None, inject: str = "bottleneck") -> UNetNodes:
        """Return all nodes of a U-Net.

        Args:
            enter: a function that returns the nodes by which other features join a tensor, and the channels of what
                they make: ``enter(place, own, spec)`` makes ``"<place>_join"`` of the tensor ``own``.
            inject: where it is asked for them: at the ``"bottleneck"``, there and at ``"every_level"`` of the decoder,
                or at the ``"output"``.
        """
        options = self.options
        nodes, read, nc = self.encoder(), self.encoded, options.bottleneck_spec.channels
        if enter is not None and inject != "output":
            entering, nc = enter("bottleneck", self.prefix + read, options.bottleneck_spec)
            nodes, read = [*nodes, *entering], "bottleneck_join"
        bottleneck, read = self.bottleneck(read, nc)
        into_decoder = enter if inject == "every_level" else None
        nodes += [*bottleneck, *self.decoder(read, options.channels(options.levels), enter=into_decoder)]
        features, nc = "out_conv_0", options.channels(0)
        if enter is not None and inject == "output":
            entering, nc = enter("output", self.prefix + features, options.features_spec)
            nodes, features = [*nodes, *entering], "output_join"
        return UNetNodes(nodes, self.outputs(features, nc), self.prefix + features, nc)

    @property
    def encoded(self) -> str:
        """The name of the encoder's coarsest tensor."""
        return f"downsample_{self.options.levels - 1}"

    def inputs(self) -> dict[str, TensorSpec]:
        """Return voxel size and channels of every input, by its name."""
        return {self.prefix + name: spec for name, spec in self.options.input_specs.items()}

    @property
    def read_first(self) -> str:
        """The name of the tensor that the encoder reads, without the prefix."""
        first, *others = self.options.input_specs
        return self.entry or ("inputs" if others else first)

    def encoder(self) -> list[Node]:
        """Return the nodes from the inputs to :attr:`encoded`."""
        options, nodes = self.options, list[Node]()
        read, nc = self.read_first, sum(spec.channels for spec in options.input_specs.values())
        if read == "inputs":
            nodes.append(Concatenate(list(self.inputs()), [self.prefix + read]))
        for level in range(options.levels):
            nodes += [self._conv_pass(read, f"in_conv_{level}", nc, level), self._downsampling(level)]
            read, nc = f"downsample_{level}", options.channels(level)
        return nodes

    def bottleneck(self, read: str, nc: int | None = None) -> tuple[list[Node], str]:
        """Return the nodes of the coarsest pass on ``read``, and the name of the tensor that the decoder reads.

        Args:
            read: name of a tensor.
            nc: channels of ``read``; those of :attr:`encoded` unless given.
        """
        options = self.options
        nc = options.bottleneck_spec.channels if nc is None else nc
        made, out_nc = "bottleneck", options.channels(options.levels)
        nodes: list[Node] = [self._conv_pass(read, made, nc, options.levels)]
        if options.bottleneck is None:
            return nodes, made
        keys = [self.prefix + made], [f"{self.prefix}bottleneck_{options.bottleneck}"]
        if options.bottleneck in ("atrous", "pooling"):
            pyramid = AtrousPyramid if options.bottleneck == "atrous" else PoolingPyramid
            nodes.append(pyramid(*keys, out_nc, out_nc, activation=options.activation, dims=options.dims))
            return nodes, f"bottleneck_{options.bottleneck}"
        if options.bottleneck == "memory":
            nodes.append(PrototypeMemory(*keys, out_nc, options.prototypes or 64, dims=options.dims))
            return nodes, f"bottleneck_{options.bottleneck}"
        dropout, heads = options.dropout_prob or 0.0, math.gcd(out_nc, 4)
        layers = [made, *(f"bottleneck_transformer_{index}" for index in range(1, options.transformer_layers))]
        for before, after in pairwise([*layers, "bottleneck_transformer"]):
            its = [self.prefix + before], [self.prefix + after]
            nodes.append(TransformerBlock(*its, out_nc, heads, dropout_prob=dropout, dims=options.dims))
        return nodes, "bottleneck_transformer"

    def decoder(self, read: str, nc: int, *, skips: bool = True, enter: Enter | None = None) -> list[Node]:
        """Return the nodes from ``read``, which has ``nc`` channels, to ``"out_conv_0"``.

        Without ``skips`` they do not read the encoder's tensors. For ``enter`` see :meth:`unet`.
        """
        nodes: list[Node] = []
        for level in reversed(range(self.options.levels)):
            nodes.append(self._upsampling(level, read, nc))
            read = f"upsample_{level}"
            if skips:
                nodes += self._join(level, nc)
                read, nc = f"join_{level}", nc + self.options.channels(level)
            if enter is not None:
                spec = TensorSpec(self.options.level_size(level), nc)
                entering, nc = enter(f"level_{level}", self.prefix + read, spec)
                nodes, read = [*nodes, *entering], f"level_{level}_join"
            nodes.append(self._conv_pass(read, f"out_conv_{level}", nc, level))
            read, nc = f"out_conv_{level}", self.options.channels(level)
        return nodes

    def outputs(self, features: str = "out_conv_0", nc: int | None = None) -> list[Node]:
        """Return the nodes that make outputs: ``"output"``, then the heads, then those of deep supervision.

        Args:
            features: name of the tensor that ``"output"`` and the heads are made of.
            nc: its channels; those of level 0 unless given.
        """
        options, nodes = self.options, []
        read, nc = self.prefix + features, options.channels(0) if nc is None else nc
        if options.output_channels:
            nodes.append(pieces.output(options, read, f"{self.prefix}output", nc))
        nodes += pieces.heads(options, read, nc, self.prefix)
        if options.deep_supervision:
            for level in range(1, options.levels):
                keys = f"{self.prefix}out_conv_{level}", f"{self.prefix}output_{level}"
                nodes.append(pieces.output(options, *keys, options.channels(level)))
        return nodes

    def _conv_pass(self, read: str, made: str, nc: int, level: int) -> Node:
        return pieces.conv_pass(
            self.options, self.prefix + read, self.prefix + made, nc, level, of_input=read == self.read_first
        )

    def _downsampling(self, level: int) -> Node:
        keys, nc = (f"{self.prefix}in_conv_{level}", f"{self.prefix}downsample_{level}"), self.options.channels(level)
        return pieces.downsampling(self.options, *keys, nc, self.options.factors[level])

    def _upsampling(self, level: int, read: str, nc: int) -> Node:
        keys = self.prefix + read, f"{self.prefix}upsample_{level}"
        return pieces.upsampling(self.options, *keys, nc, self.options.factors[level])

    def _join(self, level: int, upsampled_nc: int) -> Sequence[Node]:
        """Return the nodes that join the upsampled tensor with the encoder's skip connection, gated or not."""
        upsampled, skip = f"{self.prefix}upsample_{level}", f"{self.prefix}in_conv_{level}"
        joined = [f"{self.prefix}join_{level}"]
        if not self.options.attention_gates:
            return [Concatenate([upsampled, skip], joined)]
        gated, nc = f"{self.prefix}attention_gate_{level}", self.options.channels(level)
        gate = AttentionGate([skip, upsampled], [gated], nc, upsampled_nc, dims=self.options.dims)
        return [gate, Concatenate([upsampled, gated], joined)]
