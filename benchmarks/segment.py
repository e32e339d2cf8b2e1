"""Objects of affinities: each step of ours in blocks, beside waterz and mwatershed on the whole array in one piece.

    python benchmarks/segment.py                       # 256³ voxels; mwatershed takes several GB
    python benchmarks/segment.py --voxels 128 --block 64

Cells that touch, with a membrane that is weak in places, are made by a Voronoi diagram of displaced points; their
affinities at nine offsets (1, 3 and 9 voxels) have noise, and are stored as uint8. Each side is a process of its own,
whose peak memory counts. The steps of ours do block after block in one process; the first block is done twice, so that
nothing is compiled in the time of a step. Times are the processor's, so that other programs do not count. Reading and
writing count for ours, and not for the others. VOI is in bits, split + merge, of voxels in a cell; of ours and waterz's
at the best of the same thresholds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from funlib.geometry import Roi
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from scipy.spatial import cKDTree

from scalenet_gp.metrics import ContingencyTable, variation_of_information
from scalenet_gp.pipelines.blockwise import tiles
from scalenet_gp.pipelines.segmentation.job import SegmentationJob, SegmentedAffinities
from scalenet_gp.pipelines.segmentation.lookup import LookupTables
from scalenet_gp.pipelines.segmentation.task import SegmentationTask
from scalenet_gp.segmentation import AgglomerateOptions, MutexOptions, look_up
from scalenet_gp.volumes import (
    ImageLayout,
    MultiscaleArrayWriter,
    MultiscaleImage,
    VolumeFingerprint,
    create_image,
    open_array,
)

OFFSETS = [tuple(-step * (axis == other) for other in range(3)) for step in (1, 3, 9) for axis in range(3)]
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
SIDES = ("agglomerate", "waterz", "mutex", "mwatershed")
SIZE = (Fraction(8),) * 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=256, help="width of the volume (256)")
    parser.add_argument("--block", type=int, default=128, help="width of a block (128)")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, help="what to measure")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run is not None:
        side, folder = arguments.run
        print(json.dumps(measure(side, Path(folder), arguments.block)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_volume(Path(folder), arguments.voxels)
        table = Table("", "Mvoxel/s", "steps (s)", "peak memory (GiB)", "objects", "VOI")
        for side in arguments.sides:
            command = [sys.executable, __file__, "--block", str(arguments.block), "--run", side, folder]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in found["steps"].items())
            speed = arguments.voxels**3 / sum(found["steps"].values()) / 1e6
            voi = f"{found['split']:.3f} + {found['merge']:.3f}"
            table.add_row(side, f"{speed:.2f}", steps, f"{found['memory']:.2f}", str(found["objects"]), voi)
        Console(width=160).print(table)


def write_volume(folder: Path, voxels: int) -> None:
    """Write the true cells, and a prediction of their affinities."""
    random, shape = np.random.default_rng(0), (voxels,) * 3
    points = random.random((voxels**3 // 28**3, 3)) * voxels
    moved = [8 * ndimage.zoom(random.standard_normal((voxels // 16 + 2,) * 3), 16, order=1) for _ in range(3)]
    tree, truth = cKDTree(points), np.zeros(shape, np.uint32)
    for z in range(voxels):
        places = np.stack(np.meshgrid([z], range(voxels), range(voxels), indexing="ij"), axis=-1)[0].astype(float)
        places += np.stack([field[z, :voxels, :voxels] for field in moved], axis=-1)
        truth[z] = tree.query(places)[1] + 1
    membrane = ndimage.maximum_filter(truth, 3) != ndimage.minimum_filter(truth, 3)
    truth[membrane] = 0
    np.save(folder / "truth.npy", truth)
    layout = ImageLayout(
        SIZE, (Fraction(0),) * 3, shape, tuple(map(str, OFFSETS)), "uint8", "fractions", 1, (min(64, voxels),) * 3
    )
    create_image(folder / "prediction.zarr" / "affinities", layout)
    stored = open_array(folder / "prediction.zarr" / "affinities" / "s0")
    weak = ndimage.zoom(random.standard_normal((voxels // 8 + 2,) * 3), 8, order=1)[:voxels, :voxels, :voxels]
    for index, offset in enumerate(OFFSETS):
        same = np.zeros(shape, bool)
        here = tuple(slice(-step, None) for step in offset)
        there = tuple(slice(None, step or None) for step in offset)
        same[here] = (truth[here] == truth[there]) & (truth[here] > 0)
        noise = ndimage.gaussian_filter(random.standard_normal(shape).astype(np.float32), 1)
        logits = np.where(same, 2.5, -2.5 + 2 * np.clip(weak - 1.5, 0, None)) + noise / noise.std()
        stored.write(
            (slice(index, index + 1), *[slice(None)] * 3), np.rint(255 / (1 + np.exp(-logits)))[None].astype(np.uint8)
        )


def measure(side: str, folder: Path, block: int) -> dict[str, Any]:
    """Return seconds, memory and scores of one side."""
    truth = np.load(folder / "truth.npy")
    if side in ("agglomerate", "mutex"):
        steps, candidates = in_blocks(side, folder, truth.shape, block)
    else:
        steps, candidates = in_one_piece(side, folder)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    scores = []
    for objects in candidates:
        table = ContingencyTable()
        table.update(truth, objects)
        voi = variation_of_information(table)
        scores.append((voi.total, voi.split, voi.merge, len(np.unique(objects))))
    _, split, merge, count = min(scores)
    return {"steps": steps, "memory": memory, "split": split, "merge": merge, "objects": count}


def in_blocks(side: str, folder: Path, shape: tuple[int, ...], block: int) -> tuple[dict[str, float], list[np.ndarray]]:
    """Segment block after block; returns the seconds of each step, and the objects of each threshold."""
    image = MultiscaleImage.open(folder / "prediction.zarr" / "affinities")
    options = (AgglomerateOptions if side == "agglomerate" else MutexOptions).create(thresholds=THRESHOLDS)
    part = SegmentedAffinities(
        volume="affinities",
        source=VolumeFingerprint.of(image),
        begin=(0,) * 3,
        shape=shape,
        chunks=MultiscaleArrayWriter.open(folder / "prediction.zarr" / "affinities").layout.chunks,
        block=(min(block, shape[0]),) * 3,
        offsets=tuple(OFFSETS),
        options=options,
    )
    job = SegmentationJob(
        output=folder / f"{side}.zarr",
        prediction=folder / "prediction.zarr",
        networks=(),
        classes={},
        objects={"cells": part},
    )
    job.folder.path.mkdir()
    task = SegmentationTask(job).create_or_resume()
    steps = {}
    for stage in task.stages():
        blocks = list(tiles(Roi(stage.roi.begin, stage.roi.shape), stage.block))
        with task.prepare(stage.name, None) as work:
            work(blocks[0])
            begun = time.process_time()
            for roi in blocks:
                work(roi)
        steps[stage.name.removeprefix("cells ")] = time.process_time() - begun
    fragments = job.folder.group / "cells_fragments"
    tables, ids = LookupTables.read(fragments), open_array(fragments / "s0")[:]
    return steps, [look_up(ids, tables.fragments, numbers) for numbers in tables.objects]


def in_one_piece(side: str, folder: Path) -> tuple[dict[str, float], list[np.ndarray]]:
    """Segment the whole array by a library; returns the seconds, and the objects of each threshold."""
    stored = open_array(folder / "prediction.zarr" / "affinities" / "s0")
    if side == "waterz":
        from waterz import agglomerate

        affinities = stored[(slice(0, 3), *[slice(None)] * 3)].astype(np.float32) / 255
        begun = time.process_time()
        found = [objects.copy() for objects in agglomerate(affinities, THRESHOLDS)]
    else:
        from mwatershed import agglom

        options = MutexOptions()
        biased = stored[:].astype(np.float64) / 255 + np.reshape(options.biases(OFFSETS), (-1, 1, 1, 1))
        begun = time.process_time()
        found = [agglom(biased, [list(offset) for offset in OFFSETS])]
    return {"all": time.process_time() - begun}, found


if __name__ == "__main__":
    main()
