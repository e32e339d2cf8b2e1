"""Co-registered, augmented samples per second: our nodes against a chain of gunpowder's nodes.

    python benchmarks/data.py                  # all of it, about ten minutes on two cores
    python benchmarks/data.py --only ours      # the chains whose names begin with "ours"
    python benchmarks/data.py --profile        # the time of our chain by function
    python benchmarks/data.py --overhead       # the time of a request through nodes that do nothing

A sample is six arrays: raw 104³ at 8 nm, 60³ at 32 nm and 52³ at 128 nm, labels 64³, 24³ and 16³ there, deformed
(control points every 512 nm, displaced by 48 nm), rotated, mirrored, with gain, shift and noise. Chunks are 64³,
blosc-zstd, zarr v2; their files are in the system's cache for all chains. Each chain runs in a process of its own, they
take turns, and a figure is the median of its runs.

One process of ours uses all cores: tensorstore decodes chunks in threads, and some of our nodes have threads too. One
process of gunpowder's uses one core.

`gunpowder` is the chain of its own nodes, whose deformation moves the scales apart. `corrected` is the same chain with
the field upsampled at the right places. `cached` keeps the decoded chunks of a region that fits in memory, as that of
an annotated crop does.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import gunpowder as gp
import numpy as np
import torch
from corrected_deform import CorrectedDeformAugment
from data_volume import JITTER, LEVELS, SPACING, augment, write_volume
from funlib.geometry import Coordinate, Roi
from rich.console import Console
from rich.table import Table

from scalenet_gp.nodes import MultiscaleSource, Prefetch, SampleLocation, UniformSampler
from scalenet_gp.nodes.requests import CheapCopySpec
from scalenet_gp.volumes import ChunkCache, MultiscaleImage

LENGTH = 14336
REGION = Roi((6144,) * 3, (2048,) * 3)
RAW = {gp.ArrayKey(f"RAW_{size}"): (level, size) for level, size in LEVELS.items()}
LABELS = {gp.ArrayKey(f"LABELS_{size}"): (level, size) for level, size in LEVELS.items()}
VOXELS = dict(zip([*RAW, *LABELS], (104, 60, 52, 64, 24, 16), strict=True))
CENTER = Coordinate((7168,) * 3)


def request() -> gp.BatchRequest:
    """Return the request for all arrays, around one center."""
    asked = gp.BatchRequest()
    for key, voxels in VOXELS.items():
        shape = Coordinate((voxels,) * 3) * (RAW | LABELS)[key][1]
        asked[key] = gp.ArraySpec(roi=Roi(CENTER - shape / 2, shape))
    return asked


# ----------------------------------------------------------------------------------------------------- the chains


def theirs(volume: Path, deform: type[gp.DeformAugment], workers: int) -> gp.Pipeline:
    chain = (
        gp.ZarrSource(str(volume / "raw"), {key: level for key, (level, _) in RAW.items()}),
        gp.ZarrSource(
            str(volume / "labels"),
            {key: level for key, (level, _) in LABELS.items()},
            {key: gp.ArraySpec(interpolatable=False) for key in LABELS},
        ),
    ) + gp.MergeProvider()
    chain += gp.RandomLocation() + gp.SimpleAugment(transpose_only=[])
    chain += deform(Coordinate((SPACING,) * 3), (JITTER,) * 3, rotate=True)
    for key in RAW:
        chain += gp.Normalize(key) + gp.IntensityAugment(key, 0.9, 1.1, -0.05, 0.05) + gp.NoiseAugment(key, var=0.0005)
    return chain + gp.PreCache(cache_size=2 * workers, num_workers=workers) if workers else chain


def ours(volume: Path, workers: int, cache: int = 0) -> gp.Pipeline:
    kept = ChunkCache(cache) if cache else None
    raw, labels = (MultiscaleImage.open(volume / name, cache=kept) for name in ("raw", "labels"))
    chain = (
        MultiscaleSource(raw, {key: (size,) * 3 for key, (_, size) in RAW.items()}, padding="reflect"),
        MultiscaleSource(
            labels, {key: (size,) * 3 for key, (_, size) in LABELS.items()}, labels=True, padding="constant"
        ),
    ) + gp.MergeProvider()
    chain += augment(RAW)
    chain += SampleLocation(next(iter(LABELS)), UniformSampler(REGION))
    return chain + Prefetch(workers, seed=0)


CHAINS: dict[str, Callable[[Path], gp.Pipeline]] = {
    "gunpowder, one process": lambda volume: theirs(volume, gp.DeformAugment, 0),
    "gunpowder, two workers": lambda volume: theirs(volume, gp.DeformAugment, 2),
    "corrected, one process": lambda volume: theirs(volume, CorrectedDeformAugment, 0),
    "corrected, two workers": lambda volume: theirs(volume, CorrectedDeformAugment, 2),
    "ours, one process": lambda volume: ours(volume, 0),
    "ours, two workers": lambda volume: ours(volume, 2),
    "ours, one process, cached": lambda volume: ours(volume, 0, 2**30),
    "ours, two workers, cached": lambda volume: ours(volume, 2, 2**30),
}


# ------------------------------------------------------------------------------------------------------ measuring


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="measure the chains whose names begin with this")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each chain (3)")
    parser.add_argument("--seconds", type=float, default=12, help="least duration of a run (12)")
    parser.add_argument("--profile", action="store_true", help="time of our chain in one process, by function")
    parser.add_argument("--overhead", action="store_true", help="time of requests through nodes that do nothing")
    parser.add_argument("--chain", help=argparse.SUPPRESS)
    parser.add_argument("--volume", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.chain:
        warm_up = 100 if "cached" in arguments.chain else 0
        print(json.dumps(rate(CHAINS[arguments.chain](arguments.volume), arguments.seconds, warm_up)))
        return
    console = Console(width=120)
    if arguments.overhead:
        overhead(console)
        return
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder) / "volume"
        write_volume(volume, LENGTH)
        if arguments.profile:
            profile(volume, arguments.seconds)
            return
        names = [name for name in CHAINS if name.startswith(arguments.only)]
        rates: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(arguments.repeats):
            for name in names:
                rates[name].append(rate_of(name, volume, arguments.seconds))
                console.print(f"{name}: {rates[name][-1]:.2f} samples/s", highlight=False)
        console.print(
            f"{os.cpu_count()} cores, torch {torch.__version__}, gunpowder {version('gunpowder')}, median of "
            f"{arguments.repeats}, control points every {SPACING} nm",
            highlight=False,
        )
        console.print(table({name: statistics.median(values) for name, values in rates.items()}))


def rate_of(chain: str, volume: Path, seconds: float) -> float:
    """Return the :func:`rate` of a chain in a process of its own."""
    command = [sys.executable, __file__, "--chain", chain, "--volume", str(volume), "--seconds", str(seconds)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(answer.splitlines()[-1]))


def rate(chain: gp.Pipeline, seconds: float, warm_up_samples: int) -> float:
    """Return the samples per second after a warm-up, which compiles, starts workers and fills the cache."""
    warnings.simplefilter("ignore")
    with gp.build(chain) as pipeline:
        warm_up, samples = time.perf_counter() + seconds / 2, 0
        while time.perf_counter() < warm_up or samples < warm_up_samples:
            pipeline.request_batch(request())
            samples += 1
        begun, samples = time.perf_counter(), 0
        # enough samples that those that waited in a queue hardly count
        while time.perf_counter() < begun + seconds or samples < 8:
            batch = pipeline.request_batch(request())
            samples += 1
        elapsed = time.perf_counter() - begun
        for key, voxels in VOXELS.items():
            if batch[key].data.shape[-3:] != (voxels,) * 3:
                raise RuntimeError(f"{key} has the shape {batch[key].data.shape}")
    return samples / elapsed


def table(rates: dict[str, float]) -> Table:
    result = Table("chain", "samples/s", "gunpowder, one process", "gunpowder, likewise", "corrected, likewise")
    for name, value in rates.items():
        way = name.split(", ")[1]
        sides = ("gunpowder, one process", f"gunpowder, {way}", f"corrected, {way}")
        result.add_row(name, f"{value:.2f}", *(f"{value / rates[s]:.1f} ×" if s in rates else "" for s in sides))
    return result


class Ready(gp.BatchProvider):
    """Provides arrays of zeros."""

    def setup(self) -> None:
        for key in VOXELS:
            size = gp.Coordinate((RAW | LABELS)[key][1] for _ in range(3))
            spec = CheapCopySpec(gp.Roi((0,) * 3, (LENGTH,) * 3), size, interpolatable=True, dtype=np.uint8)
            self.provides(key, spec)
        self.data = {key: np.zeros((1, *(voxels,) * 3), np.uint8) for key, voxels in VOXELS.items()}

    def provide(self, request: gp.BatchRequest) -> gp.Batch:
        batch = gp.Batch()
        for key, asked in request.array_specs.items():
            spec = self.spec[key].copy()
            spec.roi = asked.roi
            batch[key] = gp.Array(self.data[key], spec)
        return batch


class PassOn(gp.BatchFilter):
    """Does nothing."""

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> None:
        pass


def overhead(console: Console) -> None:
    """Print the time of a request through eight nodes that do nothing, with gunpowder's requests and with ours."""
    chain = Ready()
    for _ in range(8):
        chain += PassOn()
    for name, whole in (("gunpowder's requests", chain), ("behind Prefetch", chain + Prefetch(seed=0))):
        with gp.build(whole) as pipeline:
            taken = []
            for _ in range(200):
                asked, begun = request(), time.process_time()
                pipeline.request_batch(asked)
                taken.append(time.process_time() - begun)
        console.print(f"{name}: {1000 * statistics.median(taken):.1f} ms in eight nodes", highlight=False)


def profile(volume: Path, seconds: float) -> None:
    """Print the time of a sample of our chain in one process on one thread, by function."""
    torch.set_num_threads(1)
    with gp.build(ours(volume, 0)) as pipeline:
        for _ in range(5):
            pipeline.request_batch(request())
        profiler, samples = cProfile.Profile(), 0
        until = time.perf_counter() + seconds
        profiler.enable()
        while time.perf_counter() < until:
            pipeline.request_batch(request())
            samples += 1
        profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(25)
    print(f"{samples} samples, {1000 * seconds / samples:.1f} ms each\n{text.getvalue()}")


if __name__ == "__main__":
    main()
