"""The training job."""

from scalenet_gp.pipelines.training.memory_guard import check_run_memory
from scalenet_gp.pipelines.training.train_job import train
from scalenet_gp.pipelines.training.trainer import build_trainer

__all__ = ["build_trainer", "check_run_memory", "train"]
