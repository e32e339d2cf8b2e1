"""The engine: runs a task until every block of every stage is done, by this process alone or by many."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from daisy import logging as daisy_logging
from pydantic import NonNegativeInt, model_validator

from scalenet_gp.errors import ArgumentError, ConfigError
from scalenet_gp.kernels import find_device
from scalenet_gp.options import Options
from scalenet_gp.pipelines.blockwise.records import BlockFailure, UnfinishedBlocksError, read_cause
from scalenet_gp.pipelines.blockwise.scheduling import (
    BlockProgress,
    EndedEarly,
    Received,
    lacks_room,
    run_alone,
    run_by_workers,
)
from scalenet_gp.pipelines.blockwise.task import BlockStage, BlockTask, WorkFolder
from scalenet_gp.pipelines.blockwise.worker import attempt_block, worker_starter
from scalenet_gp.pipelines.process import Interrupted, ending_at_once, folder_lock, stop_requested
from scalenet_gp.serialization import naming_full_disk

__all__ = ["Workers", "run"]

_FEW = 16
"""Light blocks that this process does before others would have started."""


class Workers(Options):
    """Processes that do blocks, here or on other machines. They change no bit of the output.

    Attributes:
        count: number of worker processes; with 0 this process does block after block.
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
                f"launcher {self.launcher!r}, host {self.host!r} and devices {', '.join(self.devices) or 'none'} are "
                "for workers, and their count is 0; give a count above 0, or no launcher, no host and one device"
            )
        return self

    def check_start(self) -> None:
        """Check all that can be known of the start of workers before one is started: devices and launcher.

        Raises:
            ConfigError: a device is not here, which a launcher's may be elsewhere; or there is no such launcher.
        """
        try:
            for name in self.devices:
                torch.device(name) if self.launcher else find_device(name)
        except (RuntimeError, ArgumentError) as error:
            raise ConfigError(f"--devices {','.join(self.devices)}: {error}") from None
        if self.launcher and shutil.which(program := shlex.split(self.launcher)[0]) is None:
            raise ConfigError(f"--launcher {self.launcher!r} begins with {program!r}, which is not a program here")

    @property
    def on_processor(self) -> bool:
        """True if all workers are known to compute on processors."""
        if self.devices:
            return all(torch.device(name).type == "cpu" for name in self.devices)
        return not self.launcher and not torch.cuda.is_available()


def run(output: Path, open_task: Callable[[], BlockTask], workers: Workers) -> Path:
    """Do all blocks of a task that are not done yet, and give the output its name.

    Args:
        output: zarr group to make.
        open_task: opens the task that makes it.
        workers: processes that do the blocks.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at the output.
        BlockingIOError: another process makes it.
        UnfinishedBlocksError: blocks are missing; the rest is done.
        Interrupted: a signal asked to end; finished blocks are kept.
        ConfigError: a device or launcher of the workers is not there; the unfinished work is another task's; or as
            ``open_task``.
    """
    folder = WorkFolder(output)
    # signals are obeyed at once as long as nothing is lost by that, and when nothing is left to do, not at all
    with stop_requested() as received, ExitStack() as at_once:
        at_once.enter_context(ending_at_once(folder.path))
        _check_absent(output)
        workers.check_start()
        task = open_task()
        with folder_lock(folder.path, task.doing), naming_full_disk(folder.path):
            _check_absent(output)  # another process may have finished it meanwhile
            task = task.create_or_resume()
            shutil.rmtree(folder.failed, ignore_errors=True)
            at_once.close()
            for stage in task.stages():
                _run_stage(task, stage, workers, received)
            task.finish()
    return output


def _check_absent(output: Path) -> None:
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")


def _run_stage(task: BlockTask, stage: BlockStage, workers: Workers, received: Received) -> None:
    """Do the blocks of a stage that are not done yet.

    Raises:
        UnfinishedBlocksError: some could not be done.
        Interrupted: a signal came.
    """
    folder, blocks, before = task.folder, stage.blocks, stage.done()
    if before == blocks:
        return
    if (came := received()) is not None:
        raise Interrupted(came, folder.path)
    if room := lacks_room(stage.tracking, blocks):
        raise UnfinishedBlocksError(folder.path, [], room)
    daisy_logging.set_log_basedir(folder.log)
    daisy_logging.set_log_level(logging.ERROR)  # what goes wrong is told at the end, and is in the logs
    reason: str | signal.Signals = ""
    many = workers.count > 0 and (not stage.light or blocks - before > _FEW)
    handed_out = stage.daisy_task(workers.count if many else 0)
    with BlockProgress.shown(stage.name, blocks, before, stage.voxels / blocks) as progress:
        try:
            if many:
                devices = () if stage.light else workers.devices
                handed_out.process_function = worker_starter(
                    task, stage.name, workers.launcher, devices, _threads(workers)
                )
                run_by_workers(handed_out, workers.host, progress, received)
            else:
                device = workers.devices[0] if workers.devices else None
                with task.prepare(stage.name, device) as work:
                    run_alone(handed_out, lambda block: attempt_block(work, block, folder.failed), progress, received)
        except EndedEarly as early:
            reason = early.reason
    if stage.done() == blocks:
        return
    if isinstance(reason, signal.Signals):
        raise Interrupted(reason, folder.path)
    failures = [
        BlockFailure(task.describe(stage.name, block.write_roi), read_cause(folder.failed, block.block_id[1]))
        for block in handed_out.failed_blocks()
    ]
    raise UnfinishedBlocksError(folder.path, failures, reason)


def _threads(workers: Workers) -> int | None:
    """Return this machine's cores per worker; None with a launcher, which gives its workers cores of their own."""
    return None if workers.launcher else max(1, len(os.sched_getaffinity(0)) // workers.count)
