"""The fingerprint of the data of a run: how large the objects of each class are, and what is recorded round them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import gunpowder as gp
import numpy as np
from funlib.geometry import Roi

from scalenet_gp.errors import DataError, ScaleNetError
from scalenet_gp.geometry import format_size
from scalenet_gp.nodes import ClassTargets
from scalenet_gp.pipelines.blockwise import tiles
from scalenet_gp.pipelines.config import Config, DataConfig
from scalenet_gp.pipelines.data import Dataset, Source, open_raw, resolve_sources
from scalenet_gp.pipelines.planning.measurement import measure_objects, measure_thickness
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import StrPath

__all__ = [
    "ClassFingerprint",
    "Fingerprint",
    "SourceFingerprint",
    "doubled",
    "growth",
    "measure",
    "provisional_config",
    "serves",
]

_VERSION = 1
_LISTED = 9
_EDGE = {2: 1024, 3: 128}
"""Voxels along an edge of the blocks that are read, and in which the thickness is measured."""

_THICKNESS_BLOCKS = 6
"""Blocks of a source in which the thickness of a class is measured, among those that hold it."""

_SOURCES = 32
"""Sources in which the objects of a class are measured; of more sources, shares are counted in some blocks of each."""

_SHARE_BLOCKS = 8
"""Blocks of each source in which shares are counted then."""

_OBJECT_VOXELS = 2**22
"""Voxels of the largest box in which objects are measured, in one piece: a larger one is read at coarser voxels.

Distances to the nearest object take about 60 bytes a voxel.
"""

Size = tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class ClassFingerprint:
    """The objects of a class in all sources. Lengths are nm; None where nothing could be measured.

    Attributes:
        fraction: the share of the annotated volume that is of the class.
        objects: the number of connected components.
        thickness: 5 and 50 % of the thickness, over the voxels of the class, see :func:`.measure_thickness`.
        extent: 50 and 95 % of the longest edges of bounding boxes.
        gap: the median distance from an object to the next one.

    Example:
        >>> ClassFingerprint(0.1, 2, (40, 48), (400, 800), None).extent
        (400, 800)
    """

    fraction: float
    objects: int
    thickness: tuple[float, float] | None
    extent: tuple[float, float] | None
    gap: float | None


@dataclass(frozen=True, slots=True)
class SourceFingerprint:
    """The place of a source. Lengths are nm.

    Attributes:
        name: its name.
        voxel_sizes: of every level of the raw data.
        label_sizes: of every level of the labels.
        extent: of the raw data.
        annotated: of the box that any class is annotated in.
        context: raw data around the annotated box, on its lower and its upper side, per axis.

    Example:
        >>> SourceFingerprint("crop1", (), (), (), (), ()).name
        'crop1'
    """

    name: str
    voxel_sizes: tuple[Size, ...]
    label_sizes: tuple[Size, ...]
    extent: Size
    annotated: Size
    context: tuple[Size, Size] | tuple[()]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The fingerprint of the data of a run.

    Attributes:
        classes: the classes by name.
        sources: the sources in the order of the run file.

    Example:
        >>> Fingerprint({"mito": ClassFingerprint(0.1, 2, None, None, None)}, ()).classes["mito"].objects
        2
    """

    classes: Mapping[str, ClassFingerprint]
    sources: Sequence[SourceFingerprint]

    def write(self, path: Path) -> None:
        """Write the fingerprint as JSON."""
        plain = {"version": _VERSION, **_plain(asdict(self))}
        with atomic_write(path) as beside:
            beside.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: lengths as numbers of four digits after the point."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return round(float(value), 6) if isinstance(value, float | Fraction) else value


@dataclass(slots=True)
class _Tally:
    """The measurements of a class so far. Volumes are nm to the power of the axes; ``sources`` have been measured."""

    present: float = 0
    known: float = 0
    sources: int = 0
    thickness: tuple[Any, ...] = ()
    extents: tuple[Any, ...] = ()
    gaps: tuple[Any, ...] = ()

    def fingerprint(self) -> ClassFingerprint:
        thickness, extents, gaps = (
            np.concatenate([np.zeros(0), *parts]) for parts in (self.thickness, self.extents, self.gaps)
        )
        return ClassFingerprint(
            self.present / self.known if self.known else 0.0,
            len(extents),
            _percentiles(thickness, 5, 50),
            _percentiles(extents, 50, 95),
            float(np.median(gaps)) if len(gaps) else None,
        )


