"""Crops of the CellMap Segmentation Challenge as branches of a pipeline, and how much of each class they hold.

The layout is ``{dataset}.zarr/recon-1/em/fibsem-uint8`` for the raw volume and
``{dataset}.zarr/recon-1/labels/groundtruth/{crop}/{class}`` for the labels, all of them multiscale groups. The crops
come from a datasplit: see :func:`~scalenet_gp.volumes.read_datasplit`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import final

import numpy as np
from funlib.geometry import Coordinate, Roi
from gunpowder import ArrayKey, BatchProvider, MergeProvider

from scalenet_gp.errors import DataError, UnknownNameError, VolumeFormatError
from scalenet_gp.geometry import Length, World, exact
from scalenet_gp.nodes.sources import MultiscaleSource
from scalenet_gp.nodes.targets import ClassTargets
from scalenet_gp.volumes import (
    Alignment,
    ChunkCache,
    ClassVolume,
    Crop,
    MultiscaleImage,
    Padding,
    find_node,
    join,
    read_annotation,
)

__all__ = ["CropBranch", "check_counts", "class_frequencies", "open_branch", "open_classes"]

_SLAB = 64  # sections that are counted at a time


@final
@dataclass(frozen=True, slots=True, eq=False)
class CropBranch:
    """One crop as a branch of a pipeline that draws samples from several: see :func:`open_branch`.

    Args:
        crop: the crop of the datasplit.
        world: the world that the branch counts in; the labels of the crop lie on its lattice. The worlds of several
            crops have one unit, but each has its own origin.
        annotated: the box of all voxels with any annotation, world units: the region to sample.
        classes: the label volumes that the targets are made from.
        provider: raw and targets, merged.

    Example:
        >>> import tempfile
        >>> from scalenet_gp.volumes import MultiscaleWriter
        >>> layout = {"voxel_size": (8, 8, 8), "corner": (0, 0, 0), "shape": (4, 4, 4), "dtype": "uint8"}
        >>> raw, target, mask = map(ArrayKey, ("RAW", "TARGET", "MASK"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for path in ("raw", "crop1/mito"):
        ...         with MultiscaleWriter(f"{folder}/{path}", **layout):
        ...             pass
        ...     crop = Crop("train", f"{folder}/raw", f"{folder}/crop1", ("mito",))
        ...     branch = open_branch(crop, {raw: (8, 8, 8)}, {target: (8, 8, 8)}, {target: mask})
        >>> branch.annotated.shape
        (32, 32, 32)
    """

    crop: Crop
    world: World
    annotated: Roi
    classes: Mapping[str, ClassVolume]
    provider: BatchProvider


def open_branch(
    crop: Crop,
    raw: Mapping[ArrayKey, Iterable[int]],
    targets: Mapping[ArrayKey, Iterable[int]],
    masks: Mapping[ArrayKey, ArrayKey],
    *,
    classes: Iterable[str] | None = None,
    groups: Mapping[str, Iterable[str]] | None = None,
    unit: Length = 1,
    alignment: Alignment = "exact",
    padding: Padding = "constant",
    raw_masks: Mapping[ArrayKey, ArrayKey] | None = None,
    cache: ChunkCache | None = None,
) -> CropBranch:
    """Open a crop: its raw volume and class targets, co-registered, in one provider whose arrays have no end::

        branches = [open_branch(crop, raw, targets, masks, classes=classes, alignment="resample") for crop in crops]
        sampled = tuple(b.provider + SampleLocation(target, UniformSampler([b.annotated])) for b in branches)
        pipeline = sampled + RandomVolume({b.crop.labels: b.annotated.size for b in branches})

    Args:
        crop: a crop of a datasplit.
        raw: voxel sizes of the raw arrays, world units.
        targets: voxel sizes of the target arrays, which have one channel per class, world units.
        masks: for a target, the key of its mask.
        classes: the channels; by default the classes of the crop. A class without labels in the crop is unknown there.
        groups: the single classes of every class, from :func:`~scalenet_gp.volumes.read_class_groups`. A class without
            labels of its own in the crop is united from its single classes.
        unit: nm per world unit.
        alignment: the treatment of raw data if the labels lie between its voxels, as in most crops of the challenge;
            and of labels whose voxels do not divide those of the targets.
        padding: the values outside the raw volume.
        raw_masks: for a raw array, the key of the mask of its data.
        cache: keeps decoded chunks; by default nothing is kept.

    Raises:
        FileNotFoundError: there is no raw volume, or neither a folder of the crop nor any class in it.
        UnknownNameError: a class that ``groups`` does not have.
        DataError: no labels of any of the classes.
        VolumeFormatError: malformed files, or labels that lie outside the raw volume.
        LatticeError: a voxel size that the volumes cannot give: see :meth:`MultiscaleImage.read`.
    """
    volume = _raw(crop, alignment, cache)
    wanted = crop.classes if classes is None else tuple(classes)
    if groups is not None and (strange := [name for name in wanted if name not in groups]):
        raise UnknownNameError(f"the class groups have no {', '.join(strange)}; they have {', '.join(groups)}")
    parts = {name: tuple(groups[name]) if groups is not None else (name,) for name in wanted}
    opened = open_classes(
        crop, {part: None for name in wanted for part in (name, *parts[name])}, alignment, cache=cache
    )
    channels = {name: parts[name] if opened[name].volume is None else (name,) for name in wanted}
    needed = {part: opened[part] for united in channels.values() for part in united}
    annotated = [label.volume for label in needed.values() if label.volume is not None]
    if not annotated:
        raise DataError(f"{crop.labels}: no labels of {', '.join(wanted)}; the datasplit has {', '.join(crop.classes)}")
    sizes = [World(exact(unit)).size_in_nm(Coordinate(size)) for size in (*raw.values(), *targets.values())]
    world = annotated[0].world(*sizes, unit=unit)
    source = MultiscaleSource(volume, raw, world, padding=padding, masks=raw_masks)
    labels = ClassTargets(needed, targets, masks, world, groups=channels)
    box = reduce(Roi.union, (box for box in map(labels.annotated, targets) if not box.empty))
    _check_overlap(crop, box, world, volume)
    return CropBranch(crop, world, box, needed, (source, labels) + MergeProvider())


def open_classes(
    crop: Crop, names: Iterable[str] | None = None, alignment: Alignment = "exact", *, cache: ChunkCache | None = None
) -> dict[str, ClassVolume]:
    """Open the label volumes of a crop, with the meaning of their values.

    A class that the datasplit does not list for this crop, or that has no folder there, is unknown everywhere.

    Args:
        crop: of a datasplit.
        names: of the classes to open; by default those of the crop.
        alignment: the treatment of label volumes whose voxels do not fit.
        cache: keeps decoded chunks; by default nothing is kept.

    Raises:
        FileNotFoundError: there is neither a folder of the crop nor any class in it.
        ValueError: a malformed label volume or annotation.
    """
    chosen = crop.classes if names is None else names
    return {name: label for name, label, _ in _opened(crop, chosen, cache, alignment)}


def class_frequencies(crops: Iterable[Crop]) -> dict[str, float]:
    """Return the share of the annotated volume in which each class is present, over all ``crops``.

    The ``complement_counts`` that the files state are believed (:func:`check_counts` checks them). Where they do not
    name every value of the encoding that can be absent or unknown, the voxels of the finest level are counted. A class
    of which nothing is known is left out.

    Raises:
        FileNotFoundError, ValueError: see :func:`open_classes`.
        ValueError: counts of more voxels than there are.
    """
    present: dict[str, Fraction] = {}
    known: dict[str, Fraction] = {}
    for crop in crops:
        for name, label, stated in _opened(crop, crop.classes, None):
            if label.volume is None:
                continue
            level = label.volume.levels[0]
            size, voxel = math.prod(level.shape), math.prod(level.voxel_size)
            counts = stated if stated is not None and _complete(stated, label) else _counted(label)
            if sum(counts.values()) > size:
                raise VolumeFormatError(f"{label.volume.path}: complement_counts {dict(counts)} of only {size} voxels")
            present[name] = present.get(name, Fraction(0)) + (size - sum(counts.values())) * voxel
            known[name] = known.get(name, Fraction(0)) + (size - counts.get("unknown", 0)) * voxel
    return {name: float(present[name] / volume) for name, volume in known.items() if volume}


def check_counts(crop: Crop) -> None:
    """Compare the ``complement_counts`` that the files of a crop state with their voxels. All voxels are read.

    Raises:
        FileNotFoundError, ValueError: see :func:`open_classes`.
        ValueError: they differ; the message names every class that does.
    """
    faults = []
    for _, label, stated in _opened(crop, crop.classes, None):
        if label.volume is not None and stated is not None:
            counted = _counted(label)
            if any(counted[kind] != number for kind, number in stated.items()):
                faults.append(f"{label.volume.path}: complement_counts state {dict(stated)}, the voxels are {counted}")
    if faults:
        raise VolumeFormatError("; ".join(faults))


def _raw(crop: Crop, alignment: Alignment, cache: ChunkCache | None) -> MultiscaleImage:
    try:
        return MultiscaleImage.open(crop.raw, alignment=alignment, cache=cache)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{crop.labels}: its raw volume is missing: {error}") from error


def _check_overlap(crop: Crop, annotated: Roi, world: World, raw: MultiscaleImage) -> None:
    """Padding is for what surrounds a crop; where nothing else is there, a coordinate is wrong."""
    begin, end = (world.position_in_nm(corner) for corner in (annotated.begin, annotated.end))
    whole = raw.levels[0]
    if any(e <= first or b >= last for b, e, first, last in zip(begin, end, whole.begin, whole.end, strict=True)):
        raise VolumeFormatError(
            f"{crop.labels}: the labels lie outside the raw volume {crop.raw}: theirs is the box from "
            f"({_listed(begin)}) to ({_listed(end)}) nm, that of raw from ({_listed(whole.begin)}) to "
            f"({_listed(whole.end)}) nm; the translations of the two have to be in one coordinate system"
        )


def _listed(position: Iterable[Fraction]) -> str:
    return ", ".join(format(float(length), ".12g") for length in position)


def _opened(
    crop: Crop, names: Iterable[str], cache: ChunkCache | None, alignment: Alignment = "exact"
) -> Iterator[tuple[str, ClassVolume, Mapping[str, int] | None]]:
    """Yield every class with its label volume and the ``complement_counts`` that its file states."""
    # behind a URL, a folder without metadata of its own cannot be told from none: its classes can
    folders = (crop.labels, *(join(crop.labels, name) for name in crop.classes))
    if all(find_node(folder) is None for folder in folders):
        raise FileNotFoundError(f"{crop.labels}: no such crop; it should hold {', '.join(crop.classes)}")
    for name in names:
        path = join(crop.labels, name)
        if name not in crop.classes or find_node(path) is None:
            yield name, ClassVolume(None), None
            continue
        volume = MultiscaleImage.open(path, alignment=alignment, cache=cache)
        annotation = read_annotation(path, volume.levels[0].path)
        label = ClassVolume(volume, annotation.absent, annotation.present, annotation.unknown)
        yield name, label, annotation.complement_counts


def _complete(stated: Mapping[str, int], label: ClassVolume) -> bool:
    """Return True if every value of the encoding that is not of the class has a count."""
    return all(kind in stated for kind in ("absent", "unknown") if getattr(label, kind) is not None)


def _counted(label: ClassVolume) -> dict[str, int]:
    """Count the voxels of the finest level that are absent, and those that are unknown."""
    volume = label.volume
    if volume is None:
        return {}
    finest = volume.levels[0]
    world = volume.world(finest.voxel_size)
    size = world.size(finest.voxel_size)
    everywhere = volume.roi(size, world)
    slab = size * Coordinate(_SLAB, *finest.shape[1:])
    absent = unknown = 0
    for begin in range(0, everywhere.shape[0], slab[0]):
        corner = everywhere.begin + Coordinate(begin, *(0,) * (volume.dims - 1))
        values = volume.read(Roi(corner, slab).intersect(everywhere), size, world, labels=True)
        present, known = label.read(values)
        absent += int(np.count_nonzero(known & ~present))
        unknown += int(np.count_nonzero(~known))
    return {"absent": absent, "unknown": unknown}
