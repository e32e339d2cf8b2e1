"""U-Net++: nested skip connections."""

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

__all__ = ["UNetPlusPlusOptions", "build_unet_plus_plus"]


class UNetPlusPlusOptions(SingleInputOptions):
    """Options of :func:`build_unet_plus_plus`: ``{kind: unet_plus_plus, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``unet_plus_plus``.
        deep_supervision: an output ``"output_depth_1"``, ``"output_depth_2"`` and so on of every nested U-Net but the
            deepest, which makes ``"output"``; all at the finest voxels.

    Example:
        >>> UNetPlusPlusOptions.create(top_resolution=(8, 8, 8), base_nc=2).build().name
        'UNetPlusPlus'
    """

    kind: Literal["unet_plus_plus"] = "unet_plus_plus"
    deep_supervision: Flag = False

    @model_validator(mode="after")
    def _supervise(self) -> Self:
        if self.deep_supervision and (self.levels < 2 or self.output_channels == 0):
            raise ArgumentError(
                "deep_supervision makes outputs of the nested U-Nets with output_nc channels, so give two or more "
                "downsample_factors and an output_nc above 0"
            )
        return self

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        sketch = Sketch(self)
        nested: list[list[str]] = []  # by level and number of upsampled tensors joined
        read = "input"
        for level in range(self.levels + 1):
            if level:
                read = sketch.downsample(nested[-1][0], f"downsample_{level - 1}", self.factors[level - 1])
            nested.append([sketch.conv_pass(read, f"x_{level}_0", level)])
            for finer in reversed(range(level)):
                made = f"{finer}_{level - finer}"
                upsampled = sketch.upsample(nested[finer + 1][-1], f"upsample_{made}", self.factors[finer])
                joined = sketch.concatenate([*nested[finer], upsampled], f"join_{made}")
                nested[finer].append(sketch.conv_pass(joined, f"x_{made}", finer))
        outputs = sketch.outputs(nested[0][-1])
        if self.deep_supervision:
            depths = range(1, self.levels)
            outputs += [sketch.output(nested[0][depth], f"output_depth_{depth}") for depth in depths]
        return sketch.network(outputs, "UNetPlusPlus")


def build_unet_plus_plus(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a U-Net++ (Zhou et al. 2018, arXiv 1807.10165; 2020, arXiv 1912.05074).

    Between encoder and decoder are nested U-Nets of every depth: the tensor ``x_i_j`` is a pass on all ``x_i_0`` to
    ``x_i_(j-1)`` and the upsampled ``x_(i+1)_(j-1)``. With ``deep_supervision`` each of them has an output at the
    finest voxels. A request for ``"output_depth_1"`` alone computes that shallow U-Net alone: the paper's pruned
    inference. With the paper's channels in 2D it has 9.17 million parameters, and its authors' code, whose upsampling
    halves the channels before they are joined, 9.04 million.

    One input ``"input"`` and one output ``"output"`` (B, C, Z, Y, X), both with voxels of ``top_resolution``; ``heads``
    and ``deep_supervision`` add outputs.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.UNetPlusPlusOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_unet_plus_plus((8, 8, 8), base_nc=2, deep_supervision=True)
        >>> net.output_keys, net.graph.nodes["join_0_2"].input_keys
        (('output', 'output_depth_1'), ('x_0_0', 'x_0_1', 'upsample_0_2'))
    """
    return UNetPlusPlusOptions.create(top_resolution=top_resolution, **arguments).build()
