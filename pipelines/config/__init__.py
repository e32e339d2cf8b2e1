"""The run file."""

from scalenet_gp.pipelines.config.config import AugmentationConfig, Config, DataConfig, SectionsConfig
from scalenet_gp.pipelines.config.prediction import PredictionOptions
from scalenet_gp.pipelines.config.region import Region
from scalenet_gp.pipelines.config.training import LossWeights

__all__ = ["AugmentationConfig", "Config", "DataConfig", "LossWeights", "PredictionOptions", "Region", "SectionsConfig"]
