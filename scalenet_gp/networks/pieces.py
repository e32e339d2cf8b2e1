"""Single nodes of networks, built as the options say."""

from __future__ import annotations

from collections.abc import Sequence

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import Node
from scalenet_gp.layers import (
    ConvNeXtBlocks,
    ConvPass,
    DenseBlock,
    Head,
    InvertedResiduals,
    Pool,
    RecurrentResiduals,
    StridedConv,
    TransposedConv,
    Upsample,
)
from scalenet_gp.networks.options import NetworkOptions

__all__ = ["conv_pass", "downsampling", "heads", "output", "point_conv", "upsampling"]


def conv_pass(
    options: NetworkOptions,
    read: str,
    made: str,
    input_nc: int,
    level: int,
    *,
    output_nc: int | None = None,
    kernels: Sequence[Sequence[int]] | None = None,
    of_input: bool = False,
) -> Node:
    """Return a pass of convolutions, or of the blocks that the options name.

    Args:
        options: options of the network.
        read: name of the tensor read.
        made: name of the tensor made.
        input_nc: channels of ``read``.
        level: level whose kernels, dilations and channels are taken.
        output_nc: channels of ``made``; those of the level unless given.
        kernels: kernels; those of the level unless given, without their dilations then.
        of_input: ``read`` is the network's input, which is not normalized unless the options say so.
    """
    nc = options.channels(level) if output_nc is None else output_nc
    dilations = options.dilations_at(level) if kernels is None else None
    kernels = options.kernels(level) if kernels is None else kernels
    if options.block in ("dense", "recurrent"):
        plain = DenseBlock if options.block == "dense" else RecurrentResiduals
        form = options.activation, options.norm_layer
        return plain([read], [made], input_nc, nc, kernels, *form, **options.padding_options)
    if options.block != "conv":
        blocks = InvertedResiduals if options.block == "inverted_residual" else ConvNeXtBlocks
        return blocks(
            [read],
            [made],
            input_nc,
            nc,
            kernels,
            options.block_expansion,
            options.activation,
            options.norm_layer,
            **options.padding_options,
        )
    arguments = options.conv_options
    if of_input and options.norm_layer is not None and not options.normalize_input:
        arguments["norm_layer"] = [None, *[options.norm_layer] * (len(kernels) - 1)]
    return ConvPass(
        [read],
        [made],
        input_nc,
        nc,
        kernels,
        dilations=dilations,
        separable=options.separable,
        eca=options.eca,
        **options.padding_options,
        **arguments,
    )


def point_conv(options: NetworkOptions, read: str, made: str, input_nc: int, output_nc: int) -> Node:
    """Return a 1³ convolution alone, which changes the number of channels."""
    return ConvPass([read], [made], input_nc, output_nc, [(1,) * options.dims], activation=None)


def output(options: NetworkOptions, read: str, made: str, input_nc: int) -> Node:
    """Return the 1³ convolutions that make an output of features."""
    return ConvPass(
        [read],
        [made],
        input_nc,
        [*options.hidden_ncs, options.output_channels] if options.hidden_ncs else options.output_channels,
        [(1,) * options.dims] * options.num_final_convs,
        final_activation=options.output_activation,
        **options.conv_options,
    )


def heads(options: NetworkOptions, read: str, input_nc: int, prefix: str = "") -> list[Node]:
    """Return the heads of the options, each a node that makes an output of features.

    Raises:
        ArgumentError: a head has no classes.
    """
    nodes: list[Node] = []
    for name, arguments in options.head_options.items():
        if not arguments.get("classes"):
            raise ArgumentError(f"the head {name!r} has no 'classes', the names of its channels")
        nodes.append(Head([read], [prefix + name], input_nc, **arguments, dims=options.dims))
    return nodes


def downsampling(
    options: NetworkOptions, read: str, made: str, nc: int, factor: Sequence[int], output_nc: int | None = None
) -> Node:
    """Return the node that makes coarser voxels; a strided convolution may change the channels as well."""
    if options.downsample_mode == "strided":
        return StridedConv([read], [made], nc, output_nc or nc, factor, activation=options.activation)
    return Pool([read], [made], factor, options.downsample_mode)


def upsampling(options: NetworkOptions, read: str, made: str, nc: int, factor: Sequence[int]) -> Node:
    """Return the node that makes finer voxels."""
    if options.upsample_mode == "transposed":
        return TransposedConv([read], [made], nc, nc, factor, activation=options.activation)
    return Upsample([read], [made], factor, options.upsample_mode)
