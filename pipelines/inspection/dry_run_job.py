"""The dry run: a few steps of a training run measure what the run will take. Nothing is written."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from statistics import fmean, median
from typing import Any

import gunpowder as gp
import torch
from funlib.geometry import Coordinate
from rich.box import SIMPLE_HEAD
from rich.filesize import pick_unit_and_suffix
from rich.table import Table
from torch import Tensor

from scalenet_gp.analysis import predict_cost
from scalenet_gp.geometry import format_size
from scalenet_gp.nodes import Prefetch, Stack
from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import Datasets, record_volumes, survey, training_chain
from scalenet_gp.pipelines.evaluation import Validation, check_evaluation
from scalenet_gp.pipelines.training import build_trainer, check_run_memory
from scalenet_gp.training import Callback, StepResult, TrainerView, peak_resident_bytes
from scalenet_gp.volumes import StrPath

__all__ = ["DryRun", "dry_run", "dry_run_table"]

_STEPS = 3
"""Steps that are timed. An untimed step comes first: it opens the volume and compiles the network."""

Shapes = Mapping[str, tuple[tuple[Fraction, ...], tuple[int, ...]]]
"""Voxel size (nm) and number of voxels per spatial axis, by the name of the tensor."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """Measurements of a few steps of a run. Times are in seconds, memory in bytes.

    Attributes:
        device: device of the network.
        iterations: batches of the whole run.
        batch_size: samples in each batch.
        workers: processes that prepare batches in the run; the dry run has none.
        parameters: number of parameters, frozen ones included.
        inputs: voxel sizes and shapes of the inputs of a sample.
        outputs: voxel sizes and shapes of the outputs of a sample.
        build: time until the first batch could be asked for.
        first: time of the first step, all its batches included.
        data: time to prepare a batch in one process.
        step: time to learn from a batch.
        processor: processor time to prepare a batch in one process and to learn from it, of all threads.
        memory: peak memory: of the tensors on a GPU; without a GPU of this process, libraries included.
        predicted_memory: memory of the network's part of a step by :func:`.predict_cost`.
        checkpoint: size of the tensors in a checkpoint.
    """

    device: str
    iterations: int
    batch_size: int
    workers: int
    parameters: int
    inputs: Shapes
    outputs: Shapes
    build: float
    first: float
    data: float
    step: float
    processor: float
    memory: int
    predicted_memory: int
    checkpoint: int

    @property
    def iteration(self) -> float:
        """Seconds for a batch in the run; workers prepare the next ones meanwhile, one on each core at most."""
        if not self.workers:
            return self.data + self.step
        return max(self.data / min(self.workers, os.cpu_count() or 1), self.step)

    @property
    def run(self) -> float:
        """Seconds for the whole run, without validation, pictures and checkpoints."""
        return self.build + self.iterations * self.iteration


def dry_run(config: Config, volume: StrPath, device: str | None = None) -> DryRun:
    """Build all that a run needs and do a few steps. Nothing is written.

    Args:
        config: the run.
        volume: folder, or its URL, that paths of the config start at.
        device: name of a torch device; the first GPU unless given, the processor where there is none.

    Raises:
        FileNotFoundError: the volume does not exist, or a class has no labels.
        ConfigError: the config does not fit the volume.
        MemoryError: a step does not fit into memory; the message says what would.
    """
    settings, begun = config.training, time.perf_counter()
    torch.manual_seed(settings.seed)
    net = config.build_network()
    datasets = Datasets.find(volume, config, net)
    survey(datasets).check()
    config = config.model_copy(update={"learned_from": record_volumes(datasets)})
    datasets = datasets.with_config(config)
    check_evaluation(config, datasets)
    check_run_memory(config, datasets, device)
    node = build_trainer(config, datasets.first, device)
    trainer, watch = node.trainer, _Waiting()
    trainer.add(watch)
    boxes = datasets.boxes(settings.output_shape)
    if config.validation is not None:
        Validation.from_config(config, datasets, boxes, trainer.loss_of)
    wanted = {each.prediction: gp.ArraySpec(roi=boxes[name]) for name, each in node.supervision.items()}
    batches = training_chain(datasets) + Stack(settings.batch_size) + Prefetch(0, seed=settings.seed)
    with build_chain(batches + node) as pipeline:
        built = time.perf_counter()
        on = trainer.state.device
        if on.type == "cuda":
            torch.cuda.reset_peak_memory_stats(on)
        _time_step(pipeline, watch, wanted, settings.optimization.accumulate)
        first = time.perf_counter()
        data, step, processor = zip(
            *(_time_step(pipeline, watch, wanted, settings.optimization.accumulate) for _ in range(_STEPS)),
            strict=True,
        )
        plan = node.arrays.plan(gp.BatchRequest(wanted))
        dtype = getattr(torch, settings.compute.precision)
        activation_checkpointing = trainer.state.compute.checkpointed_nodes(net)
        # before the prediction, which takes memory too
        memory = torch.cuda.max_memory_allocated(on) if on.type == "cuda" else peak_resident_bytes()
        return DryRun(
            device=str(on),
            iterations=settings.iterations,
            batch_size=settings.batch_size,
            workers=settings.workers,
            parameters=sum(parameter.numel() for parameter in net.parameters()),
            inputs={n: (net.specs[n].voxel_size, t.shape) for n, t in plan.input_tensors.items()},
            outputs={
                name: (net.specs[name].voxel_size, tuple(map(int, roi.shape / Coordinate(net.voxel_size[name]))))
                for name, roi in plan.outputs.items()
            },
            build=built - begun,
            first=first - built,
            data=median(data),
            step=median(step),
            processor=median(processor),
            memory=memory,
            predicted_memory=predict_cost(
                net.graph,
                plan,
                batch=settings.batch_size,
                training=True,
                dtype=dtype,
                activation_checkpointing=activation_checkpointing,
            ).peak,
            checkpoint=_numbytes(net.state_dict()) + _numbytes(trainer.state.state_dict()),
        )


def dry_run_table(result: DryRun) -> Table:
    """Return the measurements as a table for the terminal."""
    table = Table(title=f"Dry run on {result.device}", title_justify="left", box=SIMPLE_HEAD, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    table.add_row("parameters", f"{result.parameters:,}")
    for kind, shapes in (("input", result.inputs), ("output", result.outputs)):
        for name, (voxel_size, shape) in shapes.items():
            table.add_row(f"{kind} {name}", " × ".join(map(str, shape)), f"voxels of {format_size(voxel_size)} nm")
    table.add_row("batch", str(result.batch_size), "samples", end_section=True)
    memory = "of tensors, at most" if result.device.startswith("cuda") else "of the process, at most"
    table.add_row("memory", _size(result.memory), memory)
    table.add_row("", _size(result.predicted_memory), "predicted for the network, without loss and optimizer")
    table.add_row("checkpoint", _size(result.checkpoint), end_section=True)
    table.add_row("to build", _seconds(result.build))
    table.add_row("first step", _seconds(result.first), "data included")
    table.add_row("data of a batch", _seconds(result.data), "in one process")
    table.add_row("step of a batch", _seconds(result.step))
    workers = f"with {result.workers} workers" if result.workers else "one after the other, as there are no workers"
    table.add_row("both", _seconds(result.iteration), workers, end_section=True)
    table.add_row(
        "the run",
        str(timedelta(seconds=round(result.run))),
        f"for {result.iterations:,} iterations, without validation, pictures, checkpoints",
    )
    return table


class _Waiting(Callback):
    """Keeps how long data were waited for."""

    waited = 0.0

    def after_step(self, trainer: TrainerView, result: StepResult) -> None:
        self.waited = result.waited


def _time_step(
    pipeline: gp.Pipeline, watch: _Waiting, wanted: Mapping[gp.ArrayKey, gp.ArraySpec], batches: int
) -> tuple[float, float, float]:
    """Do one step; the mean time in which each of its batches was waited for and learned from, and the processor's."""
    data, learning = [], []
    used = time.process_time()
    for _ in range(batches):
        begun = time.perf_counter()
        pipeline.request_batch(gp.BatchRequest(dict(wanted)))
        whole = time.perf_counter() - begun
        data.append(watch.waited)
        learning.append(whole - watch.waited)
    return fmean(data), fmean(learning), (time.process_time() - used) / batches


def _numbytes(tree: Any) -> int:
    if isinstance(tree, Tensor):
        return tree.numel() * tree.element_size()
    if isinstance(tree, Mapping):
        return sum(map(_numbytes, tree.values()))
    return sum(map(_numbytes, tree)) if isinstance(tree, list | tuple) else 0


def _size(count: int) -> str:
    """Return bytes in the largest unit that is not larger."""
    unit, name = pick_unit_and_suffix(count, ["bytes", "KiB", "MiB", "GiB", "TiB"], 1024)
    return f"{count / unit:,.{0 if unit == 1 else 1}f} {name}"


def _seconds(duration: float) -> str:
    return f"{duration:.3g} s"
