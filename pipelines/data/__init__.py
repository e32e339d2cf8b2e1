"""Volumes with their annotation, and the chain that draws samples from them."""

from scalenet_gp.pipelines.data.boxes import sample_boxes
from scalenet_gp.pipelines.data.chain import sample_chain
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.sampling import build_sampler

__all__ = ["Dataset", "build_sampler", "sample_boxes", "sample_chain"]
