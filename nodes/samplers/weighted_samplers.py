"""Samples shared out among classes or strata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum, isfinite
from typing import Self, final

import numpy as np
from funlib.geometry import Roi

from scalenet_gp.errors import ArgumentError, ScaleNetError
from scalenet_gp.geometry import World
from scalenet_gp.nodes.samplers.mask_sampler import MaskSampler
from scalenet_gp.nodes.samplers.sampler import Axis, Sample, Sampler, UniformSampler
from scalenet_gp.nodes.samplers.voxel_index import LabelArray, Labels
from scalenet_gp.volumes import ClassVolume, MultiscaleImage

__all__ = ["ClassSampler", "StratifiedSampler", "check_weights"]

_Choice = tuple[str | None, Sampler, float]
"""A name, where its samples go, and its weight."""

_SLACK = 1e-9
"""By how much shares may miss a sum of 1 through rounding."""


@final
@dataclass(frozen=True, eq=False)
class ClassSampler(Sampler):
    """A wanted share of samples is laid on a voxel of each class; the rest goes elsewhere.

    The voxels of a class are drawn, and kept in memory, as those of a :class:`MaskSampler`. Samples drawn for another
    class
    or for none may contain the class as well: its share is the least to be expected. What was drawn has the class as
    ``"class"``, None for the rest.

    Args:
        classes: where the voxels of every class are.
        shares: of samples, to be laid on each class; 1 in sum at most.
        otherwise: where the rest goes; needed if the shares sum to less than 1.
        world: that the pipeline counts in.
        voxel_size: see :class:`MaskSampler`.
        within: of the volumes, only the voxels that lie inside this ROI. World units.
        inside: the samples of a class lie inside this ROI, too. World units.

    Raises:
        ValueError: shares that are negative, sum to more than 1, or name no class; nothing for the rest; for the
            volumes as :class:`MaskSampler`. When loaded: a class with a share but without a voxel.
    """

    classes: Mapping[str, Labels]
    shares: Mapping[str, float]
    otherwise: Sampler | None = None
    world: World | None = None
    voxel_size: Iterable[int] | None = None
    within: Roi | None = None
    inside: Roi | None = None

    def __post_init__(self) -> None:
        check_weights("shares", self.shares, self.classes)
        rest = 1 - fsum(self.shares.values())
        if rest < -_SLACK:
            raise ArgumentError(f"the shares {dict(self.shares)} sum to {1 - rest:g}; they may sum to 1 at most")
        if rest > _SLACK and self.otherwise is None:
            raise ArgumentError(f"the shares {dict(self.shares)} sum to {1 - rest:g}; otherwise= has to place the rest")
        if self.voxel_size is not None:
            object.__setattr__(self, "voxel_size", tuple(self.voxel_size))
        self._classes  # noqa: B018 - arguments that do not fit are refused here

    @cached_property
    def _classes(self) -> dict[str, MaskSampler]:
        masks = {}
        for name, share in self.shares.items():
            if share > 0:
                with _naming("class", name):
                    masks[name] = MaskSampler(self.classes[name], self.world, self.voxel_size, self.within, self.inside)
        return masks

    def load(self) -> None:
        for name, places in self._classes.items():
            with _naming("class", name):
                places.load()
        if self.otherwise is not None:
            self.otherwise.load()

    def draw(self, generator: np.random.Generator, opening: Sequence[Axis]) -> Sample:
        choices: list[_Choice] = [(name, places, self.shares[name]) for name, places in self._classes.items()]
        if self.otherwise is not None:
            choices.append((None, self.otherwise, max(0.0, 1 - fsum(self.shares.values()))))
        return _draw(generator, opening, "class", choices)


@final
@dataclass(frozen=True, eq=False)
class StratifiedSampler(Sampler):
    """A stratum is drawn by weight, and a place within it.

    The strata are the user's: best, worst, dense, sparse, low signal, edge, artefact. What was drawn has its name as
    ``"stratum"``.

    Args:
        strata: a strategy, or the regions for :class:`UniformSampler`, of each stratum. :meth:`of_map` makes them of a
            volume.
        weights: how often each is drawn, in any unit.

    Raises:
        ValueError: strata without a weight or weights without a stratum, one that is negative, or none above 0; for
            regions as :class:`UniformSampler`. When loaded: a stratum with a weight but nothing to draw from.
    """

    strata: Mapping[str, Sampler | Roi | Sequence[Roi]]
    weights: Mapping[str, float]
    _places: Mapping[str, Sampler] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_weights("weights", self.weights, self.strata)
        if missing := [name for name in self.strata if name not in self.weights]:
            raise ArgumentError(f"no weights for {', '.join(missing)}; write 0 for a stratum that is not to be sampled")
        if not any(self.weights.values()):
            raise ArgumentError(f"the weights {dict(self.weights)} are all 0")
        places: dict[str, Sampler] = {}
        for name, stratum in self.strata.items():
            with _naming("stratum", name):
                places[name] = stratum if isinstance(stratum, Sampler) else UniformSampler(stratum)
        object.__setattr__(self, "_places", places)

    @classmethod
    def of_map(
        cls,
        volume: MultiscaleImage | LabelArray,
        names: Mapping[int, str],
        weights: Mapping[str, float],
        world: World | None = None,
        *,
        voxel_size: Iterable[int] | None = None,
        within: Roi | None = None,
    ) -> Self:
        """Strata from a volume that holds a value for each.

        A sample is laid on a voxel of the stratum as :class:`MaskSampler` does. The map is read once per stratum.

        Args:
            volume: the map; a pyramid has one channel.
            names: of the values; other values are not sampled.
            weights: how often each name is drawn, in any unit.
            world: that the pipeline counts in.
            voxel_size: see :class:`MaskSampler`.
            within: of the map, only the voxels that lie inside this ROI. World units.

        Raises:
            ValueError: a name for two values; else as :class:`StratifiedSampler` and :class:`MaskSampler`.
        """
        if len(set(names.values())) < len(names):
            raise ArgumentError(f"the names {dict(names)} have one for two values")
        size = None if voxel_size is None else tuple(voxel_size)
        strata: dict[str, Sampler] = {}
        for value, name in names.items():
            labels: Labels
            if isinstance(volume, LabelArray):
                labels = LabelArray(volume.data == value, volume.voxel_size, volume.begin)
            else:
                labels = ClassVolume(volume, absent=None, present=value)
            with _naming("stratum", name):
                strata[name] = MaskSampler(labels, world, size, within)
        return cls(strata, weights)

    def load(self) -> None:
        for name, weight in self.weights.items():
            if weight > 0:
                with _naming("stratum", name):
                    self._places[name].load()

    def draw(self, generator: np.random.Generator, opening: Sequence[Axis]) -> Sample:
        choices = [(name, places, self.weights[name]) for name, places in self._places.items()]
        return _draw(generator, opening, "stratum", choices)


def check_weights(what: str, weights: Mapping[str, float], known: Iterable[str]) -> None:
    """Check that weights are not negative, and that each belongs to something.

    Raises:
        ValueError: a name is not among ``known``, or a weight is no number of at least 0. ``what`` names the argument.
    """
    known = list(known)
    for name, weight in weights.items():
        if name not in known:
            raise ArgumentError(f"{what} name {name!r}, which is none of {', '.join(known) or 'nothing'}")
        if not (isfinite(weight) and weight >= 0):
            raise ArgumentError(f"{what}: that of {name!r} is {weight!r}; write a number of at least 0")


def _draw(generator: np.random.Generator, opening: Sequence[Axis], kind: str, choices: Sequence[_Choice]) -> Sample:
    """A place of one of the ``choices``, and its name as what was drawn of ``kind``."""
    weights = np.array([weight for _, _, weight in choices])
    name, places, _ = choices[int(generator.choice(len(choices), p=weights / weights.sum()))]
    with _naming(kind, name):
        place = places.draw(generator, opening)
    return Sample(place.begin, {kind: name, **place.info})


@contextmanager
def _naming(kind: str, name: str | None) -> Iterator[None]:
    """Name the class or stratum in errors, which keep their class."""
    try:
        yield
    except ScaleNetError as error:
        raise type(error)(f"{kind} {name!r}: {error}") from error
