"""Connected components of a mask, and those of two blocks that are connected across the plane between them."""

from __future__ import annotations

import itertools

import numpy as np

from scalenet_gp.errors import ArgumentError
from scalenet_gp.segmentation.options import Connectivity

__all__ = [
    "background_connectivity",
    "connected_pairs",
    "fill_holes",
    "label_components",
]


def background_connectivity(connectivity: Connectivity) -> Connectivity:
    """Return the connectivity of what encloses no component: 6 for 18 and 26, and 26 for 6.

    Were both 26, a diagonal line would enclose a hole that is connected with its outside across the line.
    """
    return 26 if connectivity == 6 else 6


def label_components(mask: np.ndarray, connectivity: Connectivity) -> tuple[np.ndarray, int]:
    """Return the connected components of a mask, uint32 from 1 on, and their number; 0 is outside the mask.

    By the package connected-components-3d.

    Args:
        mask: boolean, (z, y, x) or (y, x).
        connectivity: see :data:`Connectivity`; in two dimensions 6 connects by edges, 18 and 26 by corners too.
    """
    from cc3d import connected_components  # slow to import

    _check(connectivity)
    solid = np.ascontiguousarray(mask.reshape((1,) * (3 - mask.ndim) + mask.shape)).view(np.uint8)
    if not solid.any():
        return np.zeros(mask.shape, np.uint32), 0
    labels, count = connected_components(solid, connectivity=connectivity, return_N=True, out_dtype=np.uint32)
    return labels.reshape(mask.shape), int(count)


def connected_pairs(lower: np.ndarray, upper: np.ndarray, connectivity: Connectivity) -> np.ndarray:
    """Return the pairs of labels that have connected voxels in two planes next to each other.

    Args:
        lower: labels of a plane, two axes; 0 is nothing.
        upper: labels of the plane that follows, with a row and a column more on every side, which are 0 where the
            volume ends.
        connectivity: see :data:`Connectivity`.

    Returns:
        (pair, 2), each pair once, sorted: a label of ``lower`` and one of ``upper``.

    Raises:
        ArgumentError: the shapes do not fit.

    Example:
        >>> lower, upper = np.array([[7, 0]]), np.zeros((3, 4), int)
        >>> upper[1, 2] = 9  # at an edge with 7
        >>> connected_pairs(lower, upper, 6).tolist(), connected_pairs(lower, upper, 18).tolist()
        ([], [[7, 9]])
    """
    _check(connectivity)
    if lower.ndim != 2 or upper.shape != tuple(length + 2 for length in lower.shape):
        raise ArgumentError(f"planes of the shapes {lower.shape} and {upper.shape}: the second has two voxels more")
    steps = {6: 0, 18: 1, 26: 2}[connectivity]
    found = [np.empty((0, 2), lower.dtype)]
    for down, right in itertools.product((-1, 0, 1), repeat=2):
        if abs(down) + abs(right) <= steps:
            other = upper[1 + down : 1 + down + lower.shape[0], 1 + right : 1 + right + lower.shape[1]]
            both = (lower != 0) & (other != 0)
            found.append(np.unique(np.stack([lower[both], other[both]], axis=1), axis=0))
    return np.unique(np.concatenate(found), axis=0)


def fill_holes(mask: np.ndarray, connectivity: Connectivity, largest: int) -> np.ndarray:
    """Return a mask with its holes of up to ``largest`` voxels.

    A hole is a component of what is not in the mask, of :func:`background_connectivity`, that does not reach the border
    of the array.

    Args:
        mask: boolean, (z, y, x) or (y, x).
        connectivity: that of the mask's components.
        largest: voxels.
    """
    labels, count = label_components(~mask, background_connectivity(connectivity))
    voxels = np.bincount(labels.ravel(), minlength=count + 1)
    hole = voxels <= largest
    hole[0] = False
    for axis, side in itertools.product(range(mask.ndim), (0, -1)):
        hole[labels.take(side, axis)] = False
    filled: np.ndarray = mask | hole[labels]
    return filled


def _check(connectivity: int) -> None:
    if connectivity not in (6, 18, 26):
        raise ArgumentError(f"connectivity={connectivity!r} has to be 6, 18 or 26")
