"""The engine under load: 1024³ voxels, a small network, two workers; its overhead, and a plot of the run.

    python benchmarks/load.py                          # ten minutes on two cores
    python benchmarks/load.py --voxels 512 --plot load.png

A U-Net of 8 nm with two levels predicts a generated volume of uint8, whose files are links to a few chunks and take
little disk space. Each worker has one thread. The table has voxels per second, the peak memory of each worker, and the
time of each part of a block. The engine's overhead is the time, from a worker's first block on, in which it computes no
block: it takes blocks, waits for data, and hands results over. The time of handing out a block is also measured alone,
with workers that do nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import daisy.v2 as daisy
import torch
from data_volume import write_volume
from funlib.geometry import Roi
from rich.console import Console
from rich.table import Table

from scalenet_gp.pipelines.blockwise import BlockTime, read_times
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.prediction import Workers, predict
from scalenet_gp.training import save_checkpoint
from scalenet_gp.volumes import MultiscaleArrayWriter

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=1024, help="per axis, a multiple of 256 (1024)")
    parser.add_argument("--block", type=int, default=256, help="voxels of a block per axis (256)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--memory", type=float, default=2.0, help="GiB for the blocks of each (2)")
    parser.add_argument("--plot", type=Path, default=Path("load.png"), help="picture of the run (load.png)")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    console = Console(width=120, highlight=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_volume(folder / "volume", 8192 * -(-arguments.voxels // 1024), labels=False)
        torch.manual_seed(0)
        config = small(arguments.block)
        checkpoint = save_checkpoint(folder / "checkpoints", config.build_network(), {"iteration": 1})
        region = Region(begin=(0,) * 3, end=(8 * arguments.voxels,) * 3)
        output = folder / "prediction.zarr"
        watch = Watch(folder / "prediction.zarr.partial")
        begun = time.time()
        with watch:
            workers = Workers(count=arguments.workers, devices=("cpu",), memory=int(arguments.memory * 2**30))
            predict(config, folder / "volume", checkpoint, output, region, workers=workers)
        seconds = time.time() - begun
        written = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        levels = [level.shape for level in MultiscaleArrayWriter.open(output / "0_output").levels]
    by_worker: dict[int, list[BlockTime]] = defaultdict(list)
    for block in watch.times:
        by_worker[block.process].append(block)
    table = Table(f"{arguments.voxels}³ voxels, blocks of {arguments.block}³, {arguments.workers} workers", "")
    table.add_row("blocks", f"{len(watch.times)}")
    table.add_row("whole run, s", f"{seconds:.1f}")
    table.add_row("throughput, Mvoxel/s", f"{arguments.voxels**3 / seconds / 1e6:.2f}")
    for part in ("reading", "computing", "writing"):
        median = statistics.median(getattr(block, part) for block in watch.times)
        table.add_row(f"{part} a block, s, median", f"{median:.3f}")
    for process, blocks in by_worker.items():
        table.add_row(f"worker {process}: time without a block to compute", f"{100 * idle_share(blocks):.2f} %")
        table.add_row(f"worker {process}: peak memory, MiB", f"{watch.peaks[process] / MIB:.0f}")
    table.add_row("handing out a block to workers that do nothing, ms", f"{1000 * handing_out(arguments.workers):.2f}")
    table.add_row("written, MiB", f"{written / MIB:.0f} in levels of {', '.join(str(shape[-1]) for shape in levels)}³")
    console.print(table)
    plot(watch, by_worker, begun, arguments)
    console.print(f"picture: {arguments.plot}")


def small(block: int) -> Config:
    """Return the config of a U-Net of two levels with six channels."""
    region = {"begin": [0] * 3, "end": [1024] * 3}
    return Config.model_validate(
        {
            "version": 1,
            "data": {"sources": [{"raw": "raw", "labels": "labels"}], "classes": ["tissue"], "cache": 64},
            "network": {
                "kind": "scalenet",
                "subnets": [{"top_resolution": [8] * 3, "base_nc": 6, "downsample_factors": [[2] * 3]}],
            },
            "training": {"iterations": 1, "output_shape": [512] * 3, "region": region},
            "evaluation": {"region": region},
            "prediction": {"block_shape": [8 * block] * 3},
        }
    )


class Watch(threading.Thread):
    """Watches a run from outside: the memory of its workers, and the times of blocks that they write down."""

    def __init__(self, partial: Path) -> None:
        super().__init__(daemon=True)
        self.times: list[BlockTime] = []
        self.peaks: dict[int, int] = {}
        self.memory: list[tuple[float, int, int]] = []
        self._partial = partial
        self._ended = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            with suppress(FileNotFoundError):  # the folder is removed when the run is done
                self.times = read_times(self._partial / "times") or self.times
            for process in {block.process for block in self.times}:
                held, peak = _resident(process)
                if held:
                    self.memory.append((time.time(), process, held))
                    self.peaks[process] = max(peak, self.peaks.get(process, 0))


def idle_share(blocks: list[BlockTime]) -> float:
    """Return the share of a worker's time, from its first block on, in which it computes none."""
    spans = sorted((block.computed_at - block.computing, block.computed_at) for block in blocks)
    gaps = sum(max(0.0, after[0] - before[1]) for before, after in pairwise(spans))
    return gaps / (spans[-1][1] - spans[0][0])


