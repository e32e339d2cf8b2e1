"""The demo: a generated volume, and a run on it."""

from scalenet_gp.pipelines.demo.demo_job import DemoResult, demo
from scalenet_gp.pipelines.demo.demo_volume import DemoVolume, make_demo_volume, write_demo_volume

__all__ = ["DemoResult", "DemoVolume", "demo", "make_demo_volume", "write_demo_volume"]
