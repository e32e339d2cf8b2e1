"""Nodes that provide the targets and masks of outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import gunpowder as gp
from funlib.geometry import Coordinate, Roi

from scalenet_gp.geometry import World
from scalenet_gp.nodes import (
    Affinities,
    BoundaryDistance,
    ClassTargets,
    DistanceWeights,
    LocalShapeDescriptors,
    MultiscaleSource,
    WeighMask,
)
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
        keys += [self._instance_keys(name, labels) for name in self.targets for labels in self._instances(name)]
        return tuple(dict.fromkeys((*(target for target, _ in keys), *(mask for _, mask in keys))))

    def instance_volumes(self) -> tuple[str, ...]:
        """Return the names of the label volumes of instances that are read."""
        return tuple(dict.fromkeys(labels for name in self.targets for labels in self._instances(name)))

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
            for labels in self._instances(name):
                if self._first_reader(name, labels) == name:
                    sources.append(self._instance_source(name, labels, instances(labels), within))
            if not isinstance(options, InstanceTargetsOptions):
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
                given = {"mask": known, "unknown": self._unknown(options.unknown), "world": self.world}
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
            if (gaps := options.gap_weights) is not None:
                labels, known = self._instance_keys(name, gaps.labels)
                weights = gp.ArrayKey(f"GAP_WEIGHTS_{name}".upper())
                given = {"mask": known, "unknown": self._unknown(gaps.unknown), "world": self.world}
                nodes += [DistanceWeights(labels, weights, gaps.sigma, w0=gaps.w0, **given), WeighMask(mask, weights)]
        return tuple(nodes)

    def _unknown(self, label: int | None) -> set[int]:
        """Return the labels of voxels that nobody has annotated."""
        return {*self.unlabelled, *(() if label is None else (label,))}

    def _read(self, name: str) -> tuple[gp.ArrayKey, gp.ArrayKey]:
        """Return the keys of the annotation that an output's targets are made of, and of its mask."""
        options = self.targets[name]
        if isinstance(options, ClassTargetsOptions):
            return self.arrays.targets[name], self.arrays.masks[name]
        if isinstance(options, InstanceTargetsOptions):
            return self._instance_keys(name, options.labels)
        return gp.ArrayKey(f"LABELS_{name}".upper()), gp.ArrayKey(f"LABELS_MASK_{name}".upper())

    def _instances(self, name: str) -> tuple[str, ...]:
        """Return the names of the label volumes of instances that an output's targets and weights are made of."""
        options = self.targets[name]
        own = [options.labels] if isinstance(options, InstanceTargetsOptions) else []
        gaps = [] if options.gap_weights is None else [options.gap_weights.labels]
        return tuple(dict.fromkeys((*own, *gaps)))

    def _first_reader(self, name: str, labels: str) -> str:
        """Return the first output that reads the same instances at the same voxel size: they are read only once."""
        return next(
            other
            for other in self.targets
            if labels in self._instances(other) and self.voxel_sizes[other] == self.voxel_sizes[name]
        )

    def _instance_keys(self, name: str, labels: str) -> tuple[gp.ArrayKey, gp.ArrayKey]:
        """Return the keys of a label volume of instances at the voxel size of an output, and of its mask."""
        first = self._first_reader(name, labels)
        tail = f"{labels}_{first}".upper()
        return gp.ArrayKey(f"INSTANCES_{tail}"), gp.ArrayKey(f"INSTANCES_MASK_{tail}")

    def _instance_source(self, name: str, labels: str, volume: MultiscaleImage, within: Roi | None) -> gp.BatchProvider:
        (key, mask), size = self._instance_keys(name, labels), self.voxel_sizes[name]
        return MultiscaleSource(
            volume, {key: size}, self.world, labels=True, padding="constant", masks={key: mask}, within=within
        )
