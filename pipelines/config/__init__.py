"""The run file."""

from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.config.data import (
    ChallengeConfig,
    DataConfig,
    DatasplitConfig,
    ReadingConfig,
    SamplingConfig,
    SourceConfig,
    SplitConfig,
    Use,
)
from scalenet_gp.pipelines.config.distribution_targets import DistributionTargetsOptions, joint_losses
from scalenet_gp.pipelines.config.instance_targets import (
    AffinityTargetsOptions,
    InstanceTargetsOptions,
    LsdTargetsOptions,
)
from scalenet_gp.pipelines.config.intensities import Intensities
from scalenet_gp.pipelines.config.learned_volume import LearnedInput, LearnedVolume
from scalenet_gp.pipelines.config.overrides import apply_overrides
from scalenet_gp.pipelines.config.prediction import PredictionOptions
from scalenet_gp.pipelines.config.region import Region
from scalenet_gp.pipelines.config.resolved import resolved_yaml
from scalenet_gp.pipelines.config.sampling import (
    ClassSamplerOptions,
    MapSamplerOptions,
    MaskSamplerOptions,
    PointSamplerOptions,
    SamplerOptions,
    StratifiedSamplerOptions,
    UniformSamplerOptions,
)
from scalenet_gp.pipelines.config.schema import reference_text, schema_text
from scalenet_gp.pipelines.config.segmentation import FRAGMENTS, SegmentationConfig
from scalenet_gp.pipelines.config.targets import (
    BACKGROUND,
    BoundaryDistanceTargetsOptions,
    ClassTargetsOptions,
    TargetOptions,
    match_output,
    match_outputs,
)
from scalenet_gp.pipelines.config.yaml_files import load_yaml, parse_yaml, to_yaml

__all__ = [
    "BACKGROUND",
    "FRAGMENTS",
    "AffinityTargetsOptions",
    "BoundaryDistanceTargetsOptions",
    "ChallengeConfig",
    "ClassSamplerOptions",
    "ClassTargetsOptions",
    "Config",
    "DataConfig",
    "DatasplitConfig",
    "DistributionTargetsOptions",
    "InstanceTargetsOptions",
    "Intensities",
    "LearnedInput",
    "LearnedVolume",
    "LsdTargetsOptions",
    "MapSamplerOptions",
    "MaskSamplerOptions",
    "PointSamplerOptions",
    "PredictionOptions",
    "ReadingConfig",
    "Region",
    "SamplerOptions",
    "SamplingConfig",
    "SegmentationConfig",
    "SourceConfig",
    "SplitConfig",
    "StratifiedSamplerOptions",
    "TargetOptions",
    "UniformSamplerOptions",
    "Use",
    "apply_overrides",
    "joint_losses",
    "load_yaml",
    "match_output",
    "match_outputs",
    "parse_yaml",
    "reference_text",
    "resolved_yaml",
    "schema_text",
    "to_yaml",
]
