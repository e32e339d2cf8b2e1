"""A gunpowder source of targets: one channel per class or group of classes, and masks of the annotation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial, reduce
from typing import final

import numpy as np
from gunpowder import ArrayKey, BatchRequest, Coordinate, Roi

from scalenet_gp.errors import ArgumentError, DataError, PipelineError, UnknownNameError
from scalenet_gp.geometry import World
from scalenet_gp.nodes.requests import CheapCopySpec
from scalenet_gp.nodes.sources import ReadingSource, check_masks
from scalenet_gp.volumes import (
    ClassVolume,
    ClassVoxels,
    MultiscaleImage,
    StoredGrid,
    StrPath,
    class_majority,
    local_path,
    volumes_below,
)

__all__ = ["ClassTargets"]


@final
class ClassTargets(ReadingSource):
    """Provide the classes of a crop as targets at any number of voxel sizes.

    A target is uint8 (channel, z, y, x): 1 where a class of the channel is present. A mask is uint8 (channel, z, y, x):
    1 where the presence or absence is known. Both are 0 elsewhere, and the provided ROIs are unbounded.

    A channel is a class or a group of classes. A group is present where any of its classes is, even if others are
    unknown. Where none is present, the group is known if all its classes are. Several groups may hold the same class,
    and several channels may be present in a voxel.

    A class at a voxel size comes from the stored level of that size, taken as it is. Without such a level, it is made
    from the coarsest level that divides the voxel size: the voxels of the level are read as present, absent or unknown,
    joined over the classes of the group, and counted. A voxel is known if at least half of its fine voxels are. It is
    present if more than half of the known ones are; a tie is absent. In a group whose classes have different levels, a
    voxel of a coarser level counts for all the finer ones within. A voxel that reaches out of the label volume or out
    of ``within`` is unknown.

    Of label volumes that were opened with ``alignment="resample"``, voxels may have any size and place. Then the parts
    of voxels count by their volume instead: see :func:`~scalenet_gp.volumes.class_majority`.

    With ``exclusive``, at most one channel is present in a voxel, as a Softmax needs it. The first channel of the
    target is the background then, present where no class is. Its mask and those of all channels are the same: 1 where a
    class is present, or all classes are known. Voxels in which several classes are present are unknown.

    Args:
        classes: the label volume of every class, or its path. A :class:`ClassVolume` defines the meaning of its values.
        targets: voxel sizes of the target arrays, world units.
        masks: for a target, the key of its mask.
        world: the world that the pipeline counts in.
        groups: the channels of the targets, each with the classes that it unites. By default one channel per class.
        within: the part of the annotation to use: a training split, for example. World units.
        exclusive: the channels exclude one another, and a first channel for the background is added.
        channel_axis: False delivers the only channel and its mask as (z, y, x), as gunpowder's own nodes for labels
            take them.

    Raises:
        FileNotFoundError: a class has no labels.
        ArgumentError: no classes; a group without classes or of an unknown one; masks that name an unknown target or a
            key twice; label volumes with channels; several channels that are to be without their axis.
        PipelineError: label volumes that differ in their number of axes.
        LatticeError: a voxel size that a label volume cannot give.
        DataError: nothing is annotated at any of the voxel sizes; while reading, with ``exclusive``: most voxels of a
            channel belong to other channels, too.

    Example:
        >>> import gunpowder as gp
        >>> import numpy as np
        >>> from scalenet_gp.volumes import MultiscaleImage
        >>> labels = MultiscaleImage.from_arrays([np.ones((4, 4, 4), np.uint8)], [(8, 8, 8)])
        >>> target, mask = gp.ArrayKey("TARGET"), gp.ArrayKey("MASK")
        >>> source = ClassTargets({"mito": labels}, {target: (8, 8, 8)}, {target: mask}, labels.world())
        >>> source.annotated(target).shape
        (32, 32, 32)
    """

    def __init__(
        self,
        classes: Mapping[str, ClassVolume | MultiscaleImage | StrPath],
        targets: Mapping[ArrayKey, Iterable[int]],
        masks: Mapping[ArrayKey, ArrayKey],
        world: World,
        *,
        groups: Mapping[str, Iterable[str]] | None = None,
        within: Roi | None = None,
        exclusive: bool = False,
        channel_axis: bool = True,
    ) -> None:
        if not classes:
            raise ArgumentError("no classes: ClassTargets needs at least one label volume")
        self.classes = {name: _opened(name, volume) for name, volume in classes.items()}
        self.world, self.exclusive = world, exclusive
        self.groups = _groups(self.classes, groups)
        self.channel_axis = channel_axis
        if not channel_axis and (exclusive or len(self.groups) > 1):
            channels = ("background", *self.groups) if exclusive else tuple(self.groups)
            raise ArgumentError(
                f"targets have the channels {', '.join(channels)}, and need their axis: leave out channel_axis, or "
                "make a target for each"
            )
        self._volumes = {name: label.volume for name, label in self.classes.items() if label.volume is not None}
        axes = _dims(self._volumes)
        check_masks(targets, masks)
        if within is not None and (within.dims != axes or within.empty or within.unbounded):
            raise ArgumentError(f"within={within} has to be bounded, not empty, and of {axes} axes")

        self._target_of = {mask: target for target, mask in masks.items()}
        self._annotated: dict[ArrayKey, dict[str, Roi]] = {}
        self._specs: dict[ArrayKey, CheapCopySpec] = {}
        everywhere = Roi((None,) * axes, (None,) * axes)
        sizes = {target: tuple(size) for target, size in targets.items()}
        for target, size in sizes.items():
            self._annotated[target] = self._annotated_parts(size, within)
            spec = CheapCopySpec(everywhere, Coordinate(size), interpolatable=False, dtype=np.dtype(np.uint8))
            self._specs |= {key: spec for key in (target, masks.get(target)) if key is not None}
        if not any(self._annotated.values()):
            where = "" if within is None else f" within {within}"
            of = "; ".join(f"{target}: {size}" for target, size in sizes.items())
            raise DataError(f"no class has a whole voxel annotated{where}; the voxel sizes, in world units, are {of}")

    def annotated(self, target: ArrayKey) -> Roi:
        """Return the box of all voxels of ``target`` in which any class is annotated, in world units.

        It is empty if no class has a whole voxel annotated at this voxel size.

        Raises:
            UnknownNameError: there is no such target.
        """
        if target not in self._annotated:
            raise UnknownNameError(f"{target} is not one of the targets: {', '.join(map(str, self._annotated))}")
        parts = self._annotated[target].values()
        dims = self._specs[target].roi.dims
        return reduce(Roi.union, parts) if parts else Roi((None,) * dims, (0,) * dims)

    def start(self, request: BatchRequest) -> Mapping[ArrayKey, Callable[[], np.ndarray]]:
        """Start to read the requested arrays, a target and its mask together."""
        places: dict[tuple[ArrayKey, Coordinate, Coordinate], Callable[[], tuple[np.ndarray, np.ndarray]]] = {}
        reading: dict[ArrayKey, Callable[[], np.ndarray]] = {}
        for key, asked in request.array_specs.items():
            target = self._target_of.get(key, key)
            place = (target, asked.roi.begin, asked.roi.shape)
            if place not in places:
                places[place] = self._start(target, asked.roi)
            reading[key] = partial(_part, places[place], int(key in self._target_of))
        return reading

    def _start(self, target: ArrayKey, roi: Roi) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """Start to read target and mask, (channel, z, y, x); call the result to wait for them."""
        size = self._specs[target].voxel_size
        first = roi.begin // size
        parts = {name: part.intersect(roi) for name, part in self._annotated[target].items()}
        # classes that are told apart by ids share a volume, and what is read of it
        started: dict[tuple[int, Coordinate, Coordinate], tuple[Callable[[], np.ndarray], StoredGrid]] = {}
        reading = {}
        for name, part in parts.items():
            if part.empty:
                continue
            volume = self._volumes[name]
            place = (id(volume), part.begin, part.shape)
            if place not in started:
                values, grid = volume.start_stored(part, size, self.world)
                started[place] = cache(values), grid
            box = tuple(zip(part.begin // size, part.end // size, strict=True))
            reading[name] = (box, *started[place])

        @cache
        def finish() -> tuple[np.ndarray, np.ndarray]:
            read = {
                name: ClassVoxels(box, *self.classes[name].read(values()[0]), grid)
                for name, (box, values, grid) in reading.items()
            }
            data = np.zeros((len(self.groups), *(roi.shape // size)), dtype=np.uint8)
            mask = np.zeros_like(data)
            for channel, names in enumerate(self.groups.values()):
                if there := [read[name] for name in names if name in read]:
                    box, present, known = class_majority(there, complete=len(there) == len(names))
                    voxels = tuple(slice(b - f, e - f) for (b, e), f in zip(box, first, strict=True))
                    data[channel][voxels], mask[channel][voxels] = present, known
            return _exclusive(data, mask, tuple(self.groups)) if self.exclusive else (data, mask)

        return finish

    def _annotated_parts(self, size: tuple[int, ...], within: Roi | None) -> dict[str, Roi]:
        """Return the box of whole voxels in which each class is annotated, without classes that have none."""
        names = {name for group in self.groups.values() for name in group}
        parts = {
            name: volume.roi(size, self.world, labels=True) for name, volume in self._volumes.items() if name in names
        }
        if within is not None:
            inside = within.snap_to_grid(size, mode="shrink")
            parts = {name: part.intersect(inside) for name, part in parts.items()}
        return {name: part for name, part in parts.items() if not part.empty}


def _exclusive(data: np.ndarray, mask: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return target and mask, (1 + channel, z, y, x), with the background first."""
    present = data.sum(axis=0, dtype=np.intp)
    shared = present > 1
    for name, channel in zip(names, data, strict=True):
        both = np.count_nonzero(shared & (channel > 0))
        if 2 * both > np.count_nonzero(channel):
            pairs = zip(names, data, strict=True)
            others = [other for other, of_other in pairs if other != name and (of_other & channel).any()]
            raise DataError(
                f"the classes {', '.join(names)} are to exclude one another, but {both:,} of "
                f"{np.count_nonzero(channel):,} voxels of {name!r} belong to {' and '.join(others)}; learn them as "
                "independent classes"
            )
    known = ((present == 1) | mask.all(axis=0)) & ~shared
    background = (present == 0) & known
    exclusive = np.concatenate([background[None], data]).astype(np.uint8) * known
    return exclusive, np.broadcast_to(known, exclusive.shape).astype(np.uint8)