def _percentiles(values: Any, low: float, high: float) -> tuple[float, float] | None:
    if not len(values):
        return None
    first, second = np.percentile(values, (low, high))
    return float(first), float(second)


def measure(data: DataConfig, folder: StrPath) -> Fingerprint:
    """Measure the annotation of all sources, block by block.

    A few hundred MB are enough for volumes of any size. Of more than 32 sources, shares are counted in eight blocks of
    each, and objects in the first 32 that hold the class, in a mixed order which is always the same.

    Args:
        data: the part ``data`` of a run file.
        folder: folder, or its URL, that relative paths start at.

    Raises:
        FileNotFoundError: a volume does not exist.
        VolumeFormatError: a volume cannot be read.
        ConfigError: the part does not fit the volumes; the message names the field.
        DataError: no voxel is of any class.
    """
    sources = resolve_sources(data, folder)
    tallies = {name: _Tally() for name in data.classes}
    blocks = None if len(sources) <= _SOURCES else _SHARE_BLOCKS
    places: dict[int, SourceFingerprint] = {}
    with progress_bar("measuring", len(sources)) as advance:
        for number in np.random.default_rng(0).permutation(len(sources)).tolist():
            places[number] = _measure_source(sources[number], data, folder, tallies, blocks)
            advance(sources[number].name)
    found = {name: tally.fingerprint() for name, tally in tallies.items()}
    if not any(one.objects for one in found.values()):
        names = ", ".join(one.name for one in sources[:_LISTED])
        more = f" and {len(sources) - _LISTED} more" if len(sources) > _LISTED else ""
        raise DataError(f"no voxel of {names}{more} is of any class, so nothing is learned")
    return Fingerprint(found, tuple(places[number] for number in range(len(sources))))


def provisional_config(data: DataConfig, network: Mapping[str, Any], block: Iterable[Fraction]) -> Config:
    """Return a config of these data and a network, to open the data with."""
    return Config.model_validate(
        {
            "data": data.model_copy(update={"split": None}),
            "network": network,
            "training": {"iterations": 1},
            "prediction": {"block_shape": tuple(block)},
        }
    )


def open_at(source: Source, data: DataConfig, folder: StrPath, size: Size) -> Dataset:
    """Open a source at one voxel size, nm."""
    network = {"kind": "unet", "top_resolution": size, "base_nc": 1, "downsample_factors": [(1,) * len(size)]}
    config = provisional_config(data, network, size)
    return Dataset.open(folder, config, config.build_network(), source)


def _measure_source(
    source: Source, data: DataConfig, folder: StrPath, tallies: Mapping[str, _Tally], blocks: int | None
) -> SourceFingerprint:
    wanted = {name for name, tally in tallies.items() if tally.sources < _SOURCES}
    with source.naming_faults():
        sizes = _raw_sizes(source)
        volumes = [one.volume for one in open_at(source, data, folder, sizes[0]).class_volumes().values()]
        label_sizes = {level.voxel_size for volume in volumes if volume is not None for level in volume.levels}
        finest = tuple(
            max(axis)
            for axis in zip(*(volume.levels[0].voxel_size for volume in volumes if volume is not None), strict=True)
        )
        dataset = open_at(source, data, folder, finest)
        labelled, unit = dataset.labelled(), dataset.world.unit
        _measure_thickness(dataset, labelled, tallies, wanted, blocks)
        size = finest
        while math.prod(float(length * unit / s) for length, s in zip(labelled.shape, size, strict=True)) > (
            _OBJECT_VOXELS
        ):
            size = doubled(size)
        if wanted:
            _measure_objects(open_at(source, data, folder, size), tallies, wanted)
        raw = dataset.raw.levels[0]
        extent = tuple(n * s for n, s in zip(raw.shape, raw.voxel_size, strict=True))
        box = dataset.region(labelled)
        begin, end = box.begin, box.end
        around = (
            tuple(max(Fraction(0), b or Fraction(0)) for b in begin),
            tuple(max(Fraction(0), e - (f or e)) for e, f in zip(extent, end, strict=True)),
        )
        annotated = tuple(length * unit for length in labelled.shape)
    return SourceFingerprint(source.name, sizes, tuple(sorted(label_sizes, key=math.prod)), extent, annotated, around)


