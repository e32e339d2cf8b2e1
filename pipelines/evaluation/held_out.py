"""Regions that networks are assessed in, which share nothing with the region that they learn from."""

from __future__ import annotations

from collections.abc import Mapping

from funlib.geometry import Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.data import Dataset, Datasets
from scalenet_gp.pipelines.evaluation.groups import group_channels

__all__ = ["check_evaluation", "evaluation_roi", "held_out"]


def held_out(dataset: Dataset, region: Region, what: str, apart_from: Mapping[str, Region], advice: str = "") -> Roi:
    """Return the annotated part of a region, which may share no annotated voxel with other regions.

    Args:
        dataset: the volume.
        region: the region.
        what: its name, for errors.
        apart_from: the other regions, by their names in the config.
        advice: what else can be done about an overlap, for its error.

    Raises:
        FileNotFoundError: a class has no labels.
        ConfigError: nothing is annotated in the region, it has other axes than the volume, or it overlaps another one.
    """
    try:
        annotated = dataset.annotated(region)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error
    for name, other in apart_from.items():
        if not dataset.roi(other).intersect(annotated).empty:
            raise ConfigError(
                f"{what}, {region}, shares annotated voxels with {name}, {other}; let one end where the other "
                f"begins{advice}"
            )
    return annotated


def evaluation_roi(config: Config, dataset: Dataset, region: Region | None = None) -> Roi:
    """Return the annotated part of the region to evaluate in: ``region``, or that of the config.

    Raises:
        FileNotFoundError: a class has no labels.
        ConfigError: nothing is annotated there, or the network learns from a part of it and the config does not allow
            that.
    """
    apart = dataset.source.use is None and not config.evaluation.allow_training_region
    return held_out(
        dataset,
        region or dataset.evaluation_region,
        "evaluation.region" if region is None else "the region to evaluate",
        {"training.region": dataset.training_region} if apart else {},
        ", or set evaluation.allow_training_region to true for scores of what was learned from, or of another volume",
    )


def check_evaluation(config: Config, datasets: Datasets) -> None:
    """Check that the network of a run can be predicted and evaluated at the end of the run, in every source for that.

    Raises:
        FileNotFoundError: a class has no labels.
        ConfigError: as :func:`evaluation_roi`, no output has all classes of a group, or a block of the prediction is
            not whole voxels of every output.
    """
    for source in datasets.of("evaluate"):
        evaluation_roi(config, datasets.open(source))
    group_channels(config.evaluation.groups, datasets.first.channels)
    datasets.first.shape(config.prediction.block_shape, "prediction.block_shape")
