"""The context dial: which networks find out a kind that a landmark decides, over the distance of that landmark.

    python benchmarks/context.py [--quick] [--seconds 5] [--seeds 3] [--figure context.png] [--results context.json]

In two dimensions, at 32 nm. Cells meet at membranes. Each has a landmark in its middle, bright or dark: the kind of the
cell. The small organelles around it all look alike. Between the landmark and any organelle is the distance that the
dial is set to. A network labels organelles and the area of cells by their kind, at each of its scales. All networks
learn for the same time of one processor, from the same images. The table has the share of organelles of other images
whose right kind scores higher, mean and spread over seeds; 0.5 is chance.

The last line is the proof that the looks of an organelle tell nothing: a classifier of isolated crops around them,
which end before the landmark begins at any setting of the dial.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from context_images import CHANNELS, CROP, PADDING, VOXEL, Array, Images
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray
from torch import Tensor, nn

from scalenet_gp import LeibNet, Plan, build_attentive_scalenet, build_scalenet
from scalenet_gp.losses import CrossEntropyDice

DISTANCES = (0.25, 0.5, 1, 2, 4)  # µm
RATE = 1e-2
JUDGED = 40  # organelles
CROPS = "classifier of isolated crops"


@dataclass(frozen=True)
class Side:
    """A network and how it learns.

    Attributes:
        name: its name in the table.
        scales: voxel sizes (nm), coarse ones first.
        boxes: voxels along each axis of the outputs of a sample.
        batch: samples a step.
        levels: number of times that each subnet halves the resolution.
        build: makes the network of its subnets.
        join: how features of a coarse subnet enter the next one.
    """

    name: str
    scales: tuple[int, ...]
    boxes: tuple[int, ...]
    batch: int = 4
    levels: tuple[int, ...] = (1, 1, 1)
    build: Callable[..., LeibNet] = build_scalenet
    join: str | None = None

    def network(self) -> LeibNet:
        """Return the network, with outputs that end in logits."""
        subnets = [
            {
                "top_resolution": (size, size),
                "base_nc": 8,
                "output_nc": len(CHANNELS),
                "downsample_factors": [(2, 2)] * self.levels[number],
                "norm_layer": "batch",
                "final_activation": "Identity",
            }
            | ({"bottleneck_join": self.join} if self.join and number else {})
            for number, size in enumerate(self.scales)
        ]
        return self.build(subnets)


THREE = (512, 128, 32), (20, 24, 32), 4, (2, 1, 1)
SIDES = (
    Side("U-Net", (32,), (48,)),
    Side("U-Net, 5 levels", (32,), (192,), batch=1, levels=(5,)),
    Side("coarse scale alone", (512,), (20,), levels=(2,)),
    Side("ScaleNet, 2 scales", (128, 32), (32, 32)),
    Side("ScaleNet, 3 scales", *THREE),
    *(Side(f"ScaleNet, 3 scales, {join}", *THREE, join=join) for join in ("sum", "gated_sum", "attention")),
    Side("attentive ScaleNet, 3 scales", *THREE, build=build_attentive_scalenet),
)


class Task:
    """The tissue that a network learns from and that it is judged by, at one setting of the dial."""

    def __init__(self, distance: float, train: int, test: int, size: int) -> None:
        self.train = Images.draw(0, distance, train, size)
        self.test = Images.draw(1, distance, test, size)
        self._pyramids: dict[tuple[int, bool], tuple[Array, NDArray[np.uint8]]] = {}

    def pyramid(self, size: int, held_out: bool) -> tuple[Array, NDArray[np.uint8]]:
        """Return :meth:`Images.pyramid` of the images to judge by, or of those to learn from."""
        if (size, held_out) not in self._pyramids:
            self._pyramids[size, held_out] = (self.test if held_out else self.train).pyramid(size)
        return self._pyramids[size, held_out]


@dataclass(frozen=True)
class Sampler:
    """Draws samples about organelles."""

    task: Task
    side: Side
    net: LeibNet

    def rois(self, boxes: tuple[int, ...]) -> dict[str, Roi]:
        """Return boxes of the outputs about a common centre, on the lattice of each."""
        rois = {}
        for key, size, voxels in zip(self.net.output_keys, self.side.scales, boxes, strict=True):
            rois[key] = Roi((-(voxels // 2) * size,) * 2, (voxels * size,) * 2)
        return rois

    @cached_property
    def plan(self) -> Plan:
        """The plan of a sample to learn from."""
        return self.net.plan(self.rois(self.side.boxes))

    def cut(self, roi: Roi, key: str, at: NDArray[np.int64], held_out: bool, labels: bool) -> Tensor:
        """Return the part of an image in ``roi`` (nm) about the voxel ``at``, which is moved to the common lattice."""
        size = self.net.voxel_size[key][0]
        coarsest = self.side.scales[0]
        centre = Coordinate(int(at[1]) * VOXEL, int(at[2]) * VOXEL) / coarsest * coarsest
        begin = (roi.begin + centre + PADDING) / size
        end = begin + roi.shape / size
        array = self.task.pyramid(size, held_out)[labels]
        return torch.from_numpy(array[at[0], :, begin[0] : end[0], begin[1] : end[1]].astype(np.float32))

    def draw(self, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return inputs and targets of a batch."""
        places = self.task.train.places
        half = self.side.boxes[-1] * self.side.scales[-1] // VOXEL // 2
        inputs: dict[str, list[Tensor]] = {key: [] for key in self.plan.inputs}
        targets: dict[str, list[Tensor]] = {key: [] for key in self.plan.outputs}
        for _ in range(self.side.batch):
            at = places[rng.integers(len(places))] + np.insert(rng.integers(-half, half, 2), 0, 0)
            at[1:] = at[1:].clip(0, self.task.train.raw.shape[-1] - 1)
            turns, mirrored = rng.integers(4), rng.integers(2)
            for rois, kept, labels in ((self.plan.inputs, inputs, False), (self.plan.outputs, targets, True)):
                for key, roi in rois.items():
                    part = torch.rot90(self.cut(roi, key, at, False, labels), int(turns), (-2, -1))
                    kept[key].append(part.flip(-1) if mirrored else part)
        return tuple({key: torch.stack(parts) for key, parts in batch.items()} for batch in (inputs, targets))


