"""A picture of what a plan reads and makes: nested fields of view, to scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funlib.geometry import Coordinate, Roi

from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from scalenet_gp.leibnet import LeibNet

__all__ = ["fields_of_view_figure"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Those of Okabe and Ito, which the colour-blind tell apart."""

_WIDTH = 3.4
"""Inches for a column."""


def fields_of_view_figure(net: LeibNet, plan: Plan) -> Figure:
    """What ``plan`` reads and makes at each voxel size, as nested boxes to scale in nm or µm.

    Inputs are outlined, outputs are filled. Each voxel size of an input or output has a colour and a column, from
    coarse to fine. A column shows the boxes of its voxel size, which the legend below it names, and those of all finer
    ones within them. In three dimensions the upper row is the plane of y and x, the lower one that of z and x.

    It is no part of matplotlib's global state: notebooks show it, and ``figure.savefig(path)`` writes it.
    """
    from matplotlib.figure import Figure  # here, as it takes a second that only figures are worth

    scales = _scales(net, plan)
    frames = [_frame([roi for _, roi, _ in boxes]) for boxes in scales]
    planes = [(net.dims - 2, net.dims - 1), *([(0, 2)] if net.dims == 3 else [])]
    heights = [
        _WIDTH * min(1.5, max(frame.shape[down] / frame.shape[across] for frame in frames)) for down, across in planes
    ]
    names = 0.45 * max(map(len, scales))
    figure = Figure((_WIDTH * len(scales), 0.7 + sum(heights) + names), layout="constrained")
    grid = figure.subplots(len(planes) + 1, len(scales), squeeze=False, height_ratios=[*heights, names])
    for column, (frame, boxes) in enumerate(zip(frames, scales, strict=True)):
        unit, nm = _unit(net, frame)
        for axes, (down, across) in zip(grid[:, column], planes, strict=False):
            for index in range(column, len(scales)):
                for _, roi, made in scales[index]:
                    axes.add_patch(_rectangle(roi, down, across, nm, _colour(index), made))
            axes.set_xlim(frame.begin[across] * nm, frame.end[across] * nm)
            axes.set_ylim(frame.end[down] * nm, frame.begin[down] * nm)  # rows of an image go downwards
            axes.set_aspect("equal")
            axes.set_xlabel(f"{'zyx'[across - net.dims]} ({unit})")
            axes.set_ylabel(f"{'zyx'[down - net.dims]} ({unit})")
        voxel_size = format_size(net.specs[boxes[0][0]].voxel_size)
        grid[0, column].set_title(f"{voxel_size} nm voxels", color=_colour(column), fontsize="medium")
        grid[-1, column].set_axis_off()
        grid[-1, column].legend(
            [_rectangle(roi, 0, 1, 1, _colour(column), made) for _, roi, made in boxes],
            [_label(net, key, roi) for key, roi, _ in boxes],
            loc="upper center",
            frameon=False,
            fontsize="small",
        )
    figure.suptitle(f"{net.name}: what it reads and makes")
    return figure


_Box = tuple[str, Roi, bool]
"""A tensor's name, where it lies, and whether it is an output."""


def _scales(net: LeibNet, plan: Plan) -> list[list[_Box]]:
    """The inputs and outputs of each voxel size, from coarse to fine."""
    boxes: dict[Coordinate, list[_Box]] = {}
    for made, rois in ((False, plan.inputs), (True, plan.outputs)):
        for key, roi in rois.items():
            boxes.setdefault(net.voxel_size[key], []).append((key, roi, made))
    return [boxes[size] for size in sorted(boxes, key=lambda size: sorted(size, reverse=True), reverse=True)]


def _frame(rois: list[Roi]) -> Roi:
    """What a column shows: the boxes and a little around them."""
    frame = rois[0]
    for roi in rois[1:]:
        frame = frame.union(roi)
    margin = Coordinate(max(1, length // 20) for length in frame.shape)
    return frame.grow(margin, margin)


def _unit(net: LeibNet, frame: Roi) -> tuple[str, float]:
    """The unit for a column's axes, and how many of it are one world unit."""
    nm = float(net.unit)
    return ("µm", nm / 1000) if max(frame.shape) * nm >= 2000 else ("nm", nm)


def _rectangle(roi: Roi, down: int, across: int, scale: float, colour: str, made: bool) -> Rectangle:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    return Rectangle(
        (roi.begin[across] * scale, roi.begin[down] * scale),
        roi.shape[across] * scale,
        roi.shape[down] * scale,
        edgecolor=colour,
        facecolor=to_rgba(colour, 0.45 if made else 0.04),
        linewidth=1 if made else 1.8,
    )


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _label(net: LeibNet, key: str, roi: Roi) -> str:
    unit, nm = _unit(net, roi)
    voxels = " × ".join(map(str, roi.shape / net.voxel_size[key]))
    return f"{key}: {voxels} voxels\n{' × '.join(format(length * nm, '.4g') for length in roi.shape)} {unit}"
