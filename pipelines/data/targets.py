"""Nodes that provide the targets and masks of outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import gunpowder as gp
from funlib.geometry import Coordinate, Roi

from scalenet_gp.geometry import World
from scalenet_gp.nodes import Affinities, BoundaryDistance, ClassTargets, LocalShapeDescriptors, MultiscaleSource
from scalenet_gp.nodes.arrays import SampleArrays
from scalenet_gp.pipelines.config import (
    BACKGROUND,
    AffinityTargetsOptions,
    BoundaryDistanceTargetsOptions,
    ClassTargetsOptions,
    InstanceTargetsOptions,
    LsdTargetsOptions,
    TargetOptions,
)
from scalenet_gp.volumes import ClassVolume, MultiscaleImage

__all__ = ["TargetChain"]


@dataclass(frozen=True, slots=True)
class TargetChain:
    """The nodes that provide the targets and masks of outputs: sources, and nodes downstream of augmentation.

    Attributes:
        targets: what each output learns.
        channels: the names of each output's channels.
        arrays: the keys of targets and masks.
        voxel_sizes: the voxel size of each output, world units.
        world: the world that the pipeline counts in.
        unlabelled: labels of instances that nobody has annotated, beside those of the targets.
    """

    targets: Mapping[str, TargetOptions]
    channels: Mapping[str, tuple[str, ...]]
    arrays: SampleArrays
    voxel_sizes: Mapping[str, Coordinate]
    world: World
    unlabelled: tuple[int, ...] = ()

    def label_keys(self) -> tuple[gp.ArrayKey, ...]:
        """Return the keys of the arrays that the sources provide."""
        keys = [self._read(name) for name in self.targets]
        return tuple(dict.fromkeys((*(target for target, _ in keys), *(mask for _, mask in keys))))

    def sources(
        self,
        groups: Mapping[str, Sequence[str]],
        volumes: Mapping[str, ClassVolume],
        instances: Callable[[str], MultiscaleImage],
        within: Roi | None,
    ) -> tuple[gp.BatchProvider, ...]:
        """Return the sources.

        Args:
            groups: the classes, each with the label volumes that it unites.
            volumes: the label volumes of classes.
            instances: returns a label volume of instances by its name.
            within: the part of the annotation to use, world units.
        """
        alike: dict[tuple[tuple[str, ...], bool], list[str]] = {}  # a source for all outputs of the same classes
        sources: list[gp.BatchProvider] = []
        for name, options in self.targets.items():
            if isinstance(options, InstanceTargetsOptions):
                if self._first_of_the_same_labels(name) == name:
                    sources.append(self._instance_source(name, instances(options.labels), within))
            else:
                exclusive = isinstance(options, ClassTargetsOptions) and options.exclusive
                classes = tuple(c for c in self.channels[name] if not (exclusive and c == BACKGROUND))
                alike.setdefault((classes, exclusive), []).append(name)
        for (classes, exclusive), names in alike.items():
            keys = {name: self._read(name) for name in names}
            sources.append(
                ClassTargets(
                    volumes,
                    {keys[name][0]: self.voxel_sizes[name] for name in names},
                    dict(keys.values()),
                    self.world,
                    groups={label: groups[label] for label in classes},
                    within=within,
                    exclusive=exclusive,
                )
            )
        return tuple(sources)

    def nodes(self) -> tuple[gp.BatchFilter, ...]:
        """Return the nodes that make targets and masks of what the sources provide."""
        nodes: list[gp.BatchFilter] = []
        for name, options in self.targets.items():
            (read, known), target, mask = self._read(name), self.arrays.targets[name], self.arrays.masks[name]
            if isinstance(options, InstanceTargetsOptions):
                unknown = {*self.unlabelled, *(() if options.unknown is None else (options.unknown,))}
                given = {"mask": known, "unknown": unknown, "world": self.world}
                if isinstance(options, AffinityTargetsOptions):
                    lengths = {"offsets_nm": options.offsets_nm, "affinities_mask": mask}
                    nodes.append(Affinities(read, target, options.offsets, **lengths, **given))
                elif isinstance(options, LsdTargetsOptions):
                    made = {"descriptors_mask": mask, "downsample": options.downsample}
                    nodes.append(LocalShapeDescriptors(read, target, options.sigma, **made, **given))
            elif isinstance(options, BoundaryDistanceTargetsOptions):
                length = options.maximum
                made = {"world": self.world, "distance_mask": mask, "unit": length}
                nodes.append(BoundaryDistance(read, target, length, mask=known, **made))
        return tuple(nodes)

    def _read(self, name: str) -> tuple[gp.ArrayKey, gp.ArrayKey]:
        """Return the keys of the annotation that an output's targets are made of, and of its mask."""
        if isinstance(self.targets[name], ClassTargetsOptions):
            return self.arrays.targets[name], self.arrays.masks[name]
        name = self._first_of_the_same_labels(name)
        return gp.ArrayKey(f"LABELS_{name}".upper()), gp.ArrayKey(f"LABELS_MASK_{name}".upper())

    def _first_of_the_same_labels(self, name: str) -> str:
        """Return the first output that reads the same instances at the same voxel size: they are read only once."""
        options = self.targets[name]
        if not isinstance(options, InstanceTargetsOptions):
            return name
        return next(
            other
            for other, there in self.targets.items()
            if isinstance(there, InstanceTargetsOptions)
            and (there.labels, self.voxel_sizes[other]) == (options.labels, self.voxel_sizes[name])
        )

    def _instance_source(self, name: str, volume: MultiscaleImage, within: Roi | None) -> gp.BatchProvider:
        (labels, mask), size = self._read(name), self.voxel_sizes[name]
        masks = {labels: mask}
        return MultiscaleSource(
            volume, {labels: size}, self.world, labels=True, padding="constant", masks=masks, within=within
        )
