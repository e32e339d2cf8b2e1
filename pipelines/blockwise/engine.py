"""Running a job until every block is done: by this process alone, or by many."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import daisy.v2 as daisy
from daisy import logging as daisy_logging
from funlib.geometry import Roi

from scalenet_gp.pipelines.blockwise.block_progress import BlockProgress
from scalenet_gp.pipelines.blockwise.block_work import BlockWork
from scalenet_gp.pipelines.blockwise.coarser_levels import finish_levels
from scalenet_gp.pipelines.blockwise.failures import BlockFailure, UnfinishedPredictionError, read_cause
from scalenet_gp.pipelines.blockwise.job import PredictionJob
from scalenet_gp.pipelines.blockwise.launch import starter
from scalenet_gp.pipelines.blockwise.prediction import Prediction
from scalenet_gp.pipelines.blockwise.scheduling import EndedEarly, run_alone, run_by_workers
from scalenet_gp.pipelines.blockwise.unfinished import begin_or_go_on, blocks_done, finish, skipped_blocks
from scalenet_gp.pipelines.blockwise.worker import attempt
from scalenet_gp.pipelines.folder_lock import locked
from scalenet_gp.pipelines.signals import Interrupted, stop_requested

__all__ = ["Workers", "run"]

_RETRIES = 3
_RESTARTS = 3
"""How often a worker's place is filled again, on average, before daisy gives up."""
_TIMEOUT = 6 * 3600.0
"""Seconds after which a worker counts as hanging in a block, and is ended."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Who predicts.

    Attributes:
        count: worker processes; 0 is this process, one step after the other.
        devices: names of torch devices, which the workers of a machine share out; of none each takes the first GPU, or
            the processor where there is none.
        launcher: a command that starts a worker, such as ``srun -n1 --gres=gpu:1``; see :func:`.starter`.
        host: the address of this machine for the workers; found out unless given.
        memory: bytes for the blocks that each has at a time.
    """

    count: int = 0
    devices: tuple[str, ...] = ()
    launcher: str = ""
    host: str | None = None
    memory: int = 8 * 2**30


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
    if job.output.exists():
        raise FileExistsError(f"{job.output} exists; choose another output, or remove it")
    prediction = Prediction.open(job)
    prediction = replace(prediction, job=job.model_copy(update={"thickness": prediction.thickness(workers.memory)}))
    with locked(job.partial, "being predicted"):
        prediction = replace(prediction, job=begin_or_go_on(prediction))
        shutil.rmtree(job.failed, ignore_errors=True)
        _predict(prediction, workers)
        finish_levels(prediction)
        finish(job)
    return job.output


def _predict(prediction: Prediction, workers: Workers) -> None:
    """Do the blocks that are not done yet.

    Raises:
        UnfinishedPredictionError: some could not be done.
        Interrupted: a signal came.
    """
    job, blocks = prediction.job, math.prod(prediction.grid.shape)
    voxels = max(math.prod(prediction.grid.roi.shape / size) for size in prediction.voxel_sizes.values())
    daisy_logging.set_log_basedir(job.partial / "log")
    daisy_logging.set_log_level(logging.ERROR)  # what goes wrong is told at the end, and is in the logs
    reason: str | signal.Signals = ""
    task = _task(prediction, workers.count)
    with stop_requested() as received, BlockProgress.shown(blocks, blocks_done(job), voxels / blocks) as progress:
        try:
            if workers.count:
                task.process_function = starter(job.file, workers.launcher, workers.devices, _threads(workers))
                run_by_workers(task, workers.host, progress, received)
            else:
                device = workers.devices[0] if workers.devices else None
                with BlockWork.ready(prediction, device) as work:
                    run_alone(task, lambda block: attempt(work, block, job.failed), progress, received)
        except EndedEarly as early:
            reason = early.reason
    if blocks_done(job) == blocks:
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


def _task(prediction: Prediction, workers: int) -> daisy.Task:
    grid, job = prediction.grid, prediction.job
    block = Roi((0,) * grid.block.dims, grid.block)
    return daisy.Task(
        "predict",
        grid.roi,
        block,
        block,  # what is read is another volume: no block waits for another
        read_write_conflict=False,
        fit="shrink",
        max_workers=max(workers, 1),
        max_retries=_RETRIES,
        max_worker_restarts=max(10, _RESTARTS * workers),
        timeout=_TIMEOUT,
        tracking_path=str(job.tracking),
        skip_mask=skipped_blocks(job),
    )
