"""The label volumes of a source: a volume for each class, one of ids, or one of instances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

from scalenet_gp.errors import ConfigError, DataError, VolumeFormatError
from scalenet_gp.pipelines.config import DataConfig, SourceConfig
from scalenet_gp.pipelines.data.sources import Source
from scalenet_gp.volumes import (
    ChunkCache,
    ClassVolume,
    MultiscaleImage,
    find_node,
    join,
    read_annotation,
    read_class_groups,
    volumes_below,
)

__all__ = ["SourceLabels", "open_labels"]


@dataclass(frozen=True)
class SourceLabels:
    """The label volumes of a source, opened when they are asked for.

    Attributes:
        source: the source of the run file.
        data: the part ``data`` of the run file, which names the classes.
        cache: cache of the decoded chunks of all volumes.
    """

    source: Source
    data: DataConfig
    cache: ChunkCache | None = None

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The classes, each with the names of the label volumes that it unites, of those that are there."""
        if self.source.config.encoding != "classes":
            return {name: (name,) for name in self.data.classes}
        tables = self.source.config.groups
        single = {} if tables is None else read_class_groups(tables)
        groups = {}
        for name in self.data.classes:
            united: list[str] = []
            for member in self.data.label_volumes(name):
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
            path = self._path(name)
            volumes[name] = ClassVolume(None) if path is None else self._class_volume(path)
        if all(volume.volume is None for volume in volumes.values()):
            raise DataError(f"{options.labels} has no labels of {', '.join(volumes)}; there are {self._listed()}")
        return volumes

    def paths(self) -> Iterator[str]:
        """Yield the paths of the label volumes of the classes that are there."""
        labels = self.source.config.labels
        if self.source.config.encoding != "classes":
            yield labels
            return
        groups = {} if self.source.config.groups is None else read_class_groups(self.source.config.groups)
        for name in self.data.classes:
            for volume in self.data.label_volumes(name):
                for member in (volume, *groups.get(volume, ())):
                    if find_node(join(labels, member)) is not None:
                        yield join(labels, member)

    def instances(self, name: str) -> MultiscaleImage:
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
        return open_labels(path, options, self.cache)

    def _path(self, name: str) -> str | None:
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
            f"class {name!r} has no labels at {join(labels, name)}; beside it there are: {self._listed()}"
        )

    def _listed(self) -> str:
        labels = self.source.config.labels
        return ", ".join(volumes_below(labels) if find_node(labels) is not None else ()) or "none"

    def _class_volume(self, path: str) -> ClassVolume:
        """Return the label volume of one class."""
        options = self.source.config
        volume = open_labels(path, options, self.cache)
        meaning = read_annotation(path, volume.levels[0].path)
        unknown = options.unlabelled or meaning.unknown
        absent = None if meaning.absent in options.unlabelled else meaning.absent
        return ClassVolume(volume, absent, meaning.present, unknown)

    def _classes_of_one(self, options: SourceConfig) -> dict[str, ClassVolume]:
        """Return the classes of a volume of ids or of instances."""
        volume = open_labels(options.labels, options, self.cache)
        classes = {}
        for name in self.data.classes:
            ids = self.data.ids(name)
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


def open_labels(path: str, options: SourceConfig, cache: ChunkCache | None = None) -> MultiscaleImage:
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
