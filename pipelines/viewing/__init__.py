"""Predictions in neuroglancer."""

from scalenet_gp.pipelines.viewing.view_job import View, view

__all__ = ["View", "view"]
