"""Training without gunpowder: optimization, state, checkpoints, distribution, logs."""

from scalenet_gp.training.adversary import Adversary, AdversaryOptions
from scalenet_gp.training.callbacks import Callback, FaultDump, LogCallback, Phase, TrainerView, ValidationCallback
from scalenet_gp.training.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    load_network,
    save_checkpoint,
    thin_checkpoints,
)
from scalenet_gp.training.compute import ComputeConfig
from scalenet_gp.training.distributed import ProcessGroup, distributed_context
from scalenet_gp.training.early_stopping import EarlyStopping, Validated, ValidationResult, save_best
from scalenet_gp.training.fault_file import write_fault
from scalenet_gp.training.memory import (
    check_data_memory,
    check_step_memory,
    explain_memory_errors,
    free_bytes,
    peak_resident_bytes,
    resident_bytes,
)
from scalenet_gp.training.norm_statistics import NormSamples, estimate_norm_statistics, norms_with_statistics
from scalenet_gp.training.optimization import Optimization, OptimizerOptions, ScheduleOptions
from scalenet_gp.training.options import (
    CheckpointOptions,
    LogOptions,
    Metric,
    NormStatisticsOptions,
    ValidationOptions,
)
from scalenet_gp.training.output_loss import JointLoss, OutputLoss
from scalenet_gp.training.step_result import StepResult
from scalenet_gp.training.tensorboard_log import TensorBoardLog
from scalenet_gp.training.trainer import Trainer
from scalenet_gp.training.training_state import TrainingState, UpdateResult

__all__ = [
    "Adversary",
    "AdversaryOptions",
    "Callback",
    "CheckpointOptions",
    "ComputeConfig",
    "EarlyStopping",
    "FaultDump",
    "JointLoss",
    "LogCallback",
    "LogOptions",
    "Metric",
    "NormSamples",
    "NormStatisticsOptions",
    "Optimization",
    "OptimizerOptions",
    "OutputLoss",
    "Phase",
    "ProcessGroup",
    "ScheduleOptions",
    "StepResult",
    "TensorBoardLog",
    "Trainer",
    "TrainerView",
    "TrainingState",
    "UpdateResult",
    "Validated",
    "ValidationCallback",
    "ValidationOptions",
    "ValidationResult",
    "check_data_memory",
    "check_step_memory",
    "distributed_context",
    "estimate_norm_statistics",
    "explain_memory_errors",
    "free_bytes",
    "latest_checkpoint",
    "load_checkpoint",
    "load_network",
    "norms_with_statistics",
    "peak_resident_bytes",
    "resident_bytes",
    "save_best",
    "save_checkpoint",
    "thin_checkpoints",
    "write_fault",
]
