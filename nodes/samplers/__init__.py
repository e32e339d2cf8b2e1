"""Samplers: they draw the locations of samples in a volume."""

from scalenet_gp.nodes.samplers.lazy_random_volume import LazyRandomVolume
from scalenet_gp.nodes.samplers.mask_sampler import MaskSampler
from scalenet_gp.nodes.samplers.point_sampler import PointSampler
from scalenet_gp.nodes.samplers.random_volume import RandomVolume
from scalenet_gp.nodes.samplers.reject import Reject
from scalenet_gp.nodes.samplers.sample_location import SampleLocation, count_draws, describe_location
from scalenet_gp.nodes.samplers.sampler import Sampler, UniformSampler
from scalenet_gp.nodes.samplers.voxel_index import LabelArray
from scalenet_gp.nodes.samplers.weighted_samplers import ClassSampler, StratifiedSampler

__all__ = [
    "ClassSampler",
    "LabelArray",
    "LazyRandomVolume",
    "MaskSampler",
    "PointSampler",
    "RandomVolume",
    "Reject",
    "SampleLocation",
    "Sampler",
    "StratifiedSampler",
    "UniformSampler",
    "count_draws",
    "describe_location",
]
