"""The job that segments predicted test crops: ids of objects for the classes that the challenge scores by objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scalenet_gp.errors import ConfigError
from scalenet_gp.metrics import is_instance_class
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.segmentation import Workers, check_finished, segment, segmentation_job
from scalenet_gp.volumes import read_crop_manifest

__all__ = ["segment_crops"]


def segment_crops(
    config: Config,
    predictions: Path,
    output: Path,
    manifest: Path,
    *,
    classes: Sequence[str] = (),
    workers: Workers | None = None,
) -> dict[str, Path]:
    """Segment predicted crops, each into a group ``<output>/<crop>.zarr`` that ``pack`` and ``score`` read.

    Of each crop the classes are segmented that the manifest asks for, the challenge scores by objects, and the config
    has a method for. The same call resumes. Crops that are finished, of the same prediction with the same options, are
    left as they are.

    Args:
        config: the run.
        predictions: folder that ``predict_crops`` made.
        output: folder to make.
        manifest: the challenge's CSV file of test crops.
        classes: classes to segment instead of those that are scored by objects.
        workers: processes that segment; this process alone unless given.

    Returns:
        The groups by crop. A crop without any of the classes has none.

    Raises:
        FileExistsError: a crop was segmented with other options, or from another prediction.
        FileNotFoundError: there is no such manifest, or a crop is not predicted.
        ConfigError: no crop has a class to segment; or as :func:`scalenet_gp.pipelines.segmentation.segment`.
        VolumeFormatError: the manifest or a prediction cannot be read.
    """
    asked: dict[str, list[str]] = {}
    entries = read_crop_manifest(manifest)
    labels = sorted({entry.label for entry in entries})
    for name in classes:
        if name not in labels:
            raise ConfigError(f"{manifest}: no crop has the class {name!r}; {suggest(name, labels)}")
    for entry in entries:
        if entry.label in classes or (not classes and is_instance_class(entry.label)):
            asked.setdefault(entry.crop, []).append(entry.label)
    jobs = {}
    for crop, wanted in asked.items():
        of_crop = [name for name in wanted if config.segmentation.method(name) is not None]
        if of_crop:
            # all are opened before the first is segmented
            made = output / f"{crop}.zarr"
            jobs[crop] = segmentation_job(config, predictions / f"{crop}.zarr", made, classes=of_crop, workers=workers)
    if not jobs:
        raise ConfigError(
            f"{manifest}: there is no class to segment: of {', '.join(labels)} none is scored by objects and has a "
            "method in segmentation.classes; name classes with --classes to segment others"
        )
    for job in jobs.values():
        if job.output.exists():
            check_finished(job)
    for crop, job in jobs.items():
        if not job.output.exists():
            segment(config, job.prediction, output / f"{crop}.zarr", classes=list(job.classes), workers=workers)
    return {crop: output / f"{crop}.zarr" for crop in jobs}
