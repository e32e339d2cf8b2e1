"""Pictures of scores at every threshold: of classes, and of objects that fragments make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scalenet_gp.pictures import class_colors

__all__ = ["draw_merge_thresholds", "draw_thresholds"]


def draw_thresholds(thresholds: Sequence[float], dice: Mapping[str, np.ndarray], output: Path) -> Path:
    """Draw a curve for each class, with a dot at its largest Dice coefficient.

    Args:
        thresholds: the thresholds.
        dice: the Dice coefficient at each of them, by the name of the class.
        output: PNG file to make.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    panel = figure.subplots()
    for (name, curve), color in zip(dice.items(), class_colors(len(dice)), strict=True):
        panel.plot(thresholds, curve, color=color, label=name)
        if not np.isnan(curve).all():
            best = int(np.nanargmax(curve))
            panel.plot(thresholds[best], curve[best], "o", color=color)
    panel.set(xlabel="threshold", ylabel="Dice coefficient", xlim=(0, 1), ylim=(0, 1))
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    figure.savefig(output, dpi=120)
    return output


def draw_merge_thresholds(
    thresholds: Sequence[float], scores: Mapping[str, Sequence[float]], chosen: float, output: Path
) -> Path:
    """Draw a curve for each score over the thresholds up to which fragments are joined.

    Args:
        thresholds: the thresholds.
        scores: the score at each of them, by its name; 0 is the best of all.
        chosen: the threshold that is marked.
        output: PNG file to make.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    panel = figure.subplots()
    for (name, curve), color in zip(scores.items(), class_colors(len(scores)), strict=True):
        panel.plot(thresholds, curve, "o-", markersize=3, color=color, label=name)
    panel.axvline(chosen, color="black", linewidth=0.8, linestyle="--", label=f"chosen: {chosen:g}")
    panel.set(xlabel="merge threshold", ylabel="score: bits, and adapted Rand error", ylim=(0, None))
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    figure.savefig(output, dpi=120)
    return output
