"""Options of U-Nets, of the subnets of a ScaleNet, and of all that have an encoder and a decoder."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import TensorSpec
from scalenet_gp.networks.options import Flag, NetworkOptions, OutputOptions, or_else
from scalenet_gp.options import Whole

__all__ = ["BottleneckJoin", "EncoderDecoderOptions", "ScaleOptions", "SubnetOptions", "UNetOptions"]

BottleneckJoin = Literal["concatenate", "sum", "gated_sum", "attention"]
"""Ways in which two tensors become the one that a bottleneck reads."""


class EncoderDecoderOptions(NetworkOptions):
    """Abstract: options that U-Nets and autoencoders have in common.

    Attributes:
        attention_gates: each skip connection passes an :class:`AttentionGate`, ``"attention_gate_0"`` and so on, that
            the upsampled coarser tensor opens and closes. Not unless given, but in an attentive ScaleNet.
        deep_supervision: outputs ``"output_1"``, ``"output_2"`` and so on at the coarser levels of the decoder, made
            as ``"output"`` is and computed only when they are asked for.
        bottleneck: an :class:`AtrousPyramid`, a :class:`PoolingPyramid` (``"pooling"``), a :class:`TransformerBlock` or
            a :class:`PrototypeMemory` (``"memory"``) after the bottleneck's pass. The transformer has four heads, or as
            many of them as divide the channels.
        transformer_layers: number of transformer blocks after the bottleneck's pass, with ``bottleneck:
            transformer``; 1 unless given.
        prototypes: number of prototypes of the memory, with ``bottleneck: memory``; 64 unless given.
    """

    attention_gates: Flag | None = None
    deep_supervision: Flag = False
    bottleneck: Literal["atrous", "pooling", "transformer", "memory"] | None = None
    transformer_layers: Whole = 1
    prototypes: Annotated[int, Field(ge=2, strict=True)] | None = None

    @model_validator(mode="after")
    def _supervise(self) -> Self:
        if self.transformer_layers > 1 and self.bottleneck != "transformer":
            raise ArgumentError(f"transformer_layers {self.transformer_layers} needs the bottleneck 'transformer'")
        if self.prototypes is not None and self.bottleneck != "memory":
            raise ArgumentError(f"prototypes {self.prototypes} needs the bottleneck 'memory'")
        if self.deep_supervision and self.output_channels == 0:
            raise ArgumentError(
                "with an output_nc of 0 there is no 'output': then there has to be no deep_supervision, whose outputs "
                "have output_nc channels"
            )
        if self.deep_supervision and self.levels < 2:
            raise ArgumentError(
                "deep_supervision makes outputs at the coarser levels of the decoder, and with one downsampling factor "
                "there is no such level; give two or more"
            )
        return self


Inputs = Annotated[
    dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Whole],
    or_else("it takes names in small letters, each with the channels of its volume, as in {'lsd': 10}"),
]


class UNetOptions(EncoderDecoderOptions, OutputOptions):
    """Options of :func:`build_unet`, and of each subnet of :func:`build_scalenet`.

    Attributes:
        input_nc: channels of ``"input"``, the raw data; 0 for no such input, where ``inputs`` has others.
        inputs: by name, the channels of further volumes that are read beside the raw data, such as the prediction of an
            earlier network: ``{lsd: 10}`` is the input ``"lsd_input"``. All have the voxel size of the raw data, and
            are concatenated before the first convolution.

    Example:
        >>> UNetOptions.create(top_resolution=(8, 8, 8), base_nc=4).channels(2)
        16
    """

    input_nc: Annotated[int, Field(ge=0, strict=True)] = 1
    inputs: Inputs = Field(default_factory=dict)

    @property
    def input_specs(self) -> dict[str, TensorSpec]:
        """Voxel size and channels of every input, by its name without the subnet's."""
        raw = super().input_specs if self.input_nc else {}
        return raw | {_key(name): TensorSpec(self.level_size(0), nc) for name, nc in self.inputs.items()}

    @property
    def volumes(self) -> dict[str, str]:
        """The names of volumes beside the raw data, by the inputs that read them, without the subnet's name."""
        return {_key(name): name for name in self.inputs}

    @model_validator(mode="after")
    def _read_something(self) -> Self:
        if not self.input_nc and not self.inputs:
            raise ArgumentError("with an input_nc of 0 there is no 'input': then there have to be inputs to read")
        return self


def _key(name: str) -> str:
    """Return the name of the input that reads a volume beside the raw data."""
    return f"{name}_input"


class ScaleOptions(UNetOptions):
    """Options of one of several U-Nets in a network: those of a U-Net, and its name.

    Attributes:
        subnet_id: name before the subnet's tensors, as ``"fine"`` in ``"fine_input"``; its place in the list unless
            given.

    Example:
        >>> ScaleOptions.create(top_resolution=(8, 8, 8), subnet_id="fine").subnet_id
        'fine'
    """

    subnet_id: str | Annotated[int, Field(strict=True)] | None = None


class SubnetOptions(ScaleOptions):
    """Options of one scale of a ScaleNet: those of a U-Net, its name, and how coarser features enter it.

    Attributes:
        bottleneck_join: how the features of coarser subnets join its own: concatenated unless given.
        inject: where they enter: the bottleneck unless given; the bottleneck and every level of the decoder
            (``"every_level"``); or only the features that outputs are made of (``"output"``).
        inject_from: features of the subnet before it (``"previous"``) unless given, or of all coarser ones (``"all"``),
            whose weights ``bottleneck_join`` learns.

    Example:
        >>> SubnetOptions.create(top_resolution=(8, 8, 8), bottleneck_join="sum").bottleneck_join
        'sum'
    """

    bottleneck_join: BottleneckJoin | None = None
    inject: Literal["bottleneck", "every_level", "output"] | None = None
    inject_from: Literal["previous", "all"] | None = None
