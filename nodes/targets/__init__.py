"""Targets: classes, affinities, distances, shape descriptors and weights."""

from scalenet_gp.nodes.targets.affinities import Affinities
from scalenet_gp.nodes.targets.boundary_distance import BoundaryDistance
from scalenet_gp.nodes.targets.class_targets import ClassTargets
from scalenet_gp.nodes.targets.class_weights import ClassWeights
from scalenet_gp.nodes.targets.distance_weights import DistanceWeights
from scalenet_gp.nodes.targets.grow_boundary import GrowBoundary
from scalenet_gp.nodes.targets.local_shape_descriptors import LocalShapeDescriptors
from scalenet_gp.nodes.targets.shape_descriptors import descriptor_names, local_shape_descriptors
from scalenet_gp.nodes.targets.weigh_mask import WeighMask

__all__ = [
    "Affinities",
    "BoundaryDistance",
    "ClassTargets",
    "ClassWeights",
    "DistanceWeights",
    "GrowBoundary",
    "LocalShapeDescriptors",
    "WeighMask",
    "descriptor_names",
    "local_shape_descriptors",
]
