"""Samplers that share samples out among classes or strata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum, isfinite
from typing import Self, final

import numpy as np
from funlib.geometry import Roi

from scalenet_gp.errors import ArgumentError, DataError, LatticeError, ScaleNetError
from scalenet_gp.geometry import World
from scalenet_gp.nodes.samplers.mask_sampler import MaskSampler
from scalenet_gp.nodes.samplers.sampler import Axis, Sample, Sampler, UniformSampler
from scalenet_gp.nodes.samplers.voxel_index import LabelArray, Labels
from scalenet_gp.volumes import ClassVolume, MultiscaleImage

__all__ = ["ClassSampler", "StratifiedSampler", "check_weights"]

_Choice = tuple[str | None, Sampler, float]
"""A name, the sampler for it, and its weight."""

_SLACK = 1e-9
"""The distance by which shares may miss a sum of 1 through rounding."""


@final
@dataclass(frozen=True, eq=False)
class ClassSampler(Sampler):
    """Lay a given share of samples on a voxel of each class, and leave the rest to another sampler.

    The voxels of a class are drawn, and kept in memory, as those of a :class:`MaskSampler`. Samples drawn for another
    class or for none may contain the class as well: its share is the least to be expected. The record has the class as
    ``"class"``, None for the rest.

    Args:
        classes: the label volume of every class, or several of a class that unites them: voxels of any of them are its
            own.
        shares: the share of samples that is laid on each class; 1 in sum at most.
        otherwise: draws the rest; needed if the shares sum to less than 1.
        world: the world that the pipeline counts in.
        voxel_size: see :class:`MaskSampler`.
        within: take only the voxels of the volumes inside this ROI. World units.
        inside: keep the samples of a class inside this ROI, too. World units.
        absent_elsewhere: leave the share of a class without a voxel, or without one that a sample can hold, to
            ``otherwise``, instead of an error.

    Raises:
        ArgumentError: shares that are negative, sum to more than 1, or name an unknown class; no sampler for the rest.
            Errors of :class:`MaskSampler` name the class.

    Example:
        >>> import numpy as np
        >>> from scalenet_gp.nodes import UniformSampler
        >>> from scalenet_gp.nodes.samplers import LabelArray
        >>> mito = LabelArray(np.ones((4, 4)), voxel_size=(8, 8), begin=(0, 0))
        >>> ClassSampler({"mito": mito}, {"mito": 0.5}, otherwise=UniformSampler()).shares
        {'mito': 0.5}
    """

    classes: Mapping[str, Labels | Sequence[Labels]]
    shares: Mapping[str, float]
    otherwise: Sampler | None = None
    world: World | None = None
    voxel_size: Iterable[int] | None = None
    within: Roi | None = None
    inside: Roi | None = None
    absent_elsewhere: bool = False

    def __post_init__(self) -> None:
        check_weights("shares", self.shares, self.classes)
        rest = 1 - fsum(self.shares.values())
        if rest < -_SLACK:
            raise ArgumentError(f"the shares {dict(self.shares)} sum to {1 - rest:g}; they may sum to 1 at most")
        if (rest > _SLACK or self.absent_elsewhere) and self.otherwise is None:
            raise ArgumentError(
                f"the shares {dict(self.shares)} sum to {1 - rest:g}; give otherwise= a sampler for the rest"
            )
        if self.voxel_size is not None:
            object.__setattr__(self, "voxel_size", tuple(self.voxel_size))
        self._classes  # noqa: B018 - arguments that do not fit are refused here

    @cached_property
    def _classes(self) -> dict[str, MaskSampler]:
        masks = {}
        for name, share in self.shares.items():
            if share > 0:
                with _naming("class", name), self._tolerating():
                    masks[name] = MaskSampler(self.classes[name], self.world, self.voxel_size, self.within, self.inside)
        return masks

    @cached_property
    def _loaded(self) -> dict[str, MaskSampler]:
        """The samplers of the classes that have voxels."""
        masks = {}
        for name, sampler in self._classes.items():
            with _naming("class", name), self._tolerating():
                sampler.load()
                masks[name] = sampler
        return masks

    def _tolerating(self) -> AbstractContextManager[None]:
        return suppress(DataError) if self.absent_elsewhere else nullcontext()

    def load(self) -> None:
        self._loaded  # noqa: B018
        if self.otherwise is not None:
            self.otherwise.load()

    def draw(self, generator: np.random.Generator, opening: Sequence[Axis]) -> Sample:
        choices: list[_Choice] = [(name, sampler, self.shares[name]) for name, sampler in self._loaded.items()]
        if self.otherwise is not None:
            choices.append((None, self.otherwise, max(0.0, 1 - fsum(share for *_, share in choices))))
        try:
            return _draw(generator, opening, "class", choices)
        except LatticeError:
            if not self.absent_elsewhere:
                raise
            return _draw(generator, opening, "class", choices[-1:])


@final
@dataclass(frozen=True, eq=False)
class StratifiedSampler(Sampler):
    """Draw a stratum by weight, and a location within it.

    The strata are the user's: best, worst, dense, sparse, low signal, edge, artefact. The record has the name of the
    stratum as ``"stratum"``.

    Args:
        strata: a sampler, or the regions for :class:`UniformSampler`, for each stratum. :meth:`of_map` makes them from
            a volume.
        weights: the weight of each stratum in the draw, in any unit.

    Raises:
        ArgumentError: strata without a weight or weights without a stratum, a negative weight, or none above 0. Errors
            of the strata's samplers name the stratum.

    Example:
        >>> from funlib.geometry import Roi
        >>> strata = {"dense": Roi((0, 0), (64, 64)), "sparse": Roi((640, 0), (64, 64))}
        >>> StratifiedSampler(strata, {"dense": 3, "sparse": 1}).weights
        {'dense': 3, 'sparse': 1}
    """

    strata: Mapping[str, Sampler | Roi | Sequence[Roi]]
    weights: Mapping[str, float]
    _samplers: Mapping[str, Sampler] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_weights("weights", self.weights, self.strata)
        if missing := [name for name in self.strata if name not in self.weights]:
            raise ArgumentError(f"no weights for {', '.join(missing)}; write 0 for a stratum that is not to be sampled")
        if not any(self.weights.values()):
            raise ArgumentError(f"the weights {dict(self.weights)} are all 0")
        samplers: dict[str, Sampler] = {}
        for name, stratum in self.strata.items():
            with _naming("stratum", name):
                samplers[name] = stratum if isinstance(stratum, Sampler) else UniformSampler(stratum)
        object.__setattr__(self, "_samplers", samplers)

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
        inside: Roi | None = None,
    ) -> Self:
        """Make strata from a volume that holds a value for each.

        A sample is laid on a voxel of the stratum as :class:`MaskSampler` does. The map is read once per stratum.

        Args:
            volume: the map; a pyramid has one channel.
            names: the names of the values; other values are not sampled.
            weights: the weight of each name in the draw, in any unit.
            world: the world that the pipeline counts in.
            voxel_size: see :class:`MaskSampler`.
            within: take only the voxels of the map inside this ROI. World units.
            inside: keep the samples inside this ROI, too. World units.

        Raises:
            ArgumentError: one name for two values. Further errors are those of the class and of :class:`MaskSampler`.
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
                strata[name] = MaskSampler(labels, world, size, within, inside)
        return cls(strata, weights)

    def load(self) -> None:
        for name, weight in self.weights.items():
            if weight > 0:
                with _naming("stratum", name):
                    self._samplers[name].load()

    def draw(self, generator: np.random.Generator, opening: Sequence[Axis]) -> Sample:
        choices = [(name, sampler, self.weights[name]) for name, sampler in self._samplers.items()]
        return _draw(generator, opening, "stratum", choices)


