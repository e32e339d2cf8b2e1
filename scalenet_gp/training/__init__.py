"""Changing a network's weights: how they are optimised, how that is computed, and the state that goes on from."""

from scalenet_gp.training.computation import Computation, Precision
from scalenet_gp.training.distributed import Ranks, joined
from scalenet_gp.training.optimization import Optimization
from scalenet_gp.training.training_state import Step, TrainingState

__all__ = ["Computation", "Optimization", "Precision", "Ranks", "Step", "TrainingState", "joined"]
