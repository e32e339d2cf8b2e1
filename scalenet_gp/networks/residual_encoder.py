"""The U-Net with a residual encoder, as nnU-Net has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import model_validator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length
from scalenet_gp.layers import ConvPass
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.forms import SingleInputOptions
from scalenet_gp.networks.options import Flag
from scalenet_gp.networks.sketch import Sketch
from scalenet_gp.options import Whole

__all__ = ["ResidualEncoderOptions", "build_residual_encoder_unet"]

_BLOCKS = (1, 3, 4)
"""Blocks of the finest levels in nnU-Net's presets; all coarser ones have six."""


class ResidualEncoderOptions(SingleInputOptions):
    """Options of :func:`build_residual_encoder_unet`: ``{kind: residual_encoder_unet, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``residual_encoder_unet``.
        blocks_per_level: residual blocks of each level of the encoder, the bottleneck included; 1, 3, 4 and then six at
            each level unless given, as in nnU-Net's presets. Each block has the kernels of its level, and its input is
            added to its output.
        base_nc: channels at the finest level; 32 in nnU-Net.
        max_nc: most channels of a level; 320 as for nnU-Net's 3D networks unless given.
        deep_supervision: outputs ``"output_1"``, ``"output_2"`` and so on at the coarser levels of the decoder. nnU-Net
            weighs the loss of each half as much as that of the level before.
        activation: of all passes: the name of a module of ``torch.nn``; nnU-Net's unless given.
        downsample_mode: strided convolutions as in nnU-Net, or pooling.
        upsample_mode: transposed convolutions as in nnU-Net, nearest neighbor, or linear interpolation.

    Example:
        >>> ResidualEncoderOptions.create(top_resolution=(8, 8, 8), base_nc=2).build().output_keys
        ('output', 'output_1')
    """

    kind: Literal["residual_encoder_unet"] = "residual_encoder_unet"
    blocks_per_level: tuple[Whole, ...] | None = None
    max_nc: Whole | None = 320
    deep_supervision: Flag = True
    activation: str | None = "LeakyReLU"
    downsample_mode: Literal["max", "mean", "strided"] = "strided"
    upsample_mode: Literal["nearest", "linear", "transposed"] = "transposed"

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.blocks_per_level is not None and len(self.blocks_per_level) != self.levels + 1:
            raise ArgumentError(
                f"blocks_per_level is {list(self.blocks_per_level)}; with {self.levels} downsample_factors there are "
                f"{self.levels + 1} levels, the bottleneck included, so it takes {self.levels + 1} numbers"
            )
        if self.residual:
            raise ArgumentError("residual is true of the encoder and false of the decoder; leave it out")
        if self.block != "conv":
            raise ArgumentError(f"the blocks of the encoder are residual passes; leave out block {self.block!r}")
        if self.deep_supervision and self.output_channels == 0:
            raise ArgumentError("deep_supervision makes outputs of output_nc channels; give an output_nc above 0")
        return self

    @property
    def blocks(self) -> tuple[int, ...]:
        """Residual blocks of each level of the encoder."""
        default = (*_BLOCKS, *(6,) * self.levels)[: self.levels + 1]
        return default if self.blocks_per_level is None else self.blocks_per_level

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        sketch = Sketch(self)
        read, encoded = sketch.single_conv("input", "stem", 0, self.channels(0)), []
        for level, blocks in enumerate(self.blocks):
            if level:
                read = sketch.downsample(read, f"downsample_{level - 1}", self.factors[level - 1])
            for block in range(blocks):
                read = self._residual_block(sketch, read, f"in_conv_{level}_{block}", level)
            encoded.append(read)
        for level in reversed(range(self.levels)):
            upsampled = sketch.upsample(read, f"upsample_{level}", self.factors[level])
            joined = sketch.concatenate([upsampled, encoded[level]], f"join_{level}")
            read = sketch.single_conv(joined, f"out_conv_{level}", level, self.channels(level))
        outputs = sketch.outputs(read)
        if self.deep_supervision:
            outputs += [sketch.output(f"out_conv_{level}", f"output_{level}") for level in range(1, self.levels)]
        return sketch.network(outputs, "ResidualEncoderUNet")

    def _residual_block(self, sketch: Sketch, read: str, made: str, level: int) -> str:
        nc = self.channels(level)
        node = ConvPass(
            [read],
            [made],
            sketch.channels(read),
            nc,
            self.kernels(level),
            dilations=self.dilations_at(level),
            separable=self.separable,
            eca=self.eca,
            **self.padding_options,
            **{**self.conv_options, "residual": True},
        )
        return sketch.add(node, nc)


def build_residual_encoder_unet(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a U-Net with a residual encoder and deep supervision, of nnU-Net's shape.

    After Isensee et al. 2024 (arXiv 2404.09556, "ResEnc"). A convolution makes ``base_nc`` channels of the input. Each
    level of the encoder is a chain of residual blocks, each level of the decoder one convolution.

    It differs from nnU-Net as follows. Passes normalize their input, not their output, and by batches unless
    ``norm_layer`` says ``"instance"``, whose tiles do not equal the whole. Strided convolutions have the factor for
    their kernel and not 3, which would shift by half a voxel. An input is added after a 1³ convolution, grouped where
    channels stay the same. With six levels of 32 to 320 channels it has 105.4 million parameters, and
    dynamic-network-architectures 0.4.4, which nnU-Net uses, 102.3 million.

    One input ``"input"`` and one output ``"output"`` (B, C, Z, Y, X), both with voxels of ``top_resolution``; ``heads``
    and ``deep_supervision`` add outputs.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.ResidualEncoderOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_residual_encoder_unet((8, 8, 8), base_nc=2)
        >>> [name for name in net.graph.nodes if name.startswith("in_conv_1")]
        ['in_conv_1_0', 'in_conv_1_1', 'in_conv_1_2']
    """
    return ResidualEncoderOptions.create(top_resolution=top_resolution, **arguments).build()
