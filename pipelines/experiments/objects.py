"""The objects of a run: found in its prediction, and compared with instances of the annotation."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.blockwise import WorkFolder
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import Datasets, Source
from scalenet_gp.pipelines.evaluation import evaluate_segmentation, true_instances
from scalenet_gp.pipelines.runs import RunFolder
from scalenet_gp.pipelines.segmentation import objects_path, segment

__all__ = ["check_objects", "compare_objects"]


def check_objects(config: Config, datasets: Datasets, objects: Sequence[str]) -> None:
    """Check that objects can be found in the prediction of a run, and compared.

    Raises:
        ConfigError: the config does not say how to find one, there is not one source to evaluate, or it has no
            instances of them.
    """
    if not objects:
        return
    sources = datasets.of("evaluate")
    if len(sources) != 1:
        raise ConfigError(f"objects are compared in one source to evaluate, and there are {len(sources)}")
    found = true_instances(datasets.open(sources[0]), _classes(sources[0], objects))
    if len(objects) > len(found):
        raise ConfigError(f"objects are {', '.join(objects)}, and there are instances of {', '.join(found)} alone")
    for name in objects:
        if name not in config.segmentation.objects and config.segmentation.method(name) is None:
            raise ConfigError(f"objects has {name!r}, and segmentation says for neither a class nor objects how")


def compare_objects(config: Config, run: RunFolder, objects: Sequence[str], source: Source) -> None:
    """Find objects in the prediction of a run anew, and compare them: ``segmentation.zarr`` and its scores.

    Args:
        config: the run file, with a ``data.folder``.
        run: the folder of the run.
        objects: names of classes, or of objects of affinities.
        source: the source to evaluate.

    Raises:
        ScaleNetError, OSError: as :func:`.segment` and :func:`.evaluate_segmentation`.
    """
    for left in (run.segmentation, WorkFolder(run.segmentation).path):
        shutil.rmtree(left, ignore_errors=True)
    objects_path(run.segmentation).unlink(missing_ok=True)
    segment(config, run.prediction, run.segmentation, classes=objects)
    made = run.segmentation / objects[0] if len(objects) == 1 else run.segmentation
    evaluate_segmentation(
        config,
        config.data.folder or "",
        made,
        output=run.segmentation_scores,
        overwrite=True,
        source=source.name,
        classes=_classes(source, objects),
    )


def _classes(source: Source, objects: Sequence[str]) -> Sequence[str]:
    """Return the classes to compare; none to be named where the source has instances of one alone."""
    return () if source.config.encoding == "instances" else objects
