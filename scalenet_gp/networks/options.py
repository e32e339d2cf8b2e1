"""What a U-Net is built from: every argument, checked once, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from scalenet_gp.node import TensorSpec
from scalenet_gp.world import Length, exact_size

__all__ = ["UNetOptions"]

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "downsample_mode": ("max", "mean", "strided"),
    "upsample_mode": ("nearest", "linear", "transposed"),
    "bottleneck": (None, "atrous", "transformer"),
}


@dataclass(frozen=True)
class UNetOptions:
    """The arguments of :func:`build_unet`, of each subnet of :func:`build_scalenet` and of :func:`build_autoencoder`.

    Names and defaults are LeibNetz's where it has them. Level 0 is the finest.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        downsample_factors: voxels per coarser voxel, per level and axis; twice two unless given.
        kernel_sizes: kernels of the convolutions of every pass; ``convs_per_level`` times three unless given.
        input_nc: channels of the input.
        output_nc: channels of ``"output"``; 0 for no such output, where ``heads`` make others.
        base_nc: channels at the finest level.
        nc_increase_factor: what the channels are multiplied by from level to level.
        convs_per_level: convolutions per pass, where ``kernel_sizes`` is not given.
        num_final_convs: 1³ convolutions that make an output.
        activation: of all passes; see :class:`ConvPass`, as the next eight.
        norm_layer: in all passes.
        residual: in all passes.
        dropout_prob: in all passes, and in the transformer block.
        squeeze_excitation: in all passes.
        squeeze_ratio: in all passes.
        eca: in all passes but those that make outputs.
        separable: in all passes but those that make outputs.
        dilations: of the ``kernel_sizes``, one each.
        final_activation: activation of the outputs; ``"Identity"`` for none.
        downsample_mode: pooling, or a strided convolution with the factor for its kernel.
        upsample_mode: nearest neighbour, linear interpolation, or a transposed convolution.
        attention_gates: each skip connection passes an :class:`AttentionGate`, ``"attention_gate_0"`` and so on, that
            the upsampled coarser tensor opens and closes.
        deep_supervision: outputs ``"output_1"``, ``"output_2"`` and so on at the coarser levels of the decoder, made
            as ``"output"`` is and computed only when they are asked for.
        bottleneck: an :class:`AtrousPyramid` or a :class:`TransformerBlock` after the bottleneck's pass. The latter has
            four heads, or as many of them as divide the channels.
        heads: name and classes of further outputs, each made by a :class:`Head` of the features that ``"output"`` is
            made of, of which ``num_final_convs`` - 1 hidden layers have ``base_nc`` channels.

    Raises:
        ValueError: an argument is out of its range, or two of them contradict each other.
    """

    top_resolution: Sequence[Length] = (8, 8, 8)
    _: KW_ONLY
    downsample_factors: Sequence[Sequence[int]] | None = None
    kernel_sizes: Sequence[Sequence[int]] | None = None
    input_nc: int = 1
    output_nc: int = 1
    base_nc: int = 12
    nc_increase_factor: int = 2
    convs_per_level: int = 2
    num_final_convs: int = 1
    activation: str = "ReLU"
    norm_layer: str | None = None
    residual: bool = False
    dropout_prob: float | None = None
    squeeze_excitation: bool = False
    squeeze_ratio: int = 2
    eca: bool = False
    separable: bool = False
    dilations: Sequence[Sequence[int]] | None = None
    final_activation: str = "Sigmoid"
    downsample_mode: Literal["max", "mean", "strided"] = "max"
    upsample_mode: Literal["nearest", "linear", "transposed"] = "nearest"
    attention_gates: bool = False
    deep_supervision: bool = False
    bottleneck: Literal["atrous", "transformer"] | None = None
    heads: Mapping[str, Sequence[str]] | None = None

    def __post_init__(self) -> None:
        axes = len(self.input_spec.voxel_size)
        if not self.factors or not self.kernels:
            raise ValueError(f"a U-Net has at least one factor and one kernel, not {self.factors} and {self.kernels}")
        wrong = [sizes for sizes in (*self.factors, *self.kernels) if len(sizes) != axes]
        if wrong:
            raise ValueError(f"the voxel size has {axes} axes, but among the factors and kernels is {wrong[0]}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(map(repr, choices))}, not {getattr(self, name)!r}")
        if self.num_final_convs < 1:
            raise ValueError(f"num_final_convs is a whole number from 1 up, not {self.num_final_convs}")
        if self.output_nc == 0 and (self.deep_supervision or not self.heads):
            raise ValueError(
                "with an output_nc of 0 there is no 'output': then there have to be heads, and no deep_supervision, "
                "whose outputs have output_nc channels"
            )
        if self.deep_supervision and self.levels < 2:
            raise ValueError(
                "deep_supervision makes outputs at the coarser levels of the decoder, and with one downsampling factor "
                "there is none; give two or more"
            )

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.top_resolution)

    @property
    def factors(self) -> list[tuple[int, ...]]:
        """The downsampling factors, from the finest level."""
        given = [(2,) * self.dims] * 2 if self.downsample_factors is None else self.downsample_factors
        return [tuple(int(f) for f in factor) for factor in given]

    @property
    def levels(self) -> int:
        """How many times the U-Net downsamples."""
        return len(self.factors)

    @property
    def kernels(self) -> list[tuple[int, ...]]:
        """The kernels of every pass."""
        given = [(3,) * self.dims] * self.convs_per_level if self.kernel_sizes is None else self.kernel_sizes
        return [tuple(int(k) for k in kernel) for kernel in given]

    def channels(self, level: int) -> int:
        """Channels of the passes at ``level``; that of the bottleneck is :attr:`levels`."""
        return self.base_nc * self.nc_increase_factor**level

    @property
    def input_spec(self) -> TensorSpec:
        """Voxel size and channels of the input."""
        return TensorSpec(exact_size(self.top_resolution), self.input_nc)

    @property
    def bottleneck_spec(self) -> TensorSpec:
        """Voxel size and channels of what the bottleneck reads: the last downsampling's output."""
        voxel_size = exact_size(self.top_resolution)
        for factor in self.factors:
            voxel_size = tuple(size * f for size, f in zip(voxel_size, factor, strict=True))
        return TensorSpec(voxel_size, self.channels(self.levels - 1))

    @property
    def conv_options(self) -> dict[str, Any]:
        """What every pass of convolutions has in common."""
        shared = ("activation", "norm_layer", "residual", "dropout_prob", "squeeze_excitation", "squeeze_ratio")
        return {name: getattr(self, name) for name in shared}
