"""A volume with its annotation, in one world."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import gunpowder as gp
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import World, format_size
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.nodes import ClassTargets
from scalenet_gp.nodes.arrays import SampleArrays
from scalenet_gp.options import Size
from scalenet_gp.pipelines.config import (
    Config,
    DataConfig,
    Region,
    TargetOptions,
    match_outputs,
)
from scalenet_gp.pipelines.data.boxes import common_lattice, finest_output, sample_boxes, whole_voxels
from scalenet_gp.pipelines.data.network_checks import check_channels, check_output
from scalenet_gp.pipelines.data.network_inputs import NetworkInputs
from scalenet_gp.pipelines.data.places import extent_of, raw_roi, region_of
from scalenet_gp.pipelines.data.source_labels import SourceLabels, open_labels
from scalenet_gp.pipelines.data.sources import Source, choose_source
from scalenet_gp.pipelines.data.targets import TargetChain
from scalenet_gp.volumes import (
    ChunkCache,
    ClassVolume,
    MultiscaleImage,
    StrPath,
    VolumeFingerprint,
    read_separately,
)

__all__ = ["Dataset", "open_raw"]


@dataclass(frozen=True)
class Dataset:
    """A raw volume with its annotation, in the world that fits a network.

    Attributes:
        run: the config of a run with this volume as its only source, see :meth:`.Source.narrow`.
        targets: what each output learns from annotation.
        folder: folder, or its URL, that paths of masks and maps start at.
        source: the source of the run file.
        raw: the raw volume.
        net: the network whose voxel sizes the world fits.
        world: the world coordinates that all arrays share; see :meth:`MultiscaleImage.world`.
        cache: cache of the decoded chunks of all volumes.
    """

    run: Config
    targets: Mapping[str, TargetOptions]
    folder: StrPath
    source: Source
    raw: MultiscaleImage
    net: LeibNet
    world: World
    cache: ChunkCache

    @classmethod
    def open(
        cls,
        folder: StrPath,
        config: Config,
        net: LeibNet,
        source: Source | None = None,
        cache: ChunkCache | None = None,
    ) -> Dataset:
        """Open the raw volume of a source for a network of a run.

        The world has the raw volume's corner on the lattice of every tensor. Where volumes may be resampled, it has the
        labels' corner there instead, so that labels are kept as they are wherever their voxels fit.

        Args:
            folder: folder, or its URL, that relative paths of the config start at.
            config: the run.
            net: the network.
            source: the source; the only one unless given.
            cache: cache of decoded chunks, which several volumes can share.

        Raises:
            FileNotFoundError: the volume does not exist.
            VolumeFormatError: it cannot be read.
            ConfigError: it has other axes or channels than the network, the network cannot learn the targets, or there
                are several sources. The message names the field of the run file.
        """
        targets = match_outputs(config.training.targets, net.output_keys)
        for name, options in targets.items():
            check_output(net, name, options, options.channels(config.data))
        source = choose_source(config.data, folder) if source is None else source
        cache = ChunkCache(config.data.cache * 2**20) if cache is None else cache
        given = source.config
        with source.naming_faults("raw"):
            raw = open_raw(source, cache)
            if raw.dims != net.dims:
                raise ConfigError(f"{raw.path} has {raw.dims} spatial axes, the network has {net.dims}")
            check_channels(raw, net, config.network.volumes)
        keys = (*net.input_keys, *net.output_keys)
        leading = raw
        if given.alignment == "resample":
            labelled = next(SourceLabels(source, config.data).paths(), None)
            with source.naming_faults("labels"):
                if labelled is not None:
                    leading = open_labels(labelled, given)
        world = leading.world(*(net.specs[key].voxel_size for key in keys), unit=net.unit)
        run = source.narrow(config, net.dims)
        return cls(run, targets, folder, source, raw, net, world, cache)

    @property
    def config(self) -> DataConfig:
        """The part ``data`` of the run file, with this source alone."""
        return self.run.data

    @cached_property
    def fingerprint(self) -> VolumeFingerprint:
        """The fingerprint of the raw volume, for which a few blocks are read in a process of their own."""
        return read_separately(lambda: VolumeFingerprint.of(self.raw))

    @property
    def arrays(self) -> SampleArrays:
        """The array keys of samples for the network."""
        return SampleArrays.of(self.net, self.targets)

    @property
    def finest(self) -> str:
        """The name of the output with the smallest voxels, by which samples are placed."""
        return finest_output(self.net, self.targets)

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

    @cached_property
    def inputs(self) -> NetworkInputs:
        """The inputs of the network: raw data, and the volumes beside them."""
        return NetworkInputs(self.run, self.source, self.raw, self.net, self.world, self.cache)

    @cached_property
    def target_chain(self) -> TargetChain:
        """The nodes that provide targets and masks."""
        return TargetChain(
            self.targets,
            self.channels,
            self.arrays,
            {name: self.net.voxel_size[name] for name in self.targets},
            self.world,
            self.source.config.unlabelled,
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
        with self.source.naming_faults("labels"):
            return self.target_chain.sources(self.groups, self.class_volumes(), self.labels.instances, within)

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
        begin = self._bound(region.begin, labelled.begin, math.ceil)
        end = self._bound(region.end, labelled.end, math.floor)
        roi = Roi(begin, end - begin).snap_to_grid(lattice, mode="shrink")
        if roi.empty:
            raise ConfigError(
                f"the region {region} holds no whole voxel of {self._nm(lattice)} nm; regions are in nm, not voxels"
            )
        return roi

    def region(self, roi: Roi) -> Region:
        """Return a ROI as a user names it: in nm from the raw volume's corner."""
        return region_of(roi, self.raw, self.world)

    def extent(self) -> Region:
        """Return the region of the whole raw volume."""
        return extent_of(self.raw)

    def annotated(self, region: Region) -> Roi:
        """Return the part of a region that any class is annotated in.

        Raises:
            ConfigError: nothing is annotated there, or as :meth:`roi`.
        """
        roi = self.roi(region).intersect(self.labelled())
        if roi.empty:
            raise ConfigError(f"nothing is annotated in the region {region}")
        return roi

    @property
    def training_region(self) -> Region:
        """The region to learn from; as far as the labels reach, unless the run file says it."""
        return self.run.training.region or self._everywhere

    @property
    def evaluation_region(self) -> Region:
        """The region to predict and to compare with the annotation.

        Raises:
            ConfigError: the run file does not say it.
        """
        region = self.run.evaluation.region
        if region is None:
            raise ConfigError(
                f"the run file says no region of {self.source.name} to evaluate: write evaluation.region, or give "
                f"{self.source.field} the use evaluate, or name a region with --region"
            )
        return region

    @property
    def _everywhere(self) -> Region:
        return Region(begin=(None,) * self.net.dims, end=(None,) * self.net.dims)

    @cached_property
    def corner(self) -> Coordinate:
        """The corner of the raw volume, world units; to half a unit where raw data are resampled."""
        return raw_roi(self.raw, self.world).begin

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

    @cached_property
    def labels(self) -> SourceLabels:
        """The label volumes of the source."""
        return SourceLabels(self.source, self.config, self.cache)

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The classes, each with the names of the label volumes that it unites: see :attr:`.SourceLabels.groups`."""
        return self.labels.groups

    def class_volumes(self) -> dict[str, ClassVolume]:
        """Return the label volumes of the classes: see :meth:`.SourceLabels.class_volumes`."""
        return self.labels.class_volumes()

    def label_volumes(self) -> dict[str, MultiscaleImage]:
        """Return the label volumes that targets are made of, by their names: of classes, and of instances.

        Raises:
            FileNotFoundError, VolumeFormatError, ConfigError, DataError: as :meth:`target_sources`.
        """
        volumes = {name: one.volume for name, one in self.class_volumes().items() if one.volume is not None}
        return volumes | {name: self.labels.instances(name) for name in self.target_chain.instance_volumes()}

    @cached_property
    def _labelled(self) -> Roi:
        target, mask = gp.ArrayKey("LABELLED"), gp.ArrayKey("LABELLED_MASK")
        sizes = {target: self.net.voxel_size[self.net.output_keys[0]]}
        volumes = self.class_volumes()
        with self.source.naming_faults("labels"):
            return ClassTargets(volumes, sizes, {target: mask}, self.world, groups=self.groups).annotated(target)

    def labelled(self) -> Roi:
        """Return the box of whole coarsest voxels that any class is annotated in."""
        return self._labelled.copy()

    def _bound(
        self, offsets: Sequence[Fraction | None], defaults: Coordinate, whole: Callable[[Fraction], int]
    ) -> Coordinate:
        """Return offsets (nm) from the raw volume's corner in world coordinates; an absent one is its default.

        Args:
            offsets: for each axis.
            defaults: for each axis.
            whole: makes whole world units of a place between them, as the raw volume's corner is one where data are
                resampled.
        """
        if self.source.config.alignment != "resample":
            self.world.size([offset or 0 for offset in offsets], "a bound of a region")
        origin = self.world.position_in_nm(Coordinate((0,) * self.raw.dims))
        places = zip(offsets, self.raw.levels[0].begin, origin, defaults, strict=True)
        return Coordinate(
            default if offset is None else whole((corner + offset - o) / self.world.unit)
            for offset, corner, o, default in places
        )

    def _nm(self, size: Coordinate) -> str:
        return format_size(self.world.size_in_nm(size))


def open_raw(source: Source, cache: ChunkCache | None = None) -> MultiscaleImage:
    """Open the raw volume of a source.

    Raises:
        FileNotFoundError: it does not exist.
        VolumeFormatError: it cannot be read.
    """
    given = source.config
    return MultiscaleImage.open(
        given.raw,
        given.translation,
        select=given.select,
        unit=given.unit,
        voxel_size=given.voxel_size,
        alignment=given.alignment,
        cache=cache,
    )
