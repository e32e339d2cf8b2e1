"""What a U-Net is built from: every argument, checked once, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length, exact_size
from scalenet_gp.graph import TensorSpec
from scalenet_gp.options import coerce_arguments, to_json_value

__all__ = ["UNetOptions"]


def _or_else(message: str) -> WrapValidator:
    """Says ``message``, where pydantic would say what is wrong with a part of a part of an argument."""

    def read(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ArgumentError(message) from None

    return WrapValidator(read)


Size = Annotated[Sequence[Length], _or_else("it takes the nanometres of a voxel along each axis, as in (8, 8, 8)")]
Whole = Annotated[int, Field(ge=1)]
Sizes = Annotated[
    Sequence[Sequence[Whole]],
    _or_else("it takes tuples of whole numbers from 1 up, a number per axis each, as in [(2, 2, 2), (1, 2, 2)]"),
]
Heads = Annotated[
    Mapping[str, Sequence[str] | Mapping[str, Any]],
    _or_else("it takes names, each with its classes or with arguments of Head, as in {'organelles': ['er', 'mito']}"),
]

_HEAD = ("classes", "hidden_nc", "activation", "final_activation")


@dataclass(frozen=True, kw_only=True)
class UNetOptions:
    """The arguments of :func:`build_unet`, of each subnet of :func:`build_scalenet` and of :func:`build_autoencoder`.

    Names and defaults are LeibNetz's where it has them. Level 0 is the finest.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        downsample_factors: voxels per coarser voxel, per level and axis; twice two unless given.
        kernel_sizes: kernels of the convolutions of every pass, per axis; ``convs_per_level`` times three unless given.
        input_nc: channels of the input.
        output_nc: channels of ``"output"``; 0 for no such output, where ``heads`` make others.
        base_nc: channels at the finest level.
        nc_increase_factor: what the channels are multiplied by from level to level.
        convs_per_level: convolutions per pass, where ``kernel_sizes`` does not say it; two unless given.
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
        heads: by name, the classes of further outputs, each made by a :class:`Head` of the features that ``"output"``
            is made of. It has ``num_final_convs`` - 1 hidden layers of ``base_nc`` channels, ``activation`` and
            ``final_activation``; a head that is to differ has, in the place of its classes, a mapping of arguments of
            :class:`Head`: ``classes`` and any of ``hidden_nc``, ``activation`` and ``final_activation``.

    Raises:
        ValueError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: there is no such argument.
    """

    top_resolution: Size = field(default=(8, 8, 8), kw_only=False)
    downsample_factors: Sizes | None = None
    kernel_sizes: Sizes | None = None
    input_nc: Whole = 1
    output_nc: Annotated[int, Field(ge=0)] = 1
    base_nc: Whole = 12
    nc_increase_factor: Whole = 2
    convs_per_level: Whole | None = None
    num_final_convs: Whole = 1
    activation: str | None = "ReLU"
    norm_layer: str | None = None
    residual: bool = False
    dropout_prob: Annotated[float, Field(ge=0, le=1)] | None = None
    squeeze_excitation: bool = False
    squeeze_ratio: Whole = 2
    eca: bool = False
    separable: bool = False
    dilations: Sizes | None = None
    final_activation: Annotated[str, _or_else("it takes the name of an activation, 'Identity' for none")] = "Sigmoid"
    downsample_mode: Literal["max", "mean", "strided"] = "max"
    upsample_mode: Literal["nearest", "linear", "transposed"] = "nearest"
    attention_gates: bool = False
    deep_supervision: bool = False
    bottleneck: Literal["atrous", "transformer"] | None = None
    heads: Heads | None = None

    def __post_init__(self) -> None:
        given = {option.name: to_json_value(getattr(self, option.name)) for option in fields(self)}
        for name, value in coerce_arguments(type(self), given).items():
            object.__setattr__(self, name, value)
        axes = len(self.input_spec.voxel_size)
        if self.kernel_sizes is not None and self.convs_per_level is not None:
            raise ArgumentError(
                f"kernel_sizes {self.kernel_sizes} lists the convolutions of every pass; leave out convs_per_level, "
                f"here {self.convs_per_level}"
            )
        if not self.factors or not self.kernels:
            raise ArgumentError(
                f"a U-Net has at least one factor and one kernel, not {self.factors} and {self.kernels}"
            )
        wrong = [sizes for sizes in (*self.factors, *self.kernels) if len(sizes) != axes]
        if wrong:
            raise ArgumentError(f"the voxel size has {axes} axes, but among the factors and kernels is {wrong[0]}")
        if self.output_nc == 0 and (self.deep_supervision or not self.heads):
            raise ArgumentError(
                "with an output_nc of 0 there is no 'output': then there have to be heads, and no deep_supervision, "
                "whose outputs have output_nc channels"
            )
        if self.deep_supervision and self.levels < 2:
            raise ArgumentError(
                "deep_supervision makes outputs at the coarser levels of the decoder, and with one downsampling factor "
                "there is none; give two or more"
            )
        for name, arguments in self.head_options.items():
            unknown = [argument for argument in arguments if argument not in _HEAD]
            if unknown:
                raise TypeError(f"the head {name!r} has no argument {unknown[0]!r}; it has {', '.join(_HEAD)}")
            if "classes" not in arguments:
                raise ArgumentError(f"the head {name!r} has no 'classes', the names of its channels")

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.top_resolution)

    @property
    def factors(self) -> list[tuple[int, ...]]:
        """The downsampling factors, from the finest level."""
        given = [(2,) * self.dims] * 2 if self.downsample_factors is None else self.downsample_factors
        return [tuple(factor) for factor in given]

    @property
    def levels(self) -> int:
        """How many times the U-Net downsamples."""
        return len(self.factors)

    @property
    def kernels(self) -> list[tuple[int, ...]]:
        """The kernels of every pass."""
        default = [(3,) * self.dims] * (self.convs_per_level or 2)
        return default if self.kernel_sizes is None else [tuple(kernel) for kernel in self.kernel_sizes]

    def channels(self, level: int) -> int:
        """Channels of the passes at ``level``; that of the bottleneck is :attr:`levels`."""
        return self.base_nc * self.nc_increase_factor**level

    @property
    def input_spec(self) -> TensorSpec:
        """Voxel size and channels of the input."""
        return TensorSpec(exact_size(self.top_resolution), self.input_nc)

    @property
    def features_spec(self) -> TensorSpec:
        """Voxel size and channels of what the outputs are made of."""
        return TensorSpec(exact_size(self.top_resolution), self.base_nc)

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

    @property
    def head_options(self) -> dict[str, dict[str, Any]]:
        """What each head is built with, of what can differ between heads."""
        shared = {
            "hidden_nc": [self.base_nc] * (self.num_final_convs - 1),
            "activation": self.activation,
            "final_activation": self.final_activation,
        }
        given = (self.heads or {}).items()
        return {name: {**shared, **(own if isinstance(own, Mapping) else {"classes": own})} for name, own in given}
