"""A volume with its annotation, in one world."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import gunpowder as gp
import numpy as np
import torch
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import World, format_size
from scalenet_gp.inference import IntensityWindow
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.nodes import ClassTargets, MultiscaleSource
from scalenet_gp.nodes.arrays import SampleArrays
from scalenet_gp.options import Size
from scalenet_gp.pipelines.config import DataConfig, Region
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
        path: folder of the volume, or its URL.
        raw: the raw volume.
        net: the network whose voxel sizes the world fits.
        world: the world coordinates that all arrays share; see :meth:`MultiscaleImage.world`.
        cache: cache of the decoded chunks of all volumes.
    """

    config: DataConfig
    path: StrPath
    raw: MultiscaleImage
    net: LeibNet
    world: World
    cache: ChunkCache

    @classmethod
    def open(cls, path: StrPath, config: DataConfig, net: LeibNet) -> Dataset:
        """Open the raw volume.

        The world has the raw volume's corner on the lattice of every tensor. Where raw data may be resampled, it has
        the labels' corner there instead, as labels are never resampled.

        Raises:
            FileNotFoundError: the volume does not exist.
            VolumeFormatError: it cannot be read.
            ConfigError: it has other axes than the network.
        """
        cache = ChunkCache(config.cache * 2**20)
        source = config.source
        raw = MultiscaleImage.open(join(path, source.raw), source.translation, alignment=source.alignment, cache=cache)
        if raw.dims != net.dims:
            raise ConfigError(f"{raw.path} has {raw.dims} spatial axes, the network has {net.dims}")
        keys = (*net.input_keys, *net.output_keys)
        leading = raw
        if source.alignment == "resample":
            paths = (join(join(path, source.labels), name) for names in config.classes.values() for name in names)
            labelled = next((found for found in paths if find_node(found) is not None), None)
            leading = raw if labelled is None else MultiscaleImage.open(labelled, source.translation)
        world = leading.world(*(net.specs[key].voxel_size for key in keys), unit=net.unit)
        return cls(config, path, raw, net, world, cache)

    @property
    def arrays(self) -> SampleArrays:
        """The array keys of samples for the network."""
        return SampleArrays.of(self.net)

    def lattice(self, outputs: Iterable[str] | None = None) -> Coordinate:
        """Return the smallest box (world units) that is whole voxels of every output, or of those named."""
        sizes = (self.net.voxel_size[name] for name in outputs or self.net.output_keys)
        return Coordinate(math.lcm(*lengths) for lengths in zip(*sizes, strict=True))

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

    def targets(
        self,
        targets: Mapping[str, gp.ArrayKey],
        masks: Mapping[str, gp.ArrayKey],
        within: Roi | None = None,
    ) -> ClassTargets:
        """Return a source of the classes at the voxel size of every output in ``targets``."""
        return ClassTargets(
            self.class_volumes(),
            {key: self.net.voxel_size[name] for name, key in targets.items()},
            {targets[name]: masks[name] for name in targets},
            self.world,
            groups=self.config.classes,
            within=within,
        )

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
            if volume.channels != len(self.config.classes):
                raise ConfigError(
                    f"{volume.path} has {volume.channels} channels, not one for each of the classes "
                    f"{', '.join(self.config.class_names)}"
                )
            attributes = group_attributes(volume.path)
            channels = attributes.get("omero", {}).get("channels", [])
            named = tuple(channel["label"] for channel in channels)
            if named and named != self.config.class_names:
                raise ConfigError(f"{volume.path} holds the classes {named}, the config has {self.config.class_names}")
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
        shape = self.world.size(size, what)
        lattice = self.lattice(outputs)
        fits = len(shape) == self.net.dims and min(shape) > 0
        if not fits or any(s % step for s, step in zip(shape, lattice, strict=True)):
            raise ConfigError(
                f"{what} {format_size(size)} nm has to be a positive multiple of {self._nm(lattice)} nm, so that "
                "it is whole voxels of every output"
            )
        return shape

    def class_volumes(self) -> dict[str, ClassVolume]:
        """Return the label volumes by name, with the meaning of their values.

        Raises:
            FileNotFoundError: a label volume does not exist.
            VolumeFormatError: a label volume cannot be read.
        """
        source = self.config.source
        labels = join(self.path, source.labels)
        volumes = {}
        for name in dict.fromkeys(name for names in self.config.classes.values() for name in names):
            path = join(labels, name)
            if find_node(path) is None:
                found = ", ".join(multiscale_groups(labels)) if find_node(labels) is not None else ""
                raise FileNotFoundError(
                    f"class {name!r} has no labels at {path}; beside it there are: {found or 'none'}"
                )
            volume = MultiscaleImage.open(path, source.translation, cache=self.cache)
            meaning = read_annotation(path, volume.levels[0].path)
            volumes[name] = ClassVolume(volume, meaning.absent, meaning.present, meaning.unknown)
        return volumes

    def labelled(self) -> Roi:
        """Return the box of whole coarsest voxels that any class is annotated in."""
        name = self.net.output_keys[0]
        key = gp.ArrayKey("LABELLED")
        return self.targets({name: key}, {name: gp.ArrayKey("LABELLED_MASK")}).annotated(key)

    def _corner(self, offsets: Sequence[Fraction | None], defaults: Coordinate) -> Coordinate:
        """Return offsets (nm) from the raw volume's corner in world coordinates; an absent one is its default."""
        corner = self.world.position(self.raw.levels[0].begin)
        given = self.world.size([offset or 0 for offset in offsets], "a bound of a region")
        places = zip(offsets, corner + given, defaults, strict=True)
        return Coordinate(default if offset is None else there for offset, there, default in places)

    def _nm(self, size: Coordinate) -> str:
        return format_size(self.world.size_in_nm(size))
