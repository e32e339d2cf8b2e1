"""The training job: trains a network on augmented random crops, with every scale cropped and augmented alike."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch

from scalenet_gp.kernels import set_deterministic_mkl
from scalenet_gp.nodes import Stack
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import Datasets, record_volumes, survey, training_chain
from scalenet_gp.pipelines.evaluation import check_evaluation
from scalenet_gp.pipelines.process import console, stop_requested
from scalenet_gp.pipelines.runs import RunFolder
from scalenet_gp.pipelines.training.learned_from import describe_data
from scalenet_gp.pipelines.training.memory_guard import check_run_memory
from scalenet_gp.pipelines.training.reports import ReportForm
from scalenet_gp.pipelines.training.trainer import build_trainer
from scalenet_gp.pipelines.training.training_loop import TrainingLoop
from scalenet_gp.training import distributed_context
from scalenet_gp.volumes import StrPath, whole_path

__all__ = ["train"]


def train(config: Config, volume: StrPath, run: Path, device: str | None = None, report: ReportForm = "bar") -> Path:
    """Train a network from scratch, or resume the run in that folder.

    The folder gets ``config.yaml``, ``checkpoints/`` and ``log/`` (TensorBoard), and ``best.safetensors`` if the config
    has a validation. Processes that torchrun starts train one network together, and rank 0 writes.

    Args:
        config: the run file.
        volume: folder, or its URL, that paths of the config start at.
        run: folder of the run.
        device: name of a torch device. By default it is that of the config.
        report: form of the report of progress.

    Returns:
        The newest checkpoint.

    Raises:
        FileNotFoundError: there is no such volume, or a class has no labels.
        ConfigError: no class is annotated anywhere; the config does not fit the volume, its evaluation included; or
            the folder holds a run with another config, see :data:`.MAY_CHANGE`, or of other data.
        BlockingIOError: the run is being trained already.
        TrainingDivergedError: too many steps in a row had a loss or gradient that is not finite.
        MemoryError: a step does not fit into memory; the message says which step would.
        Interrupted: a signal asked to stop. The newest checkpoint can be resumed.
    """
    set_deterministic_mkl()  # as the command line does, so that both give one result
    folder = RunFolder(run)
    config = config.model_copy(update={"data": config.data.model_copy(update={"folder": whole_path(volume)})})
    with (
        stop_requested() as received,
        distributed_context(device or config.training.compute.device) as ranks,
        folder.training() if ranks.is_main else nullcontext(),
    ):
        folder.check_config(config)
        torch.manual_seed(config.training.seed)
        net = config.build_network()
        datasets = Datasets.find(volume, config, net)
        found = survey(datasets)
        found.check()
        begun = folder.begun()
        volumes = record_volumes(datasets, () if begun is None else begun.learned_from)
        config = config.model_copy(update={"learned_from": volumes})
        folder.check_volumes(config)
        datasets = datasets.with_config(config)
        if report == "bar" and ranks.is_main and len(datasets.sources) > 1:
            for line in found.lines():
                console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)
        check_evaluation(config, datasets)
        check_run_memory(config, datasets, device)
        learned = describe_data(datasets)
        node = build_trainer(config, datasets.first, device, folder, ranks)
        size = config.training.batch_size
        samples = training_chain(datasets) + Stack(size, ranks.rank * size)
        with TrainingLoop(config, datasets, samples, node, folder, received, learned) as loop:
            return loop.run(report)
