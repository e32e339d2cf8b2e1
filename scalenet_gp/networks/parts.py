"""The parts that U-Nets and autoencoders are put together from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import Node
from scalenet_gp.layers import (
    AtrousPyramid,
    AttentionGate,
    Concatenate,
    ConvPass,
    Head,
    Pool,
    StridedConv,
    TransformerBlock,
    TransposedConv,
    Upsample,
)
from scalenet_gp.networks.options import EncoderDecoderOptions

__all__ = ["Parts"]


@dataclass(frozen=True)
class Parts:
    """The nodes of encoder, bottleneck, decoder and outputs; the tensors bear LeibNetz's names after ``prefix``.

    Args:
        options: options of the network.
        prefix: text before the name of every tensor, as in ``"2_"``.
    """

    options: EncoderDecoderOptions
    prefix: str = ""

    def unet(self, entering: Sequence[Node] = (), nc: int | None = None) -> tuple[list[Node], list[str]]:
        """Return all nodes of a U-Net, and the names of its outputs.

        Args:
            entering: nodes that make the ``"bottleneck_join"`` that the bottleneck reads instead of
                :attr:`encoded`.
            nc: channels of ``"bottleneck_join"``.
        """
        encoder = self.encoder()
        bottleneck, read = self.bottleneck("bottleneck_join" if entering else self.encoded, nc)
        decoder = self.decoder(read, self.options.channels(self.options.levels))
        outputs = self.outputs()
        return [*encoder, *entering, *bottleneck, *decoder, *outputs], [node.output_keys[0] for node in outputs]

    @property
    def encoded(self) -> str:
        """The name of the encoder's coarsest tensor."""
        return f"downsample_{self.options.levels - 1}"

    def encoder(self) -> list[Node]:
        """Return the nodes from ``"input"`` to :attr:`encoded`."""
        options, nodes = self.options, []
        read, nc = "input", options.input_nc
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
        if options.bottleneck == "atrous":
            nodes.append(AtrousPyramid(*keys, out_nc, out_nc, activation=options.activation, dims=options.dims))
        else:
            dropout, heads = options.dropout_prob or 0.0, math.gcd(out_nc, 4)
            nodes.append(TransformerBlock(*keys, out_nc, heads, dropout_prob=dropout, dims=options.dims))
        return nodes, f"bottleneck_{options.bottleneck}"

    def decoder(self, read: str, nc: int, *, skips: bool = True) -> list[Node]:
        """Return the nodes from ``read``, which has ``nc`` channels, to ``"out_conv_0"``.

        Without ``skips`` they do not read the encoder's tensors.
        """
        nodes: list[Node] = []
        for level in reversed(range(self.options.levels)):
            nodes.append(self._upsampling(level, read, nc))
            read = f"upsample_{level}"
            if skips:
                nodes += self._join(level, nc)
                read, nc = f"join_{level}", nc + self.options.channels(level)
            nodes.append(self._conv_pass(read, f"out_conv_{level}", nc, level))
            read, nc = f"out_conv_{level}", self.options.channels(level)
        return nodes

    def outputs(self) -> list[Node]:
        """Return the nodes that make outputs: ``"output"``, then the heads, then those of deep supervision."""
        options, nodes = self.options, []
        if options.output_channels:
            nodes.append(self._output("output", 0))
        for name, arguments in options.head_options.items():
            if not arguments.get("classes"):
                raise ArgumentError(f"the head {name!r} has no 'classes', the names of its channels")
            keys = [f"{self.prefix}out_conv_0"], [self.prefix + name]
            nodes.append(Head(*keys, options.base_nc, **arguments, dims=options.dims))
        if options.deep_supervision:
            nodes += [self._output(f"output_{level}", level) for level in range(1, options.levels)]
        return nodes

    def _conv_pass(self, read: str, made: str, nc: int, level: int) -> Node:
        options, arguments = self.options, self.options.conv_options
        if read == "input" and options.norm_layer is not None and not options.normalize_input:
            arguments["norm_layer"] = [None, *[options.norm_layer] * (len(options.kernels) - 1)]
        return ConvPass(
            [self.prefix + read],
            [self.prefix + made],
            nc,
            options.channels(level),
            options.kernels,
            dilations=options.dilations,
            separable=options.separable,
            eca=options.eca,
            **arguments,
        )

    def _output(self, made: str, level: int) -> Node:
        options = self.options
        return ConvPass(
            [f"{self.prefix}out_conv_{level}"],
            [self.prefix + made],
            options.channels(level),
            [*options.hidden_ncs, options.output_channels] if options.hidden_ncs else options.output_channels,
            [(1,) * options.dims] * options.num_final_convs,
            final_activation=options.output_activation,
            **options.conv_options,
        )

    def _downsampling(self, level: int) -> Node:
        options = self.options
        keys, nc = ([f"{self.prefix}in_conv_{level}"], [f"{self.prefix}downsample_{level}"]), options.channels(level)
        if options.downsample_mode == "strided":
            return StridedConv(*keys, nc, nc, options.factors[level], activation=options.activation)
        return Pool(*keys, options.factors[level], options.downsample_mode)

    def _upsampling(self, level: int, read: str, nc: int) -> Node:
        options = self.options
        keys = [self.prefix + read], [f"{self.prefix}upsample_{level}"]
        if options.upsample_mode == "transposed":
            return TransposedConv(*keys, nc, nc, options.factors[level], activation=options.activation)
        return Upsample(*keys, options.factors[level], options.upsample_mode)

    def _join(self, level: int, upsampled_nc: int) -> Sequence[Node]:
        """Return the nodes that join the upsampled tensor with the encoder's skip connection, gated or not."""
        upsampled, skip = f"{self.prefix}upsample_{level}", f"{self.prefix}in_conv_{level}"
        joined = [f"{self.prefix}join_{level}"]
        if not self.options.attention_gates:
            return [Concatenate([upsampled, skip], joined)]
        gated, nc = f"{self.prefix}attention_gate_{level}", self.options.channels(level)
        gate = AttentionGate([skip, upsampled], [gated], nc, upsampled_nc, dims=self.options.dims)
        return [gate, Concatenate([upsampled, gated], joined)]
