"""The feature pyramid network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from scalenet_gp.geometry import Length
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.forms import SingleInputOptions
from scalenet_gp.networks.sketch import Sketch
from scalenet_gp.options import Whole

__all__ = ["FPNOptions", "build_fpn"]


class FPNOptions(SingleInputOptions):
    """Options of :func:`build_fpn`: ``{kind: fpn, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``fpn``.
        pyramid_nc: channels of the pyramid; 4 · ``base_nc`` unless given.
        segmentation_nc: channels of the features that outputs are made of; half of ``pyramid_nc`` unless given.

    Example:
        >>> FPNOptions.create(top_resolution=(8, 8, 8), base_nc=2).build().name
        'FPN'
    """

    kind: Literal["fpn"] = "fpn"
    pyramid_nc: Whole | None = None
    segmentation_nc: Whole | None = None

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        pyramid_nc = self.pyramid_nc or 4 * self.base_nc
        segmentation_nc = self.segmentation_nc or max(1, pyramid_nc // 2)
        sketch = Sketch(self)
        encoded = sketch.encoder(self.levels + 1)
        top = sketch.point_conv(encoded[-1], f"lateral_{self.levels}", pyramid_nc)
        features = []
        for level in reversed(range(self.levels + 1)):
            if level < self.levels:
                lateral = sketch.point_conv(encoded[level], f"lateral_{level}", pyramid_nc)
                upsampled = sketch.upsample(top, f"upsample_{level}", self.factors[level])
                top = sketch.sum([lateral, upsampled], f"top_down_{level}")
            read = sketch.single_conv(top, f"pyramid_{level}", level, pyramid_nc)
            read = sketch.single_conv(read, f"segmentation_{level}_{level}", level, segmentation_nc)
            for finer in reversed(range(level)):
                read = sketch.upsample(read, f"segmentation_{level}_up_{finer}", self.factors[finer])
                if finer:
                    read = sketch.single_conv(read, f"segmentation_{level}_{finer}", finer, segmentation_nc)
            features.append(read)
        return sketch.network(sketch.outputs(sketch.sum(features[::-1], "features")), "FPN")


def build_fpn(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a feature pyramid network (Lin et al. 2017, arXiv 1612.03144) for segmentation.

    A pass at each level and downsampling between them are the bottom-up pathway. From the coarsest level down, each
    map is upsampled and added to the 1³ convolution of the bottom-up map; one convolution more makes the pyramid. The
    segmentation branch is that of Kirillov et al. 2019 (arXiv 1901.02446): convolutions and upsampling bring
    every level of the pyramid to the finest voxels, where all are added up.

    One input ``"input"`` and one output ``"output"`` (B, C, Z, Y, X), both with voxels of ``top_resolution``; ``heads``
    add outputs. The papers' level 0 is four times coarser than their input, and they have 256 and 128 channels.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.FPNOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_fpn((8, 8, 8), base_nc=2)
        >>> net.specs["pyramid_2"].channels, net.specs["features"].channels
        (8, 4)
    """
    return FPNOptions.create(top_resolution=top_resolution, **arguments).build()
