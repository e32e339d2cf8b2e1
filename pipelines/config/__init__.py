"""The run file."""

from scalenet_gp.pipelines.config.config import AugmentationConfig, Config, DataConfig, SectionsConfig
from scalenet_gp.pipelines.config.training import LossWeights
from scalenet_gp.pipelines.config.types import Region, Size, Strict

__all__ = ["AugmentationConfig", "Config", "DataConfig", "LossWeights", "Region", "SectionsConfig", "Size", "Strict"]