def handing_out(workers: int, blocks: int = 4096) -> float:
    """Return the seconds per block of daisy's acquire and release, with tracking, by workers that do nothing."""
    with tempfile.TemporaryDirectory() as folder:
        roi, block = Roi((0, 0, 0), (16, 16, blocks // 256)), Roi((0, 0, 0), (1, 1, 1))
        times = Path(folder) / "times"
        times.mkdir()

        def nothing() -> None:
            import os
            import time

            client, first, done = daisy.Client(), time.perf_counter(), 0
            while True:
                with client.acquire_block() as got:
                    if got is None:
                        break
                    done += 1
            (times / str(os.getpid())).write_text(f"{time.perf_counter() - first} {done}")

        task = daisy.Task(
            "nothing",
            roi,
            block,
            block,
            process_function=nothing,
            read_write_conflict=False,
            max_workers=workers,
            tracking_path=str(Path(folder) / "tracking"),
        )
        daisy.run_blockwise(task, progress=False, summary=False)
        each = [tuple(map(float, path.read_text().split())) for path in times.iterdir()]
        return statistics.median(seconds / done for seconds, done in each if done)


def plot(watch: Watch, by_worker: dict[int, list[BlockTime]], begun: float, arguments: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt

    figure, (progress, memory, lanes) = plt.subplots(3, 1, figsize=(9, 8), sharex=True, layout="constrained")
    done = sorted(block.written_at - begun for block in watch.times)
    progress.step(done, [(n + 1) * arguments.block**3 / 1e6 for n in range(len(done))], where="post")
    progress.set_ylabel("predicted, Mvoxel")
    for row, (process, blocks) in enumerate(by_worker.items()):
        memory.plot(*zip(*((t - begun, held / MIB) for t, of, held in watch.memory if of == process), strict=True))
        for part, color, ends in (
            ("reading", "C0", "read_at"),
            ("computing", "C1", "computed_at"),
            ("writing", "C2", "written_at"),
        ):
            spans = [(getattr(b, ends) - getattr(b, part) - begun, getattr(b, part)) for b in blocks]
            height = row + {"reading": 0.6, "computing": 0.3, "writing": 0.0}[part]
            lanes.broken_barh(spans, (height, 0.25), color=color, label=part if row == 0 else None)
    memory.axhline(arguments.memory * 1024, color="grey", linestyle=":", label="allowed for blocks")
    memory.set_ylim(bottom=0)
    memory.set_ylabel("worker's memory, MiB")
    memory.legend(frameon=False)
    lanes.set_yticks(
        [row + 0.4 for row in range(len(by_worker))], [f"worker {row + 1}" for row in range(len(by_worker))]
    )
    lanes.set_xlabel("s")
    lanes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    for axes in (progress, memory, lanes):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(arguments.plot, dpi=150)


def _resident(process: int) -> tuple[int, int]:
    """Return the memory of a process and its peak in bytes; 0 after it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in lines)
    return tuple(1024 * int(fields[name].split()[0]) if name in fields else 0 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


if __name__ == "__main__":
    main()
