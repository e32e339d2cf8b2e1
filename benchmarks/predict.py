"""Prediction of a region: our blocks against gunpowder's Scan with torch.Predict, and against LeibNetz's forward pass.

    python benchmarks/predict.py                       # all of it, half an hour on two cores
    python benchmarks/predict.py --only gunpowder      # one part: gunpowder, leibnetz, unet or slabs

The network is the default 128/32/8 nm ScaleNet with one set of weights; its finest output is predicted over a box of
8 nm voxels within a pyramid of uint8 on the disk, and written to the disk as float32. Each run is a process of its own,
and they take turns, in every other round in reverse order. A figure is the median of its runs. Comparisons with
gunpowder and LeibNetz are the median of the ratios within the rounds, as the machine may be faster in one round than in
another. Each run predicts 64³ voxels first, untimed, so that everything is imported. scalenet_gp's command line keeps
freed memory (`scalenet_gp.kernels.keep_freed_memory`). gunpowder is measured as its users run it, and with freed memory
kept, which helps it too.

gunpowder's side is the chain that its users write: a ZarrSource for each level, Normalize, IntensityScaleShift,
torch.Predict with our network behind `GunpowderModel`, ZarrWrite, Scan. It predicts in tiles of each of `--tiles`
voxels, and the best counts. Its convolutions are torch's. Ours are all oneDNN's, narrow ones computed for two voxels at
a time, as `scalenet-gp predict` does. LeibNetz's side is the time of its forward pass on its own default tile of 128³
voxels, without reading and writing, times the number of tiles in the region. The predictions have to agree.

The arithmetic limit is that of the convolutions alone: the multiply-accumulates of an output voxel without any halo, at
the rate at which this machine computes convolutions of the same channels and kernels on large tensors, one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from arithmetic_limit import halo_free_macs, layer_rate
from data_volume import write_volume
from measuring import bfloat16_is_native, ratio
from prediction_sides import SIDES, Run, agreement, make_run, our_network
from rich.console import Console
from rich.table import Table

from scalenet_gp.kernels import choose_device

PARTS = ("gunpowder", "leibnetz", "unet", "slabs")
LENGTH = 16384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="measure one part")
    parser.add_argument("--voxels", type=int, default=256, help="width of the region in voxels, in steps of 128 (256)")
    parser.add_argument("--planes", type=int, help="length of the region along the first axis, in voxels (its width)")
    parser.add_argument("--tiles", type=int, nargs="+", default=[64, 128, 256], help="edges of gunpowder's tiles")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (3)")
    parser.add_argument("--device", help="torch device; the first GPU if there is one")
    parser.add_argument("--run", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run = Run(**arguments.run)
        print(json.dumps(SIDES[run.side](run)))
        return
    console = Console(width=120, highlight=False)
    device = choose_device(arguments.device)
    where = f"{torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    voxels, planes = arguments.voxels, arguments.planes or arguments.voxels
    console.print(f"torch {torch.__version__}, {device}, {where}")
    console.print(f"{planes} × {voxels} × {voxels} voxels, median of {arguments.repeats}")
    if not bfloat16_is_native(device):
        console.print("bfloat16 is left out: this processor has no instructions for it, and torch would emulate it")
    with tempfile.TemporaryDirectory() as folder:
        write_volume(Path(folder) / "volume", LENGTH, labels=False)
        first = make_run(Path(folder), voxels, planes, str(device))
        for part in PARTS:
            if arguments.only in (None, part):
                console.print(globals()[f"against_{part}"](first, arguments))


def against_gunpowder(first: Run, arguments: argparse.Namespace) -> Table:
    """Return the table of the whole region, ours and gunpowder's, with the limit of the convolutions."""
    device = torch.device(first.device)
    precisions = ["float32"] + ["bfloat16"] * bfloat16_is_native(device)
    table = Table("", "", "s", "Mvoxel/s", "peak, GiB", "gunpowder's best", "memory kept", title="The whole region")
    for precision in precisions:
        ours = [replace(first, side="ours", precision=precision, workers=workers) for workers in (0, 1)]
        theirs = [
            replace(first, side="gunpowder", precision=precision, tile=tile, keeps=keeps)
            for keeps in ((False, True) if device.type == "cpu" else (True,))
            for tile in arguments.tiles
        ]
        answers = in_turn(ours + theirs, arguments.repeats)
        table.caption = agreement(answers[0][0], answers[-1][0])
        best = {}
        for keeps in {run.keeps for run in theirs}:
            of_tiles = [of_run for run, of_run in zip(theirs, answers[len(ours) :], strict=True) if run.keeps == keeps]
            best[keeps] = [min(answer["seconds"] for answer in of_round) for of_round in zip(*of_tiles, strict=True)]
        for run, of_run in zip(ours + theirs, answers, strict=True):
            seconds = median(of_run, "seconds")
            how = f"{run.workers} workers" if run.side == "ours" else f"tiles of {run.tile}³"
            how += ", memory kept" * (run.keeps and run.side == "gunpowder")
            row = (f"{seconds:.1f}", f"{run.size / seconds / 1e6:.3f}", f"{median(of_run, 'peak') / 2**30:.2f}")
            against = (gain(best[keeps], of_run) if keeps in best else "" for keeps in (False, True))
            table.add_row(f"{'scalenet_gp' if run.side == 'ours' else 'gunpowder'}, {precision}", how, *row, *against)
        net = our_network()
        macs, rate = halo_free_macs(net, "2_output"), layer_rate(net, "2_output", device, getattr(torch, precision))
        seconds = median(answers[0], "seconds")
        limit = macs * first.size / rate
        table.add_row(
            f"the convolutions' limit, {precision}",
            f"{macs / 1e3:.1f} kMAC/voxel, {rate / 1e9:.1f} GMAC/s",
            f"{limit:.1f}",
        )
        table.add_row("share of the limit that scalenet_gp reaches", "", f"{100 * limit / seconds:.0f} %")
    return table


