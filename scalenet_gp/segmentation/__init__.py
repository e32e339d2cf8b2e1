"""Instances from masks: connected components, opening and holes, in one piece or joined from fragments of blocks."""

from scalenet_gp.segmentation.components import (
    background_connectivity,
    connected_pairs,
    fill_holes,
    find_components,
    label_components,
)
from scalenet_gp.segmentation.fragments import (
    fragment_type,
    join_fragments,
    look_up,
    measure_fragments,
    merge_fragments,
    number_objects,
)
from scalenet_gp.segmentation.opening import BallOpening
from scalenet_gp.segmentation.options import ComponentsOptions, Connectivity

__all__ = [
    "BallOpening",
    "ComponentsOptions",
    "Connectivity",
    "background_connectivity",
    "connected_pairs",
    "fill_holes",
    "find_components",
    "fragment_type",
    "join_fragments",
    "label_components",
    "look_up",
    "measure_fragments",
    "merge_fragments",
    "number_objects",
]
