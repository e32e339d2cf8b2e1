"""From which scale a ScaleNet knows what: gradients with respect to each input, and scores without each input.

    python benchmarks/information_flow.py [--seconds 45] [--seeds 3] [--folder docs/evidence]

A ScaleNet learns the 2D task of `learning.py`. Then it is judged with its inputs as they are, and with one of them
replaced by its mean, so that this scale tells nothing. And the score of each class is derived with respect to each
input at 200 voxels of this class that were not learned: the table has the share of each scale in the sum of gradients
times standard deviation of the input, which is what a change of usual size does.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from evidence_files import add_rows, begin, write_markdown
from learning import draw_samples, judge, time_step
from learning_sides import Learner, OwnSide, around, build
from learning_tasks import task_2d
from learning_volumes import Sample, Task
from torch import Tensor

SIDE = OwnSide()


class Blind(Learner):
    """A learner that sees the mean of an input in its place."""

    def __init__(self, learner: Learner, blinded: str) -> None:
        self.seeing, self.blinded = learner, blinded
        self.judged, self.judged_inputs = learner.judged, learner.judged_inputs

    def step(self, sample: Sample) -> None:
        self.seeing.step(sample)

    def predict(self, inputs: Mapping[str, Tensor]) -> Tensor:
        mean = torch.full_like(inputs[self.blinded], float(inputs[self.blinded].mean()))
        return self.seeing.predict({**inputs, self.blinded: mean})


def train(task: Task, seed: int, seconds: float) -> tuple[Learner, AbstractContextManager[None]]:
    """Return a network that has learned, and the context in which it is judged."""
    iterations = max(3, round(seconds / time_step(task, SIDE)))
    learner = build(SIDE, task, seed, iterations)
    samples = draw_samples(task, learner, [seed, 0])
    for _ in range(iterations):
        learner.step(next(samples))
    return learner, learner.judging(draw_samples(task, learner, [seed, 1]))


def gradients(task: Task, learner: Any, seed: int, voxels: int = 200) -> dict[str, dict[str, float]]:
    """Return the share of each input in the gradients of the score of each class."""
    rng = np.random.default_rng([seed, 4])
    net, key = learner.net.eval(), learner.finest
    plan = net.plan({key: around(net.voxel_size[key], (1,) * net.dims)})
    boxes = {name: learner.box(name, plan) for name in plan.inputs}
    lattice = np.array(task.held_out.factor(task.voxel_sizes[0]))
    shares = {}
    for name in task.scored:
        channel, sums = task.classes.index(name), dict.fromkeys(boxes, 0.0)
        places = task.held_out.voxels_of(channel)
        places = places[(places % lattice == 0).all(1)]
        for place in places[rng.permutation(len(places))[:voxels]]:
            inputs = {
                each: torch.from_numpy(task.held_out.read_raw(box, place)[None, None]).requires_grad_()
                for each, box in boxes.items()
            }
            score = net(inputs, plan)[key][0, channel].logit(eps=1e-6).sum()
            for each, gradient in zip(inputs, torch.autograd.grad(score, list(inputs.values())), strict=True):
                sums[each] += float(gradient.norm() * inputs[each].detach().std())
        shares[name] = {each: value / sum(sums.values()) for each, value in sums.items()}
    return shares


def main() -> None:
    options = begin(__doc__)
    task, rows = task_2d(), []
    names = {f"{n}_input": f"{int(size[0])} nm" for n, size in enumerate(task.voxel_sizes)}
    for seed in range(options.seeds):
        learner, judging = train(task, seed, options.seconds)
        with judging:
            for blinded in (None, *names):
                made = judge(task, learner if blinded is None else Blind(learner, blinded))
                without = "" if blinded is None else names[blinded]
                rows.append({"seed": seed, "measure": "score", "scale": without, **made["dice"], "kind": made["kind"]})
            shares = gradients(task, learner, seed)
        for each, name in names.items():
            own = {scored: shares[scored][each] for scored in task.scored}
            rows.append({"seed": seed, "measure": "gradient", "scale": name, **own, "kind": ""})
        print(*rows[-7:], sep="\n", flush=True)
    path = options.folder / "information_flow.csv"
    path.unlink(missing_ok=True)
    add_rows(path, [{k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    write_markdown(path, *table(rows, [*task.scored, "kind"]))


def table(rows: list[dict[str, Any]], columns: list[str]) -> tuple[list[str], list[list[str]]]:
    """Return means and standard deviations over seeds as the head and the rows of a table."""
    lines = []
    for measure, title in (("score", "score without"), ("gradient", "share in the gradient of")):
        for scale in dict.fromkeys(row["scale"] for row in rows if row["measure"] == measure):
            own = [row for row in rows if (row["measure"], row["scale"]) == (measure, scale)]
            cells = []
            for column in columns:
                values = [row[column] for row in own if row[column] != ""]
                deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.2f}{deviation}" if values else "")
            lines.append([f"{title} {scale}" if scale else "score with all scales", *cells])
    return ["", *columns], lines


if __name__ == "__main__":
    main()
