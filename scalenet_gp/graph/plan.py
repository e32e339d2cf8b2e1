"""Plans: the ROI of every tensor and the crop of every edge for one request."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import LatticeError, UnknownNameError

__all__ = ["Crop", "InputCrop", "Plan", "PlannedTensor", "Step"]

Crop = tuple[tuple[int, int], ...]
"""First voxel and the one past the last, per spatial axis, counted from the corner of the tensor that is cropped."""


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """One tensor of a plan: its position, shape and channels.

    Attributes:
        name: the tensor's name in the graph.
        begin: world coordinate of its first voxel's lower corner.
        shape: voxels per spatial axis.
        voxel_size: in world units.
        channels: channels per voxel.

    Example:
        >>> from scalenet_gp import build_unet
        >>> build_unet((8, 8), base_nc=2).smallest_plan.tensor("output").shape
        (4, 4)
    """

    name: str
    begin: tuple[int, ...]
    shape: tuple[int, ...]
    voxel_size: tuple[int, ...]
    channels: int

    @property
    def roi(self) -> Roi:
        """The world ROI that it covers."""
        return Roi(self.begin, tuple(n * size for n, size in zip(self.shape, self.voxel_size, strict=True)))

    def crop_to(self, roi: Roi) -> Crop:
        """Return the crop of this tensor that covers ``roi``, which lies inside it and on its lattice."""
        crop = []
        for begin, length, corner, size in zip(roi.begin, roi.shape, self.begin, self.voxel_size, strict=True):
            first = (begin - corner) // size
            crop.append((first, first + length // size))
        return tuple(crop)

    def numbytes(self, itemsize: int = 4) -> int:
        """Return the bytes of one sample, with ``itemsize`` bytes per value."""
        return self.channels * math.prod(self.shape) * itemsize


@dataclass(frozen=True, slots=True)
class InputCrop:
    """The part of a tensor that a node reads.

    Attributes:
        tensor: the tensor's name.
        crop: the part that is read.
        factor: repetitions of each voxel of the part, per spatial axis; ``None`` for a part as it is.
        crop_repeated: the crop of the repeated part, in the finer voxels.
    """

    tensor: str
    crop: Crop
    factor: tuple[int, ...] | None = None
    crop_repeated: Crop = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One node's turn in a pass.

    Attributes:
        node: the node's identifier.
        reads: its inputs; or, if it fuses, the tensors that its input would be upsampled and joined from.
        makes: the shape (voxels) that the node computes of each of its outputs.
        keeps: name and kept crop of each of its outputs; ``None`` as the crop of an output that no node needs.
        frees: the tensors that no node needs after this step.

    Example:
        >>> from scalenet_gp import build_unet
        >>> build_unet((8, 8), base_nc=2).smallest_plan.steps[0].node
        'in_conv_0'
    """

    node: str
    reads: tuple[InputCrop, ...]
    makes: tuple[tuple[int, ...], ...]
    keeps: tuple[tuple[str, Crop | None], ...]
    frees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about sizes that a forward pass needs: frozen, hashable, and the same for every batch.

    Made by :meth:`scalenet_gp.LeibNet.plan`.

    Attributes:
        network: fingerprint of the network.
        tensors: every tensor of the pass, inputs first, in the order in which they are made.
        steps: the nodes in the order in which they run.
        requests: name, begin and shape (world units) of each requested output.

    Example:
        >>> from funlib.geometry import Roi
        >>> from scalenet_gp import build_unet
        >>> plan = build_unet((8, 8), base_nc=2).plan({"output": Roi((0, 0), (32, 32))})
        >>> plan.inputs, plan.step
        ({'input': [-176:208, -176:208] (384, 384)}, (32, 32))
        >>> plan.shifted((64, 0)).outputs
        {'output': [64:96, 0:32] (32, 32)}
    """

    network: str
    tensors: tuple[PlannedTensor, ...]
    steps: tuple[Step, ...]
    requests: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def rois(self) -> dict[str, Roi]:
        """The world ROI of every tensor."""
        return {tensor.name: tensor.roi for tensor in self.tensors}

    @property
    def inputs(self) -> dict[str, Roi]:
        """The world ROI to fetch of every input: the smallest that the requested outputs depend on."""
        return {tensor.name: tensor.roi for tensor in self._inputs()}

    @property
    def outputs(self) -> dict[str, Roi]:
        """The world ROI of every requested output."""
        return {name: Roi(begin, shape) for name, begin, shape in self.requests}

    @property
    def input_tensors(self) -> dict[str, PlannedTensor]:
        """Shape, voxel size and channels of every input."""
        return {tensor.name: tensor for tensor in self._inputs()}

    def tensor(self, name: str) -> PlannedTensor:
        """Return the planned tensor of that name.

        Raises:
            UnknownNameError: the plan has no such tensor; the message lists its tensors.
        """
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise UnknownNameError(f"the plan has no tensor {name!r}; it has {', '.join(t.name for t in self.tensors)}")

    @property
    def step(self) -> Coordinate:
        """The distances (world units) by which the plan can be shifted: their multiples keep every lattice."""
        return Coordinate(math.lcm(*sizes) for sizes in zip(*(t.voxel_size for t in self.tensors), strict=True))

    def shifted(self, offset: Iterable[int]) -> Plan:
        """Return the same plan at another position.

        Args:
            offset: the distance (world units) to move it by.

        Raises:
            LatticeError: ``offset`` is not a multiple of :attr:`step`. A smaller shift changes the shapes of the
                coarser tensors, so it needs a plan of its own.
        """
        by = Coordinate(offset)
        if by.dims != self.step.dims or any(o % s for o, s in zip(by, self.step, strict=True)):
            raise LatticeError(f"a shift by {tuple(by)} leaves the lattices; multiples of {tuple(self.step)} keep them")
        return replace(
            self,
            tensors=tuple(replace(t, begin=tuple(Coordinate(t.begin) + by)) for t in self.tensors),
            requests=tuple((name, tuple(Coordinate(begin) + by), shape) for name, begin, shape in self.requests),
        )

    def __str__(self) -> str:
        """Return a table: a line per tensor; sizes in voxels, begins in world units, memory of one float32 sample."""
        rows = [("tensor", "voxel size", "begin", "shape", "channels", "MiB")]
        for t in self.tensors:
            sizes = (_by(t.voxel_size), ", ".join(map(str, t.begin)), _by(t.shape))
            rows.append((t.name, *sizes, str(t.channels), f"{t.numbytes() / 2**20:.2f}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([name.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(cells, widths[1:], strict=True))])
            for name, *cells in rows
        )

    def _inputs(self) -> tuple[PlannedTensor, ...]:
        made = {name for step in self.steps for name, _ in step.keeps}
        return tuple(tensor for tensor in self.tensors if tensor.name not in made)


def _by(sizes: Iterable[int]) -> str:
    return " × ".join(map(str, sizes))
