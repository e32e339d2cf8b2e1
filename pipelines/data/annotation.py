"""Counts of the annotation in a part of a volume: how much of it is known, and of which class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import gunpowder as gp
import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.nodes import ClassTargets
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.volumes import spread_boxes

__all__ = ["AnnotationCounts", "count_annotation"]

_EDGE = {2: 512, 3: 64}
"""Voxels along the edge of a box that is read at a time, by the number of axes."""

_BOXES = 64
"""Boxes that are counted; of larger parts, shares are estimates."""


@dataclass(frozen=True, slots=True)
class AnnotationCounts:
    """Voxels of a part of a volume, by class.

    Attributes:
        voxels: voxels that were looked at.
        known: those in which it is annotated whether the class is there.
        present: those that belong to the class.

    Example:
        >>> AnnotationCounts(1000, {"mito": 500}, {"mito": 20}).shares("mito")
        (0.5, 0.04)
    """

    voxels: int
    known: Mapping[str, int]
    present: Mapping[str, int]

    def shares(self, name: str) -> tuple[float, float]:
        """Return the share of the voxels in which a class is annotated, and the share of these that belong to it."""
        known = self.known[name]
        return known / max(self.voxels, 1), self.present[name] / max(known, 1)


def count_annotation(dataset: Dataset, roi: Roi) -> AnnotationCounts:
    """Count the voxels of the finest output in which each class is annotated, and those that belong to it.

    Of a large part, boxes that are spread over it are counted. A class that is annotated in none of them is looked for
    in the others until it is found, so that a class without any known voxel is unknown everywhere.

    Args:
        dataset: the volume.
        roi: the part, world units.

    Raises:
        FileNotFoundError: a label volume does not exist.
        DataError: nothing is annotated in the part.
        UnreadableDataError: a chunk cannot be decoded.
    """
    classes = dataset.config.class_names
    target, mask = gp.ArrayKey("COUNTED"), gp.ArrayKey("COUNTED_MASK")
    size = dataset.net.voxel_size[dataset.finest]
    source = ClassTargets(
        dataset.class_volumes(),
        {target: size},
        {target: mask},
        dataset.world,
        groups=dataset.groups,
        within=roi,
    )
    known, present = np.zeros((2, len(classes)), dtype=np.int64)
    voxels = 0
    for number, box in enumerate(_boxes(roi, size)):
        if number >= _BOXES and known.all():
            break
        reading = source.start(gp.BatchRequest({key: gp.ArraySpec(roi=box) for key in (target, mask)}))
        found, annotated = reading[target](), reading[mask]()
        spatial = tuple(range(1, annotated.ndim))
        counted = np.count_nonzero(annotated, axis=spatial)
        if number < _BOXES:
            voxels += prod(annotated.shape[1:])
            known += counted
            present += np.count_nonzero(found & annotated, axis=spatial)
        else:  # all but too rare for the estimate
            known += (known == 0) & (counted > 0)
    return AnnotationCounts(
        voxels, dict(zip(classes, known.tolist(), strict=True)), dict(zip(classes, present.tolist(), strict=True))
    )


def _boxes(roi: Roi, size: Coordinate) -> Iterator[Roi]:
    """Yield boxes that cover a ROI, those first that are spread over it."""
    inside = roi.snap_to_grid(size, mode="shrink")
    shape, edge = tuple(map(int, inside.shape / size)), _EDGE[roi.dims]
    first = list(spread_boxes(shape, edge, _BOXES))
    rest = (box for box in spread_boxes(shape, edge, prod(-(-n // edge) for n in shape)) if box not in first)
    for boxes in (first, rest):
        for begin, end in boxes:
            yield Roi(inside.begin + Coordinate(begin) * size, (Coordinate(end) - Coordinate(begin)) * size)
