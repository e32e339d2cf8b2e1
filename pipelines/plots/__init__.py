"""Pictures of batches, predictions and masks. matplotlib is imported by the first picture."""

from scalenet_gp.pipelines.plots.augmentation_records import describe_augmentation
from scalenet_gp.pipelines.plots.batch_picture import draw_batch
from scalenet_gp.pipelines.plots.comparison_picture import comparison_figure, draw_comparison
from scalenet_gp.pipelines.plots.mask_picture import draw_mask
from scalenet_gp.pipelines.plots.objects_picture import draw_objects
from scalenet_gp.pipelines.plots.picture import draw_prediction
from scalenet_gp.pipelines.plots.sources_picture import draw_sources
from scalenet_gp.pipelines.plots.threshold_picture import draw_merge_thresholds, draw_thresholds

__all__ = [
    "comparison_figure",
    "describe_augmentation",
    "draw_batch",
    "draw_comparison",
    "draw_mask",
    "draw_merge_thresholds",
    "draw_objects",
    "draw_prediction",
    "draw_sources",
    "draw_thresholds",
]
