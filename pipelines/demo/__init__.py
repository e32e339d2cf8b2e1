"""The demo: generated volumes, and runs on them."""

from scalenet_gp.pipelines.demo.demo_job import DemoResult, DemoRun, comparison_table, demo
from scalenet_gp.pipelines.demo.demo_volume import CLASSES, DemoVolume, make_demo_volume, write_demo_volume
from scalenet_gp.pipelines.demo.instances_job import (
    InstancesResult,
    InstancesRun,
    demo_instances,
    instances_table,
)
from scalenet_gp.pipelines.demo.neurite_volume import NeuriteVolume, make_neurite_volume, write_neurite_volume

__all__ = [
    "CLASSES",
    "DemoResult",
    "DemoRun",
    "DemoVolume",
    "InstancesResult",
    "InstancesRun",
    "NeuriteVolume",
    "comparison_table",
    "demo",
    "demo_instances",
    "instances_table",
    "make_demo_volume",
    "make_neurite_volume",
    "write_demo_volume",
    "write_neurite_volume",
]
