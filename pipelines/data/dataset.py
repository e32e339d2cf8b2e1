"""A volume with its annotation, in one world."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path

import gunpowder as gp
import numpy as np
import torch
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError, DataError, VolumeFormatError
from scalenet_gp.geometry import World, format_size
from scalenet_gp.inference import IntensityWindow
from scalenet_gp.layers import Head
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.nodes import ClassTargets, MultiscaleSource
from scalenet_gp.nodes.arrays import SampleArrays
from scalenet_gp.nodes.sources import ToUnitRange
from scalenet_gp.options import Size
from scalenet_gp.pipelines.config import (
    Config,
    DataConfig,
    InstanceTargetsOptions,
    Intensities,
    Region,
    SourceConfig,
    TargetOptions,
    match_outputs,
)
from scalenet_gp.pipelines.data.boxes import common_lattice, finest_output, sample_boxes, whole_voxels
from scalenet_gp.pipelines.data.intensities import sample_raw
from scalenet_gp.pipelines.data.sources import Source, choose_source
from scalenet_gp.pipelines.data.targets import TargetChain
from scalenet_gp.volumes import (
    ChunkCache,
    ClassVolume,
    MultiscaleImage,
    StoredValues,
    StrPath,
    VolumeFingerprint,
    find_node,
    group_attributes,
    join,
    read_annotation,
    read_class_groups,
    read_separately,
    volumes_below,
)

__all__ = ["Dataset", "open_raw"]


@dataclass(frozen=True)
class Dataset:
    """A raw volume with its annotation, in the world that fits a network.

    Attributes:
        run: the config of a run with this volume as its only source, see :meth:`.Source.narrow`.
        targets: what each output learns.
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
            _check_output(net, name, options, options.channels(config.data))
        source = choose_source(config.data, folder) if source is None else source
        cache = ChunkCache(config.data.cache * 2**20) if cache is None else cache
        given = source.config
        with source.naming_faults("raw"):
            raw = open_raw(source, cache)
            if raw.dims != net.dims:
                raise ConfigError(f"{raw.path} has {raw.dims} spatial axes, the network has {net.dims}")
            _check_channels(raw, net)
        keys = (*net.input_keys, *net.output_keys)
        leading = raw
        if given.alignment == "resample":
            labelled = next(_label_paths(source, config.data), None)
            with source.naming_faults("labels"):
                if labelled is not None:
                    leading = _open_labels(labelled, given)
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
    def intensity_options(self) -> Intensities:
        """The intensities that the run file says for this volume."""
        given = self.source.config.intensities
        return self.config.intensities if given is None else given

    @property
    def intensity_field(self) -> str:
        """The field of the run file that says them."""
        own = self.source.config.intensities is not None
        return f"{self.source.field}.intensities" if own else "data.intensities"

    @cached_property
    def intensities(self) -> IntensityWindow:
        """The window of intensities that the network sees; sampled ones are those of the run, or of now."""
        stored = torch.from_numpy(np.empty(0, self.raw.dtype.newbyteorder("="))).dtype
        window = self.intensity_options
        if window == "auto":
            recorded = [one.intensities for one in self.run.learned_from if one.raw.path == self.raw.path]
            known = recorded[0] if recorded else None
            if known is None:
                known = read_separately(lambda: sample_raw(self.raw, self.net).window())
            window = known
        if window == "range":
            return IntensityWindow.of_range(stored)
        return IntensityWindow(stored, *window)

    def raw_source(self, keys: Mapping[str, gp.ArrayKey]) -> MultiscaleSource:
        """Return a source of raw data at the voxel size of every tensor in ``keys``, padded without end."""
        sizes = {key: self.net.voxel_size[name] for name, key in keys.items()}
        return MultiscaleSource(self.raw, sizes, self.world, padding=self.config.padding)

    def fractions(self, keys: Mapping[str, gp.ArrayKey], *, of_type: bool = False) -> gp.Pipeline:
        """Return :meth:`raw_source` with raw data as fractions of :attr:`.IntensityWindow.bounds`.

        Args:
            keys: as for :meth:`raw_source`.
            of_type: take fractions of an integer type's range here, too. Unless asked, they stay integers, of which
                :class:`.DeformAugment` takes fractions when it resamples them.
        """
        source, window = self.raw_source(keys), self.intensities
        if not window.of_type:
            return source + ToUnitRange(*keys.values(), bounds=window.bounds)
        return source + ToUnitRange(*keys.values()) if of_type else gp.Pipeline(source)

    def scaled(self, chain: gp.Pipeline, keys: Mapping[str, gp.ArrayKey]) -> gp.Pipeline:
        """Return ``chain`` with raw data scaled from the fractions of :meth:`fractions` to what the network sees."""
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
            return self.target_chain.sources(self.groups, self.class_volumes(), self._instances, within)

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
        corner = self.raw.levels[0].begin
        begin, end = (
            tuple(length - c for length, c in zip(self.world.position_in_nm(edge), corner, strict=True))
            for edge in (roi.begin, roi.end)
        )
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

    def predicted(self, prediction: Path, keys: Mapping[str, gp.ArrayKey], roi: Roi) -> list[gp.Pipeline]:
        """Return sources of the predictions of every output in ``keys``, float32 whatever they are stored as.

        Args:
            prediction: what :func:`scalenet_gp.pipelines.prediction.predict` wrote.
            keys: keys of the arrays to provide.
            roi: ROI that the prediction has to cover, world units.

        Raises:
            FileNotFoundError: the prediction does not exist.
            ConfigError: it was made of other raw data, has other classes or voxels than the network, or does not cover
                ``roi``.
        """
        self._check_predicted(prediction)
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

    @cached_property
    def corner(self) -> Coordinate:
        """The corner of the raw volume, world units; to half a unit where raw data are resampled."""
        origin = self.world.position_in_nm(Coordinate((0,) * self.raw.dims))
        ends = zip(self.raw.levels[0].begin, origin, strict=True)
        return Coordinate(round((begin - o) / self.world.unit) for begin, o in ends)

    def _check_predicted(self, prediction: Path) -> None:
        """Refuse a prediction that says that it was made of other raw data than these."""
        node = find_node(prediction)
        recorded = {} if node is None else node.attributes.get("job") or {}
        if recorded.get("raw") is None:
            return
        there = VolumeFingerprint.model_validate(recorded["raw"])
        if differences := there.differences(self.fingerprint):
            raise ConfigError(
                f"{prediction} was predicted from {there}, and the data to compare it with are {self.fingerprint}: "
                f"{'; '.join(differences)}. Take the volume that was predicted, wherever it has been moved to, or a "
                "prediction of this one"
            )

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
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The classes, each with the names of the label volumes that it unites, of those that :attr:`labels` has."""
        if self.source.config.encoding != "classes":
            return {name: (name,) for name in self.config.classes}
        tables = self.source.config.groups
        single = {} if tables is None else read_class_groups(tables)
        groups = {}
        for name in self.config.classes:
            united: list[str] = []
            for member in self.config.label_volumes(name):
                there = member not in single or find_node(join(self.source.config.labels, member)) is not None
                united += [member] if there else single[member]
            groups[name] = tuple(dict.fromkeys(united))
        return groups

    def class_volumes(self) -> dict[str, ClassVolume]:
        """Return the label volumes by the names in :attr:`groups`, with the meaning of their values.

        Raises:
            FileNotFoundError: a label volume does not exist.
            VolumeFormatError: a label volume cannot be read.
            DataError: no class has a label volume.
        """
        with self.source.naming_faults("labels"):
            return self._class_volumes

    @cached_property
    def _class_volumes(self) -> dict[str, ClassVolume]:
        options = self.source.config
        if options.encoding != "classes":
            return self._classes_of_one(options)
        volumes: dict[str, ClassVolume] = {}
        for name in dict.fromkeys(name for names in self.groups.values() for name in names):
            path = self._labels(name)
            volumes[name] = ClassVolume(None) if path is None else self._class_volume(path)
        if all(volume.volume is None for volume in volumes.values()):
            raise DataError(
                f"{options.labels} has no labels of {', '.join(volumes)}; there are {self._listed_labels()}"
            )
        return volumes

    def label_volumes(self) -> dict[str, MultiscaleImage]:
        """Return the label volumes that targets are made of, by their names: of classes, and of instances.

        Raises:
            FileNotFoundError, VolumeFormatError, ConfigError, DataError: as :meth:`target_sources`.
        """
        volumes = {name: one.volume for name, one in self.class_volumes().items() if one.volume is not None}
        instances = [one for one in self.targets.values() if isinstance(one, InstanceTargetsOptions)]
        return volumes | {options.labels: self._instances(options.labels) for options in instances}

    def _class_volume(self, path: str) -> ClassVolume:
        """Return the label volume of one class."""
        options = self.source.config
        volume = _open_labels(path, options, self.cache)
        meaning = read_annotation(path, volume.levels[0].path)
        unknown = options.unlabelled or meaning.unknown
        absent = None if meaning.absent in options.unlabelled else meaning.absent
        return ClassVolume(volume, absent, meaning.present, unknown)

    def _classes_of_one(self, options: SourceConfig) -> dict[str, ClassVolume]:
        """Return the classes of a volume of ids or of instances."""
        volume = _open_labels(options.labels, options, self.cache)
        classes = {}
        for name in self.config.classes:
            ids = self.config.ids(name)
            if options.encoding == "instances" and options.instances_of in (name, None):
                absent = None if 0 in options.unlabelled else 0
                classes[name] = ClassVolume(volume, absent, unknown=options.unlabelled)
            elif options.encoding == "ids" and ids:
                if shared := set(ids) & set(options.unlabelled):
                    raise ConfigError(
                        f"{self.source.field}.unlabelled has {shared.pop()}, which data.classes.{name} has too; a "
                        "voxel is either of the class or not annotated"
                    )
                classes[name] = ClassVolume(volume, "others", ids, options.unlabelled)
            else:
                classes[name] = ClassVolume(None)
        return classes

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

    def _instances(self, name: str) -> MultiscaleImage:
        """Return a label volume of instances.

        Raises:
            FileNotFoundError: it does not exist.
            ConfigError: the source has ids of classes.
        """
        options = self.source.config
        if options.encoding == "ids":
            raise ConfigError(
                f"{self.source.field}.encoding is ids, which are of classes; affinities need numbers of objects: a "
                "label volume of them in a source of label volumes, or the encoding instances"
            )
        path = options.labels
        if options.encoding == "classes":
            path = join(options.labels, name)
            if find_node(path) is None:
                raise self._no_labels(name)
        return _open_labels(path, options, self.cache)

    def _labels(self, name: str) -> str | None:
        """Return the path of a label volume; None if the class is unknown in this source.

        Raises:
            FileNotFoundError: it does not exist, and this is the only source; the message lists those that do.
        """
        options = self.source.config
        if options.only is not None and name not in options.only:
            return None
        path = join(options.labels, name)
        if find_node(path) is not None:
            return path
        if self.source.alone and options.groups is None:
            raise self._no_labels(name)
        return None

    def _no_labels(self, name: str) -> FileNotFoundError:
        labels = self.source.config.labels
        return FileNotFoundError(
            f"class {name!r} has no labels at {join(labels, name)}; beside it there are: {self._listed_labels()}"
        )

    def _listed_labels(self) -> str:
        labels = self.source.config.labels
        return ", ".join(volumes_below(labels) if find_node(labels) is not None else ()) or "none"

    def _corner(self, offsets: Sequence[Fraction | None], defaults: Coordinate) -> Coordinate:
        """Return offsets (nm) from the raw volume's corner in world coordinates; an absent one is its default."""
        given = self.world.size([offset or 0 for offset in offsets], "a bound of a region")
        places = zip(offsets, self.corner + given, defaults, strict=True)
        return Coordinate(default if offset is None else there for offset, there, default in places)

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


