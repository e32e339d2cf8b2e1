"""The demo: a generated volume, and runs on it."""

from scalenet_gp.pipelines.demo.demo_job import DemoResult, DemoRun, comparison_table, demo
from scalenet_gp.pipelines.demo.demo_volume import CLASSES, DemoVolume, make_demo_volume, write_demo_volume

__all__ = [
    "CLASSES",
    "DemoResult",
    "DemoRun",
    "DemoVolume",
    "comparison_table",
    "demo",
    "make_demo_volume",
    "write_demo_volume",
]