def _part(finish: Callable[[], tuple[np.ndarray, np.ndarray]], index: int) -> np.ndarray:
    return finish()[index]


def _groups(
    classes: Mapping[str, ClassVolume], groups: Mapping[str, Iterable[str]] | None
) -> dict[str, tuple[str, ...]]:
    if groups is None:
        return {name: (name,) for name in classes}
    if not groups:
        raise ArgumentError("no groups: ClassTargets needs at least one channel")
    # each class once, however often it is named
    members = {group: tuple(dict.fromkeys(names)) for group, names in groups.items()}
    for group, names in members.items():
        if not names:
            raise ArgumentError(f"the group {group!r} has no classes")
        if unknown := ", ".join(name for name in names if name not in classes):
            raise ArgumentError(f"the group {group!r} names {unknown}; the classes are {', '.join(classes)}")
    return members


def _dims(volumes: Mapping[str, MultiscaleImage]) -> int:
    dims = {name: volume.dims for name, volume in volumes.items()}
    if not dims:
        raise DataError("no class has a label volume: nothing is annotated")
    if len(set(dims.values())) > 1:
        raise PipelineError(f"the classes' label volumes differ in their number of spatial axes: {dims}")
    return next(iter(dims.values()))


def _opened(name: str, volume: ClassVolume | MultiscaleImage | StrPath) -> ClassVolume:
    if isinstance(volume, ClassVolume):
        return volume
    if isinstance(volume, MultiscaleImage):
        return ClassVolume(volume)
    place = local_path(volume)
    if place is not None and not place.exists():
        found = ", ".join(volumes_below(place.parent)) if place.parent.is_dir() else ""
        raise FileNotFoundError(f"class {name!r} has no labels at {volume}; beside it there are: {found or 'none'}")
    return ClassVolume(MultiscaleImage.open(volume))
