"""Samples laid on the voxels of a mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import DataError, LatticeError, PipelineError
from scalenet_gp.geometry import World
from scalenet_gp.nodes.samplers.sampler import Axis, Sample, Sampler
from scalenet_gp.nodes.samplers.voxel_index import Labels, VoxelGrid, VoxelIndex

__all__ = ["MaskSampler"]

_TRIES = 1000
"""How many voxels are drawn at once, of which the first that a sample can hold is taken."""


@final
@dataclass(frozen=True, eq=False)
class MaskSampler(Sampler):
    """A voxel of a mask is drawn, all equally likely, and a sample is laid on it.

    The voxel lies within the central half of the sample, at every place equally likely, so that no rotation about the
    sample's centre carries it out of a cube. (A ``DeformAugment`` turns about the centre of all that is requested.)
    Where the lattice or the arrays' bounds leave no such place, the sample is laid as near to one as they allow; a
    voxel that no sample can hold is passed over. What was drawn has the world corner of the voxel as ``"voxel"``.

    The mask is read once per process, block by block, when it is first needed, and kept as a list of its voxels: 4
    bytes each, 512 MiB at most unless ``voxel_size`` asks for more.

    Args:
        labels: where the mask is: what is above 0 in a pyramid of one channel or in an array in memory, or a class.
        world: that the pipeline counts in.
        voxel_size: at which to search a pyramid, world units. By default that of the finest level with at most 2**27
            voxels within ``within``. What is thinner than such a voxel may be missing at it, and is never drawn then.
        within: of the volume, only the voxels that lie inside this ROI. World units.
        inside: the samples lie inside this ROI, too, as those of :class:`.UniformSampler` do. World units.

    Raises:
        ValueError: a volume with channels; a voxel size that it cannot give; no whole voxel within ``within``. When
            loaded: a mask without a voxel. When drawn: voxels that are larger than the sample, or of other axes, or
            that no sample can hold.
    """

    labels: Labels
    world: World | None = None
    voxel_size: Iterable[int] | None = None
    within: Roi | None = None
    inside: Roi | None = None

    def __post_init__(self) -> None:
        self._grid  # noqa: B018 - arguments that do not fit are refused here

    def load(self) -> None:
        self.voxels  # noqa: B018

    @cached_property
    def _grid(self) -> VoxelGrid:
        return VoxelGrid.of(self.labels, self.world, self.voxel_size, self.within)

    @cached_property
    def voxels(self) -> VoxelIndex:
        """The list of voxels, read at the first use.

        Raises:
            ValueError: there is none.
        """
        index = self._grid.index()
        if not len(index):
            raise DataError(f"no voxel to lay a sample on in {self._grid}; a finer voxel_size shows thinner structures")
        return index

    def draw(self, generator: np.random.Generator, opening: Sequence[Axis]) -> Sample:
        size, lengths = self._grid.voxel_size, tuple(axis.length for axis in opening)
        if len(size) != len(opening):
            raise PipelineError(f"{self._grid} has {len(size)} axes, the sample has {len(opening)}")
        if any(s > length for s, length in zip(size, lengths, strict=True)):
            raise LatticeError(f"{self._grid}: a sample of {lengths} is smaller than a voxel; name a finer voxel_size")
        if self.inside is not None:
            ends = zip(opening, self.inside.begin, self.inside.end, strict=True)
            opening = [axis.within(int(begin), int(end), "the region") for axis, begin, end in ends]
        corners = self.voxels.draw(generator, _TRIES)
        held = np.all([axis.holds(c, s) for axis, c, s in zip(opening, corners.T, size, strict=True)], axis=0)
        if not held.any():
            raise LatticeError(
                f"{self._grid}: of {_TRIES} voxels drawn, {_refusal(opening, corners[0].tolist(), size)}"
            )
        corner = corners[np.argmax(held)].tolist()
        begins = (_begin(generator, axis, c, s) for axis, c, s in zip(opening, corner, size, strict=True))
        return Sample(Coordinate(begins), {"voxel": corner})


def _begin(generator: np.random.Generator, axis: Axis, corner: int, size: int) -> int:
    """A begin that puts the voxel into the central half of the sample, or as near to that as can be."""
    first, last = -((3 * axis.length - 4 * (corner + size)) // 4), (4 * corner - axis.length) // 4
    central = axis.begins(first, last)
    if central:
        return central[int(generator.integers(len(central)))]
    # doubled, the middle is a whole number
    off_centre = 2 * corner + size - axis.length
    return min(axis.begins(corner + size - axis.length, corner), key=lambda begin: abs(2 * begin - off_centre))


def _refusal(opening: Sequence[Axis], corner: Sequence[int], size: Sequence[int]) -> str:
    """Why no sample can hold the voxel at ``corner``."""
    reasons = [
        f"along axis {number} " + axis.refusal(c + s - axis.length, c, "to hold the voxel")
        for number, (axis, c, s) in enumerate(zip(opening, corner, size, strict=True))
        if not axis.begins(c + s - axis.length, c)
    ]
    lengths = tuple(axis.length for axis in opening)
    return f"none can lie in a sample of {lengths}; of the one at {tuple(corner)}: {'; '.join(reasons)}"
