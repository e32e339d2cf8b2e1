"""The high-resolution network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import model_validator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.forms import SingleInputOptions
from scalenet_gp.networks.sketch import Sketch
from scalenet_gp.options import Whole

__all__ = ["HRNetOptions", "build_hrnet"]


class HRNetOptions(SingleInputOptions):
    """Options of :func:`build_hrnet`: ``{kind: hrnet, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``hrnet``.
        modules_per_stage: modules of each stage, the first stage with one branch and the last with one for every level;
            one each unless given. The paper has 1, 1, 4 and 3.
        downsample_mode: how branches are made coarser: strided convolutions as in the paper, or pooling and a 1³
            convolution.
        upsample_mode: how coarse branches are upsampled: nearest neighbor, or linear interpolation.

    Example:
        >>> HRNetOptions.create(top_resolution=(8, 8, 8), base_nc=2).build().name
        'HRNet'
    """

    kind: Literal["hrnet"] = "hrnet"
    modules_per_stage: tuple[Whole, ...] | None = None
    downsample_mode: Literal["max", "mean", "strided"] = "strided"
    upsample_mode: Literal["nearest", "linear"] = "nearest"

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        if self.modules_per_stage is not None and len(self.modules_per_stage) != self.levels + 1:
            raise ArgumentError(
                f"modules_per_stage is {list(self.modules_per_stage)}; with {self.levels} downsample_factors there are "
                f"{self.levels + 1} stages, so it takes {self.levels + 1} numbers"
            )
        return self

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        sketch = Sketch(self)
        branches = ["input"]
        for stage, modules in enumerate(self.modules_per_stage or (1,) * (self.levels + 1)):
            if stage:
                branches.append(self._coarser(sketch, branches[-1], f"transition_{stage}", stage - 1, stage))
            for module in range(modules):
                place = f"stage_{stage}_{module}"
                passed = [
                    sketch.conv_pass(read, f"{place}_branch_{level}", level) for level, read in enumerate(branches)
                ]
                branches = [self._fused(sketch, passed, place, level) for level in range(len(passed))]
        resized = [sketch.resize(read, f"resize_{level}", level, 0) for level, read in enumerate(branches)]
        joined = sketch.concatenate(resized, "join") if len(resized) > 1 else resized[0]
        nc = sum(map(sketch.channels, resized))
        features = sketch.conv_pass(joined, "features", 0, output_nc=nc, kernels=[(1,) * self.dims])
        return sketch.network(sketch.outputs(features), "HRNet")

    def _fused(self, sketch: Sketch, branches: Sequence[str], place: str, level: int) -> str:
        """Add the sum of all branches, each brought to a level."""
        parts = [branches[level]]
        for source, read in enumerate(branches):
            made = f"{place}_{source}_to_{level}"
            if source > level:
                read = sketch.point_conv(read, made, self.channels(level))
                parts.append(sketch.resize(read, f"{made}_up", source, level))
            elif source < level:
                parts.append(self._coarser(sketch, read, made, source, level))
        return sketch.sum(parts, f"{place}_{level}")

    def _coarser(self, sketch: Sketch, read: str, made: str, fine: int, coarse: int) -> str:
        """Add the nodes that bring a branch to a coarser level, one level at a time."""
        for level in range(fine, coarse):
            last = level == coarse - 1
            nc = self.channels(coarse) if last else sketch.channels(read)
            name, factor = made if last else f"{made}_{level}", self.factors[level]
            if self.downsample_mode == "strided":
                read = sketch.strided_conv(read, name, factor, nc, None if last else self.activation)
            else:
                pooled = sketch.downsample(read, f"{name}_pool", factor)
                read = sketch.point_conv(pooled, name, nc)
        return read


def build_hrnet(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a high-resolution network, HRNetV2 (Wang et al. 2020, arXiv 1908.07919; its head is that of figure 4 b).

    Branches of all levels are computed side by side and the finest is kept from the first layer to the last. Stage *s*
    has *s* branches; a module is a pass in each branch and a fusion, in which every branch becomes the sum of all of
    them: coarser ones after a 1³ convolution and upsampling, finer ones after strided convolutions. At the end all
    branches are upsampled and joined, and a 1³ convolution makes the features that outputs are made of.

    It differs from the paper as follows. There is no stem that makes voxels four times coarser. Kernels of strided
    convolutions are the factor and not 3, which would shift by half a voxel. A pass has the ``kernel_sizes``, where the
    paper has four residual units; ``residual`` adds its input. Passes normalize their input instead of their output.

    One input ``"input"`` and one output ``"output"`` (B, C, Z, Y, X), both with voxels of ``top_resolution``; ``heads``
    add outputs.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.HRNetOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_hrnet((8, 8, 8), base_nc=2)
        >>> [net.specs[f"stage_2_0_{level}"].channels for level in range(3)]
        [2, 4, 8]
    """
    return HRNetOptions.create(top_resolution=top_resolution, **arguments).build()
