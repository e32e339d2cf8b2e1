"""Running a job until every block and every level is done: by this process alone, or by many."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from daisy import logging as daisy_logging
from pydantic import NonNegativeInt, model_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Options
from scalenet_gp.pipelines.prediction.block_progress import BlockProgress
from scalenet_gp.pipelines.prediction.failures import BlockFailure, UnfinishedPredictionError, read_cause
from scalenet_gp.pipelines.prediction.job import PredictionJob
from scalenet_gp.pipelines.prediction.launch import worker_starter
from scalenet_gp.pipelines.prediction.prediction import Prediction
from scalenet_gp.pipelines.prediction.scheduling import EndedEarly, Received, run_alone, run_by_workers
from scalenet_gp.pipelines.prediction.stages import BlockStage, block_stages
from scalenet_gp.pipelines.prediction.unfinished import create_or_resume, finish
from scalenet_gp.pipelines.prediction.worker import attempt, ready
from scalenet_gp.pipelines.process import Interrupted, ending_at_once, folder_lock, stop_requested

__all__ = ["Workers", "run"]

_FEW = 16
"""Boxes of a coarse level that this process makes before others would have started."""


class Workers(Options):
    """Processes that predict, here or on other machines. They change no bit of a prediction.

    Attributes:
        count: number of worker processes; with 0 this process predicts block after block.
        devices: names of torch devices that the workers of a machine share. Without any each worker takes the first
            GPU, or the processor where there is none.
        launcher: command that starts a worker elsewhere, such as ``srun -n1 --gres=gpu:1``.
        host: address of this machine for the workers; found by itself unless given.
        memory: bytes for the blocks that a worker has at a time.

    Example:
        >>> Workers(count=2, devices=("cuda:0", "cuda:1")).on_processor
        False
    """

    count: NonNegativeInt = 0
    devices: tuple[str, ...] = ()
    launcher: str = ""
    host: str | None = None
    memory: NonNegativeInt = 8 * 2**30

    @model_validator(mode="after")
    def _check_count(self) -> Workers:
        if self.count == 0 and (self.launcher or self.host or len(self.devices) > 1):
            raise ConfigError(
                "without workers there is nobody to launch, to reach this machine or to share devices: give some, or "
                "no launcher, host or second device"
            )
        return self

    @property
    def on_processor(self) -> bool:
        """True if all workers are known to compute on processors."""
        if self.devices:
            return all(torch.device(name).type == "cpu" for name in self.devices)
        return not self.launcher and not torch.cuda.is_available()


def run(job: PredictionJob, workers: Workers) -> Path:
    """Predict all that is not done yet, and give the output its name.

    Returns:
        The output.

    Raises:
        FileExistsError: there is something at the output.
        BlockingIOError: another process is at it.
        UnfinishedPredictionError: blocks are missing; the rest is done.
        Interrupted: a signal asked to end; what is done is kept.
        ValueError: as :meth:`.Prediction.open`; what is unfinished there is another job's; or the memory is too little.
    """
    # the signals are obeyed at once as long as nothing is lost by that, and when nothing is left to do, not at all
    with stop_requested() as received, ExitStack() as at_once:
        at_once.enter_context(ending_at_once(job.partial))
        _check_absent(job)
        prediction = Prediction.open(job)
        thickness = prediction.thickness(workers.memory, workers.on_processor)
        prediction = replace(prediction, job=job.model_copy(update={"thickness": thickness}))
        with folder_lock(job.partial, "being predicted"):
            _check_absent(job)  # another process may have finished it meanwhile
            prediction = replace(prediction, job=create_or_resume(prediction))
            job.keep_networks()
            shutil.rmtree(job.failed, ignore_errors=True)
            at_once.close()
            for step in block_stages(prediction):
                _take(prediction, step, workers, received)
            finish(job)
    return job.output


def _check_absent(job: PredictionJob) -> None:
    if job.output.exists():
        raise FileExistsError(f"{job.output} exists; choose another output, or remove it")


def _take(prediction: Prediction, step: BlockStage, workers: Workers, received: Received) -> None:
    """Do the blocks of a step that are not done yet.

    Raises:
        UnfinishedPredictionError: some could not be done.
        Interrupted: a signal came.
    """
    job, blocks, before = prediction.job, step.blocks, step.done()
    if before == blocks:
        return
    if (came := received()) is not None:
        raise Interrupted(came, job.partial)
    voxels = max(math.prod(step.roi.shape / size) for size in prediction.voxel_sizes.values())
    daisy_logging.set_log_basedir(job.partial / "log")
    daisy_logging.set_log_level(logging.ERROR)  # what goes wrong is told at the end, and is in the logs
    reason: str | signal.Signals = ""
    many = workers.count > 0 and (step.level is None or blocks - before > _FEW)
    task = step.task(workers.count if many else 0)
    with BlockProgress.shown(step.title, blocks, before, voxels / blocks) as progress:
        try:
            if many:
                threads = _threads(workers)
                task.process_function = worker_starter(job.file, workers.launcher, workers.devices, threads, step.level)
                run_by_workers(task, workers.host, progress, received)
            else:
                device = workers.devices[0] if workers.devices else None
                with ready(prediction, step.level, device) as work:
                    run_alone(task, lambda block: attempt(work, block, job.failed), progress, received)
        except EndedEarly as early:
            reason = early.reason
    if step.done() == blocks:
        return
    if isinstance(reason, signal.Signals):
        raise Interrupted(reason, job.partial)
    failures = [
        BlockFailure(str(prediction.dataset.region(block.write_roi)), read_cause(job.failed, block.block_id[1]))
        for block in task.failed_blocks()
    ]
    raise UnfinishedPredictionError(job.partial, failures, reason)


def _threads(workers: Workers) -> int | None:
    """Those of this machine's cores that a worker has for itself; a launcher gives its workers cores of their own."""
    return None if workers.launcher else max(1, len(os.sched_getaffinity(0)) // workers.count)
