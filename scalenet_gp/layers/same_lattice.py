"""The base of nodes that keep the voxel size: one lattice, and a margin around each voxel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

from funlib.geometry import Coordinate, Roi
from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Node, TensorSpec
from scalenet_gp.kernels import crop_tensor
from scalenet_gp.layers.checks import check_channels

__all__ = ["SameLattice", "SingleInput", "without_margin"]


class SameLattice(Node):
    """Abstract: inputs and outputs of one voxel size; an output voxel depends on ``margin`` voxels on either side.

    A derived class declares its channels (:meth:`output_channels`) and computes them (:meth:`forward`). It gets all
    inputs over the same ROI, ``margin`` voxels larger on every side than its output.

    Example:
        >>> class Opposite(SameLattice):
        ...     def output_channels(self, *input_channels):
        ...         return input_channels
        ...     def forward(self, *tensors):
        ...         return -tensors[0]
        >>> Opposite(["a"], ["b"]).output_channels(3)
        (3,)
    """

    margin: Coordinate | int = 0
    """Voxels that the node reads beyond its output, on either side of each axis."""

    dims: int | None = None
    """Number of spatial axes, if the node has weights that fix it."""

    @abstractmethod
    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        """Return the channels of every output, given those of every input.

        Raises:
            ArgumentError: the node takes other channels.
        """

    def output_specs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        if len({spec.voxel_size for spec in inputs}) != 1:
            sizes = ", ".join(
                f"{key!r} {format_size(spec.voxel_size)} nm" for key, spec in zip(self.input_keys, inputs, strict=True)
            )
            raise ArgumentError(f"the tensors it joins have to share one voxel size: {sizes}")
        voxel_size = inputs[0].voxel_size
        if self.dims not in (None, len(voxel_size)):
            raise ArgumentError(f"its kernels have {self.dims} axes, its input has {len(voxel_size)}")
        channels = self.output_channels(*(spec.channels for spec in inputs))
        return tuple(TensorSpec(voxel_size, nc) for nc in channels)

    def input_roi(self, output_roi: Roi) -> Roi:
        margin = self.input_voxel_size * self.margin
        return output_roi.grow(margin, margin)

    def output_roi(self, input_roi: Roi) -> Roi:
        margin = self.input_voxel_size * self.margin
        return input_roi.grow(-margin, -margin)


class SingleInput(SameLattice):
    """Abstract: one input, whose number of channels is fixed by weights, as are those of the outputs.

    Args:
        input_keys: the one tensor read.
        output_keys: the tensors made.
        identifier: name in the graph.
        input_nc: channels of the input.
        output_ncs: channels of every output.
        dims: number of spatial axes.
    """

    arity = 1

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        identifier: str | None,
        *,
        input_nc: int,
        output_ncs: Sequence[int],
        dims: int | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier)
        self.input_nc = input_nc
        self.output_ncs = tuple(output_ncs)
        self.dims = dims

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        check_channels(self.input_nc, *input_channels)
        return self.output_ncs


def without_margin(tensor: Tensor, margin: Iterable[int]) -> Tensor:
    """Return the part of a tensor (B, C, Z, Y, X) that is ``margin`` voxels away from its border, per spatial axis."""
    return crop_tensor(tensor, tuple((m, size - m) for m, size in zip(margin, tensor.shape[2:], strict=True)))