def against_leibnetz(first: Run, arguments: argparse.Namespace) -> Table:
    """Return the table of our whole prediction and LeibNetz's forward passes."""
    table = Table("", "s", "", title="LeibNetz's forward pass, tile by tile, against the whole of our prediction")
    for precision in ["float32"] + ["bfloat16"] * bfloat16_is_native(torch.device(first.device)):
        runs = [replace(first, side=side, precision=precision) for side in ("ours", "leibnetz")]
        ours, theirs = in_turn(runs, arguments.repeats)
        table.add_row(f"LeibNetz, {precision}", f"{median(theirs, 'seconds'):.1f}", "")
        table.add_row(
            f"scalenet_gp, {precision}",
            f"{median(ours, 'seconds'):.1f}",
            gain([answer["seconds"] for answer in theirs], ours),
        )
        table.caption = agreement(ours[0], theirs[0])
    return table


def against_unet(first: Run, arguments: argparse.Namespace) -> Table:
    """Return the table of a single U-Net and the ScaleNet."""
    runs = [replace(first, side="ours", network=network) for network in ("unet", "scalenet")]
    answers = in_turn(runs, arguments.repeats)
    table = Table("", "U-Net, 8 nm", "ScaleNet, 128/32/8 nm", "", title="The cost of context over a whole region")
    for row, figure, unit in (("s", "seconds", 1.0), ("GiB held at the peak", "peak", 2.0**30)):
        values = [median(of_run, figure) / unit for of_run in answers]
        table.add_row(row, *(f"{value:.2f}" for value in values), ratio(*values[::-1]))
    fields = [answers[index][0]["receptive field"] for index in (0, 1)]
    table.add_row("receptive field, nm", *map(str, fields), ratio(*fields[::-1]))
    return table


def against_slabs(first: Run, arguments: argparse.Namespace) -> Table:
    """Return the table of the region as one box: in one pass, in slabs of several thicknesses, and in tiles."""
    runs = [replace(first, side="box", thickness=nm) for nm in (0, 1024, 512, 256)]
    runs += [replace(first, side="box", tile=tile) for tile in (64, 128)]
    table = Table(
        "one box of the region, computed", "s", "peak memory, GiB", "against one pass", title="Slabs and tiles"
    )
    answers = in_turn(runs, arguments.repeats)
    for run, of_run in zip(runs, answers, strict=True):
        how = (
            f"in slabs of {run.thickness} nm"
            if run.thickness
            else f"in tiles of {run.tile}³"
            if run.tile
            else "in one pass"
        )
        seconds = median(of_run, "seconds")
        row = (f"{seconds:.2f}", f"{median(of_run, 'peak') / 2**30:.2f}", ratio(median(answers[0], "seconds"), seconds))
        table.add_row(how, *row)
    return table


def in_turn(runs: list[Run], repeats: int) -> list[list[dict[str, Any]]]:
    """Return the results of every run, each in a process of its own, one per repeat."""
    answers: list[list[dict[str, Any]]] = [[] for _ in runs]
    for repeat in range(repeats):
        for run, of_run in list(zip(runs, answers, strict=True))[:: -1 if repeat % 2 else 1]:
            command = [sys.executable, __file__, "--run", json.dumps(vars(run))]
            environment = os.environ | {"PYTHONWARNINGS": "ignore"}
            made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
            of_run.append(json.loads(made.splitlines()[-1]))
            Console(stderr=True).print(f"{run.label}: {of_run[-1]['seconds']:.2f} s", highlight=False)
    return answers


def gain(theirs: list[float], ours: list[dict[str, Any]]) -> str:
    """Return the median ratio of their time to ours within a round."""
    return ratio(statistics.median(t / o["seconds"] for t, o in zip(theirs, ours, strict=True)), 1.0)


def median(answers: list[dict[str, Any]], figure: str) -> float:
    return statistics.median(answer[figure] for answer in answers)


if __name__ == "__main__":
    main()
