"""Figures of a report, each of the numbers that stand beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scalenet_gp.pictures import class_colors
from scalenet_gp.pipelines.reports.places import BINS, Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_bars", "draw_curves", "draw_reliability", "draw_scatter"]

_STYLES = ("-", "--", ":", "-.")

Curve = Sequence[tuple[float, float]]


def draw_bars(values: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Return a bar for each model, of the mean of its values, and a dot for each value."""
    figure, panel = _panel(width=max(5.0, 0.6 * len(values) + 2))
    for number, (color, (name, of)) in enumerate(zip(class_colors(len(values)), values.items(), strict=True)):
        known = [value for value in of if not np.isnan(value)]
        if known:
            panel.bar(number, np.mean(known), color=color, alpha=0.5)
            panel.plot([number] * len(known), known, "o", color="black", markersize=3)
        panel.set_xticks(range(len(values)), list(values), rotation=45, ha="right")
        del name
    panel.set(ylabel=label, ylim=(0, 1))
    return figure


def draw_curves(curves: Mapping[str, Sequence[Curve]], across: str, label: str) -> Figure:
    """Return the curves of each model, one for each of its runs, in the color of the model."""
    figure, panel = _panel()
    for number, (color, (name, of)) in enumerate(zip(class_colors(len(curves)), curves.items(), strict=True)):
        for run, curve in enumerate(of):
            style = _STYLES[number // 10 % len(_STYLES)]
            panel.plot(*zip(*curve, strict=True), style, color=color, label=name if run == 0 else None, linewidth=1)
    panel.set(xlabel=across, ylabel=label)
    _legend(panel)
    return figure


def draw_scatter(points: Mapping[str, Sequence[tuple[float, float]]], across: str, label: str) -> Figure:
    """Return the points of each model, in its color, over an axis that is logarithmic if they span more than 3 to 1."""
    figure, panel = _panel()
    for color, (name, of) in zip(class_colors(len(points)), points.items(), strict=True):
        panel.plot(*zip(*of, strict=True), "o", color=color, label=name, markersize=5)
    panel.set(xlabel=across, ylabel=label)
    lengths = [x for of in points.values() for x, _ in of]
    if max(lengths) > 3 * min(lengths):
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:g}")
    _legend(panel)
    return figure


def draw_reliability(of_models: Mapping[str, Reliability]) -> Figure:
    """Return the share of voxels of a class over the predicted probability, for each model, all classes together."""
    figure, panel = _panel()
    panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for number, (color, (name, found)) in enumerate(zip(class_colors(len(of_models)), of_models.items(), strict=True)):
        there = found.count > 0
        style = _STYLES[number // 10 % len(_STYLES)]
        mean, share = (array[there] / found.count[there] for array in (found.probability, found.present))
        panel.plot(mean, share, f"o{style}", color=color, label=name, markersize=3, linewidth=1)
    panel.set(xlabel=f"predicted probability, mean of {BINS} intervals", ylabel="share of the class", xlim=(0, 1))
    panel.set_ylim(0, 1)
    _legend(panel)
    return figure


def _panel(width: float = 6.5) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2), layout="constrained")
    panel = figure.subplots()
    panel.grid(alpha=0.3)
    return figure, panel


def _legend(panel: Axes) -> None:
    panel.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
