"""Options of the methods that find instances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Length, Options

__all__ = [
    "AffinityMethod",
    "AgglomerateOptions",
    "ComponentsOptions",
    "Connectivity",
    "KindOptions",
    "MutexOptions",
    "SegmentationMethod",
    "WatershedOptions",
]

Connectivity = Literal[6, 18, 26]
"""Neighbours of a voxel: those that share a face (6), an edge too (18), or a corner too (26)."""

_REACH = 32
"""Voxels within which distances count, unless the reach is given."""


class MaskOptions(Options):
    """Abstract: the voxels of a class, and the size of its objects.

    Attributes:
        threshold: probability from which on a voxel is of the class; the one that
            ``evaluate --choose-thresholds`` chose for the run, or ``evaluation.threshold``, unless given. Classes
            that exclude each other have none: there the most probable one counts, as in the evaluation.
        closing: nm; radius of the ball of a morphological closing, which fills gaps and cracks that it does not fit
            into; no closing with 0. Beyond the border of the region, the class does not go on.
        holes: nm³; holes of up to this volume become part of the class. A hole is enclosed by the class: a component
            of voxels without it that does not reach the border of the region. None is filled by default.
        opening: nm; radius of the ball of a morphological opening, which takes away whatever such a ball does not fit
            into and cuts thin bridges; no opening with 0. Beyond the border of the region, the class goes on.
        connectivity: the neighbours of a voxel that are of the same object: 6 share a face, 18 an edge, 26 a corner. In
            two dimensions 6 share an edge, and 18 and 26 a corner too.
        smallest: nm³; smaller objects are left out.
        keep_fragments: keep the fragments of blocks and the table of their objects, for proofreading.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    closing: Length = Fraction(0)
    holes: Length = Fraction(0)
    opening: Length = Fraction(0)
    connectivity: Connectivity = 26
    smallest: Length = Fraction(0)
    keep_fragments: bool = False

    @field_validator("closing", "holes", "opening", "smallest")
    @classmethod
    def _not_below_zero(cls, length: Fraction) -> Fraction:
        if length < 0:
            raise ConfigError("it has to be 0 or more")
        return length

    def smallest_voxels(self, voxel_size: Sequence[Fraction]) -> int:
        """Return the voxels of the smallest object that is kept, at least 1. Voxel sizes are nm."""
        return max(1, math.ceil(self.smallest / math.prod(voxel_size)))

    def hole_voxels(self, voxel_size: Sequence[Fraction]) -> int:
        """Return the voxels of the largest hole that is filled; 0 if none is. Voxel sizes are nm."""
        return math.floor(self.holes / math.prod(voxel_size))


class ComponentsOptions(MaskOptions):
    """Objects that are connected components of the voxels of a class.

    The steps follow each other in this order: threshold, closing, holes, opening, components, smallest.

    Attributes:
        kind: ``components``.

    Example:
        >>> ComponentsOptions(smallest=1000).smallest_voxels((8, 8, 8))
        2
    """

    kind: Literal["components"] = "components"


class WatershedOptions(MaskOptions):
    """Objects that are parted where they are narrow: a watershed on the distance to the boundary.

    The steps follow each other in this order: threshold, closing, holes, opening, watershed, smallest.

    Attributes:
        kind: ``watershed``.
        depth: nm; two parts are two objects if in the middle of both the distance to the boundary is larger by more
            than this than in the neck between them.
        reach: nm; larger distances count as this one, so that necks that are wider part nothing. So much is read
            around each block. 32 of the largest voxel length unless given.

    Example:
        >>> WatershedOptions(depth=20).reach_in((Fraction(8), Fraction(4), Fraction(4)))
        Fraction(256, 1)
    """

    kind: Literal["watershed"] = "watershed"
    depth: Length
    reach: Length | None = None

    @field_validator("depth", "reach")
    @classmethod
    def _above_zero(cls, length: Fraction | None) -> Fraction | None:
        if length is not None and length <= 0:
            raise ConfigError("it has to be above 0")
        return length

    def reach_in(self, voxel_size: Sequence[Fraction]) -> Fraction:
        """Return the largest distance that counts, nm. Voxel sizes are nm."""
        return _REACH * max(voxel_size) if self.reach is None else self.reach


def _kind(method: Any) -> Any:
    """Return the kind of a method; components if it does not say one."""
    return method.get("kind", "components") if isinstance(method, Mapping) else getattr(method, "kind", None)


SegmentationMethod = Annotated[
    Annotated[ComponentsOptions, Tag("components")] | Annotated[WatershedOptions, Tag("watershed")],
    Discriminator(_kind),
]
"""Options of a method that finds objects; ``kind`` tells which, components unless given."""


