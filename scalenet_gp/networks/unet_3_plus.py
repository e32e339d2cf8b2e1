"""UNet 3+: full-scale skip connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import model_validator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.forms import SingleInputOptions
from scalenet_gp.networks.options import Flag
from scalenet_gp.networks.sketch import Sketch
from scalenet_gp.options import Whole

__all__ = ["UNet3PlusOptions", "build_unet_3_plus"]


class UNet3PlusOptions(SingleInputOptions):
    """Options of :func:`build_unet_3_plus`: ``{kind: unet_3_plus, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``unet_3_plus``.
        skip_nc: channels that every level brings to every level of the decoder; ``base_nc`` unless given. A decoder's
            pass has as many for each level.
        deep_supervision: outputs ``"output_1"``, ``"output_2"`` and so on at the coarser levels of the decoder, down to
            the bottleneck.
        downsample_mode: pooling as in the paper, by the maximum or the mean.
        upsample_mode: linear interpolation as in the paper, or nearest neighbor.

    Example:
        >>> UNet3PlusOptions.create(top_resolution=(8, 8, 8), base_nc=2).build().name
        'UNet3Plus'
    """

    kind: Literal["unet_3_plus"] = "unet_3_plus"
    skip_nc: Whole | None = None
    deep_supervision: Flag = False
    downsample_mode: Literal["max", "mean"] = "max"
    upsample_mode: Literal["nearest", "linear"] = "linear"

    @model_validator(mode="after")
    def _supervise(self) -> Self:
        if self.deep_supervision and self.output_channels == 0:
            raise ArgumentError("deep_supervision makes outputs of output_nc channels; give an output_nc above 0")
        return self

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        sketch, skip_nc = Sketch(self), self.skip_nc or self.base_nc
        encoded = sketch.encoder(self.levels + 1)
        decoded = {self.levels: encoded[-1]}
        for level in reversed(range(self.levels)):
            parts = []
            for source in range(self.levels + 1):
                made = f"{source}_to_{level}"
                if source < level:
                    read = sketch.downsample(encoded[source], f"pool_{made}", sketch.factor(source, level))
                elif source == level:
                    read = encoded[source]
                else:
                    read = sketch.resize(decoded[source], f"resize_{made}", source, level)
                parts.append(sketch.single_conv(read, f"skip_{made}", level, skip_nc))
            joined = sketch.concatenate(parts, f"join_{level}")
            decoded[level] = sketch.single_conv(joined, f"out_conv_{level}", level, skip_nc * len(parts))
        outputs = sketch.outputs(decoded[0])
        if self.deep_supervision:
            outputs += [sketch.output(decoded[level], f"output_{level}") for level in range(1, self.levels + 1)]
        return sketch.network(outputs, "UNet3Plus")


def build_unet_3_plus(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a UNet 3+ (Huang et al. 2020, arXiv 2004.08790).

    Every level of the decoder reads all levels: the pooled encoder's of finer ones, the encoder's of its own, and the
    decoder's of coarser ones, upsampled. A convolution of each makes ``skip_nc`` channels, and one convolution of all
    of them, joined, is the level. The paper has 64 channels from each of five levels, and outputs of all levels for
    deep supervision, which are upsampled before the loss; here each is compared at its own voxel size. The paper's
    classification-guided module and its loss are not part of it. With the paper's channels in 2D it has 26.98 million
    parameters, and its authors' code 26.97 million.

    One input ``"input"`` and one output ``"output"`` (B, C, Z, Y, X), both with voxels of ``top_resolution``; ``heads``
    and ``deep_supervision`` add outputs.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.UNet3PlusOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_unet_3_plus((8, 8, 8), base_nc=2)
        >>> net.graph.nodes["join_1"].input_keys, net.specs["out_conv_1"].channels
        (('skip_0_to_1', 'skip_1_to_1', 'skip_2_to_1'), 6)
    """
    return UNet3PlusOptions.create(top_resolution=top_resolution, **arguments).build()
