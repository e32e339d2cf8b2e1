"""The U-Net of valid convolutions, alone or as one scale of a larger network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from scalenet_gp.kinds import Concatenate, ConvPass, Pool, StridedConv, TransposedConv, Upsample
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.node import Node, TensorSpec
from scalenet_gp.world import Length

__all__ = ["build_unet", "unet_nodes"]


def build_unet(top_resolution: Sequence[Length] = (8, 8, 8), *, input_nc: int = 1, **arguments: object) -> LeibNet:
    """A U-Net (Ronneberger et al. 2015) of valid convolutions, as LeibNetz builds it.

    One input ``"input"`` (B, ``input_nc``, Z, Y, X) and one output ``"output"`` (B, ``output_nc``, Z, Y, X), both with
    voxels of ``top_resolution`` (nm; two or three axes). Other arguments: see :func:`unet_nodes`.

    Raises:
        ValueError: an argument is out of its range.
    """
    nodes = unet_nodes("", dims=len(top_resolution), input_nc=input_nc, **arguments)  # type: ignore[arg-type]
    return LeibNet(nodes, {"input": TensorSpec(tuple(top_resolution), input_nc)}, ["output"], name="UNet")  # type: ignore[arg-type]


def unet_nodes(
    prefix: str,
    dims: int,
    bottleneck_inputs: Sequence[tuple[str, int]] = (),
    *,
    downsample_factors: Sequence[Sequence[int]] | None = None,
    kernel_sizes: Sequence[Sequence[int]] | None = None,
    input_nc: int = 1,
    output_nc: int = 1,
    base_nc: int = 12,
    nc_increase_factor: int = 2,
    convs_per_level: int = 2,
    num_final_convs: int = 1,
    norm_layer: str | None = None,
    residual: bool = False,
    dropout_prob: float | None = None,
    squeeze_excitation: bool = False,
    squeeze_ratio: int = 2,
    activation: str = "ReLU",
    final_activation: str = "Sigmoid",
    downsample_mode: Literal["max", "mean", "strided"] = "max",
    upsample_mode: Literal["nearest", "transposed"] = "nearest",
) -> list[Node]:
    """The nodes of one U-Net; the tensors that they make are called ``prefix`` + LeibNetz's names.

    Args:
        prefix: before every name, as in ``"2_"``.
        dims: number of spatial axes.
        bottleneck_inputs: name and channels of tensors of other networks that enter the bottleneck, whose voxel size
            they have to have.
        downsample_factors: voxels per coarser voxel, per level and axis; twice two unless given.
        kernel_sizes: kernels of the convolutions of every pass; ``convs_per_level`` times three unless given.
        input_nc: channels of the input.
        output_nc: channels of the output.
        base_nc: channels at the finest level.
        nc_increase_factor: what the channels are multiplied by from level to level.
        convs_per_level: convolutions per pass, where ``kernel_sizes`` is not given.
        num_final_convs: 1³ convolutions that make the output.
        norm_layer: see :class:`ConvPass`, as the next five.
        residual: see :class:`ConvPass`.
        dropout_prob: see :class:`ConvPass`.
        squeeze_excitation: see :class:`ConvPass`.
        squeeze_ratio: see :class:`ConvPass`.
        activation: see :class:`ConvPass`.
        final_activation: activation of the output; ``"Identity"`` for none.
        downsample_mode: pooling, or a strided convolution with the factor for its kernel.
        upsample_mode: nearest neighbour, or a transposed convolution.

    Raises:
        ValueError: an argument is out of its range.
    """
    if downsample_factors is None:
        downsample_factors = [(2,) * dims] * 2
    if kernel_sizes is None:
        kernel_sizes = [(3,) * dims] * convs_per_level
    factors = [tuple(int(f) for f in factor) for factor in downsample_factors]
    kernels = [tuple(int(k) for k in kernel) for kernel in kernel_sizes]
    if not factors or not kernels:
        raise ValueError(f"a U-Net has at least one factor and one kernel, not {factors} and {kernels}")
    wrong = [sizes for sizes in (*factors, *kernels) if len(sizes) != dims]
    if wrong:
        raise ValueError(f"the voxel size has {dims} axes, but among the factors and kernels is {wrong[0]}")
    if downsample_mode not in ("max", "mean", "strided") or upsample_mode not in ("nearest", "transposed"):
        raise ValueError(
            "downsample_mode is 'max', 'mean' or 'strided' and upsample_mode 'nearest' or 'transposed', "
            f"not {downsample_mode!r} and {upsample_mode!r}"
        )
    channels = [base_nc * nc_increase_factor**level for level in range(len(factors) + 1)]

    def conv_pass(name: str, read: str, nc: int, out_nc: int, sizes: Sequence[Sequence[int]], last: str | None) -> Node:
        return ConvPass(
            [prefix + read],
            [prefix + name],
            nc,
            out_nc,
            sizes,
            activation=activation,
            final_activation=last,
            residual=residual,
            norm_layer=norm_layer,
            dropout_prob=dropout_prob,
            squeeze_excitation=squeeze_excitation,
            squeeze_ratio=squeeze_ratio,
        )

    def down(level: int) -> Node:
        read, made, nc = [f"{prefix}in_conv_{level}"], [f"{prefix}downsample_{level}"], channels[level]
        if downsample_mode == "strided":
            return StridedConv(read, made, nc, nc, factors[level], activation=activation)
        return Pool(read, made, factors[level], downsample_mode)

    def up(level: int, read: str) -> Node:
        made, nc = [f"{prefix}upsample_{level}"], channels[level + 1]
        if upsample_mode == "transposed":
            return TransposedConv([prefix + read], made, nc, nc, factors[level], activation=activation)
        return Upsample([prefix + read], made, factors[level])

    nodes: list[Node] = []
    current, current_nc = "input", input_nc
    for level in range(len(factors)):
        nodes += [conv_pass(f"in_conv_{level}", current, current_nc, channels[level], kernels, None), down(level)]
        current, current_nc = f"downsample_{level}", channels[level]
    if bottleneck_inputs:
        joined = [prefix + current, *(key for key, _ in bottleneck_inputs)]
        nodes.append(Concatenate(joined, [prefix + "bottleneck_join"]))
        current, current_nc = "bottleneck_join", current_nc + sum(nc for _, nc in bottleneck_inputs)
    nodes.append(conv_pass("bottleneck", current, current_nc, channels[-1], kernels, None))
    current = "bottleneck"
    for level in reversed(range(len(factors))):
        nodes.append(up(level, current))
        nodes.append(Concatenate([f"{prefix}upsample_{level}", f"{prefix}in_conv_{level}"], [f"{prefix}join_{level}"]))
        joined_nc = channels[level] + channels[level + 1]
        nodes.append(conv_pass(f"out_conv_{level}", f"join_{level}", joined_nc, channels[level], kernels, None))
        current = f"out_conv_{level}"
    head = [(1,) * dims] * num_final_convs
    nodes.append(conv_pass("output", current, base_nc, output_nc, head, final_activation))
    return nodes
