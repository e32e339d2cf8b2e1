"""Watershed on the distance to the boundary, exact across blocks.

A voxel is as high as its distance to the boundary. It belongs to the same basin as its highest neighbour; of equally
high ones, and of itself, the last in the order of voxels counts. So each basin has one peak, and only the nearest
neighbours decide about a voxel, which any block sees. Two basins meet at a pass, the highest place on their border.
Basins are merged from the highest pass down, unless both of their peaks rise above it by more than a depth. A flooding
from the maxima of that depth (the h-maxima) has the same objects, with borders that differ by about a voxel.

Where it is known which neighbours are attached to each other (:func:`.attached_faces`), the others are none: no basin
and no pass leads across a face that parts two voxels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, final

import numpy as np

from scalenet_gp.errors import ArgumentError
from scalenet_gp.kernels import numba_jit
from scalenet_gp.segmentation.distances import common_step, squared_distances
from scalenet_gp.segmentation.fragments import join_fragments, order_objects
from scalenet_gp.segmentation.options import Connectivity

__all__ = ["PASS_TYPE", "Heights", "find_basins", "find_passes", "join_basins"]

_ALL_ATTACHED = np.zeros((0, 0, 0), np.uint8)

PASS_TYPE: np.dtype[Any] = np.dtype([("one", np.uint64), ("other", np.uint64), ("height", np.uint32)])
"""A row for each pair of basins that touch, with the height of the pass; of a basin with itself, that of its peak."""


@final
@dataclass(frozen=True, slots=True)
class Heights:
    """Heights of voxels: squared distances to the boundary.

    Args:
        reach: nm; a larger distance counts as this one, so that only so much around a voxel decides about it.
        voxel_size: nm, per axis.

    Example:
        >>> mask = np.array([[0, 1, 1, 1, 1, 1, 0]], bool)
        >>> Heights(Fraction(16), (Fraction(8), Fraction(8)))(mask).tolist()
        [[0, 1, 4, 4, 4, 1, 0]]
    """

    reach: Fraction
    voxel_size: tuple[Fraction, ...]

    @property
    def margin(self) -> tuple[int, ...]:
        """The voxels around a box that decide about the heights in it, per axis."""
        return tuple(math.floor(self.reach / size) for size in self.voxel_size)

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Return the heights of a mask's voxels, uint32; 0 outside the mask. Beyond the array, the mask goes on.

        Args:
            mask: boolean, (z, y, x) or (y, x).
        """
        largest = math.floor((self.reach / common_step(self.voxel_size)) ** 2)
        return np.rint(np.minimum(squared_distances(mask, self.voxel_size), np.float32(largest))).astype(np.uint32)

    def grown(self, mask: np.ndarray, more: np.ndarray) -> np.ndarray:
        """Return the heights of a mask's voxels, and 1, the lowest height, for more voxels around it, uint32.

        Arguments are as for calling it.

        Example:
            >>> mask, more = np.array([[0, 0, 1, 1, 1, 0]], bool), np.array([[0, 1, 1, 1, 1, 1]], bool)
            >>> Heights(Fraction(16), (Fraction(8), Fraction(8))).grown(mask, more).tolist()
            [[0, 1, 1, 4, 1, 1]]
        """
        heights = self(mask)
        heights[more & (heights == 0)] = 1
        return heights

    def length(self, distance: Fraction) -> float:
        """Return a length (nm) in the unit of the heights' square roots."""
        return float(distance / common_step(self.voxel_size))


