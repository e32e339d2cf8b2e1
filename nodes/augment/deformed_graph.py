"""Graphs through a deformation."""

from __future__ import annotations

from itertools import count

import numpy as np
from funlib.geometry import Roi
from gunpowder import Edge, Graph, Node
from numpy.typing import NDArray

from scalenet_gp.nodes.augment.deformation import Deformation
from scalenet_gp.nodes.augment.deformed_points import target_positions

__all__ = ["deform_graph"]

_INSIDE = 1e-3
"""World units between a cut and the face of the ROI that makes it, so that rounding does not put it outside."""


def deform_graph(graph: Graph, deformation: Deformation, roi: Roi) -> Graph:
    """Return a graph whose nodes are where a deformation shows them, cut off at the faces of a ROI.

    Nodes and edges keep their attributes, but locations are float64. An edge with one end in the ROI ends in a new,
    temporary node at its face; one with none is left out. (``Graph.trim`` does so too, but fails for a face at 0 or
    below.)

    Args:
        graph: in source positions. Its nodes are changed.
        deformation: the map.
        roi: in target positions.
    """
    nodes = list(graph.nodes)
    sources = np.array([node.location for node in nodes], float).reshape(-1, roi.dims)
    begin, end = np.array(roi.begin, float), np.array(roi.end, float)
    placed: dict[int, Node] = {}
    inside: dict[int, Node] = {}
    for node, place in zip(nodes, target_positions(deformation, sources), strict=True):
        node.location = place
        if not np.isnan(place).any():
            placed[node.id] = node
            if (begin <= place).all() and (place < end).all():
                inside[node.id] = node
    numbers = count(max((node.id for node in nodes), default=0) + 1)
    kept, edges = list(inside.values()), []
    for edge in graph.edges:
        if edge.u in inside and edge.v in inside:
            edges.append(edge)
        elif (edge.u in inside or edge.v in inside) and edge.u in placed and edge.v in placed:
            near, far = (edge.u, edge.v) if edge.u in inside else (edge.v, edge.u)
            place = _cut(placed[near].location, placed[far].location, begin, end)
            cut = Node(next(numbers), place, temporary=True)
            kept.append(cut)
            ends = (near, cut.id) if edge.u == near else (cut.id, near)
            edges.append(Edge(*ends, attrs=dict(edge.attrs)))
    spec = graph.spec.copy()
    spec.roi, spec.dtype = roi.copy(), np.float64
    return Graph(kept, edges, spec)


def _cut(
    inside: NDArray[np.float64], outside: NDArray[np.float64], begin: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the point at which a line leaves a box."""
    way = outside - inside
    faces = np.where(way > 0, end, begin)
    # the share of the way to the face along each axis, none where the line runs along it
    shares = np.divide(faces - inside, way, out=np.ones_like(way), where=way != 0)
    place: NDArray[np.float64] = np.clip(inside + min(1.0, float(shares.min())) * way, begin, end - _INSIDE)
    return place
