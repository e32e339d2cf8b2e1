"""A gunpowder source of what a network is to predict: one channel per class, and where each class is annotated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import final

import numpy as np
from gunpowder import Array, ArrayKey, ArraySpec, Batch, BatchProvider, BatchRequest, Coordinate, Roi
from gunpowder.profiling import Timing

from scalenet_gp.nodes.multiscale import Multiscale
from scalenet_gp.nodes.multiscale_source import check_masks
from scalenet_gp.nodes.ome_zarr import multiscale_groups
from scalenet_gp.nodes.zarr_storage import StrPath
from scalenet_gp.world import World

__all__ = ["ClassTargets"]


@final
class ClassTargets(BatchProvider):
    """Provides the classes of a crop as targets at any number of voxel sizes.

    A target is uint8 (class, z, y, x), in the order of ``classes``: 1 where the class's label is above 0; where a level
    has to be made, by the majority of its voxels. A mask is uint8 (class, z, y, x): 1 where the class is annotated,
    that is inside its label volume and inside ``within``; the target is 0 elsewhere.

    Args:
        classes: the label volume of every class, or its path.
        targets: voxel sizes of the target arrays, world units.
        masks: for a target, the key of its mask.
        world: that the pipeline counts in.
        within: of the annotation, only this part is used: a training split, for example. World units; voxels that
            reach out of it count as outside.
        overhang: how far, in world units, the provided ROIs reach beyond the annotated parts of all classes, so that
            samples near their border can be asked for; masked out. Rounded up to whole voxels.

    Raises:
        FileNotFoundError: a class has no labels.
        ValueError: no classes; label volumes that differ in their axes or have channels; a voxel size that a label
            volume cannot give; nothing annotated at a voxel size; masks that name an unknown target or a key twice.
    """

    def __init__(
        self,
        classes: Mapping[str, Multiscale | StrPath],
        targets: Mapping[ArrayKey, Iterable[int]],
        masks: Mapping[ArrayKey, ArrayKey],
        world: World,
        *,
        within: Roi | None = None,
        overhang: Iterable[int] | int = 0,
    ) -> None:
        if not classes:
            raise ValueError("no classes: ClassTargets needs at least one label volume")
        self.classes = {name: _open(name, volume) for name, volume in classes.items()}
        self.world = world
        dims = {name: volume.dims for name, volume in self.classes.items()}
        if len(set(dims.values())) > 1:
            raise ValueError(f"the classes' label volumes differ in their number of spatial axes: {dims}")
        if channels := {name: volume.channels for name, volume in self.classes.items() if volume.channels > 1}:
            raise ValueError(f"the label volume of a class has one channel; these have more: {channels}")
        check_masks(targets, masks)
        axes = next(iter(dims.values()))
        if within is not None and (within.dims != axes or within.empty or within.unbounded):
            raise ValueError(f"within={within} has to be bounded, not empty, and of {axes} axes")
        reach = Coordinate((overhang,) * axes if isinstance(overhang, int) else overhang)
        if len(reach) != axes or min(reach) < 0:
            raise ValueError(f"overhang={overhang} has to be one length of at least 0 for each of {axes} axes")

        self._target_of = {mask: target for target, mask in masks.items()}
        self._annotated: dict[ArrayKey, list[Roi]] = {}
        self._specs: dict[ArrayKey, ArraySpec] = {}
        for target, voxel_size in targets.items():
            size = tuple(voxel_size)
            parts = [self._annotated_part(volume, size, within) for volume in self.classes.values()]
            if all(part.empty for part in parts):
                raise ValueError(
                    f"{target}: no class has a whole voxel of {size} world units annotated"
                    + ("" if within is None else f" within {within}")
                )
            self._annotated[target] = parts
            box = reduce(Roi.union, parts).grow(reach, reach).snap_to_grid(size, mode="grow")
            spec = ArraySpec(roi=box, voxel_size=Coordinate(size), interpolatable=False, dtype=np.dtype(np.uint8))
            self._specs |= {key: spec for key in (target, masks.get(target)) if key is not None}

    def setup(self) -> None:
        """Announce the arrays and masks."""
        for key, spec in self._specs.items():
            self.provides(key, spec)

    def provide(self, request: BatchRequest) -> Batch:
        """Read what is asked for."""
        timing = Timing(self)
        timing.start()
        batch = Batch()
        for key, asked in request.array_specs.items():
            spec = self.spec[key].copy()
            spec.roi = asked.roi
            data = np.zeros((len(self.classes), *(spec.roi.shape // spec.voxel_size)), dtype=np.uint8)
            parts = self._annotated[self._target_of.get(key, key)]
            for channel, volume, part in zip(data, self.classes.values(), parts, strict=True):
                part = part.intersect(spec.roi)
                if not part.empty:
                    voxels = ((part - spec.roi.begin) // spec.voxel_size).to_slices()
                    is_mask = key in self._target_of
                    channel[voxels] = 1 if is_mask else volume.members(part, spec.voxel_size, self.world)[0]
            batch.arrays[key] = Array(data, spec)
        timing.stop()
        batch.profiling_stats.add(timing)
        return batch

    def _annotated_part(self, volume: Multiscale, voxel_size: tuple[int, ...], within: Roi | None) -> Roi:
        available = volume.roi(voxel_size, self.world)
        return available if within is None else available.intersect(within.snap_to_grid(voxel_size, mode="shrink"))


def _open(name: str, volume: Multiscale | StrPath) -> Multiscale:
    if isinstance(volume, Multiscale):
        return volume
    if not Path(volume).exists():
        beside = Path(volume).parent
        found = ", ".join(multiscale_groups(beside)) if beside.is_dir() else ""
        raise FileNotFoundError(f"class {name!r} has no labels at {volume}; beside it there are: {found or 'none'}")
    return Multiscale.open(volume)
