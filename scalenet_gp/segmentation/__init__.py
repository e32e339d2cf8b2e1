"""Objects from masks, by components or a watershed, or from affinities, by agglomeration or a mutex watershed.

They are found in one piece, or joined from fragments of blocks.
"""

from scalenet_gp.segmentation.affinities import (
    EDGE_TYPE,
    STEPS,
    adjacent_offsets,
    attached_faces,
    forward_affinities,
    mean_affinities,
    offset_reach,
    sum_edges,
    sum_rows,
)
from scalenet_gp.segmentation.agglomeration import agglomerate
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
from scalenet_gp.segmentation.joining import join_by_affinities
from scalenet_gp.segmentation.kinds import cut_kinds, sum_kinds
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
from scalenet_gp.segmentation.mutex import join_mutex, mutex_fragments, mutex_levels
from scalenet_gp.segmentation.objects import find_affinity_objects, find_objects
from scalenet_gp.segmentation.opening import BallClosing, BallOpening
from scalenet_gp.segmentation.options import (
    AffinityMethod,
    AgglomerateOptions,
    ComponentsOptions,
    Connectivity,
    KindOptions,
    MutexOptions,
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
    "EDGE_TYPE",
    "PASS_TYPE",
    "STEPS",
    "AffinityMethod",
    "AgglomerateOptions",
    "BallClosing",
    "BallOpening",
    "ComponentsOptions",
    "Connectivity",
    "Heights",
    "KindOptions",
    "MutexOptions",
    "SegmentationMethod",
    "WatershedOptions",
    "adjacent_offsets",
    "agglomerate",
    "attached_faces",
    "background_connectivity",
    "border_faces",
    "boundary_faces",
    "connected_pairs",
    "contact_type",
    "count_overlaps",
    "crossing_areas",
    "crossing_steps",
    "cut_kinds",
    "face_areas",
    "fill_holes",
    "find_affinity_objects",
    "find_basins",
    "find_objects",
    "find_passes",
    "forward_affinities",
    "fragment_type",
    "join_basins",
    "join_by_affinities",
    "join_fragments",
    "join_mutex",
    "label_components",
    "look_up",
    "mean_affinities",
    "mean_values",
    "measure_fragments",
    "measure_objects",
    "measure_type",
    "merge_contacts",
    "merge_fragments",
    "merge_measures",
    "merge_overlaps",
    "mutex_fragments",
    "mutex_levels",
    "number_objects",
    "offset_reach",
    "overlap_type",
    "principal_axes",
    "sum_edges",
    "sum_kinds",
    "sum_rows",
    "surface_areas",
]
