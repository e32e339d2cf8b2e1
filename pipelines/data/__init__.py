"""Volumes with their annotation, and the chain that draws samples from them."""

from scalenet_gp.pipelines.data.annotation import AnnotationCounts, count_annotation
from scalenet_gp.pipelines.data.boxes import sample_boxes, say_if_small
from scalenet_gp.pipelines.data.chain import draw_from_sources, sample_chain, training_chain
from scalenet_gp.pipelines.data.context import context_shares
from scalenet_gp.pipelines.data.dataset import Dataset, open_raw
from scalenet_gp.pipelines.data.datasets import Datasets
from scalenet_gp.pipelines.data.intensities import compare_intensities
from scalenet_gp.pipelines.data.learned_volumes import (
    check_inputs,
    check_intensities,
    record_inputs,
    record_volumes,
)
from scalenet_gp.pipelines.data.predicted_sources import predicted_sources
from scalenet_gp.pipelines.data.sampling import build_sampler
from scalenet_gp.pipelines.data.source_survey import COUNTED_SOURCES, SourceSurvey, Survey, survey, survey_source
from scalenet_gp.pipelines.data.sources import Source, choose_source, resolve_sources, sources_of
from scalenet_gp.pipelines.data.weights import class_amounts

__all__ = [
    "COUNTED_SOURCES",
    "AnnotationCounts",
    "Dataset",
    "Datasets",
    "Source",
    "SourceSurvey",
    "Survey",
    "build_sampler",
    "check_inputs",
    "check_intensities",
    "choose_source",
    "class_amounts",
    "compare_intensities",
    "context_shares",
    "count_annotation",
    "draw_from_sources",
    "open_raw",
    "predicted_sources",
    "record_inputs",
    "record_volumes",
    "resolve_sources",
    "sample_boxes",
    "sample_chain",
    "say_if_small",
    "sources_of",
    "survey",
    "survey_source",
    "training_chain",
]
