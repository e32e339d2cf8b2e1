"""Objects from masks: components or a watershed, opening and holes, in one piece or joined from fragments of blocks."""

from scalenet_gp.segmentation.components import (
    background_connectivity,
    connected_pairs,
    fill_holes,
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
from scalenet_gp.segmentation.measures import (
    contact_type,
    count_overlaps,
    measure_objects,
    measure_type,
    merge_contacts,
    merge_measures,
    merge_overlaps,
    overlap_type,
)
from scalenet_gp.segmentation.objects import find_objects
from scalenet_gp.segmentation.opening import BallClosing, BallOpening
from scalenet_gp.segmentation.options import (
    ComponentsOptions,
    Connectivity,
    SegmentationMethod,
    WatershedOptions,
)
from scalenet_gp.segmentation.shapes import (
    border_faces,
    boundary_faces,
    mean_values,
    principal_axes,
    surface_areas,
)
from scalenet_gp.segmentation.surfaces import crossing_areas, crossing_steps, face_areas
from scalenet_gp.segmentation.watershed import PASS_TYPE, Heights, find_basins, find_passes, join_basins

__all__ = [
    "PASS_TYPE",
    "BallClosing",
    "BallOpening",
    "ComponentsOptions",
    "Connectivity",
    "Heights",
    "SegmentationMethod",
    "WatershedOptions",
    "background_connectivity",
    "border_faces",
    "boundary_faces",
    "connected_pairs",
    "contact_type",
    "count_overlaps",
    "crossing_areas",
    "crossing_steps",
    "face_areas",
    "fill_holes",
    "find_basins",
    "find_objects",
    "find_passes",
    "fragment_type",
    "join_basins",
    "join_fragments",
    "label_components",
    "look_up",
    "mean_values",
    "measure_fragments",
    "measure_objects",
    "measure_type",
    "merge_contacts",
    "merge_fragments",
    "merge_measures",
    "merge_overlaps",
    "number_objects",
    "overlap_type",
    "principal_axes",
    "surface_areas",
]