def learn(side: Side, task: Task, seconds: float, seed: int) -> tuple[float, int]:
    """Train a network for so many seconds of the processor; return its accuracy and its steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = side.network()
    sampler = Sampler(task, side, net)
    losses = {key: CrossEntropyDice() for key in net.output_keys}
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    begin, steps = time.process_time(), 0
    while (spent := (time.process_time() - begin) / seconds) < 1:
        # the usual cosine, of the time instead of the steps, after a short warm-up
        optimizer.param_groups[0]["lr"] = RATE * min(1, (steps + 1) / 10) * (1 + np.cos(np.pi * spent)) / 2
        inputs, targets = sampler.draw(rng)
        outputs = net(inputs, sampler.plan)
        optimizer.zero_grad()
        loss = torch.stack(
            [
                losses[key](logits, targets[key], torch.ones_like(logits), activation="Sigmoid")
                for key, logits in outputs.items()
            ]
        ).sum()
        loss.backward()
        optimizer.step()
        steps += 1
    estimate_statistics(net, sampler, rng)
    return judge(side, task, net, rng), steps


def estimate_statistics(net: LeibNet, sampler: Sampler, rng: np.random.Generator) -> None:
    """Replace the running statistics of batch normalization by means over 30 batches."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    net.train()
    with torch.no_grad():
        for _ in range(30):
            net(sampler.draw(rng)[0], sampler.plan)


def judge(side: Side, task: Task, net: LeibNet, rng: np.random.Generator) -> float:
    """Return the share of held-out organelles whose right kind has the larger mean logit.

    At 32 nm the channels of organelles are compared. At coarse scales, which do not show them, those of cells are.
    """
    net.eval()
    sampler, images = Sampler(task, side, net), task.test
    key, size = net.output_keys[-1], side.scales[-1]
    first = 0 if size == VOXEL else 2
    lattice = side.scales[0] // VOXEL
    right = 0
    chosen = rng.permutation(len(images.places))[:JUDGED]
    for number in chosen:
        at = images.places[number]
        # the organelle's voxels: 7 around its middle at 32 nm, one at a coarse scale
        offset = Coordinate(int(v % lattice) * VOXEL for v in at[1:])
        half = 3 * VOXEL if size == VOXEL else 0
        box = Roi(offset - half, (2 * half + VOXEL,) * 2).snap_to_grid(net.voxel_size[key], mode="grow")
        plan = net.plan({key: box})
        inputs = {name: sampler.cut(roi, name, at, True, False)[None] for name, roi in plan.inputs.items()}
        with torch.no_grad():
            logits = net(inputs, plan)[key][0].mean((1, 2))
        right += int(logits[first : first + 2].argmax()) == images.kinds[number]
    return right / len(chosen)