Threshold = Annotated[float, Field(ge=0, le=1)]


class KindOptions(Options):
    """Kinds of objects that another output of the network tells apart, such as neurons, glia and vessels.

    Attributes:
        classes: two or more classes. A fragment is of the one with the largest mean probability in it.
        confidence: a fragment whose largest mean probability is not above this is of no kind.
        output: name of the output that learned them, at any voxel size; the coarsest that has them all unless given.

    Example:
        >>> KindOptions(classes=["neuron", "glia"]).confidence
        0.8
    """

    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.8
    output: str | None = None


class AffinityOptions(Options):
    """Abstract: objects from affinities, whose fragments are joined by the scores of the edges between them.

    Attributes:
        affinities: name of the output that learned affinities; the only one unless given.
        merge_threshold: fragments are joined up to this score, 1 - the affinity between them, so that a larger
            threshold joins more. Unless given, the one that an evaluation of the run chose, or else the method's own.
        thresholds: more thresholds, of each of which the objects are stored as a look-up table, to choose one by an
            evaluation.
        kinds: classes that no object has two of; none unless given.
        graph: URL of the PostgreSQL database for the graph of fragments, ``postgresql://user@host/database``; a SQLite
            file beside the fragments unless given.
        smallest: nm³; smaller objects are left out.
    """

    affinities: str | None = None
    merge_threshold: Threshold | None = None
    thresholds: tuple[Threshold, ...] = ()
    kinds: KindOptions | None = None
    graph: str | None = None
    smallest: Length = Fraction(0)

    @field_validator("smallest")
    @classmethod
    def _not_below_zero(cls, length: Fraction) -> Fraction:
        if length < 0:
            raise ConfigError("it has to be 0 or more")
        return length

    @field_validator("graph")
    @classmethod
    def _without_password(cls, graph: str | None) -> str | None:
        parts = None if graph is None else urlsplit(graph)
        if parts is not None and (parts.scheme not in ("postgresql", "postgres") or parts.password):
            raise ConfigError(
                "it is postgresql://user@host/database, without a password, as it is stored with the output: give that "
                "by PGPASSWORD or ~/.pgpass"
            )
        return graph

    @field_validator("thresholds")
    @classmethod
    def _in_order(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        ordered = tuple(sorted(thresholds))
        for one, other in pairwise(ordered):
            if one == other:
                raise ConfigError(f"{one:g} is there twice; give each once")
        return ordered

    def smallest_voxels(self, voxel_size: Sequence[Fraction]) -> int:
        """Return the voxels of the smallest object that is kept, at least 1. Voxel sizes are nm."""
        return max(1, math.ceil(self.smallest / math.prod(voxel_size)))

    @property
    def own_threshold(self) -> float:
        """The threshold, or the method's own."""
        raise NotImplementedError

    @property
    def swept(self) -> tuple[float, ...]:
        """All thresholds in ascending order."""
        return tuple(sorted({*self.thresholds, self.own_threshold}))


class AgglomerateOptions(AffinityOptions):
    """Objects that are fragments of a watershed, agglomerated by the affinities between them.

    Fragments are parts of the volume in which voxels are attached to their neighbours, divided where they are narrow:
    see :class:`WatershedOptions`. Then the two that are attached most become one, until none are attached enough.

    Attributes:
        kind: ``agglomerate``.
        affinities: name of the output that learned affinities; the only one unless given.
        threshold: mean affinity to its neighbours from which on a voxel is in the middle of an object, and the affinity
            from which on two neighbours can be of one fragment.
        background: mean affinity below which a voxel is of no object. Fragments grow from the middle of objects into
            the voxels between both.
        depth: nm; of fragments that are attached: see :class:`WatershedOptions`. The longest edge of a voxel unless
            given.
        reach: nm; see :class:`WatershedOptions`.
        quantile: percent; an edge is scored by the affinity that so many of its pairs of voxels are below; by the mean
            unless given.
        merge_threshold: fragments are joined up to this score, 1 - the affinity between them, so that a larger
            threshold joins more. Unless given, the one that an evaluation of the run chose, or else 0.3.
        thresholds: more thresholds, of each of which the objects are stored as a look-up table, to choose one by an
            evaluation.
        kinds: classes that no object has two of; none unless given.
        graph: URL of the PostgreSQL database for the graph of fragments, ``postgresql://user@host/database``; a SQLite
            file beside the fragments unless given.
        smallest: nm³; smaller objects are left out.

    Example:
        >>> AgglomerateOptions(thresholds=[0.6, 0.1]).swept
        (0.1, 0.3, 0.6)
    """

    kind: Literal["agglomerate"] = "agglomerate"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    background: Annotated[float, Field(gt=0, lt=1)] = 0.15
    depth: Length | None = None
    reach: Length | None = None
    quantile: Annotated[int, Field(ge=0, lt=100)] | None = None

    @field_validator("depth", "reach")
    @classmethod
    def _above_zero(cls, length: Fraction | None) -> Fraction | None:
        if length is not None and length <= 0:
            raise ConfigError("it has to be above 0")
        return length

    def reach_in(self, voxel_size: Sequence[Fraction]) -> Fraction:
        """Return the largest distance to the boundary that counts, nm. Voxel sizes are nm."""
        return _REACH * max(voxel_size) if self.reach is None else self.reach

    @model_validator(mode="after")
    def _background_below(self) -> AgglomerateOptions:
        if self.background > self.threshold:
            raise ConfigError(
                f"background {self.background:g} is above threshold {self.threshold:g}, so that voxels in the middle "
                "of objects would be of none; give one that is not"
            )
        return self

    def depth_in(self, voxel_size: Sequence[Fraction]) -> Fraction:
        """Return the depth, nm. Voxel sizes are nm."""
        return max(voxel_size) if self.depth is None else self.depth

    @property
    def own_threshold(self) -> float:
        return 0.3 if self.merge_threshold is None else self.merge_threshold


class MutexOptions(AffinityOptions):
    """Objects by the mutex watershed of biased affinities: see :func:`.mutex_fragments`.

    Attributes:
        kind: ``mutex``.
        affinities: name of the output that learned affinities; the only one unless given.
        bias: added to the affinities, for each offset; a sum above 0 joins, below 0 it parts. Unless given, the two
            following options make it.
        adjacent_bias: bias of offsets to voxels that share a face.
        long_bias_ratio: bias of the other offsets, for each voxel of their length.
        strides: for each offset, the steps in voxels at which its affinities count; everywhere unless given.
        fragment_affinity: fragments in which voxels have a smaller mean affinity to their neighbours are no objects.
        context: nm; so much is read around each block. Twice as far as the offsets reach unless given.
        merge_threshold: fragments are joined up to this score, 1 - the mean affinity between neighbours of both. Unless
            given, the one that an evaluation of the run chose, or else 1 + ``adjacent_bias``.
        thresholds: more thresholds, of each of which the objects are stored as a look-up table, to choose one by an
            evaluation.
        kinds: classes that no object has two of; none unless given.
        graph: URL of the PostgreSQL database for the graph of fragments, ``postgresql://user@host/database``; a SQLite
            file beside the fragments unless given.
        smallest: nm³; smaller objects are left out.

    Example:
        >>> MutexOptions().biases([(1, 0, 0), (0, 0, 10)])
        (-0.4, -0.8)
    """

    kind: Literal["mutex"] = "mutex"
    bias: tuple[float, ...] | None = None
    adjacent_bias: float = -0.4
    long_bias_ratio: float = -0.08
    strides: tuple[tuple[Annotated[int, Field(ge=1)], ...], ...] | None = None
    fragment_affinity: Threshold = 0.5
    context: Length | None = None

    def biases(self, offsets: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """Return the bias of each offset.

        Raises:
            ConfigError: biases or strides are not as many as the offsets, or strides have other axes.
        """
        for name, given in (("bias", self.bias), ("strides", self.strides)):
            if given is not None and len(given) != len(offsets):
                raise ConfigError(
                    f"{name} has {len(given)} entries, and there are {len(offsets)} offsets: one for each"
                )
        if any(len(stride) != len(offsets[0]) for stride in self.strides or ()):
            raise ConfigError(f"strides have {len(offsets[0])} axes, as the offsets have")
        if self.bias is not None:
            return self.bias
        lengths = (math.hypot(*offset) for offset in offsets)
        return tuple(self.adjacent_bias if length == 1 else self.long_bias_ratio * length for length in lengths)

    def context_in(self, offsets: Sequence[Sequence[int]], voxel_size: Sequence[Fraction]) -> tuple[int, ...]:
        """Return the voxels that are read around a block, per axis. Voxel sizes are nm."""
        if self.context is not None:
            return tuple(max(1, math.ceil(self.context / size)) for size in voxel_size)
        return tuple(2 * max(map(abs, along)) for along in zip(*offsets, strict=True))

    @property
    def own_threshold(self) -> float:
        return min(1.0, max(0.0, 1 + self.adjacent_bias)) if self.merge_threshold is None else self.merge_threshold


AffinityMethod = Annotated[AgglomerateOptions | MutexOptions, Field(discriminator="kind")]
"""Options of a method that finds objects by affinities; ``kind`` tells which."""