def _raw_sizes(source: Source) -> tuple[Size, ...]:
    with source.naming_faults("raw"):
        return tuple(level.voxel_size for level in open_raw(source).levels)


def doubled(size: Size) -> Size:
    """Return the next coarser voxel size: twice as large, except along axes more than twice as coarse as the finest."""
    return tuple(s * f for s, f in zip(size, growth(size), strict=True))


def growth(size: Size) -> tuple[int, ...]:
    """Return the factor of each axis to the next coarser voxel size.

    Example:
        >>> growth((Fraction(50), Fraction(4), Fraction(4))), growth((Fraction(8), Fraction(4)))
        ((1, 2, 2), (2, 2))
    """
    return tuple(1 if s > 2 * min(size) else 2 for s in size)


def _blocks(dataset: Dataset, labelled: Roi, edge: int) -> Iterator[tuple[Any, Any]]:
    """Yield the voxels of each class, and those in which it is known, of blocks of the annotation in a mixed order."""
    target, mask = gp.ArrayKey("MEASURED"), gp.ArrayKey("MEASURED_MASK")
    size = dataset.net.voxel_size[dataset.finest]
    targets = ClassTargets(
        dataset.class_volumes(), {target: size}, {target: mask}, dataset.world, groups=dataset.groups
    )
    boxes = list(tiles(labelled, size * edge))
    for number in np.random.default_rng(0).permutation(len(boxes)):
        request = gp.BatchRequest({key: gp.ArraySpec(roi=boxes[number]) for key in (target, mask)})
        reading = targets.start(request)
        known = reading[mask]() > 0
        yield (reading[target]() > 0) & known, known


def _lengths(dataset: Dataset) -> tuple[float, ...]:
    return tuple(float(length) for length in dataset.net.specs[dataset.finest].voxel_size)


def _measure_thickness(
    dataset: Dataset, labelled: Roi, tallies: Mapping[str, _Tally], wanted: Collection[str], blocks: int | None
) -> None:
    size, measured = _lengths(dataset), dict.fromkeys(tallies, 0)
    for of_class, known in islice(_blocks(dataset, labelled, _EDGE[dataset.net.dims]), blocks):
        for present, sure, (name, tally) in zip(of_class, known, tallies.items(), strict=True):
            tally.present += int(present.sum()) * math.prod(size)
            tally.known += int(sure.sum()) * math.prod(size)
            if name in wanted and measured[name] < _THICKNESS_BLOCKS and present.any():
                measured[name] += 1
                tally.thickness += (measure_thickness(present, sure & ~present, size),)


def _measure_objects(dataset: Dataset, tallies: Mapping[str, _Tally], wanted: Collection[str]) -> None:
    labelled, size = dataset.labelled(), _lengths(dataset)
    whole = max(int(n) for n in labelled.shape / dataset.net.voxel_size[dataset.finest])
    for of_class, _ in _blocks(dataset, labelled, whole):
        for present, (name, tally) in zip(of_class, tallies.items(), strict=True):
            if name not in wanted or not present.any():
                continue
            found = measure_objects(present, size)
            tally.sources += 1
            tally.extents += (found.extents,)
            tally.gaps += (found.gaps,)


def serves(source: Source, data: DataConfig, folder: StrPath, size: Size) -> str | None:
    """Return why a source has no voxels of a size, nm, of raw data or labels; None if it has them."""
    try:
        dataset = open_at(source, data, folder, size)
        dataset.raw.roi(dataset.net.voxel_size["input"], dataset.world)
        dataset.target_sources()
        dataset.labelled()
    except (ScaleNetError, OSError) as error:
        return f"{source.name} at {format_size(size)} nm: {error}"
    return None
