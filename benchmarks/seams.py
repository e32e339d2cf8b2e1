"""Seams between tiles: what padding changes at their borders, with and without overlap, and valid convolutions do not.

    python benchmarks/seams.py [--seconds 45] [--seeds 3] [--folder docs/evidence]

Two U-Nets of three levels learn the 2D task of `learning.py`: one of valid convolutions, one whose convolutions pad.
Both predict the held-out section in one piece and in tiles side by side, the one that pads also in half overlapping
tiles that are blended with a Gaussian weight, the usual practice (sigma an eighth of a tile). The table has the mean
absolute difference between the probabilities of tiles and of the piece, within four voxels of where tiles meet and
elsewhere; the share of voxels that change sides of 0.5; the mean Dice; and the voxels that were read for each voxel of
the section.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from evidence_files import add_rows, begin, write_markdown
from funlib.geometry import Coordinate, Roi
from learning import draw_samples, time_step
from learning_sides import OwnSide, build
from learning_tasks import task_2d
from learning_volumes import Task
from numpy.typing import NDArray

LEVELS = [[2, 2]] * 3
SIDES = {
    "valid": OwnSide(builder="unet", network={"downsample_factors": LEVELS}, voxels=[[96, 96]], batch=1),
    "padded": OwnSide(
        builder="unet",
        network={"downsample_factors": LEVELS, "padding": "same"},
        voxels=[[128, 128]],
        batch=1,
        inner=True,
    ),
}
TILES = (64, 128, 256)
NEAR = 4  # voxels
RIM = (
    128  # voxels at the border of the section that are not compared: there, padding is at the border of the piece, too
)


class Predictor:
    """Predicts boxes of the held-out section."""

    def __init__(self, task: Task, learner: Any) -> None:
        self.task, self.learner, self.computed = task, learner, 0

    def box(self, begin: tuple[int, ...], width: int) -> NDArray[np.float32]:
        """Return the probabilities (C, y, x) of a box."""
        net = self.learner.net
        size = net.voxel_size[self.learner.finest]
        plan = net.plan({self.learner.finest: Roi((0, 0), Coordinate(width, width) * size)})
        boxes = {name: self.learner.box(name, plan) for name in plan.inputs}
        raw = {name: torch.from_numpy(self.task.held_out.read_raw(b, begin)[None, None]) for name, b in boxes.items()}
        self.computed += sum(each.numel() for each in raw.values())
        with torch.no_grad():
            made: NDArray[np.float32] = net.eval()(raw, plan)[self.learner.finest][0].numpy()
        return made

    def tiled(self, voxels: int, width: int, blend: bool) -> NDArray[np.float32]:
        """Return the probabilities of the section of ``voxels`` along each axis, made of tiles."""
        step = width // 2 if blend else width
        total = np.zeros((len(self.task.classes), voxels, voxels), np.float32)
        weight = np.zeros((voxels, voxels), np.float32)
        place = np.arange(width) - (width - 1) / 2
        along = np.exp(-0.5 * (place / (width / 8)) ** 2) if blend else np.ones(width)
        own = np.outer(along, along).astype(np.float32) + 1e-6 * blend
        for y, x in _begins(voxels, step, width):
            total[:, y : y + width, x : x + width] += self.box((y, x), width) * own
            weight[y : y + width, x : x + width] += own
        return total / weight


def _begins(voxels: int, step: int, width: int) -> Iterator[tuple[int, int]]:
    begins = range(0, voxels - width + 1, step)
    return ((y, x) for y in begins for x in begins)


def compare(task: Task, name: str, seed: int, seconds: float) -> list[dict[str, Any]]:
    """Train a network, and return a row for each way to tile."""
    side = SIDES[name]
    iterations = max(3, round(seconds / time_step(task, side)))
    learner = build(side, task, seed, iterations)
    samples = draw_samples(task, learner, [seed, 0])
    for _ in range(iterations):
        learner.step(next(samples))
    voxels = task.held_out.raw.shape[0]
    true = task.held_out.labels > 0
    rows = []
    with learner.judging(draw_samples(task, learner, [seed, 1])):
        whole = Predictor(task, learner)
        piece = whole.box((0, 0), voxels)
        channels = [task.classes.index(each) for each in task.scored]
        inner = np.zeros((voxels, voxels), bool)
        inner[RIM:-RIM, RIM:-RIM] = True
        ways = [(width, blend) for width in TILES for blend in ((False, True) if side.inner else (False,))]
        for width, blend in ((voxels, False), *ways):
            tiles = Predictor(task, learner)
            made = piece if width == voxels else tiles.tiled(voxels, width, blend)
            met = np.arange(voxels) % (width // 2 if blend else width)
            near = np.minimum(met, (width // 2 if blend else width) - met) < NEAR
            at = (near[:, None] | near[None]) & inner
            apart = np.abs(made - piece)[channels]
            rows.append(
                {
                    "convolutions": name,
                    "tiles": "one piece" if width == voxels else f"{width}²",
                    "overlap": "half, blended" if blend else "none",
                    "seed": seed,
                    "at borders": float(apart[:, at].mean()) if at.any() else 0.0,
                    "elsewhere": float(apart[:, inner & ~at].mean()),
                    "other side of 0.5": float(((made >= 0.5) != (piece >= 0.5))[channels][:, inner].mean()),
                    "Dice": statistics.mean(_dice(made[n] >= 0.5, true[n]) for n in channels),
                    "read per voxel": (whole if width == voxels else tiles).computed / voxels**2,
                }
            )
            print(rows[-1], flush=True)
    return rows


def _dice(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return 2 * float((said & true).sum()) / float(said.sum() + true.sum())


def main() -> None:
    options = begin(__doc__)
    task = task_2d()
    rows = [
        row for seed in range(options.seeds) for name in SIDES for row in compare(task, name, seed, options.seconds)
    ]
    path = options.folder / "seams.csv"
    path.unlink(missing_ok=True)
    add_rows(path, [{k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    write_markdown(path, *table(rows))


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return means over seeds as the head and the rows of a table."""
    how = ("convolutions", "tiles", "overlap")
    measured = [key for key in rows[0] if key not in (*how, "seed")]
    lines = []
    for kind in dict.fromkeys(tuple(row[key] for key in how) for row in rows):
        own = [row for row in rows if tuple(row[key] for key in how) == kind]
        means = {key: statistics.mean(row[key] for row in own) for key in measured}
        lines.append(
            [*kind, *(f"{value:.2f}" if key == "read per voxel" else f"{value:.4f}" for key, value in means.items())]
        )
    return [*how, *measured], lines


if __name__ == "__main__":
    main()
