"""Bases of nodes that change the voxel size: the voxel size of the output, and the ROI rules."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from fractions import Fraction

from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import snap_to_lattice
from scalenet_gp.graph import Node, TensorSpec
from scalenet_gp.layers.checks import check_channels

__all__ = ["Downsampling", "Upsampling"]


class _Resampling(Node):
    """Abstract: one tensor in, one tensor of another voxel size out.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        factor: voxels of the finer lattice per voxel of the coarser one, per axis.
        channels: channels of input and output, if the node has weights; the output has those of the input unless given.
        identifier: name in the graph.
    """

    arity = 1

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        factor: Sequence[int],
        channels: tuple[int, int] | None,
        identifier: str | None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier)
        self.factor = tuple(int(f) for f in factor)
        if len(self.factor) not in (2, 3) or self.factor != tuple(factor) or min(self.factor) < 1:
            raise ArgumentError(
                f"{self.identifier}: the factor has 2 or 3 axes of whole numbers from 1 up, not {tuple(factor)}"
            )
        self._channels = channels

    def output_specs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        (spec,) = inputs
        if len(spec.voxel_size) != len(self.factor):
            raise ArgumentError(f"its factor has {len(self.factor)} axes, its input has {len(spec.voxel_size)}")
        input_nc, output_nc = self._channels or (spec.channels, spec.channels)
        check_channels(input_nc, spec.channels)
        voxel_size = tuple(size * f for size, f in zip(spec.voxel_size, self._coarsening, strict=True))
        return (TensorSpec(voxel_size, output_nc),)

    @property
    @abstractmethod
    def _coarsening(self) -> tuple[Fraction, ...]:
        """Output voxel size divided by input voxel size, per axis."""


class Downsampling(_Resampling):
    """Abstract: coarser voxels. Each is computed from the block of fine voxels in it and ``margin`` voxels around it.

    Blocks are counted from the world's origin and not from the tensor's first voxel, so the same world voxel is
    computed alike in every tile.

    Example:
        >>> from scalenet_gp.layers import Downsampling, Pool
        >>> isinstance(Pool(["a"], ["b"], (2, 2)), Downsampling)
        True
    """

    margin: Coordinate | int = 0
    """Fine voxels beyond the block, on either side of each axis."""

    @property
    def _coarsening(self) -> tuple[Fraction, ...]:
        return tuple(Fraction(f) for f in self.factor)

    def input_roi(self, output_roi: Roi) -> Roi:
        margin = self.input_voxel_size * self.margin
        return output_roi.grow(margin, margin)

    def output_roi(self, input_roi: Roi) -> Roi:
        margin = self.input_voxel_size * self.margin
        return snap_to_lattice(input_roi.grow(-margin, -margin), self.output_voxel_size, "shrink")


class Upsampling(_Resampling):
    """Abstract: finer voxels. Each is computed from the coarse voxels that it and ``margin`` voxels around it lie in.

    Voxels within ``margin`` of the border of the input are not made, as a part of their input is missing.

    Example:
        >>> from scalenet_gp.layers import Upsample, Upsampling
        >>> isinstance(Upsample(["a"], ["b"], (2, 2)), Upsampling)
        True
    """

    margin: Coordinate | int = 0
    """Fine voxels around each fine voxel, on either side of each axis."""

    @property
    def _coarsening(self) -> tuple[Fraction, ...]:
        return tuple(Fraction(1, f) for f in self.factor)

    def input_roi(self, output_roi: Roi) -> Roi:
        margin = self.output_voxel_size * self.margin
        return snap_to_lattice(output_roi.grow(margin, margin), self.input_voxel_size)

    def output_roi(self, input_roi: Roi) -> Roi:
        margin = self.output_voxel_size * self.margin
        return input_roi.grow(-margin, -margin)