def _open_labels(path: str, options: SourceConfig, cache: ChunkCache | None = None) -> MultiscaleImage:
    """Open a label volume. The source's voxel size is its own if its file states none."""
    read = partial(
        MultiscaleImage.open, path, options.translation, unit=options.unit, alignment=options.alignment, cache=cache
    )
    try:
        return read()
    except VolumeFormatError:
        if options.voxel_size is None:
            raise
        return read(voxel_size=options.voxel_size)


def _label_paths(source: Source, data: DataConfig) -> Iterator[str]:
    """Yield the paths of the label volumes that are there."""
    labels = source.config.labels
    if source.config.encoding != "classes":
        yield labels
        return
    groups = {} if source.config.groups is None else read_class_groups(source.config.groups)
    for name in data.classes:
        for volume in data.label_volumes(name):
            for member in (volume, *groups.get(volume, ())):
                if find_node(join(labels, member)) is not None:
                    yield join(labels, member)


def _check_channels(raw: MultiscaleImage, net: LeibNet) -> None:
    """Refuse raw data of other channels than the network's inputs have."""
    for name in net.input_keys:
        if (wanted := net.specs[name].channels) != raw.channels:
            several = f"{raw.channels} channels" if raw.channels != 1 else "one channel"
            cure = "select one of them with `select: {c: 0}` of the source, or " if wanted == 1 else ""
            raise ConfigError(
                f"{raw.path} has {several}, and the network's input {name!r} has {wanted}: {cure}give the network "
                f"input_nc: {raw.channels}"
            )


def _check_output(net: LeibNet, name: str, options: TargetOptions, channels: Sequence[str]) -> None:
    """Refuse an output that cannot learn its targets."""
    kind = f"training.targets of the kind {options.kind}"
    try:
        options.check_voxel_size(net.specs[name].voxel_size)
    except ConfigError as error:
        raise ConfigError(f"{kind}, for the network's output {name!r}: {error}") from None
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
