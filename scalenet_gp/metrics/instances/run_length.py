"""Expected run length: how far one follows a neurite along its skeleton before the segmentation errs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scalenet_gp.errors import ArgumentError

__all__ = ["RunLength", "expected_run_length"]


@dataclass(frozen=True, slots=True)
class RunLength:
    """The expected run length of a segmentation.

    Attributes:
        expected: the expected length of the correct run about a random point of the skeletons, nm.
        best: the expected run length if nothing were wrong, nm: the skeletons end, too.
        length: the length of all skeletons, nm.
        split: the share of the length that lies between nodes of different objects, or outside of all.
        merged: the share of the length in objects that unite several skeletons.

    Example:
        >>> RunLength(expected=300.0, best=400.0, length=800.0, split=0.1, merged=0.0).share
        0.75
    """

    expected: float
    best: float
    length: float
    split: float
    merged: float

    @property
    def share(self) -> float:
        """The expected run length as a share of the best one; NaN if the skeletons have no length."""
        return self.expected / self.best if self.best else math.nan


def expected_run_length(
    positions: np.ndarray,
    edges: np.ndarray,
    segments: np.ndarray,
    skeletons: np.ndarray | None = None,
    merge_nodes: int = 1,
) -> RunLength:
    """Return the expected run length of a segmentation along skeletons.

    An edge is correct if both of its nodes lie in the same predicted object, and that object holds nodes of no other
    skeleton. A run is all correct edges of a skeleton in one object. A random point of the skeletons lies in a run
    with a probability that is proportional to the length of the run, and on no run, of length 0, otherwise.

    Source: Januszewski et al., "High-precision automated reconstruction of neurons with flood-filling networks", Nature
    Methods 15 (2018). An object counts as one run of a skeleton even if its nodes are apart along the skeleton, as in
    funlib.evaluate.

    Args:
        positions: of the nodes, nm, (node, axis).
        edges: the two nodes of each edge, as indices of ``positions``, (edge, 2).
        segments: the predicted id at each node, 0 for none, (node,).
        skeletons: the skeleton of each node, (node,); nodes that are connected by edges, unless given.
        merge_nodes: an object unites skeletons that have at least so many nodes in it each. More than 1 lets nodes
            that are placed carelessly pass.

    Returns:
        The lengths; all are NaN, but ``length``, if the skeletons have no length.

    Raises:
        ArgumentError: arrays of other shapes, nodes that do not exist, or edges between skeletons.

    Example:
        >>> nodes = np.array([[0, 0, 0], [0, 0, 100], [0, 0, 200], [0, 0, 400]])
        >>> found = expected_run_length(nodes, np.array([[0, 1], [1, 2], [2, 3]]), np.array([7, 7, 7, 8]))
        >>> found.expected, found.best, found.split
        (100.0, 400.0, 0.5)
    """
    from scipy.sparse import coo_array  # slow to import
    from scipy.sparse.csgraph import connected_components

    positions, segments = np.asarray(positions, float), np.asarray(segments)
    edges = np.asarray(edges, np.int64).reshape(-1, 2)
    count = len(positions)
    if positions.ndim != 2 or segments.shape != (count,) or (skeletons is not None and skeletons.shape != (count,)):
        shapes = f"positions have the shape {positions.shape}, segments {segments.shape}"
        raise ArgumentError(
            f"{shapes}{'' if skeletons is None else f', skeletons {skeletons.shape}'}; they have to be (node, axis) "
            "and (node,) of as many nodes"
        )
    if edges.size and not 0 <= edges.min() <= edges.max() < count:
        raise ArgumentError(f"edges name the nodes {edges.min()} to {edges.max()}, and there are {count}, from 0 on")
    if skeletons is None:
        graph = coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(count, count))
        skeletons = connected_components(graph, directed=False)[1]
    begin, end = edges.T
    if (apart := skeletons[begin] != skeletons[end]).any():
        nodes = edges[apart][0]
        raise ArgumentError(f"the edge of the nodes {nodes[0]} and {nodes[1]} joins the skeletons of different numbers")
    lengths = np.linalg.norm(positions[begin] - positions[end], axis=1)
    whole = lengths.sum()
    if not whole:
        return RunLength(math.nan, math.nan, 0.0, math.nan, math.nan)
    same = (segments[begin] == segments[end]) & (segments[begin] != 0)
    merged = same & np.isin(segments[begin], _merging(segments, skeletons, merge_nodes))
    correct = same & ~merged
    runs = _sums(lengths[correct], skeletons[begin[correct]], segments[begin[correct]])
    best = _sums(lengths, skeletons[begin])
    return RunLength(
        float((runs**2).sum() / whole),
        float((best**2).sum() / whole),
        float(whole),
        float(lengths[~same].sum() / whole),
        float(lengths[merged].sum() / whole),
    )


def _merging(segments: np.ndarray, skeletons: np.ndarray, least: int) -> np.ndarray:
    """Return the ids of objects that hold at least so many nodes of several skeletons each."""
    pairs, nodes = np.unique(np.stack(_numbered(segments, skeletons)), axis=1, return_counts=True)
    objects, of_skeletons = np.unique(pairs[0, nodes >= least], return_counts=True)
    return np.unique(segments)[objects[of_skeletons > 1]]


def _sums(lengths: np.ndarray, *groups: np.ndarray) -> np.ndarray:
    """Return the sum of lengths in every group of those that are alike in all ``groups``."""
    _, index = np.unique(np.stack(_numbered(*groups)), axis=1, return_inverse=True)
    return np.bincount(index.ravel(), weights=lengths)


def _numbered(*groups: np.ndarray) -> list[np.ndarray]:
    """Return numbers from 0 on instead of ids, whose types may differ."""
    return [np.unique(ids, return_inverse=True)[1].ravel() for ids in groups]
