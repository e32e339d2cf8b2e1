"""Blockwise segmentation of predictions into objects, with a table of them."""

from scalenet_gp.pipelines.segmentation.segment_job import segment
from scalenet_gp.pipelines.segmentation.summary import segmentation_table
from scalenet_gp.pipelines.segmentation.table import objects_path

__all__ = ["objects_path", "segment", "segmentation_table"]
