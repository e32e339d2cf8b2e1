"""DeepLab v3+."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length
from scalenet_gp.layers import AtrousPyramid
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.forms import SingleInputOptions
from scalenet_gp.networks.options import Flag
from scalenet_gp.networks.sketch import Sketch
from scalenet_gp.options import Factor, Whole

__all__ = ["DeepLabOptions", "build_deeplab"]


class DeepLabOptions(SingleInputOptions):
    """Options of :func:`build_deeplab`: ``{kind: deeplab, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``deeplab``.
        rates: distance of kernel elements, in voxels of the coarsest level, for each atrous convolution of the pyramid:
            one number, or one per axis. The paper has 6, 12 and 18 at a sixteenth of the resolution.
        image_pooling: a branch of the mean over the whole input, as in the paper. Tiles do not equal the whole then.
        low_level: level of the encoder whose features enter the decoder.
        low_level_nc: channels to which these features are reduced; a quarter of the decoder's, ``base_nc`` ·
            ``nc_increase_factor`` ** ``low_level``, unless given. The paper has 48 of 256.
        upsample_mode: linear interpolation as in the paper, or nearest neighbor.

    Example:
        >>> DeepLabOptions.create(top_resolution=(8, 8, 8), base_nc=2).build().name
        'DeepLab'
    """

    kind: Literal["deeplab"] = "deeplab"
    rates: tuple[Whole | Factor, ...] = Field((1, 2, 4), min_length=1)
    image_pooling: Flag = False
    low_level: Annotated[int, Field(ge=0, strict=True)] = 1
    low_level_nc: Whole | None = None
    upsample_mode: Literal["nearest", "linear"] = "linear"

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.low_level >= self.levels:
            raise ArgumentError(
                f"low_level {self.low_level} has to be finer than the coarsest level, {self.levels}: the number of "
                "downsample_factors"
            )
        wrong = [rate for rate in self.rates if not isinstance(rate, int) and len(rate) != self.dims]
        if wrong:
            raise ArgumentError(f"the voxel size has {self.dims} axes, but among the rates is {wrong[0]}")
        if self.padding == "same":
            raise ArgumentError("the atrous pyramid of a DeepLab has valid convolutions; leave out padding 'same'")
        return self

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        sketch, low, levels = Sketch(self), self.low_level, self.levels
        encoded = sketch.encoder(levels)
        read = sketch.downsample(encoded[-1], f"downsample_{levels - 1}", self.factors[-1])
        read = sketch.conv_pass(read, "bottleneck", levels)
        nc = self.channels(levels)
        pyramid = AtrousPyramid(
            [read],
            ["pyramid"],
            nc,
            nc,
            self.rates,
            image_pooling=self.image_pooling,
            activation=self.activation,
            dims=self.dims,
        )
        coarse = sketch.resize(sketch.add(pyramid, nc), "pyramid_resize", levels, low)
        low_nc = self.low_level_nc or max(1, self.channels(low) // 4)
        reduced = sketch.conv_pass(encoded[low], "low_level", low, output_nc=low_nc, kernels=[(1,) * self.dims])
        joined = sketch.concatenate([coarse, reduced], "join")
        decoded = sketch.conv_pass(joined, "decoder", low)
        return sketch.network(sketch.outputs(sketch.resize(decoded, "decoder_resize", low, 0)), "DeepLab")


def build_deeplab(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a DeepLab v3+ (Chen et al. 2018, arXiv 1802.02611).

    An encoder of passes and downsampling ends in an :class:`.AtrousPyramid`. Its output is upsampled to the level
    ``low_level`` of the encoder, joined with that level's features, reduced in channels, and decoded by one pass, whose
    features are upsampled to the finest voxels. The paper interpolates the logits, which is the same as here, where the
    1³ convolution that makes them follows the linear interpolation. Its backbones, ResNet and Xception, are replaced by
    the passes that the options describe; ``separable`` separates their convolutions as the paper does.

    One input ``"input"`` and one output ``"output"`` (B, C, Z, Y, X), both with voxels of ``top_resolution``; ``heads``
    add outputs.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.DeepLabOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_deeplab((8, 8, 8), base_nc=4)
        >>> net.specs["pyramid"].channels, net.specs["low_level"].channels
        (16, 2)
    """
    return DeepLabOptions.create(top_resolution=top_resolution, **arguments).build()
