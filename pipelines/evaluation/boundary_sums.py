"""The boundaries of classes, compared block by block."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from fractions import Fraction

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.metrics import BoundaryCounts, count_boundaries
from scalenet_gp.pipelines.data import Dataset

__all__ = ["BoundaryScores", "BoundarySums", "BoundaryTolerance"]

BoundaryScores = dict[str, dict[str, BoundaryCounts]]
"""The boundary voxels of each class, for each output of the network."""


class BoundaryTolerance:
    """The distance that boundaries may lie apart, for voxels of one size.

    Args:
        voxel_size: nm.
        tolerance: nm; twice the longest edge of a voxel if None.

    Attributes:
        voxel_size: nm.
        nm: the distance within which a boundary counts as found.
        margin: voxels that have to be read around a block, so that the counts of blocks are those of the whole.

    Example:
        >>> tolerance = BoundaryTolerance((40, 8, 8), None)
        >>> tolerance.nm, tuple(tolerance.margin)
        (80.0, (3, 11, 11))
    """

    def __init__(self, voxel_size: Collection[Fraction | int], tolerance: Fraction | None) -> None:
        self.voxel_size = tuple(map(float, voxel_size))
        self.nm = float(2 * max(voxel_size) if tolerance is None else tolerance)
        self.margin = Coordinate(math.ceil(self.nm / edge) + 1 for edge in self.voxel_size)


class BoundarySums:
    """Adds up the boundary voxels of blocks.

    Args:
        dataset: the volume, with the targets of every output.
        tolerance: nm; twice the longest edge of a voxel of each output if None.
        thresholds: the probability from which a voxel counts as a class, by output and class.
        outputs: the outputs to compare.

    Attributes:
        counts: the boundary voxels of each class, for each output.
        tolerances: nm, for each output.
        margins: what has to be read around a block, in world units, for each output.
    """

    def __init__(
        self,
        dataset: Dataset,
        tolerance: Fraction | None,
        thresholds: Mapping[str, Mapping[str, float]],
        outputs: Collection[str],
    ) -> None:
        sizes = {name: dataset.net.voxel_size[name] for name in outputs}
        self._allowed = {
            name: BoundaryTolerance(dataset.world.size_in_nm(size), tolerance) for name, size in sizes.items()
        }
        self._sizes, self._thresholds = sizes, thresholds
        self._targets = dataset.targets
        self.counts: BoundaryScores = {name: dict.fromkeys(dataset.scored[name], BoundaryCounts()) for name in outputs}
        self.tolerances = {name: allowed.nm for name, allowed in self._allowed.items()}
        self.margins = {name: sizes[name] * allowed.margin for name, allowed in self._allowed.items()}

    def add(
        self, output: str, tile: Roi, box: Roi, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray
    ) -> None:
        """Add the boundaries in a tile of an output; the arrays, (channel, Z, Y, X), are those of the box around it."""
        inner = tuple(((tile - box.begin) // self._sizes[output]).to_slices())
        allowed = self._allowed[output]
        scored = self._targets[output].as_classes(prediction, target, mask)
        for name, values, true, annotated in zip(self.counts[output], *scored, strict=True):
            said = (values >= self._thresholds[output][name]).astype(np.uint8)
            one = (true > 0).astype(np.uint8)
            self.counts[output][name] += count_boundaries(one, said, allowed.voxel_size, allowed.nm, annotated, inner)