def find_basins(
    heights: np.ndarray, connectivity: Connectivity, attached: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Return the parts of basins within a block, uint32 from 1 on, and their number; 0 where the height is 0.

    Args:
        heights: of the block and one voxel more on every side, which is 0 where the volume ends.
        connectivity: that of neighbours.
        attached: which faces of the same voxels part no neighbours: see :func:`.attached_faces`. The connectivity is 6
            then. None part any unless given.
    """
    lifted, faces = _lifted(heights), _faces(attached, connectivity)
    shape = tuple(length - 2 for length in lifted.shape)
    labels = np.zeros(shape, np.uint32)
    count = _label(lifted, faces, _neighbours(connectivity), np.empty(math.prod(shape), np.int64), labels)
    return labels.reshape([length - 2 for length in heights.shape]), count


def find_passes(
    ids: np.ndarray, heights: np.ndarray, connectivity: Connectivity, attached: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return how the fragments of a block are connected with each other and with those around it.

    Args:
        ids: the ids of fragments, of the block and one voxel more on every side, which is 0 where the volume ends.
        heights: of the same voxels.
        connectivity: that of neighbours.
        attached: as for :func:`find_basins`.

    Returns:
        Pairs of fragments of one basin, (pair, 2), and rows of :data:`PASS_TYPE`.
    """
    solid, lifted, faces = _lifted(ids), _lifted(heights), _faces(attached, connectivity)
    offsets = _neighbours(connectivity)
    empty = np.empty((0, 2), np.uint64), np.empty((0, 2), np.uint64), np.empty(0, np.uint32)
    links, passes = _connect(solid, lifted, faces, offsets, *empty)
    found = np.empty((links, 2), np.uint64), np.empty((passes, 2), np.uint64), np.empty(passes, np.uint32)
    _connect(solid, lifted, faces, offsets, *found)
    return np.unique(found[0], axis=0), _highest(found[1][:, 0], found[1][:, 1], found[2])


def join_basins(rows: np.ndarray, links: np.ndarray, passes: np.ndarray, depth: float) -> tuple[np.ndarray, int]:
    """Return the object of each fragment, an index, and the number of objects.

    Args:
        rows: measures of all fragments, sorted by id.
        links: pairs of fragments of one basin.
        passes: rows of :data:`PASS_TYPE`.
        depth: basins are two objects if both peaks rise above the pass between them by more, in square roots of
            heights.
    """
    basin, count = join_fragments(rows["id"], links)
    basin = order_objects(rows, basin, count)  # which does not depend on blocks
    one, other = (basin[np.searchsorted(rows["id"], passes[name])] for name in ("one", "other"))
    peaks = np.zeros(count, np.uint32)
    np.maximum.at(peaks, one, passes["height"])
    np.maximum.at(peaks, other, passes["height"])
    apart = one != other
    met = _highest(np.minimum(one, other)[apart], np.maximum(one, other)[apart], passes["height"][apart])
    met = met[np.lexsort((met["other"], met["one"], -met["height"].astype(np.int64)))]
    merged = np.arange(count)
    heights, tops = (np.sqrt(squared.astype(np.float64)) for squared in (met["height"], peaks))
    _merge(met["one"].astype(np.int64), met["other"].astype(np.int64), heights, tops, depth, merged)
    found, objects = np.unique(merged, return_inverse=True)
    return objects[basin], len(found)


def _highest(one: np.ndarray, other: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return each pair once, sorted, with its largest height."""
    order = np.lexsort((other, one))
    one, other, height = one[order], other[order], height[order]
    first = np.ones(len(one), bool)
    first[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    begins = np.flatnonzero(first)
    rows = np.zeros(len(begins), PASS_TYPE)
    rows["one"], rows["other"] = one[begins], other[begins]
    if len(begins):
        rows["height"] = np.maximum.reduceat(height, begins)
    return rows


def _neighbours(connectivity: Connectivity) -> np.ndarray:
    """Return the offsets of neighbours, (neighbour, 3), in the order of voxels."""
    most = {6: 1, 18: 2, 26: 3}[connectivity]
    steps = (step for step in itertools.product((-1, 0, 1), repeat=3) if 1 <= sum(map(abs, step)) <= most)
    return np.array(list(steps), np.int64)


def _lifted(array: np.ndarray) -> np.ndarray:
    """Return an array of three axes; one of two gets an empty plane on both sides."""
    solid = array if array.ndim == 3 else np.pad(array[np.newaxis], ((1, 1), (0, 0), (0, 0)))
    return np.ascontiguousarray(solid)


def _faces(attached: np.ndarray | None, connectivity: Connectivity) -> np.ndarray:
    """Return which faces part no neighbours, of three axes; an empty array if no face parts any."""
    if attached is None:
        return _ALL_ATTACHED
    if connectivity != 6:
        raise ArgumentError(f"connectivity={connectivity}: attached faces are those of neighbours that share one, 6")
    if attached.ndim == 2:
        attached = attached << 1  # the bits of y and x follow that of z
    return _lifted(attached)


@numba_jit
def _joins(attached: np.ndarray, z: int, y: int, x: int, a: int, b: int, c: int) -> bool:
    """Return whether two neighbours are attached; all are with an empty array."""
    if attached.size == 0:
        return True
    axis = 0 if a != z else 1 if b != y else 2
    return (attached[min(z, a), min(y, b), min(x, c)] >> axis) & 1 != 0


@numba_jit
def _climb(heights: np.ndarray, attached: np.ndarray, offsets: np.ndarray, z: int, y: int, x: int) -> int:
    """Return the index of the offset to the voxel that a voxel belongs with; -1 for itself."""
    best, height = -1, heights[z, y, x]
    for index in range(len(offsets)):
        if not _joins(attached, z, y, x, z + offsets[index, 0], y + offsets[index, 1], x + offsets[index, 2]):
            continue
        other = heights[z + offsets[index, 0], y + offsets[index, 1], x + offsets[index, 2]]
        if other > height:
            best, height = index, other
        elif other == height and (best >= 0 or index >= len(offsets) // 2):
            # offsets are in the order of voxels: the later one counts, and the voxel itself is in their middle
            best = index
    return best


@numba_jit
def _label(
    heights: np.ndarray, attached: np.ndarray, offsets: np.ndarray, parents: np.ndarray, labels: np.ndarray
) -> int:
    """Label the trees that the links within the block make; returns their number."""
    depth, rows, columns = labels.shape
    flat = labels.reshape(-1)
    index = 0
    for z in range(depth):
        for y in range(rows):
            for x in range(columns):
                parents[index] = -1
                if heights[z + 1, y + 1, x + 1] > 0:
                    parents[index] = index
                    step = _climb(heights, attached, offsets, z + 1, y + 1, x + 1)
                    if step >= 0:
                        a, b, c = z + offsets[step, 0], y + offsets[step, 1], x + offsets[step, 2]
                        if 0 <= a < depth and 0 <= b < rows and 0 <= c < columns:
                            parents[index] = (a * rows + b) * columns + c
                index += 1
    count = 0
    for start in range(len(parents)):
        if parents[start] < 0:
            continue
        root = start
        while parents[root] != root:
            root = parents[root]
        if flat[root] == 0:
            count += 1
            flat[root] = count
        place = start
        while parents[place] != place:
            following = parents[place]
            parents[place] = root
            place = following
        flat[start] = flat[root]
    return count


@numba_jit
def _connect(
    ids: np.ndarray,
    heights: np.ndarray,
    attached: np.ndarray,
    offsets: np.ndarray,
    links: np.ndarray,
    pairs: np.ndarray,
    passes: np.ndarray,
) -> tuple[int, int]:
    """Write links, pairs that touch, and their heights into arrays with room for them; returns their numbers."""
    depth, rows, columns = ids.shape
    linked, met = 0, 0
    for z in range(1, depth - 1):
        for y in range(1, rows - 1):
            for x in range(1, columns - 1):
                own = ids[z, y, x]
                if own == 0:
                    continue
                step = _climb(heights, attached, offsets, z, y, x)
                if step < 0:  # a peak
                    if met < len(passes):
                        pairs[met, 0], pairs[met, 1], passes[met] = own, own, heights[z, y, x]
                    met += 1
                else:
                    other = ids[z + offsets[step, 0], y + offsets[step, 1], x + offsets[step, 2]]
                    if other != own:
                        if linked < len(links):
                            links[linked, 0], links[linked, 1] = own, other
                        linked += 1
                # each pair of voxels once: the earlier one sees the later one, also that of another block
                for index in range(len(offsets) // 2, len(offsets)):
                    a, b, c = z + offsets[index, 0], y + offsets[index, 1], x + offsets[index, 2]
                    other = ids[a, b, c]
                    if other == 0 or other == own or not _joins(attached, z, y, x, a, b, c):
                        continue
                    if met < len(passes):
                        pairs[met, 0], pairs[met, 1] = min(own, other), max(own, other)
                        passes[met] = min(heights[z, y, x], heights[a, b, c])
                    met += 1
    return linked, met


@numba_jit
def _merge(
    one: np.ndarray, other: np.ndarray, passes: np.ndarray, peaks: np.ndarray, depth: float, merged: np.ndarray
) -> None:
    """Merge basins from the highest pass down; ``merged`` becomes the first basin of each one's object."""
    for index in range(len(one)):
        a, b = one[index], other[index]
        while merged[a] != a:
            merged[a] = merged[merged[a]]
            a = merged[a]
        while merged[b] != b:
            merged[b] = merged[merged[b]]
            b = merged[b]
        if a != b and min(peaks[a], peaks[b]) - passes[index] <= depth:
            first, second = min(a, b), max(a, b)
            merged[second] = first
            peaks[first] = max(peaks[a], peaks[b])
    for index in range(len(merged)):
        root = index
        while merged[root] != root:
            root = merged[root]
        merged[index] = root
