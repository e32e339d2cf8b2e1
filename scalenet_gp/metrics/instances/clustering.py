"""Metrics of partitions of the voxels: variation of information, adapted Rand error, CREMI score.

All of them leave out voxels whose true id is 0, as scikit-image, waterz and funlib.evaluate do. The predicted id 0 is
an object like any other: true objects that are missed together are merged in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalenet_gp.metrics.instances.contingency import ContingencyTable, sizes_of

__all__ = ["AdaptedRand", "VariationOfInformation", "adapted_rand", "cremi_score", "variation_of_information"]


@dataclass(frozen=True, slots=True)
class VariationOfInformation:
    """The variation of information between truth and segmentation, in bits. The lower, the better; 0 is perfect.

    Attributes:
        split: the entropy of predicted ids within true objects: how far these are cut into parts.
        merge: the entropy of true ids within predicted objects: how far these unite several.

    Example:
        >>> VariationOfInformation(split=0.5, merge=0.25).total
        0.75
    """

    split: float
    merge: float

    @property
    def total(self) -> float:
        """The sum of both."""
        return self.split + self.merge


@dataclass(frozen=True, slots=True)
class AdaptedRand:
    """The agreement of truth and segmentation about pairs of voxels, each pair in one object or not.

    Attributes:
        precision: the share of pairs in one predicted object that are in one true object. Merges lower it.
        recall: the share of pairs in one true object that are in one predicted object. Splits lower it.
        error: 1 minus the F score of both; 0 is perfect.

    Example:
        >>> AdaptedRand(precision=1.0, recall=0.5, error=1 / 3).recall
        0.5
    """

    precision: float
    recall: float
    error: float


def variation_of_information(table: ContingencyTable) -> VariationOfInformation:
    """Return the variation of information, with logarithms to the base 2.

    Voxels whose true id is 0 are left out. Both parts are NaN if there are no others.

    Source: Meilă, "Comparing clusterings", J. Multivariate Analysis 98 (2007); split and merge as in Nunez-Iglesias et
    al., PLoS ONE 8 (2013).

    Example:
        >>> table = ContingencyTable()
        >>> table.update(np.array([1, 1, 1, 1]), np.array([5, 5, 6, 6]))
        >>> variation_of_information(table)
        VariationOfInformation(split=1.0, merge=0.0)
    """
    *ids, voxels = _foreground(table)
    of_truth, of_segmentation = (sizes[index] for _, index, sizes in (sizes_of(of, voxels) for of in ids))
    total = voxels.sum()
    if not total:
        return VariationOfInformation(math.nan, math.nan)
    split = -(voxels * np.log2(voxels / of_truth)).sum() / total
    merge = -(voxels * np.log2(voxels / of_segmentation)).sum() / total
    return VariationOfInformation(float(split) + 0.0, float(merge) + 0.0)  # 0, not -0


def adapted_rand(table: ContingencyTable) -> AdaptedRand:
    """Return the adapted Rand error with its precision and recall, over pairs of different voxels.

    Voxels whose true id is 0 are left out. A share of no pairs is NaN, as the error is if no object has two voxels.

    Source: Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142 (2015).

    Example:
        >>> table = ContingencyTable()
        >>> table.update(np.array([1, 1, 1, 2, 2]), np.array([5, 5, 5, 5, 5]))
        >>> adapted_rand(table)
        AdaptedRand(precision=0.4, recall=1.0, error=0.4285714285714286)
    """
    truth, segmentation, voxels = _foreground(table)
    both = _number_of_pairs(voxels)
    true, predicted = (_number_of_pairs(sizes_of(ids, voxels)[2]) for ids in (truth, segmentation))
    return AdaptedRand(_ratio(both, predicted), _ratio(both, true), 1 - _ratio(2 * both, predicted + true))


def cremi_score(table: ContingencyTable) -> float:
    """Return the geometric mean of the variation of information and the adapted Rand error; 0 is perfect.

    It is the score of the challenge on circuit reconstruction from electron microscopy images (cremi.org). NaN where
    one of both is.

    Example:
        >>> table = ContingencyTable()
        >>> table.update(np.array([1, 1, 2, 2]), np.array([5, 5, 6, 6]))
        >>> cremi_score(table)
        0.0
    """
    return math.sqrt(variation_of_information(table).total * adapted_rand(table).error)


def _foreground(table: ContingencyTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ids and voxels of the pairs with a true object, voxels as floats."""
    kept = table.truth > 0
    return table.truth[kept], table.segmentation[kept], table.voxels[kept].astype(float)


def _number_of_pairs(sizes: np.ndarray) -> float:
    """Return twice the number of pairs of different voxels in the same object."""
    return float(sizes @ (sizes - 1))


def _ratio(above: float, below: float) -> float:
    return above / below if below else math.nan
