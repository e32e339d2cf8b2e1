"""Measures of the objects of segmentations, block by block: tables of objects and of their contacts."""

from scalenet_gp.pipelines.measuring.measure_job import measure
from scalenet_gp.pipelines.measuring.summary import measures_table

__all__ = ["measure", "measures_table"]
