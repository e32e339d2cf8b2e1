"""The job that scores predictions of crops by the metric of the challenge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scalenet_gp.errors import ConfigError, DataError, UnknownNameError, VolumeFormatError
from scalenet_gp.metrics import (
    CellMapScores,
    ConfusionCounts,
    InstanceCounts,
    count_missing_instances,
    count_missing_semantic,
    is_instance_class,
    place_on_grid,
    score_instances,
    score_semantic,
)
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.challenge.layout import DEFAULT_LAYOUT, check_layout, list_classes, place_of, segments_of
from scalenet_gp.pipelines.challenge.truth import TrueClass, grid_of, true_classes
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import (
    ClassPrediction,
    CropLattice,
    extract_class,
    find_node,
    open_array,
    stated_place,
    submitted_classes,
)

__all__ = ["ChallengeScores", "score"]

_VERSION = 1

Counts = InstanceCounts | ConfusionCounts


@dataclass(frozen=True, slots=True)
class ChallengeScores:
    """The scores of predictions by the challenge's metric.

    Attributes:
        crops: the counts of each class of each crop.
        missing: the crops and classes without prediction, which count as missed.
    """

    crops: Mapping[str, Mapping[str, Counts]]
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def pooled(self) -> CellMapScores:
        """The scores from the counts of all crops together."""
        return CellMapScores.pool(self.crops.values())

    def to_json(self) -> dict[str, Any]:
        """Return the pooled scores and those of each crop as JSON can hold them."""
        of_crops = {}
        for crop, classes in self.crops.items():
            plain = CellMapScores.pool([classes]).to_json()
            of_crops[crop] = plain["instances"] | plain["semantic"]
        missing = [f"{crop}/{label}" for crop, label in self.missing]
        return {"version": _VERSION} | self.pooled.to_json() | {"crops": of_crops, "missing": missing}


def score(
    predictions: Path,
    truth: Path,
    output: Path | None = None,
    *,
    classes: Sequence[str] = (),
    layout: str = DEFAULT_LAYOUT,
    segments: Path | None = None,
    threshold: float = 0.5,
    allow_missing: bool = False,
    overwrite: bool = False,
) -> ChallengeScores:
    """Score predictions of crops by the metric of the CellMap Segmentation Challenge.

    Arrays as the challenge takes them are placed by its rule, also where that rounds. Multiscale volumes are resampled
    exactly: the nearest id, or 1 from the threshold on. Voxels that are not annotated do not count.

    Args:
        predictions: folder, or the zip file that :func:`~scalenet_gp.pipelines.challenge.pack` writes.
        truth: folder of the annotated crops.
        output: JSON file for counts and scores.
        classes: the classes to score; all that are annotated if none is given.
        layout: path of a prediction below the folder; see :func:`~scalenet_gp.pipelines.challenge.pack`.
        segments: folder that :func:`~scalenet_gp.pipelines.challenge.segment_crops` made: classes of crops whose
            objects are there are taken from there instead.
        threshold: the probability from which on a voxel is of the class.
        allow_missing: count crops and classes without prediction as missed, as the challenge does.
        overwrite: replace ``output`` if it exists.

    Raises:
        FileExistsError: ``output`` exists.
        FileNotFoundError: there are no such predictions, or no such truth.
        UnknownNameError: no crop has a class.
        ConfigError: the layout names something else, or there are segments beside a zip file.
        DataError: predictions are missing or of another shape than their crop, or nothing is annotated.
        LatticeError: a prediction does not cover its crop.
        VolumeFormatError: files that cannot be read, or arrays that do not state their place.
    """
    if output is not None and output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another output, or replace it with --force")
    check_layout(layout)
    wanted = _wanted(true_classes(truth), classes, truth)
    find = _finder(predictions, layout, segments)
    missing = [(one.crop, one.label) for one in wanted if not find.has(one)]
    if missing and (len(missing) == len(wanted) or not allow_missing):
        cure = "" if len(missing) == len(wanted) else "; --allow-missing counts them as missed, as the challenge does"
        raise DataError(f"{predictions}: there are no predictions of {list_classes(missing)}{cure}")
    crops: dict[str, dict[str, Counts]] = {}
    with progress_bar("scoring", len(wanted)) as advance:
        for one in wanted:
            counts = _count(one, find, threshold)
            if counts is not None:
                crops.setdefault(one.crop, {})[one.label] = counts
            advance(f"{one.crop} {one.label}")
    if not crops:
        raise DataError(f"{truth}: no voxel is annotated")
    result = ChallengeScores(crops, tuple(missing))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(output) as beside:
            beside.write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")
    return result


def _wanted(found: Sequence[TrueClass], classes: Sequence[str], truth: Path) -> list[TrueClass]:
    known = sorted({one.label for one in found})
    for label in classes:
        if label not in known:
            raise UnknownNameError(f"{truth}: no crop has the class {label}; {suggest(label, known)}")
    twice = {
        one.crop for one in found for other in found if one.crop == other.crop and one.path.parent != other.path.parent
    }
    if twice:
        raise VolumeFormatError(f"{truth}: several crops have the name {min(twice)}; score one dataset at a time")
    return [one for one in found if not classes or one.label in classes]


@dataclass(frozen=True, slots=True)
class _Finder:
    """Predictions in a folder or a zip file.

    Attributes:
        has: tells whether there is a prediction of a class.
        place: makes its path; a context manager.
    """

    has: Callable[[TrueClass], bool]
    place: Callable[[TrueClass], Any]


def _finder(predictions: Path, layout: str, segments: Path | None) -> _Finder:
    if segments is not None and not segments.is_dir():
        raise FileNotFoundError(f"{segments}: no such folder")
    if predictions.is_file():
        if segments is not None:
            raise ConfigError(f"{predictions} is packed, with its objects: leave --segments out")
        inside = submitted_classes(predictions)
        return _Finder(
            lambda one: (one.crop, one.label) in inside,
            lambda one: extract_class(predictions, inside[one.crop, one.label]),
        )
    if not predictions.is_dir():
        raise FileNotFoundError(f"{predictions}: no such folder or file")

    def path(one: TrueClass) -> Path:
        objects = segments_of(segments, one.crop, one.label)
        return objects or place_of(predictions, layout, {"dataset": one.dataset, "crop": one.crop, "label": one.label})

    @contextmanager
    def place(one: TrueClass) -> Iterator[Path]:
        yield path(one)

    return _Finder(lambda one: _exists(path(one), one), place)


def _exists(path: Path, one: TrueClass) -> bool:
    node = find_node(path)
    if node is None or node.array is not None:
        return node is not None
    return ClassPrediction.find(path, one.label, one.lattice().voxel_size) is not None


def _count(one: TrueClass, find: _Finder, threshold: float) -> Counts | None:
    """Return the counts of a class of a crop; None if no voxel of it is annotated."""
    lattice = one.lattice()
    true, mask = one.read()
    if mask is not None and not mask.any():
        return None
    instances = is_instance_class(one.label)
    if not find.has(one):
        return count_missing_instances(true, mask) if instances else count_missing_semantic(true)
    with find.place(one) as path:
        predicted = _read(path, one, lattice, threshold)
    if instances:
        return score_instances(predicted, true, tuple(map(float, lattice.voxel_size)), mask)
    return score_semantic(predicted, true, mask)


def _read(path: Path, one: TrueClass, lattice: CropLattice, threshold: float) -> np.ndarray:
    """Return a prediction on the lattice of its crop."""
    node = find_node(path)
    if node is None or node.array is None:
        prediction = ClassPrediction.find(path, one.label, lattice.voxel_size)
        if prediction is None:
            raise FileNotFoundError(f"{path}: no prediction of {one.label}")
        return prediction.read(lattice, threshold)
    size, translation = (tuple(map(float, lengths)) for lengths in stated_place(str(path), node.attributes))
    stored, grid = open_array(path), grid_of(lattice)
    shape = tuple(round(n * v / own) for n, v, own in zip(stored.shape, size, grid.voxel_size, strict=False))
    if shape != grid.shape:
        raise DataError(
            f"{one.crop}/{one.label}: the prediction is of shape {stored.shape} with voxels of {size} nm, and the crop "
            f"of shape {grid.shape} with voxels of {grid.voxel_size} nm: it does not have the extent of the crop"
        )
    return place_on_grid(stored[:], grid, size, translation, instances=is_instance_class(one.label))
