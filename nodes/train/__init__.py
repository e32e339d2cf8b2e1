"""A network in a gunpowder pipeline, for training."""

from scalenet_gp.nodes.train.supervision import Supervision
from scalenet_gp.nodes.train.train import Train

__all__ = ["Supervision", "Train"]
