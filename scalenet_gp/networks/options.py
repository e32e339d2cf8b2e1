"""Options of networks: every one checked once, and the sizes and channels that follow from them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from itertools import chain
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import exact_size
from scalenet_gp.graph import TensorSpec
from scalenet_gp.options import Factor, Options, Size, Whole, suggest, to_json_value

__all__ = ["Flag", "NetworkOptions", "OutputOptions", "or_else"]


def or_else(message: str) -> WrapValidator:
    """Report ``message`` instead of pydantic's report on a part of a part of an argument."""

    def read(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ArgumentError(message) from None

    return WrapValidator(read)


def _normalization_name(name: Any) -> Any:
    """Return the first of the names that ``name`` contains in any case, as LeibNetz reads it; else ``name``."""
    known = ("batch", "instance", "calibrated_group", "group", "layer")
    return next((one for one in known if one in name.lower()), name) if isinstance(name, str) else name


VoxelSize = Annotated[Size, or_else("it takes the nanometres of a voxel along each axis, as in (8, 8, 8)")]
Flag = Annotated[bool, Field(strict=True)]
Factors = Annotated[
    tuple[Factor, ...],
    or_else("it takes tuples of whole numbers from 1 up, a number per axis each, as in [(2, 2, 2), (1, 2, 2)]"),
]
Kernels = Annotated[
    tuple[Factor, ...] | tuple[tuple[Factor, ...], ...],
    or_else(
        "it takes tuples of whole numbers from 1 up, a number per axis each, as in [(3, 3, 3), (3, 3, 3)], or a list "
        "of such tuples for each level and the bottleneck"
    ),
]
"""The kernels of a pass, for all levels or for each."""

Name = Annotated[str, or_else("it takes the name of an activation, 'Identity' for none")]
Normalization = Annotated[
    Literal["batch", "instance", "group", "calibrated_group", "layer"], BeforeValidator(_normalization_name)
]
Heads = Annotated[
    dict[str, tuple[str, ...] | dict[str, Any]],
    or_else("it takes names, each with its classes or with arguments of Head, as in {'organelles': ['er', 'mito']}"),
]

_HEAD = ("classes", "hidden_nc", "activation", "final_activation")


def _per_level(kernels: Any) -> bool:
    """Return True for a list of kernels for each level, False for one list for all levels."""
    return any(kernel and isinstance(kernel[0], tuple) for kernel in kernels)


def _at_level(kernels: Any, level: int) -> list[tuple[int, ...]]:
    return list(kernels[level] if _per_level(kernels) else kernels)


class NetworkOptions(Options):
    """Abstract: options that all networks have in common. Level 0 is the finest.

    Names and defaults are those of LeibNetz where it has them, except that it normalizes nothing unless told to.

    Attributes:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        downsample_factors: voxels per coarser voxel, per level and axis; twice two unless given.
        kernel_sizes: kernels of the convolutions of every pass, per axis; ``convs_per_level`` times three unless given.
            Or such a list for every level, the finest first and the bottleneck last, as for sections that are thicker
            than the pixels are wide: ``[[(1, 3, 3)] * 2, [(3, 3, 3)] * 2, [(3, 3, 3)] * 2]``.
        input_nc: channels of the input.
        base_nc: channels at the finest level.
        nc_increase_factor: factor of the channels from level to level.
        max_nc: most channels of a level, as nnU-Net's 320; no bound unless given.
        convs_per_level: convolutions per pass, where ``kernel_sizes`` does not say it; two unless given.
        num_final_convs: convolutions with a kernel of one voxel that make an output.
        hidden_nc: channels of these convolutions but the last; ``base_nc`` unless given. LeibNetz has as many as the
            output has, which leaves a network of one class without gradient if no unit of a layer is active.
        activation: of all passes: the name of a module of ``torch.nn``, or none.
        norm_layer: normalization in all passes, before each convolution: ``"batch"`` unless given,
            ``"calibrated_group"`` (for batches of one sample), ``"layer"`` (of the channels of each voxel),
            ``"instance"`` or ``"group"`` (whose tiles do not equal the whole), or none. Networks without one learn far
            slower.
        normalize_input: normalize the input too, before the first convolution, as LeibNetz does.
        residual: add the input of each pass to its output.
        dropout_prob: probability of dropout in all passes and in the transformer block.
        squeeze_excitation: scale the channels of all passes by squeeze and excitation.
        squeeze_ratio: factor by which it squeezes the channels.
        eca: scale channels by efficient channel attention, in all passes but those that make outputs.
        separable: separate convolutions by depth, in all passes but those that make outputs.
        dilations: dilations of the ``kernel_sizes``, one each; for all levels, or for each of them.
        padding: ``"valid"`` convolutions, whose tiles equal the whole, or ``"same"``: convolutions add zeros around
            their input, so the output is as large as the input, tiles do not equal the whole, and prediction blends
            overlapping ones (``prediction.overlap``).
        block: the blocks of all passes: plain convolutions, :class:`InvertedResiduals` (``"inverted_residual"``),
            :class:`ConvNeXtBlocks` (``"convnext"``) or :class:`RecurrentResiduals` (``"recurrent"``), one for each of
            the ``kernel_sizes``, or a :class:`DenseBlock` (``"dense"``) of them.
        expansion: channels within a block per channel outside: 6 of inverted residuals and 4 of ConvNeXt's unless
            given.
        final_activation: activation of the outputs; ``"Identity"`` for none. ``"Sigmoid"`` unless given; in a run file
            the one that the targets of an output need.
        downsample_mode: pooling, or a strided convolution with the factor for its kernel.
        upsample_mode: nearest neighbor, linear interpolation, or a transposed convolution.
        heads: by name, the classes of further outputs, each made by a :class:`Head` of the features that ``"output"``
            is made of. It has ``num_final_convs`` - 1 hidden layers of ``hidden_nc`` channels, ``activation`` and
            ``final_activation``; a head that is to differ has, instead of its classes, a mapping of arguments of
            :class:`Head`: ``classes`` and any of ``hidden_nc``, ``activation`` and ``final_activation``. In a run file
            a head may leave out its classes, as in ``{}``, and has those of its targets.
    """

    top_resolution: VoxelSize
    downsample_factors: Factors | None = None
    kernel_sizes: Kernels | None = None
    input_nc: Whole = 1
    base_nc: Whole = 12
    nc_increase_factor: Whole = 2
    max_nc: Whole | None = None
    convs_per_level: Whole | None = None
    num_final_convs: Whole = 1
    hidden_nc: Whole | None = None
    activation: str | None = "ReLU"
    norm_layer: Normalization | None = "batch"
    normalize_input: Flag = False
    residual: Flag = False
    dropout_prob: Annotated[float, Field(ge=0, le=1)] | None = None
    squeeze_excitation: Flag = False
    squeeze_ratio: Whole = 2
    eca: Flag = False
    separable: Flag = False
    dilations: Kernels | None = None
    padding: Literal["valid", "same"] = "valid"
    block: Literal["conv", "inverted_residual", "convnext", "dense", "recurrent"] = "conv"
    expansion: Whole | None = None
    final_activation: Name | None = None
    downsample_mode: Literal["max", "mean", "strided"] = "max"
    upsample_mode: Literal["nearest", "linear", "transposed"] = "nearest"
    heads: Heads | None = None

    @property
    @abstractmethod
    def output_channels(self) -> int:
        """Channels of ``"output"``; 0 for no such output."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, arguments: Any) -> Any:
        """Numbers and arrays of numpy count as Python's."""
        return to_json_value(arguments)

    @model_validator(mode="after")
    def _fit(self) -> Self:
        axes = self.dims
        if self.kernel_sizes is not None and self.convs_per_level is not None:
            raise ArgumentError(
                f"kernel_sizes {to_json_value(self.kernel_sizes)} lists the convolutions of every pass; leave out "
                f"convs_per_level, here {self.convs_per_level}"
            )
        for name in ("kernel_sizes", "dilations"):
            given = getattr(self, name)
            if given and _per_level(given) and len(given) != self.levels + 1:
                raise ArgumentError(
                    f"{name} has lists for {len(given)} levels; with {self.levels} downsample_factors there are "
                    f"{self.levels + 1}, the bottleneck included, so give {self.levels + 1} lists, or one for all"
                )
        passes = [self.kernels(level) for level in range(self.levels + 1)]
        if not self.factors or not all(passes):
            raise ArgumentError(
                f"a network has at least one factor and one kernel, not {self.factors} and "
                f"{next((kernels for kernels in passes if not kernels), passes[0])}"
            )
        wrong = [sizes for sizes in chain(self.factors, *passes) if len(sizes) != axes]
        if wrong:
            raise ArgumentError(f"the voxel size has {axes} axes, but among the factors and kernels is {wrong[0]}")
        if self.output_channels == 0 and not self.heads:
            raise ArgumentError("with an output_nc of 0 there is no 'output': then there have to be heads")
        for name, arguments in self.head_options.items():
            unknown = [argument for argument in arguments if argument not in _HEAD]
            if unknown:
                message = f"the head {name!r} has no argument {unknown[0]!r}; {suggest(unknown[0], _HEAD)}"
                raise PydanticCustomError("unknown_argument", "{message}", {"message": message})
        return self

    @model_validator(mode="after")
    def _check_block(self) -> Self:
        if self.max_nc is not None and self.max_nc < self.base_nc:
            raise ArgumentError(f"max_nc {self.max_nc} is less than base_nc {self.base_nc}, the channels to begin with")
        if self.expansion is not None and self.block not in ("inverted_residual", "convnext"):
            raise ArgumentError(
                f"expansion {self.expansion} is for blocks; give block 'inverted_residual' or 'convnext'"
            )
        if self.block == "conv":
            return self
        for name in (
            "residual",
            "dropout_prob",
            "squeeze_excitation",
            "eca",
            "separable",
            "dilations",
            "normalize_input",
        ):
            if getattr(self, name):
                raise ArgumentError(f"{name} is for block 'conv'; the passes of block {self.block!r} have no such part")
        return self

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.top_resolution)

    @property
    def factors(self) -> list[tuple[int, ...]]:
        """The downsampling factors, from the finest level."""
        return [(2,) * self.dims] * 2 if self.downsample_factors is None else list(self.downsample_factors)

    @property
    def levels(self) -> int:
        """Number of times that the network downsamples."""
        return len(self.factors)

    def kernels(self, level: int) -> list[tuple[int, ...]]:
        """Return the kernels of the passes at ``level``; that of the bottleneck is :attr:`levels`."""
        if self.kernel_sizes is None:
            return [(3,) * self.dims] * (self.convs_per_level or 2)
        return _at_level(self.kernel_sizes, level)

    def dilations_at(self, level: int) -> list[tuple[int, ...]] | None:
        """Return the dilations of :meth:`kernels`; None if all are 1."""
        return None if self.dilations is None else _at_level(self.dilations, level)

    def channels(self, level: int) -> int:
        """Return the channels of the passes at ``level``; that of the bottleneck is :attr:`levels`."""
        channels = self.base_nc * self.nc_increase_factor**level
        return channels if self.max_nc is None else min(channels, self.max_nc)

    @property
    def block_expansion(self) -> int:
        """Channels within a block per channel outside."""
        return self.expansion or (6 if self.block == "inverted_residual" else 4)

    @property
    def hidden_ncs(self) -> tuple[int, ...]:
        """The channels between the convolutions that make an output."""
        return (self.hidden_nc or self.base_nc,) * (self.num_final_convs - 1)

    @property
    def input_specs(self) -> dict[str, TensorSpec]:
        """Voxel size and channels of every input, by its name without the subnet's."""
        return {"input": TensorSpec(self.level_size(0), self.input_nc)}

    @property
    def volumes(self) -> dict[str, str]:
        """The names of volumes beside the raw data, by the inputs that read them."""
        return {}

    @property
    def features_spec(self) -> TensorSpec:
        """Voxel size and channels of the features that outputs are made of."""
        return TensorSpec(exact_size(self.top_resolution), self.channels(0))

    def level_size(self, level: int) -> tuple[Fraction, ...]:
        """Return the voxel size (nm) of a level, exactly."""
        sizes = zip(*[exact_size(self.top_resolution), *self.factors[:level]], strict=True)
        return tuple(math.prod(along, start=Fraction(1)) for along in sizes)

    @property
    def bottleneck_spec(self) -> TensorSpec:
        """Voxel size and channels of the tensor that the bottleneck reads: the last downsampling's output."""
        return TensorSpec(self.level_size(self.levels), self.channels(self.levels - 1))

    @property
    def output_activation(self) -> str:
        """The activation of the outputs."""
        return "Sigmoid" if self.final_activation is None else self.final_activation

    @property
    def padding_options(self) -> dict[str, Any]:
        """Arguments of every pass about its border."""
        return {"padding": "same", "padding_mode": "zeros"} if self.padding == "same" else {"padding": "valid"}

    @property
    def conv_options(self) -> dict[str, Any]:
        """Arguments that every pass of convolutions has in common."""
        shared = ("activation", "norm_layer", "residual", "dropout_prob", "squeeze_excitation", "squeeze_ratio")
        return {name: getattr(self, name) for name in shared}

    @property
    def head_options(self) -> dict[str, dict[str, Any]]:
        """Arguments of each head, of those that can differ between heads."""
        shared = {
            "hidden_nc": list(self.hidden_ncs),
            "activation": self.activation,
            "final_activation": self.output_activation,
        }
        given = (self.heads or {}).items()
        return {name: {**shared, **(own if isinstance(own, Mapping) else {"classes": own})} for name, own in given}


class OutputOptions(NetworkOptions):
    """Abstract: options of networks whose ``"output"`` has channels of its own.

    Attributes:
        output_nc: channels of ``"output"``; 0 for no such output, where ``heads`` make others. 1 unless given; in a run
            file the number of channels that the targets have.
    """

    output_nc: Annotated[int, Field(ge=0, strict=True)] | None = None

    @property
    def output_channels(self) -> int:
        """Channels of ``"output"``; 0 for no such output."""
        return 1 if self.output_nc is None else self.output_nc
