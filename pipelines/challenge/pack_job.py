"""The job that packs predictions of the test crops into the file that the challenge takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.metrics import CropGrid
from scalenet_gp.pipelines.challenge.layout import DEFAULT_LAYOUT, check_layout, list_classes, place_of, segments_of
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import ClassPrediction, ManifestEntry, SubmissionWriter, read_crop_manifest

__all__ = ["Packed", "pack"]


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed submission.

    Attributes:
        path: the zip file.
        packed: the crops and classes in it.
        missing: the crops and classes of the manifest for which there is no prediction.
        segmented: those in it that are objects of a segmentation.
    """

    path: Path
    packed: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str], ...]
    segmented: tuple[tuple[str, str], ...] = ()


def pack(
    predictions: Path,
    manifest: Path,
    output: Path,
    *,
    layout: str = DEFAULT_LAYOUT,
    segments: Path | None = None,
    threshold: float = 0.5,
    allow_missing: bool = False,
    overwrite: bool = False,
) -> Packed:
    """Pack predictions into a zip file: one array of zarr format 2 for each class of each crop of the manifest.

    Every array lies on the lattice of its crop. Ids are those of the nearest voxel and stay what they are, in the
    smallest unsigned type that holds them. Probabilities are interpolated linearly and become 1 from the threshold on.

    Args:
        predictions: folder of the predictions.
        manifest: the challenge's CSV file of test crops.
        output: the file to write.
        layout: path of a prediction below the folder, with ``{dataset}``, ``{crop}`` and ``{label}`` for their names.
            There is an array or a multiscale volume, of the class or with a channel of its name, or a group of such
            volumes as ``scalenet-gp predict`` writes them; of these the one of the nearest voxel size is taken.
        segments: folder that :func:`~scalenet_gp.pipelines.challenge.segment_crops` made: classes of crops whose
            objects are there are taken from there instead.
        threshold: the probability from which on a voxel is of the class.
        allow_missing: pack what there is, although crops or classes are missing.
        overwrite: replace ``output`` if it exists.

    Raises:
        FileExistsError: ``output`` exists.
        FileNotFoundError: there is no such folder or manifest.
        ArgumentError: a threshold that is not a probability.
        ConfigError: the layout names something else.
        DataError: predictions are missing, or have ids below 0.
        LatticeError: a prediction does not cover its crop.
        VolumeFormatError: the manifest or a prediction cannot be read.
    """
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another output, or replace it with --force")
    for folder in (predictions, *([] if segments is None else [segments])):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
    if not 0 < threshold <= 1:
        raise ArgumentError(f"the threshold {threshold} has to be a probability above 0 and up to 1")
    check_layout(layout)
    entries, missing = [], []
    for entry in read_crop_manifest(manifest):
        prediction = _find(predictions, layout, segments, entry)
        if prediction is None:
            missing.append((entry.crop, entry.label))
        else:
            prediction.check_covers(entry.lattice)
            entries.append(entry)
    if not entries or (missing and not allow_missing):
        where = place_of(predictions, layout, {name: f"{{{name}}}" for name in ("dataset", "crop", "label")})
        cure = "; --allow-missing packs the others, and the challenge counts these as missed" if entries else ""
        raise DataError(f"there are no predictions of {list_classes(missing)}, looked for at {where}{cure}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(output) as beside,
        SubmissionWriter(beside) as writer,
        progress_bar("packing", len(entries)) as advance,
    ):
        for entry in entries:
            prediction = _find(predictions, layout, segments, entry)
            if prediction is None:
                raise FileNotFoundError(f"the prediction of {entry.label} of {entry.crop} vanished")
            _add(writer, entry, prediction, threshold)
            advance(f"{entry.crop} {entry.label}")
    packed = tuple((entry.crop, entry.label) for entry in entries)
    segmented = tuple(pair for pair in packed if segments_of(segments, *pair) is not None)
    return Packed(output, packed, tuple(missing), segmented)


def _find(predictions: Path, layout: str, segments: Path | None, entry: ManifestEntry) -> ClassPrediction | None:
    objects = segments_of(segments, entry.crop, entry.label)
    if objects is not None:
        return ClassPrediction.find(objects, entry.label, entry.voxel_size)
    names = {"dataset": entry.dataset, "crop": entry.crop, "label": entry.label}
    return ClassPrediction.find(place_of(predictions, layout, names), entry.label, entry.voxel_size)


def _add(writer: SubmissionWriter, entry: ManifestEntry, prediction: ClassPrediction, threshold: float) -> None:
    def slabs() -> Iterator[np.ndarray]:
        return prediction.slabs(entry.lattice, threshold)

    dtype: np.dtype[Any] = np.dtype(np.uint8)
    if prediction.scale is None:
        lowest = largest = 0
        for slab in slabs():
            lowest, largest = min(lowest, int(slab.min())), max(largest, int(slab.max()))
        if lowest < 0:
            raise DataError(f"{prediction.image.path}: the id {lowest} of {entry.crop}; ids are 0 or above")
        dtype = np.min_scalar_type(largest)
    attributes = {
        "voxel_size": [float(length) for length in entry.voxel_size],
        "translation": list(_translation(entry)),
        "shape": list(entry.shape),
    }
    writer.add(entry.crop, entry.label, entry.shape, dtype, slabs(), attributes)


def _translation(entry: ManifestEntry) -> tuple[float, ...]:
    """Return the translation to state, at which the challenge puts the array onto its crop.

    That is the crop's own, unless the challenge's rounding would move the array by a voxel: then half a voxel more.
    """
    size, own = (tuple(map(float, lengths)) for lengths in (entry.voxel_size, entry.translation))
    shifts = CropGrid(size, own, entry.shape).shift(own)
    return tuple(t + v / 2 if shift else t for t, v, shift in zip(own, size, shifts, strict=True))
