"""A volume with its annotation, in one world."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import gunpowder as gp
import numpy as np
import torch
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import World, format_size
from scalenet_gp.inference import IntensityWindow
from scalenet_gp.layers import Head
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.nodes import ClassTargets, MultiscaleSource
from scalenet_gp.nodes.arrays import SampleArrays
from scalenet_gp.options import Size
from scalenet_gp.pipelines.config import Config, DataConfig, Region, TargetOptions, match_outputs
from scalenet_gp.pipelines.data.boxes import common_lattice, finest_output, sample_boxes, whole_voxels
from scalenet_gp.pipelines.data.targets import TargetChain
from scalenet_gp.volumes import (
    ChunkCache,
    ClassVolume,
    MultiscaleImage,
    StoredValues,
    StrPath,
    find_node,
    group_attributes,
    join,
    multiscale_groups,
    read_annotation,
)

__all__ = ["Dataset"]


@dataclass(frozen=True)
class Dataset:
    """A raw volume with its annotation, in the world that fits a network.

    Attributes:
        config: the part ``data`` of the run file.
        targets: what each output learns.
        path: folder of the volume, or its URL.
        raw: the raw volume.
        net: the network whose voxel sizes the world fits.
        world: the world coordinates that all arrays share; see :meth:`MultiscaleImage.world`.
        cache: cache of the decoded chunks of all volumes.
    """

    config: DataConfig
    targets: Mapping[str, TargetOptions]
    path: StrPath
    raw: MultiscaleImage
    net: LeibNet
    world: World
    cache: ChunkCache

    @classmethod
    def open(cls, path: StrPath, config: Config, net: LeibNet) -> Dataset:
        """Open the raw volume for a network of a run.

        The world has the raw volume's corner on the lattice of every tensor. Where raw data may be resampled, it has
        the labels' corner there instead, as labels are never resampled.

        Raises:
            FileNotFoundError: the volume does not exist.
            VolumeFormatError: it cannot be read.
            ConfigError: it has other axes than the network, or the network cannot learn the targets.
        """
        targets = match_outputs(config.training.targets, net.output_keys)
        for name, options in targets.items():
            _check_output(net, name, options, options.channels(config.data))
        data = config.data
        cache = ChunkCache(data.cache * 2**20)
        source = data.source
        raw = MultiscaleImage.open(join(path, source.raw), source.translation, alignment=source.alignment, cache=cache)
        if raw.dims != net.dims:
            raise ConfigError(f"{raw.path} has {raw.dims} spatial axes, the network has {net.dims}")
        keys = (*net.input_keys, *net.output_keys)
        leading = raw
        if source.alignment == "resample":
            paths = (join(join(path, source.labels), name) for names in data.classes.values() for name in names)
            labelled = next((found for found in paths if find_node(found) is not None), None)
            leading = raw if labelled is None else MultiscaleImage.open(labelled, source.translation)
        world = leading.world(*(net.specs[key].voxel_size for key in keys), unit=net.unit)
        return cls(data, targets, path, raw, net, world, cache)

    @property
    def arrays(self) -> SampleArrays:
        """The array keys of samples for the network."""
        return SampleArrays.of(self.net)

    @property
    def finest(self) -> str:
        """The name of the output with the smallest voxels, by which samples are placed."""
        return finest_output(self.net)

    @cached_property
    def channels(self) -> dict[str, tuple[str, ...]]:
        """The names of every output's channels."""
        return {name: options.channels(self.config) for name, options in self.targets.items()}

    @cached_property
    def scored(self) -> dict[str, tuple[str, ...]]:
        """The names of every output's channels that are compared with the annotation."""
        return {name: options.scored(self.channels[name]) for name, options in self.targets.items()}

    def lattice(self, outputs: Collection[str] | None = None) -> Coordinate:
        """Return the smallest box (world units) that is whole voxels of every output, or of those named."""
        return common_lattice(self.net, outputs)

    @property
    def intensities(self) -> IntensityWindow:
        """The window of intensities that the network sees."""
        stored = torch.from_numpy(np.empty(0, self.raw.dtype.newbyteorder("="))).dtype
        return IntensityWindow(stored, *self.config.intensities)

    def source(self, keys: Mapping[str, gp.ArrayKey]) -> MultiscaleSource:
        """Return a source of raw data at the voxel size of every tensor in ``keys``, padded without end."""
        sizes = {key: self.net.voxel_size[name] for name, key in keys.items()}
        return MultiscaleSource(self.raw, sizes, self.world, padding=self.config.padding)

    def scaled(self, chain: gp.Pipeline, keys: Mapping[str, gp.ArrayKey]) -> gp.Pipeline:
        """Return ``chain`` with raw data scaled from fractions of the data type's range to what the network sees."""
        for key in keys.values():
            chain += gp.IntensityScaleShift(key, scale=self.intensities.scale, shift=self.intensities.shift)
        return chain

    @cached_property
    def target_chain(self) -> TargetChain:
        """The nodes that provide targets and masks."""
        return TargetChain(
            self.targets,
            self.channels,
            self.arrays,
            {name: self.net.voxel_size[name] for name in self.targets},
            self.world,
        )

    def target_sources(self, within: Roi | None = None) -> tuple[gp.BatchProvider, ...]:
        """Return the sources of the annotation that targets and masks are made of, at the voxel size of every output.

        :meth:`target_nodes` makes the targets of what they provide, downstream of augmentation.

        Args:
            within: the part of the annotation to use, world units.

        Raises:
            FileNotFoundError: a label volume does not exist.
            VolumeFormatError: it cannot be read.
            DataError: nothing is annotated in that part.
        """
        return self.target_chain.sources(self.config.classes, self.class_volumes(), self._instances, within)

    def target_nodes(self) -> tuple[gp.BatchFilter, ...]:
        """Return the nodes that make targets and masks of what :meth:`target_sources` provides."""
        return self.target_chain.nodes()

    def roi(self, region: Region, outputs: Collection[str] | None = None) -> Roi:
        """Return a region in world coordinates, shrunk to whole voxels of every output, or of those named.

        Raises:
            ConfigError: it has other axes than the volume, or no whole voxel.
        """
        if len(region.begin) != self.net.dims:
            raise ConfigError(f"the region {region} has {len(region.begin)} axes, the volume {self.net.dims}")
        lattice = self.lattice(outputs)
        # a volume without labels can be predicted in a region that needs none
        labelled = self.labelled() if None in (*region.begin, *region.end) else Roi((0,) * self.net.dims, lattice)
        begin, end = self._corner(region.begin, labelled.begin), self._corner(region.end, labelled.end)
        roi = Roi(begin, end - begin).snap_to_grid(lattice, mode="shrink")
        if roi.empty:
            raise ConfigError(
                f"the region {region} holds no whole voxel of {self._nm(lattice)} nm; regions are in nm, not voxels"
            )
        return roi

    def region(self, roi: Roi) -> Region:
        """Return a ROI as a user names it: in nm from the raw volume's corner."""
        corner = self.world.position(self.raw.levels[0].begin)
        begin, end = (self.world.size_in_nm(edge - corner) for edge in (roi.begin, roi.end))
        return Region(begin=begin, end=end)

    def extent(self) -> Region:
        """Return the region of the whole raw volume."""
        level = self.raw.levels[0]
        lengths = tuple(n * size for n, size in zip(level.shape, level.voxel_size, strict=True))
        return Region(begin=(Fraction(0),) * self.raw.dims, end=lengths)

    def annotated(self, region: Region) -> Roi:
        """Return the part of a region that any class is annotated in.

        Raises:
            ConfigError: nothing is annotated there, or as :meth:`roi`.
        """
        roi = self.roi(region).intersect(self.labelled())
        if roi.empty:
            raise ConfigError(f"nothing is annotated in the region {region}")
        return roi

    def predicted(self, prediction: Path, keys: Mapping[str, gp.ArrayKey], roi: Roi) -> list[gp.Pipeline]:
        """Return sources of the predictions of every output in ``keys``, float32 whatever they are stored as.

        Args:
            prediction: what :func:`scalenet_gp.pipelines.prediction.predict` wrote.
            keys: keys of the arrays to provide.
            roi: ROI that the prediction has to cover, world units.

        Raises:
            FileNotFoundError: the prediction does not exist.
            ConfigError: it has other classes or voxels than the network, or does not cover ``roi``.
        """
        sources = []
        for name, key in keys.items():
            volume, size = MultiscaleImage.open(prediction / name), self.net.voxel_size[name]
            expected = self.channels[name]
            if volume.channels != len(expected):
                raise ConfigError(
                    f"{volume.path} has {volume.channels} channels, not one for each of {', '.join(expected)}"
                )
            attributes = group_attributes(volume.path)
            channels = attributes.get("omero", {}).get("channels", [])
            named = tuple(channel["label"] for channel in channels)
            if named and named != expected:
                raise ConfigError(f"{volume.path} holds {', '.join(named)}; the config has {', '.join(expected)}")
            there = volume.roi(size, self.world)
            if not there.contains(roi):
                raise ConfigError(
                    f"{volume.path} covers {self.region(there)} from the raw volume's corner, not all of "
                    f"{self.region(roi)}"
                )
            scale = StoredValues.of(volume.path, attributes).scale
            sources.append(MultiscaleSource(volume, {key: size}, self.world) + gp.Normalize(key, factor=scale))
        return sources

    def shape(self, size: Size, what: str, outputs: Collection[str] | None = None) -> Coordinate:
        """Return a size in world units that is a whole number of voxels of every output, or of those named.

        Raises:
            ConfigError: it is not a whole number of voxels.
        """
        return whole_voxels(self.net, size, what, outputs)

    def boxes(self, shape: Size | Mapping[str, Size] | None, what: str = "training.output_shape") -> dict[str, Roi]:
        """Return the ROI of every output in a sample; that of the finest begins at 0.

        The ROIs have a common centre, to half a voxel of each.

        Args:
            shape: nm that all outputs cover; or a mapping of names of outputs to what each covers. By default every
                scale has about as many voxels as the others, and the finest none that is not annotated.
            what: the name of ``shape`` in messages.

        Raises:
            ConfigError: a shape is not a whole number of voxels, or an output is unknown or missing.
        """
        return sample_boxes(self.net, shape, what, self.labelled().shape if shape is None else None)

    def class_volumes(self) -> dict[str, ClassVolume]:
        """Return the label volumes by name, with the meaning of their values.

        Raises:
            FileNotFoundError: a label volume does not exist.
            VolumeFormatError: a label volume cannot be read.
        """
        volumes = {}
        for name in dict.fromkeys(name for names in self.config.classes.values() for name in names):
            path = self._labels(name)
            volume = MultiscaleImage.open(path, self.config.source.translation, cache=self.cache)
            meaning = read_annotation(path, volume.levels[0].path)
            volumes[name] = ClassVolume(volume, meaning.absent, meaning.present, meaning.unknown)
        return volumes

    def labelled(self) -> Roi:
        """Return the box of whole coarsest voxels that any class is annotated in."""
        target, mask = gp.ArrayKey("LABELLED"), gp.ArrayKey("LABELLED_MASK")
        sizes = {target: self.net.voxel_size[self.net.output_keys[0]]}
        volumes = self.class_volumes()
        return ClassTargets(volumes, sizes, {target: mask}, self.world, groups=self.config.classes).annotated(target)

    def _instances(self, name: str) -> MultiscaleImage:
        """Return a label volume of instances."""
        source = self.config.source
        return MultiscaleImage.open(self._labels(name), source.translation, cache=self.cache)

    def _labels(self, name: str) -> str:
        """Return the path of a label volume.

        Raises:
            FileNotFoundError: it does not exist; the message lists those that do.
        """
        labels = join(self.path, self.config.source.labels)
        path = join(labels, name)
        if find_node(path) is None:
            found = ", ".join(multiscale_groups(labels)) if find_node(labels) is not None else ""
            raise FileNotFoundError(f"class {name!r} has no labels at {path}; beside it there are: {found or 'none'}")
        return path

    def _corner(self, offsets: Sequence[Fraction | None], defaults: Coordinate) -> Coordinate:
        """Return offsets (nm) from the raw volume's corner in world coordinates; an absent one is its default."""
        corner = self.world.position(self.raw.levels[0].begin)
        given = self.world.size([offset or 0 for offset in offsets], "a bound of a region")
        places = zip(offsets, corner + given, defaults, strict=True)
        return Coordinate(default if offset is None else there for offset, there, default in places)

    def _nm(self, size: Coordinate) -> str:
        return format_size(self.world.size_in_nm(size))


def _check_output(net: LeibNet, name: str, options: TargetOptions, channels: Sequence[str]) -> None:
    """Refuse an output that cannot learn its targets."""
    kind = f"training.targets of the kind {options.kind}"
    node = dict(net.nodes).get(name)
    if isinstance(node, Head) and node.classes != tuple(channels):
        raise ConfigError(
            f"the network's head {name!r} makes the classes {', '.join(node.classes)}, and {kind} has "
            f"{', '.join(channels)}: give network.heads the same, in their order"
        )
    if net.specs[name].channels != len(channels):
        raise ConfigError(
            f"the network's output {name!r} has {net.specs[name].channels} channels, and {kind} has {len(channels)}, "
            f"{', '.join(channels)}: leave out output_nc and heads of other classes"
        )
    softmax = options.final_activation == "Softmax"
    if softmax != (net.output_activation(name) == "Softmax"):
        raise ConfigError(
            f"the network's output {name!r} {'does not end' if softmax else 'ends'} in a Softmax, and {kind} has "
            f"{'' if softmax else 'no '}exclusive classes: leave out final_activation"
        )