def check_weights(what: str, weights: Mapping[str, float], known: Iterable[str]) -> None:
    """Check that weights are not negative, and that each has a known name.

    Raises:
        ArgumentError: a name is not among ``known``, or a weight is not a number of at least 0. ``what`` names the
            argument.
    """
    known = list(known)
    for name, weight in weights.items():
        if name not in known:
            raise ArgumentError(f"{what} name {name!r}, which is none of {', '.join(known) or 'nothing'}")
        if not (isfinite(weight) and weight >= 0):
            raise ArgumentError(f"{what}: that of {name!r} is {weight!r}; write a number of at least 0")


def _draw(generator: np.random.Generator, opening: Sequence[Axis], kind: str, choices: Sequence[_Choice]) -> Sample:
    """Draw one of the ``choices`` and a location with its sampler. The record has its name under ``kind``."""
    weights = np.array([weight for _, _, weight in choices])
    name, sampler, _ = choices[int(generator.choice(len(choices), p=weights / weights.sum()))]
    with _naming(kind, name):
        sample = sampler.draw(generator, opening)
    return Sample(sample.begin, {kind: name, **sample.info})


@contextmanager
def _naming(kind: str, name: str | None) -> Iterator[None]:
    """Name the class or stratum in errors, which keep their class."""
    try:
        yield
    except ScaleNetError as error:
        raise type(error)(f"{kind} {name!r}: {error}") from error
