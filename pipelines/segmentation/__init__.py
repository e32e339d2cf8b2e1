"""Blockwise segmentation of predictions into objects, with a table of them."""

from scalenet_gp.pipelines.blockwise import Workers
from scalenet_gp.pipelines.segmentation.lookup import LookupTables
from scalenet_gp.pipelines.segmentation.segment_job import check_finished, segment, segmentation_job
from scalenet_gp.pipelines.segmentation.summary import segmentation_table
from scalenet_gp.pipelines.segmentation.table import objects_path

__all__ = [
    "LookupTables",
    "Workers",
    "check_finished",
    "objects_path",
    "segment",
    "segmentation_job",
    "segmentation_table",
]
