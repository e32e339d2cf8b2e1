"""A sampler that lays samples on the voxels of a mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import lcm
from typing import final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.geometry import World
from scalenet_gp.nodes.samplers.holding import TRIES, draw_holding
from scalenet_gp.nodes.samplers.sampler import Axis, Sample, Sampler
from scalenet_gp.nodes.samplers.voxel_index import Labels, VoxelGrid, VoxelIndex

__all__ = ["MaskSampler"]


@final
@dataclass(frozen=True, eq=False)
class MaskSampler(Sampler):
    """Draw a voxel of a mask, all equally likely, and lay a sample on it.

    The voxel lies within the central half of the sample, at every position equally likely, so that no rotation about
    the sample's center carries it out of a cube. (A ``DeformAugment`` turns about the center of the whole request.) If
    the lattice or the arrays' bounds leave no such position, the sample is laid as near to one as they allow. A voxel
    that no sample can hold is passed over. The record of the draw has the world corner of the voxel as ``"voxel"``.

    The mask is read once per process, block by block, when it is first needed. It is kept as a list of its voxels: 4
    bytes each, 512 MiB at most unless ``voxel_size`` asks for more.

    Several masks are united: a voxel of any of them counts, once. They are searched at one voxel size, the smallest
    that is a multiple of each one's own. Masks without a voxel do not matter, as long as another has one.

    Args:
        labels: the mask: the values above 0 of a pyramid of one channel or of an array in memory, or a class; or
            several.
        world: the world that the pipeline counts in.
        voxel_size: the voxel size at which to search a pyramid, world units. By default that of the finest level with
            at most 2**27 voxels within ``within``. A structure that is thinner than such a voxel may be missing there,
            and is then never drawn.
        within: take only the voxels of the volume inside this ROI. World units.
        inside: keep the samples inside this ROI, too, as :class:`.UniformSampler` does. World units.

    Raises:
        ArgumentError: a volume with channels.
        LatticeError: a voxel size that the volume cannot give. When drawn: voxels that are larger than the sample, or
            that no sample can hold.
        DataError: no whole voxel within ``within``. When loaded: no mask has a voxel.
        PipelineError: when drawn: the sample has other axes.

    Example:
        >>> import numpy as np
        >>> from scalenet_gp.nodes.samplers import LabelArray
        >>> mask = LabelArray(np.eye(3), voxel_size=(8, 8), begin=(0, 0))
        >>> len(MaskSampler(mask).voxels)
        3
    """

    labels: Labels | Sequence[Labels]
    world: World | None = None
    voxel_size: Iterable[int] | None = None
    within: Roi | None = None
    inside: Roi | None = None

    def __post_init__(self) -> None:
        self._grids  # noqa: B018 - arguments that do not fit are refused here

    def load(self) -> None:
        self.voxels  # noqa: B018

    @cached_property
    def _grids(self) -> tuple[VoxelGrid, ...]:
        several = self.labels if isinstance(self.labels, Sequence) else (self.labels,)
        if not several:
            raise ArgumentError("no labels: MaskSampler needs at least one mask")
        size = None if self.voxel_size is None else tuple(self.voxel_size)
        grids, empty = [], []
        for labels in several:
            try:
                grids.append(VoxelGrid.of(labels, self.world, size, self.within))
            except DataError as error:
                empty.append(error)
        if not grids:
            raise empty[0]
        common = Coordinate(lcm(*along) for along in zip(*(grid.voxel_size for grid in grids), strict=True))
        return tuple(
            grid if grid.voxel_size == common else VoxelGrid.of(grid.labels, self.world, common, self.within)
            for grid in grids
        )

    @cached_property
    def voxels(self) -> VoxelIndex:
        """The list of voxels, read at the first use.

        Raises:
            DataError: the mask has no voxel.
        """
        index = VoxelIndex.union([grid.index() for grid in self._grids])
        if not len(index):
            raise DataError(f"no voxel to lay a sample on in {self}; a finer voxel_size shows thinner structures")
        return index

    def __str__(self) -> str:
        return " or ".join(map(str, self._grids))

    def draw(self, generator: np.random.Generator, opening: Sequence[Axis]) -> Sample:
        size = self._grids[0].voxel_size
        corners = self.voxels.draw(generator, TRIES)
        drawn, begin = draw_holding(generator, opening, corners, size, self.inside, str(self))
        return Sample(begin, {"voxel": corners[drawn].tolist()})
