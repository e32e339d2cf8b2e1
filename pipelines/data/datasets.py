"""The sources of a run, each opened when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any

import torch
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.options import Size
from scalenet_gp.pipelines.config import Config, Use
from scalenet_gp.pipelines.data.boxes import sample_boxes
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.sources import Source, resolve_sources, sources_of
from scalenet_gp.volumes import ChunkCache, StrPath

__all__ = ["Datasets"]


@dataclass(frozen=True, eq=False)
class Datasets:
    """The sources of a run. None is kept open but the first, so memory does not depend on their number.

    In another process, the network arrives without its weights.

    Attributes:
        folder: folder, or its URL, that relative paths of the config start at.
        config: the run.
        net: the network whose voxel sizes the volumes are read at.
        sources: all sources, in the order of the run file.
        cache: cache of the decoded chunks of all volumes.
    """

    folder: StrPath
    config: Config
    net: LeibNet
    sources: tuple[Source, ...]
    cache: ChunkCache

    @classmethod
    def find(cls, folder: StrPath, config: Config, net: LeibNet) -> Datasets:
        """Find the sources of a run, without opening them.

        Raises:
            FileNotFoundError, VolumeFormatError, ConfigError: as :func:`.resolve_sources`.
            ConfigError: no source is for training, or none for a validation that the config has.
        """
        found = cls(
            folder,
            config,
            net,
            resolve_sources(config.data, folder),
            ChunkCache(config.data.cache * 2**20),
        )
        if not found.of("train"):
            raise ConfigError("data.sources has none to train on: each says the use validate or evaluate")
        if config.validation is not None and not found.of("validate"):
            raise ConfigError("validation has no data: none of data.sources is to validate with")
        return found

    def of(self, use: Use) -> tuple[Source, ...]:
        """Return the sources that serve for a purpose, without those of weight 0."""
        return tuple(source for source in sources_of(self.config, self.sources, use) if source.config.weight)

    def open(self, source: Source) -> Dataset:
        """Open a source."""
        return Dataset.open(self.folder, self.config, self.net, source, self.cache)

    def named(self, name: str) -> Source:
        """Return the source of a name."""
        return next(source for source in self.sources if source.name == name)

    @cached_property
    def first(self) -> Dataset:
        """The first source to train on, which stays open: it stands for all where only the network matters."""
        return self.open(self.of("train")[0])

    def boxes(self, shape: Size | Mapping[str, Size] | None, what: str = "training.output_shape") -> dict[str, Roi]:
        """Return the ROI of every output in a sample; see :meth:`.Dataset.boxes`.

        Of several sources, the largest along each axis bounds the default.
        """
        sources = self.of("train")
        if shape is not None or len(sources) == 1:
            return self.first.boxes(shape, what)
        shapes = [self.open(source).labelled().shape for source in sources]
        return sample_boxes(self.net, None, what, reduce(_larger, shapes))

    def with_config(self, config: Config) -> Datasets:
        """Return the same sources for a config that differs in other parts."""
        return replace(self, config=config)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in ("folder", "sources", "cache")}
        # options of components are classes that are made while they are imported, and cannot be pickled
        return {**state, "config": self.config.model_dump(mode="json"), "net": self.net.to_spec()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with torch.device("meta"):  # weights take no memory there
            net = LeibNet.from_spec(state["net"])
        config = Config.model_validate(state["config"])
        for name, value in {**state, "config": config, "net": net}.items():
            object.__setattr__(self, name, value)


def _larger(one: Coordinate, other: Coordinate) -> Coordinate:
    return Coordinate(map(max, one, other))
