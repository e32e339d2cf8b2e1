"""Targets: classes, affinities, distances and weights."""

from scalenet_gp.nodes.targets.affinities import Affinities
from scalenet_gp.nodes.targets.boundary_distance import BoundaryDistance
from scalenet_gp.nodes.targets.class_targets import ClassTargets
from scalenet_gp.nodes.targets.class_weights import ClassWeights

__all__ = ["Affinities", "BoundaryDistance", "ClassTargets", "ClassWeights"]
