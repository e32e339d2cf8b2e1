"""A picture of a graph: its nodes in the order of their depth, each at the height of its voxel size."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["architecture_figure"]

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
"""Colors of Okabe and Ito, which color-blind people tell apart, and gray for kinds beyond them."""

_COLUMN, _ROW = 0.34, 1.0
"""Inches per node and per voxel size."""


def architecture_figure(graph: Graph) -> Figure:
    """Draw the nodes of a graph from left to right, each one column behind the last that it reads from.

    There is a row for each voxel size, the finest above, so a U-Net is a U. Nodes are colored by their kind, as the
    legend says; inputs and outputs bear their names. Nodes of one column and row are drawn one above another.

    The figure is not part of matplotlib's global state: notebooks show it, and ``figure.savefig(path)`` writes it.

    Example:
        >>> from scalenet_gp import build_unet
        >>> len(architecture_figure(build_unet((8, 8), base_nc=2).graph).axes)
        1
    """
    from matplotlib.figure import Figure  # imported here, as it takes a second

    sizes = sorted({spec.voxel_size for spec in graph.specs.values()}, key=lambda size: (sum(size), size))
    column = dict.fromkeys(graph.input_keys, 0)
    for node in graph.nodes.values():
        column |= dict.fromkeys(node.output_keys, 1 + max(column[key] for key in node.input_keys))
    taken: Counter[tuple[int, int]] = Counter()
    where: dict[str, tuple[float, float]] = {}
    for key in [*graph.input_keys, *(node.output_keys[0] for node in graph.nodes.values())]:
        place = column[key], sizes.index(graph.specs[key].voxel_size)
        where[key] = place[0], -place[1] - 0.22 * taken[place]
        taken[place] += 1
    where |= {key: where[node.output_keys[0]] for node in graph.nodes.values() for key in node.output_keys}

    width, height = _COLUMN * (max(column.values()) + 5), _ROW * len(sizes) + 0.6
    figure = Figure((max(width, 5), height))
    axes = figure.add_axes((0, 0.55 / height, 1, 1 - 0.55 / height))
    for node in graph.nodes.values():
        end = where[node.output_keys[0]]
        for key in node.input_keys:
            axes.plot(*zip(where[key], end, strict=True), color="#bbbbbb", linewidth=0.7, zorder=1)
    kinds = list(dict.fromkeys(type(node).__name__ for node in graph.nodes.values()))
    for index, kind in enumerate(kinds):
        points = [where[node.output_keys[0]] for node in graph.nodes.values() if type(node).__name__ == kind]
        x, y = zip(*points, strict=True)
        axes.scatter(x, y, s=46, color=_COLORS[min(index, 6)], label=kind, zorder=2)
    for key in (*graph.input_keys, *graph.output_keys):
        axes.annotate(key, where[key], xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7)
    x, y = zip(*(where[key] for key in graph.input_keys), strict=True)
    axes.scatter(x, y, s=46, color="black", zorder=2)
    for row, size in enumerate(sizes):
        axes.text(-1, -row, f"{format_size(size)} nm", ha="right", va="center", fontsize=7, color="#555555")
    axes.set_xlim(-5, max(column.values()) + 1)
    axes.set_ylim(min(y for _, y in where.values()) - 0.3, 0.45)
    axes.axis("off")
    figure.legend(loc="lower center", ncols=min(len(kinds), 5), fontsize=7, frameon=False)
    return figure
