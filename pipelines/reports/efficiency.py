"""The cost of models, in weights, work, memory and time, and how far they see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from scalenet_gp.analysis import effective_receptive_field, predict_cost
from scalenet_gp.errors import GraphError
from scalenet_gp.geometry import World
from scalenet_gp.pipelines.data import sample_boxes
from scalenet_gp.pipelines.experiments import count_parameters, macs_per_voxel
from scalenet_gp.pipelines.reports.found_runs import FoundRun
from scalenet_gp.pipelines.reports.training_log import TrainingLog
from scalenet_gp.volumes import MultiscaleImage

__all__ = ["Efficiency", "FieldOfView", "fields_of_view", "measure_efficiency"]

_SHARE = 0.95
_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The cost of a model on a data set. NaN is not known. Means are over its runs.

    Attributes:
        parameters: number of weights.
        macs: multiply-accumulates per voxel of the finest output, to predict a block.
        voxel_size: edge (nm) of a voxel of the finest output; the longest.
        memory_predicted: bytes that the network takes in a step of training: see :func:`.predict_cost`.
        memory_measured: bytes by which training raised the memory of the process.
        iterations: iterations of the training.
        seconds: time to prepare batches and to learn from them, by the log.
        processor_seconds: processor time of the whole training, validation and checkpoints included.
        inference: processor seconds of the prediction, reading and writing included, per cubic micrometre (or square,
            in two dimensions).
    """

    parameters: int
    macs: float
    voxel_size: float
    memory_predicted: float
    memory_measured: float
    iterations: int
    seconds: float
    processor_seconds: float
    inference: float


def measure_efficiency(runs: Sequence[FoundRun], logs: Sequence[TrainingLog]) -> Efficiency:
    """Return what a model takes, by its first run what follows from the network, by all of them what was measured.

    Args:
        runs: the runs of a model on a data set.
        logs: their logs.
    """
    first = runs[0]
    net, training = first.net, first.config.training
    plan = net.plan(sample_boxes(net, training.output_shape, "training.output_shape"))
    cost = predict_cost(
        net.graph,
        plan,
        batch=training.batch_size,
        training=True,
        activation_checkpointing=training.compute.checkpointed_nodes(net),
    )
    attempts = [run.facts.attempts for run in runs]
    raised = [
        attempt.memory_training - attempt.memory_before
        for of_run in attempts
        for attempt in of_run
        if attempt.memory_training is not None and attempt.memory_before is not None
    ]
    told = [[a.training_processor for a in of_run if a.training_processor is not None] for of_run in attempts]
    whole = [
        sum(of_run) for of_run, all_of in zip(told, attempts, strict=True) if of_run and len(of_run) == len(all_of)
    ]
    done = [(run, run.facts.attempts[-1].prediction_processor) for run in runs if run.facts.attempts]
    inference = [seconds / _extent(run) for run, seconds in done if seconds is not None]
    return Efficiency(
        parameters=count_parameters(net),
        macs=macs_per_voxel(net, first.config.prediction.block_shape),
        voxel_size=float(max(net.specs[first.output].voxel_size)),
        memory_predicted=cost.peak,
        memory_measured=max(raised) if raised else math.nan,
        iterations=max(log.last for log in logs),
        seconds=fmean(log.seconds(log.last) for log in logs),
        processor_seconds=fmean(whole) if whole else math.nan,
        inference=fmean(inference) if inference else math.nan,
    )


def _extent(run: FoundRun) -> float:
    """Return the size of what was predicted, in cubic or square micrometres."""
    path = run.folder.prediction
    groups = [path] if (path / run.output).exists() else sorted(entry for entry in path.iterdir() if entry.is_dir())
    levels = [MultiscaleImage.open(group / run.output).levels[0] for group in groups]
    return sum(
        math.prod(n * float(size) / 1000 for n, size in zip(level.shape, level.voxel_size, strict=True))
        for level in levels
    )


@dataclass(frozen=True, slots=True)
class FieldOfView:
    """The part of an input that a voxel of the finest output depends on.

    Attributes:
        name: name of the input.
        theoretical: nm per axis.
        effective: nm per axis that hold 95 % of the gradient, each axis alone; None if the gradient is zero.
    """

    name: str
    theoretical: tuple[float, ...]
    effective: tuple[float, ...] | None

    @property
    def reach(self) -> float:
        """The longest edge of the theoretical field, nm."""
        return max(self.theoretical)


def fields_of_view(run: FoundRun) -> list[FieldOfView]:
    """Return the receptive fields of the finest output, by the plan and by the gradient with the learned weights.

    The gradient is that of random inputs: see :func:`.effective_receptive_field`.
    """
    net = run.net
    world = World(net.unit)
    try:
        effective = effective_receptive_field(net.graph, run.output, samples=_SAMPLES, share=_SHARE)
    except GraphError:
        effective = {}
    return [
        FieldOfView(
            name,
            tuple(map(float, world.size_in_nm(size))),
            tuple(map(float, effective[name].extent)) if name in effective else None,
        )
        for name, size in net.receptive_field(run.output).items()
    ]