def learn_crops(task: Task, seconds: float, seed: int) -> tuple[float, int]:
    """Train a classifier of crops around organelles; return its accuracy and its steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = crop_classifier()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)

    def batch(images: Images, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        crops = [
            images.raw[n, y - CROP // 2 : y + CROP // 2 + 1, x - CROP // 2 : x + CROP // 2 + 1]
            for n, y, x in images.places[chosen]
        ]
        return torch.from_numpy(np.stack(crops))[:, None], torch.from_numpy(images.kinds[chosen])

    begin, steps = time.process_time(), 0
    while time.process_time() - begin < seconds:
        crops, kinds = batch(task.train, rng.integers(len(task.train.places), size=64))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(crops), kinds).backward()
        optimizer.step()
        steps += 1
    net.eval()
    crops, kinds = batch(task.test, np.arange(len(task.test.places)))
    with torch.no_grad():
        return (net(crops).argmax(1) == kinds).double().mean().item(), steps


def crop_classifier() -> nn.Module:
    """Return a small network for crops of :data:`CROP` voxels along each axis."""
    layers = []
    for before, after in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2))


def count_parameters(module: nn.Module) -> int:
    """Return the number of weights."""
    return sum(parameter.numel() for parameter in module.parameters())


def reach(net: LeibNet) -> float:
    """Return how far (µm) the finest output looks to the sides."""
    key = net.output_keys[-1]
    return max(shape[0] for shape in net.receptive_field(key).values()) / 2000


def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """Return a record for each side, with its accuracies by distance."""
    sides = [side for side in SIDES if options.only is None or re.search(options.only, side.name)]
    nets = {side.name: side.network() for side in sides}
    records = [
        {"side": name, "parameters": count_parameters(net), "reach": reach(net), "accuracy": {}, "steps": {}}
        for name, net in nets.items()
    ]
    proof = {"side": CROPS, "parameters": count_parameters(crop_classifier()), "reach": CROP // 2 * VOXEL / 1000}
    records.append(proof | {"accuracy": {}, "steps": {}})
    for distance in options.distances:
        task = Task(distance, options.images, max(2, options.images // 2), options.size)
        for record, side in zip(records, (*sides, None), strict=True):
            runs = [
                learn_crops(task, options.seconds, seed) if side is None else learn(side, task, options.seconds, seed)
                for seed in range(options.seeds)
            ]
            record["accuracy"][str(distance)] = [accuracy for accuracy, _ in runs]
            record["steps"][str(distance)] = [steps for _, steps in runs]
            scores = ", ".join(f"{accuracy:.2f}" for accuracy, _ in runs)
            print(f"{distance} µm, {record['side']}: {scores}, {runs[0][1]} steps", flush=True)
    return records


def table(records: list[dict[str, object]], distances: list[float]) -> str:
    """Return the records as a table of Markdown."""
    head = ["network", "parameters", "sees (µm)", *(f"{distance:g} µm" for distance in distances)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for record in records:
        cells = []
        for distance in distances:
            scores = record["accuracy"][str(distance)]
            cells.append(f"{statistics.mean(scores):.2f} ± {statistics.pstdev(scores):.2f}")
        row = [record["side"], f"{record['parameters']:,}", f"{record['reach']:.1f}", *cells]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def draw(records: list[dict[str, object]], distances: list[float], path: Path) -> None:
    """Draw accuracy over distance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, record in enumerate(records):
        scores = np.array([record["accuracy"][str(distance)] for distance in distances])
        style = "--" if number == len(records) - 1 else "-"
        axes.errorbar(distances, scores.mean(1), scores.std(1), label=record["side"], linestyle=style, marker="o", ms=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(distances, [f"{distance:g}" for distance in distances])
    axes.set_xlabel("distance of the landmark that decides (µm)")
    axes.set_ylabel("share of organelles of the right kind")
    axes.set_ylim(0.35, 1.02)
    axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="processor time that each network learns for")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=8, help="images to learn from; half as many to judge by")
    parser.add_argument("--size", type=int, default=1024, help="voxels along an image's axes, a multiple of 16")
    parser.add_argument("--distances", type=float, nargs="+", default=DISTANCES, metavar="µm")
    parser.add_argument("--only", metavar="REGEX", help="networks whose names match, and the classifier of crops")
    parser.add_argument("--quick", action="store_true", help="two distances, one seed, a second each: does it run?")
    parser.add_argument("--results", type=Path, help="JSON file for all numbers")
    parser.add_argument("--figure", type=Path, help="PNG file for the figure")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.seeds, options.images, options.size, options.distances = 1, 1, 2, 512, [0.5, 1]
    torch.set_num_threads(1)
    records = measure(options)
    print(table(records, options.distances))
    if options.results is not None:
        options.results.write_text(json.dumps(records, indent=1) + "\n")
    if options.figure is not None:
        draw(records, options.distances, options.figure)


if __name__ == "__main__":
    main()
