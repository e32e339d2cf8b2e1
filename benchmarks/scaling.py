"""The cost of a wide field of view: chained U-Nets against one deep U-Net, by formula and as predicted from the graph.

    python benchmarks/scaling.py [--folder docs/evidence]

In three dimensions, for an output of 32³ voxels of 8 nm: U-Nets of one to five levels, and ScaleNets of one to five
scales, each four times as coarse as the next finer one and of one level. All have 12 channels at the first level and
two convolutions in a pass. The formulas are derived in docs/evidence/scaling.md; they know nothing of the package. What
they give is compared with the receptive field, the plan and the cost that the package finds for the network itself.
Memory is that of a training step of one sample, on one thread, predicted. With an output of 1024³ voxels, which fits
into no memory, margins hardly count: that column is what a prediction of a large volume comes near to.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from evidence_files import DOCS, write_table
from funlib.geometry import Roi

from scalenet_gp import LeibNet, build_scalenet, build_unet
from scalenet_gp.analysis import predict_cost

VOXEL, OUTPUT, LARGE, CHANNELS, CONVS, RATIO = 8, 32, 1024, 12, 2, 4

# ------------------------------------------------------------------------------------------------------------ formulas


@dataclass
class Work:
    """The sums of work and values of convolutions, for boxes with the same bounds along three axes."""

    macs: int = 0
    values: int = 0

    def convolve(self, low: int, high: int, read: int, made: int, kernel: int = 3) -> None:
        """Count a convolution that makes the voxels from ``low`` to ``high``."""
        voxels = (high - low) ** 3
        self.macs += voxels * read * made * kernel**3
        self.values += voxels * made

    def convolve_pass(self, low: int, high: int, read: int, made: int) -> tuple[int, int]:
        """Count the convolutions of a pass that makes these voxels; return the bounds of what it reads."""
        for number in range(CONVS):
            margin = CONVS - 1 - number
            self.convolve(low - margin, high + margin, read if number == 0 else made, made)
        return low - CONVS, high + CONVS


def halve(low: int, high: int) -> tuple[int, int]:
    """Return the coarse voxels that fine ones lie in."""
    return low // 2, -(-high // 2)


@dataclass
class UNetFormula:
    """The boxes of a U-Net whose output (or features) has these bounds, by the recursion of the page.

    Attributes:
        levels: number of times that it halves the resolution.
        entering: channels of coarser features that join those of the bottleneck.
        work: what its convolutions take.
    """

    levels: int
    entering: int = 0
    work: Work = field(default_factory=Work)

    def boxes(self, low: int, high: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the bounds of what the bottleneck's pass reads, and of the input."""
        for level in range(self.levels):
            nc = CHANNELS * 2**level
            low, high = halve(*self.work.convolve_pass(low, high, 3 * nc, nc))
        deepest = CHANNELS * 2**self.levels
        read = (deepest // 2 if self.levels else 1) + self.entering
        low, high = bottleneck = self.work.convolve_pass(low, high, read, deepest)
        for level in reversed(range(self.levels)):
            nc = CHANNELS * 2**level
            low, high = self.work.convolve_pass(2 * low, 2 * high, nc // 2 if level else 1, nc)
        return bottleneck, (low, high)


def unet_formula(levels: int, low: int, high: int) -> tuple[int, Work]:
    """Return the width of the input, in voxels, and the work for an output with these bounds."""
    unet = UNetFormula(levels)
    unet.work.convolve(low, high, CHANNELS, 1, 1)
    _, (begin, end) = unet.boxes(low, high)
    return end - begin, unet.work


def scalenet_formula(scales: int, low: int, high: int) -> tuple[int, Work]:
    """Return the width of the widest input, in voxels of the finest scale, and the work, likewise."""
    work, widest = Work(), 0
    work.convolve(low, high, CHANNELS, 1, 1)
    for scale in range(scales):
        unet = UNetFormula(1, CHANNELS if scale < scales - 1 else 0, work)
        bottleneck, (begin, end) = unet.boxes(low, high)
        widest = max(widest, (end - begin) * RATIO**scale)
        low, high = (n * 2 for n in bottleneck)  # in voxels of this scale
        low, high = low // RATIO, -(-high // RATIO)
    return widest, work


def field_of_view(formula: Any, number: int, positions: int) -> int:
    """Return the widest input of one output voxel, over its positions in the coarsest voxels."""
    return max(formula(number, place, place + 1)[0] for place in range(positions))


# ------------------------------------------------------------------------------------------------------------ networks


def unet(levels: int) -> LeibNet:
    """Return the U-Net of so many levels."""
    return build_unet((VOXEL,) * 3, base_nc=CHANNELS, downsample_factors=[(2, 2, 2)] * levels)


def scalenet(scales: int) -> LeibNet:
    """Return the ScaleNet of so many scales."""
    sizes = [(VOXEL * RATIO**n,) * 3 for n in reversed(range(scales))]
    return build_scalenet(
        [{"top_resolution": size, "base_nc": CHANNELS, "downsample_factors": [(2, 2, 2)]} for size in sizes]
    )


def measure() -> list[dict[str, Any]]:
    """Return a row for each network."""
    rows = []
    kinds = (("U-Net, levels", unet, unet_formula), ("ScaleNet, scales", scalenet, scalenet_formula))
    for kind, build, formula in kinds:
        for number in range(1, 6):
            net = build(number)
            key = net.output_keys[-1]
            plan = net.plan({key: Roi((0,) * 3, (OUTPUT * VOXEL,) * 3)})
            step, pass_ = (predict_cost(net.graph, plan, training=training) for training in (True, False))
            positions = 2 * RATIO ** (number - 1) if build is scalenet else 2**number
            width, work = formula(number, 0, OUTPUT)
            _, large = formula(number, 0, LARGE)
            voxels = OUTPUT**3
            rows.append(
                {
                    "network": f"{kind}: {number}",
                    "parameters": sum(parameter.numel() for parameter in net.parameters()),
                    "field of view (µm)": max(s[0] for s in net.receptive_field(key).values()) / 1000,
                    "field by formula": field_of_view(formula, number, positions) * VOXEL / 1000,
                    "widest input (µm)": max(tensor.roi.shape[0] for tensor in plan.input_tensors.values()) / 1000,
                    "input by formula": width * VOXEL / 1000,
                    "kMAC per voxel": round(pass_.total_macs / voxels / 1000, 2),
                    "work by formula": round(work.macs / voxels / 1000, 2),
                    f"work by formula, {LARGE}³": round(large.macs / LARGE**3 / 1000, 2),
                    "values made (million)": round(work.values / 1e6, 2),
                    "memory of a step (MiB)": round(step.peak / 2**20, 1),
                }
            )
            print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw work and memory over the field of view."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = (("kMAC per voxel", "work by formula"), ("memory of a step (MiB)", None))
    for axis, (measured, formula) in zip(figure.subplots(1, 2), panels, strict=True):
        for color, kind in (("C0", "U-Net"), ("C1", "ScaleNet")):
            chosen = [row for row in rows if row["network"].startswith(kind)]
            sees = [row["field of view (µm)"] for row in chosen]
            axis.plot(sees, [row[measured] for row in chosen], "o", color=color, label=f"{kind}, of the graph")
            if formula:
                axis.plot(sees, [row[formula] for row in chosen], "-", color=color, lw=1, label=f"{kind}, by formula")
        axis.set(xscale="log", yscale="log", xlabel="field of view (µm)", ylabel=measured)
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=DOCS, help="folder of the results (docs/evidence)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure()
    write_table(options.folder / "scaling.csv", rows)
    draw(rows, options.folder / "scaling.png")


if __name__ == "__main__":
    main()
