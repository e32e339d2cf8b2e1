"""The memory that a run will take, compared with the memory that is free before anything is allocated."""

from __future__ import annotations

import torch

from scalenet_gp.kernels import choose_device
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import Datasets
from scalenet_gp.training import check_data_memory, check_step_memory

__all__ = ["check_run_memory"]

_AHEAD = 2
"""Batches that a worker has at a time: the one that it prepares, and one that is ready."""


def check_run_memory(config: Config, datasets: Datasets, device: str | None = None) -> None:
    """Check that batches and training steps of a run fit into the memory that is free now.

    Args:
        config: the run file.
        datasets: the sources, and the network.
        device: name of a torch device, instead of ``config.training.compute.device``.

    Raises:
        MemoryError: they do not; the message has the numbers, and what would fit.
        ConfigError: ``training.output_shape`` does not fit the network.
        ArgumentError: there is no such device.
    """
    settings, net = config.training, datasets.net
    plan = net.plan(datasets.boxes(settings.output_shape))
    check_data_memory(net, plan, settings.batch_size * (1 + _AHEAD * settings.workers))
    compute = settings.compute
    check_step_memory(
        net,
        plan,
        settings.batch_size,
        getattr(torch, compute.precision),
        choose_device(device or compute.device),
        compute.checkpointed_nodes(net),
    )
