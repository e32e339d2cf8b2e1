"""A picture of the inputs and outputs of a plan: nested fields of view, to scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funlib.geometry import Coordinate, Roi

from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Graph, Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle


__all__ = ["fields_of_view_figure"]

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colors of Okabe and Ito, which color-blind people tell apart."""

_WIDTH = 3.4
"""Width of a column in inches."""


def fields_of_view_figure(graph: Graph, plan: Plan) -> Figure:
    """Draw the inputs and outputs of ``plan`` at each voxel size, as nested boxes to scale in nm or µm.

    Inputs are outlined, outputs are filled. Each voxel size of an input or output has a color and a column, from coarse
    to fine. A column shows the boxes of its voxel size, which the legend below it names, and those of all finer voxel
    sizes within them. In three dimensions the upper row is the plane of y and x, the lower row that of z and x.

    The figure is not part of matplotlib's global state: notebooks show it, and ``figure.savefig(path)`` writes it.

    Raises:
        GraphError: the plan is another graph's.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2)
        >>> len(fields_of_view_figure(net.graph, net.smallest_plan).axes)
        2
    """
    from matplotlib.figure import Figure  # imported here, as it takes a second

    graph.check_plan(plan)

    scales = _scales(graph, plan)
    frames = [_frame([roi for _, roi, _ in boxes]) for boxes in scales]
    planes = [(graph.dims - 2, graph.dims - 1), *([(0, 2)] if graph.dims == 3 else [])]
    heights = [
        _WIDTH * min(1.5, max(frame.shape[down] / frame.shape[across] for frame in frames)) for down, across in planes
    ]
    names = 0.45 * max(map(len, scales))
    figure = Figure((_WIDTH * len(scales), 0.7 + sum(heights) + names), layout="constrained")
    grid = figure.subplots(len(planes) + 1, len(scales), squeeze=False, height_ratios=[*heights, names])
    for column, (frame, boxes) in enumerate(zip(frames, scales, strict=True)):
        unit, nm = _unit(graph, frame)
        for axes, (down, across) in zip(grid[:, column], planes, strict=False):
            for index in range(column, len(scales)):
                for _, roi, made in scales[index]:
                    axes.add_patch(_rectangle(roi, down, across, nm, _color(index), made))
            axes.set_xlim(frame.begin[across] * nm, frame.end[across] * nm)
            axes.set_ylim(frame.end[down] * nm, frame.begin[down] * nm)  # rows of an image go downwards
            axes.set_aspect("equal")
            axes.set_xlabel(f"{'zyx'[across - graph.dims]} ({unit})")
            axes.set_ylabel(f"{'zyx'[down - graph.dims]} ({unit})")
        voxel_size = format_size(graph.specs[boxes[0][0]].voxel_size)
        grid[0, column].set_title(f"{voxel_size} nm voxels", color=_color(column), fontsize="medium")
        grid[-1, column].set_axis_off()
        grid[-1, column].legend(
            [_rectangle(roi, 0, 1, 1, _color(column), made) for _, roi, made in boxes],
            [_label(graph, key, roi) for key, roi, _ in boxes],
            loc="upper center",
            frameon=False,
            fontsize="small",
        )
    figure.suptitle(f"{graph.name}: inputs and outputs")
    return figure


_Box = tuple[str, Roi, bool]
"""A tensor's name, its ROI, and True if it is an output."""


def _scales(graph: Graph, plan: Plan) -> list[list[_Box]]:
    """Return the inputs and outputs of each voxel size, from coarse to fine."""
    boxes: dict[Coordinate, list[_Box]] = {}
    for made, rois in ((False, plan.inputs), (True, plan.outputs)):
        for key, roi in rois.items():
            boxes.setdefault(graph.voxel_size[key], []).append((key, roi, made))
    return [boxes[size] for size in sorted(boxes, key=lambda size: sorted(size, reverse=True), reverse=True)]


def _frame(rois: list[Roi]) -> Roi:
    """Return the ROI that a column shows: the boxes and a small margin."""
    frame = rois[0]
    for roi in rois[1:]:
        frame = frame.union(roi)
    margin = Coordinate(max(1, length // 20) for length in frame.shape)
    return frame.grow(margin, margin)


def _unit(graph: Graph, frame: Roi) -> tuple[str, float]:
    """Return the unit for a column's axes, and the length of a world unit in it."""
    nm = float(graph.unit)
    return ("µm", nm / 1000) if max(frame.shape) * nm >= 2000 else ("nm", nm)


def _rectangle(roi: Roi, down: int, across: int, scale: float, color: str, made: bool) -> Rectangle:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    return Rectangle(
        (roi.begin[across] * scale, roi.begin[down] * scale),
        roi.shape[across] * scale,
        roi.shape[down] * scale,
        edgecolor=color,
        facecolor=to_rgba(color, 0.45 if made else 0.04),
        linewidth=1 if made else 1.8,
    )


def _color(index: int) -> str:
    return _COLORS[index % len(_COLORS)]


def _label(graph: Graph, key: str, roi: Roi) -> str:
    unit, nm = _unit(graph, roi)
    voxels = " × ".join(map(str, roi.shape / graph.voxel_size[key]))
    return f"{key}: {voxels} voxels\n{' × '.join(format(length * nm, '.4g') for length in roi.shape)} {unit}"
