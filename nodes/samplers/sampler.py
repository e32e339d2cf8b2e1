"""Samplers draw locations that keep to a lattice and to the bounds of the arrays; the uniform sampler.

A *sample* is the ROI of one reference array; all other ROIs of a request go where it goes. Lengths are world units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ArgumentError, LatticeError, PipelineError

__all__ = ["Axis", "Sample", "Sampler", "UniformSampler"]


@final
@dataclass(frozen=True, slots=True)
class Axis:
    """The begins that a sample may have along one axis: ``offset`` plus multiples of ``step``, in [``low``, ``high``].

    Args:
        length: the length of the sample.
        voxel_size: the voxel size of the reference array.
        step: the distance of neighboring begins: the voxel size, or a multiple of it.
        offset: one of the begins.
        low: the first begin that the arrays allow, None if they are unbounded.
        high: the last begin that the arrays allow, None if they are unbounded.
        low_by: the name of the array that sets ``low``.
        high_by: the name of the array that sets ``high``.
    """

    length: int
    voxel_size: int
    step: int
    offset: int
    low: int | None = None
    high: int | None = None
    low_by: str = ""
    high_by: str = ""

    def begins(self, low: int, high: int) -> range:
        """Return the allowed begins from ``low`` to ``high``, both included."""
        return range(int(self._first(low)), int(self._last(high)) + 1, self.step)

    def within(self, begin: int, end: int, by: str) -> Axis:
        """Return the axis for samples that lie inside a region or, if it is shorter, have it inside them."""
        low, high = sorted((begin, end - self.length))
        narrowed = self
        if self.low is None or self.low < low:
            narrowed = replace(narrowed, low=low, low_by=by)
        if self.high is None or self.high > high:
            narrowed = replace(narrowed, high=high, high_by=by)
        return narrowed

    def holds(self, positions: np.ndarray, length: int) -> np.ndarray:
        """Return True for each of ``positions`` if a sample can hold the interval of ``length`` that begins there."""
        held: np.ndarray = self._first(positions + length - self.length) <= self._last(positions)
        return held

    def refusal(self, low: int, high: int, asked_by: str) -> str:
        """Return the reason why no begin from ``low`` to ``high`` is allowed, which ``asked_by`` asks for."""
        low_by = high_by = asked_by
        if self.low is not None and self.low >= low:
            low, low_by = self.low, self.low_by
        if self.high is not None and self.high <= high:
            high, high_by = self.high, self.high_by
        if low > high:
            return (
                f"the sample has to begin at {low} or later ({low_by}) and at {high} or earlier ({high_by}): "
                f"{low - high} world units are missing"
            )
        reason = f"between {low} ({low_by}) and {high} ({high_by}) there is no location {self.offset} + n * {self.step}"
        if self.step > self.voxel_size:
            reason += f"; with a DeformAugment upstream, samples may begin at every multiple of {self.voxel_size}"
        return reason

    def _first(self, low: Any) -> Any:
        if self.low is not None:
            low = np.maximum(low, self.low)
        return self.offset - (self.offset - low) // self.step * self.step

    def _last(self, high: Any) -> Any:
        if self.high is not None:
            high = np.minimum(high, self.high)
        return self.offset + (high - self.offset) // self.step * self.step


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """The location of a sample.

    Args:
        begin: the world position at which the sample begins.
        info: further entries of the record, as JSON holds them: for example ``{"class": "mito"}``.
    """

    begin: Coordinate
    info: Mapping[str, Any] = field(default_factory=dict)


class Sampler(ABC):
    """Abstract: draws the locations of samples. A sampler is immutable and can be pickled.

    Example:
        >>> from funlib.geometry import Coordinate
        >>> class First(Sampler):
        ...     def draw(self, generator, opening):
        ...         return Sample(Coordinate(axis.low for axis in opening))
        >>> opening = [Axis(length=64, voxel_size=8, step=8, offset=0, low=16, high=80)]
        >>> First().draw(np.random.default_rng(0), opening).begin
        (16,)
    """

    @abstractmethod
    def draw(self, generator: np.random.Generator, opening: Sequence[Axis]) -> Sample:
        """Draw the location of a sample.

        Args:
            generator: the source of all random numbers.
            opening: the begins that the sample may have, per axis.

        Raises:
            LatticeError: no allowed begin exists; the message says why.
        """

    def load(self) -> None:
        """Read the volumes that drawing needs, once per process. The first draw does so by itself.

        Do not call it where worker processes are forked later: volumes are then read in each of them.

        Raises:
            DataError: there is no voxel to draw from.
        """
        return


@final
@dataclass(frozen=True)
class UniformSampler(Sampler):
    """Draw evenly among all locations on the lattice at which the sample lies inside a region.

    Along an axis on which the region is shorter than the sample, the region lies inside the sample instead. Sources pad
    and mask the parts of a sample that reach out of the volume.

    Args:
        regions: world units. A region off the lattice counts by the whole voxels of the reference array in it. Of
            several regions, one is drawn in proportion to its volume, and the record has its index as ``"region"``.
            None means all that the arrays offer, which then have to be bounded: gunpowder's ``RandomLocation`` draws
            from the same locations.
        overhang: the length by which to grow the regions at all sides, world units.

    Raises:
        ArgumentError: no region, or an empty or unbounded one, or regions of different axes; an overhang below 0.
        LatticeError: when drawn: a region without a whole voxel, or without a location that the lattice and the bounds
            of the arrays allow.
        PipelineError: when drawn: a region of other axes than the sample, or unbounded arrays without a region.

    Example:
        >>> from funlib.geometry import Roi
        >>> UniformSampler([Roi((0, 0), (64, 64)), Roi((640, 0), (64, 64))], overhang=8).overhang
        (8, 8)
    """

    regions: Roi | Sequence[Roi] | None = None
    overhang: int | Iterable[int] = 0
    _grown: tuple[Roi, ...] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        regions = [self.regions] if isinstance(self.regions, Roi) else self.regions
        if regions is None:
            if self.overhang != 0:
                raise ArgumentError(f"overhang={self.overhang!r} grows a region, but none is given")
            return
        if not regions:
            raise ArgumentError("no regions: UniformSampler needs at least one, or None for all that the arrays offer")
        for region in regions:
            if region.empty or region.unbounded or region.dims != regions[0].dims:
                raise ArgumentError(f"region {region} has to be bounded, not empty, and of {regions[0].dims} axes")
        overhang = (self.overhang,) * regions[0].dims if isinstance(self.overhang, int) else tuple(self.overhang)
        if len(overhang) != regions[0].dims or min(overhang) < 0:
            raise ArgumentError(f"overhang={overhang} has to be one length of at least 0 per axis of {regions[0]}")
        grown = tuple(region.grow(Coordinate(overhang), Coordinate(overhang)) for region in regions)
        object.__setattr__(self, "overhang", overhang)
        object.__setattr__(self, "_grown", grown)

    def draw(self, generator: np.random.Generator, opening: Sequence[Axis]) -> Sample:
        if self._grown is None:
            return Sample(_draw_begin(generator, [_offered(number, axis) for number, axis in enumerate(opening)]))
        begins = [_begins(region, opening) for region in self._grown]
        if len(begins) == 1:
            return Sample(_draw_begin(generator, begins[0]))
        volumes = np.array([float(prod(region.shape)) for region in self._grown])
        index = int(generator.choice(len(begins), p=volumes / volumes.sum()))
        return Sample(_draw_begin(generator, begins[index]), {"region": index})


def _draw_begin(generator: np.random.Generator, begins: Iterable[range]) -> Coordinate:
    return Coordinate(along[int(generator.integers(len(along)))] for along in begins)


def _begins(region: Roi, opening: Sequence[Axis]) -> list[range]:
    if region.dims != len(opening):
        raise PipelineError(f"region {region} has {region.dims} axes, the sample has {len(opening)}")
    found = []
    for number, (axis, begin, end) in enumerate(zip(opening, region.begin, region.end, strict=True)):
        first, last = -(-begin // axis.voxel_size) * axis.voxel_size, end // axis.voxel_size * axis.voxel_size
        if first >= last:
            raise LatticeError(f"region {region} holds no whole voxel of {axis.voxel_size} along axis {number}")
        low, high = sorted((int(first), int(last - axis.length)))
        along = axis.begins(low, high)
        if not along:
            raise LatticeError(
                f"region {region} has no location for a sample of {axis.length} along axis {number}: "
                + axis.refusal(low, high, "the region")
            )
        found.append(along)
    return found


def _offered(number: int, axis: Axis) -> range:
    if axis.low is None or axis.high is None:
        raise PipelineError(
            f"no array is bounded along axis {number}; give UniformSampler a region to draw locations from"
        )
    along = axis.begins(axis.low, axis.high)
    if not along:
        raise LatticeError(f"no location along axis {number}: " + axis.refusal(axis.low, axis.high, "the arrays"))
    return along
