"""What random augmentations share: one draw for all arrays of a batch, kept on record, and applied again on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from operator import index
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
from gunpowder import Array, ArrayKey, Batch, BatchFilter, BatchRequest, Roi
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from scalenet_gp.errors import ArgumentError, UnknownNameError
from scalenet_gp.nodes.requests import request_generator

__all__ = [
    "DrawnParameters",
    "DrawnT",
    "RandomAugment",
    "Record",
    "as_interval",
    "as_probability",
    "as_whole",
    "check_intensities",
    "unused_name",
    "writable_data",
]

_STEPS = 16  # of rounding by which a mean of values in [0, 1] may lie outside; that of 128 sections does by 5


class Record(Protocol):
    """What was drawn for one batch, as a value that JSON can hold."""

    def to_json(self) -> str:
        """As JSON text."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What :meth:`to_json` wrote."""


class DrawnParameters(BaseModel):
    """A :class:`Record` that is written field by field. Numbers come back equal to the bit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> str:
        """As JSON text."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What :meth:`to_json` wrote.

        Raises:
            ValueError: the text is no such record.
        """
        return cls.model_validate_json(text)


DrawnT = TypeVar("DrawnT", bound=Record)


class RandomAugment(BatchFilter, ABC, Generic[DrawnT]):
    """Changes the named arrays of a batch by one draw of parameters, which are physical: the same at every voxel size.

    What was drawn is kept as JSON text in the ``attrs`` of every array that it was applied to, under
    :attr:`record_name` (a second node of the same kind in a chain appends ``_2``). Given back as ``replay``, it is
    applied again.

    A batch that is not changed, as ``p`` below 1 allows, has no record. So where a batch is to come again, and its
    ``attrs`` lack :attr:`record_name`, the node is built with ``p=0``: ``replay=None`` draws anew.

    Arrays that are not requested are left out, and a request for none of them passes the node by. Data keeps its type.
    It is changed in place where the array owns it, and copied first where the array only views it. So a source must not
    hand out an array that it keeps: one that holds its volume in memory hands out views or copies, of the whole volume
    too.

    A subclass names its parameters (:attr:`parameters`) and writes :meth:`draw` and :meth:`apply`; :meth:`source_roi`
    too, where more has to be read than is delivered.

    Args:
        arrays: those to change.
        p: how likely a batch is to be changed at all.
        replay: a record of an earlier batch, applied to every batch instead of a draw.

    Raises:
        ValueError: no arrays, or a key alone; a ``p`` outside [0, 1]; ``replay`` is no record of this node.
        KeyError: when the pipeline is built: an array is not provided upstream.
    """

    record_name: ClassVar[str]
    """The key in ``array.attrs``."""

    parameters: ClassVar[type[Any]]
    """The type of what is drawn."""

    def __init__(self, arrays: Iterable[ArrayKey], *, p: float = 1.0, replay: str | None = None) -> None:
        if isinstance(arrays, ArrayKey):
            raise ArgumentError(f"arrays is {arrays}; write a list of keys, [{arrays}]")
        self.arrays = tuple(arrays)
        if not self.arrays:
            raise ArgumentError(f"arrays is empty; name the arrays that {type(self).__name__} is to change")
        self.p = as_probability("p", p)
        self._replay: DrawnT | None = None if replay is None else self.parameters.from_json(replay)
        self._drawn: DrawnT | None = None

    @abstractmethod
    def draw(self, generator: np.random.Generator, rois: Mapping[ArrayKey, Roi]) -> DrawnT:
        """Parameters for one batch.

        Args:
            generator: all random numbers come from here.
            rois: what is requested of those arrays that are to be changed and lie in space.
        """

    @abstractmethod
    def apply(self, key: ArrayKey, array: Array, roi: Roi, drawn: DrawnT) -> NDArray[Any]:
        """The values of one array, (..., z, y, x), in ``roi``, in any float type for a float array.

        Args:
            key: which array.
            array: as it was read: it covers what :meth:`source_roi` asked for.
            roi: what is to be delivered; None for an array that does not lie in space.
            drawn: what to apply.
        """

    def source_roi(self, key: ArrayKey, roi: Roi, drawn: DrawnT) -> Roi:
        """What has to be read of an array so that ``roi`` can be delivered."""
        return roi

    def setup(self) -> None:
        """Announce which arrays change."""
        self.enable_autoskip()
        for key in self.arrays:
            if key not in self.spec:
                raise UnknownNameError(
                    f"{type(self).__name__} is to change {key}, upstream provides {list(self.spec.array_specs)}"
                )
            self.updates(key, self.spec[key])

    def prepare(self, request: BatchRequest) -> None:
        """Draw, and turn every requested ROI into the one that has to be read."""
        specs = {key: request[key] for key in self.arrays if key in request}
        rois = {key: spec.roi for key, spec in specs.items() if spec.roi is not None}
        self._drawn = self._replay
        if self._drawn is None:
            generator = request_generator(request, type(self).__name__)
            if generator.random() >= self.p:
                return
            self._drawn = self.draw(generator, rois)
        for key, roi in rois.items():
            specs[key].roi = self.source_roi(key, roi, self._drawn)

    def process(self, batch: Batch, request: BatchRequest) -> None:
        """Apply what was drawn to those arrays that are in the batch."""
        drawn, self._drawn = self._drawn, None
        if drawn is None:
            return
        record = drawn.to_json()
        for key in self.arrays:
            if key in batch and key in request:
                array, spec = batch[key], batch[key].spec.copy()
                spec.roi = request[key].roi
                data = self.apply(key, array, spec.roi, drawn).astype(array.data.dtype, copy=False)
                batch[key] = Array(data, spec, {**array.attrs, unused_name(self.record_name, array.attrs): record})


def writable_data(array: Array) -> NDArray[Any]:
    """The array's data to write to, in native byte order: itself, or a copy where the memory may be another's."""
    data = array.data
    if data.flags.owndata and data.flags.writeable and data.dtype.isnative:
        return data
    return data.astype(data.dtype.newbyteorder("="), order="C")


def check_intensities(key: ArrayKey, data: NDArray[Any], node: str, *, bounded: bool = True) -> None:
    """Refuse what is no intensity array.

    Raises:
        ValueError: ``data`` is not of a float type of up to 64 bits; or, if ``bounded``, holds numbers outside [0, 1],
            by more than the rounding of a mean, which may come out a few steps beyond what it is of. What is no number
            stays so: :class:`.Train` skips that batch.
    """
    if data.dtype.kind != "f" or data.dtype.itemsize > 8:
        raise ArgumentError(
            f"{key} is of type {data.dtype}; put a Normalize node before {node}, or use DeformAugment(normalize=True)"
        )
    rounding = _STEPS * np.finfo(data.dtype).eps
    low, high = data.min(initial=0), data.max(initial=1)
    if np.isnan(low):  # looking past what is no number takes several times as long
        low, high = np.fmin.reduce(data, axis=None, initial=0), np.fmax.reduce(data, axis=None, initial=1)
    if bounded and not (low >= -rounding and high <= 1 + rounding):
        raise ArgumentError(
            f"{key} has intensities from {np.nanmin(data)} to {np.nanmax(data)}, outside [0, 1]; "
            f"put a Normalize node before {node}, or set clip=False"
        )


def as_interval(name: str, bounds: Sequence[float] | float, *, least: float = -np.inf) -> tuple[float, float]:
    """``(low, high)`` with ``least <= low <= high``; one number stands for both.

    Raises:
        ValueError: it is not.
    """
    try:
        low, high = (bounds, bounds) if isinstance(bounds, (int, float, np.number)) else bounds
        ascending = isfinite(low) and isfinite(high) and least <= low <= high
    except (TypeError, ValueError):
        ascending = False
    if not ascending:
        above = "" if least == -np.inf else f"{least:g} <= "
        raise ArgumentError(f"{name} is {bounds!r}; write (low, high) with {above}low <= high")
    return float(low), float(high)


def as_probability(name: str, value: float) -> float:
    """A number in [0, 1].

    Raises:
        ValueError: it is not.
    """
    if not 0 <= value <= 1:
        raise ArgumentError(f"{name} is {value!r}; a probability lies between 0 and 1")
    return float(value)


def as_whole(name: str, length: int) -> int:
    """A whole number of world units.

    Raises:
        ValueError: it is not.
    """
    try:
        return index(length)
    except TypeError as error:
        raise ArgumentError(f"{name} is {length!r}; write a whole number of world units") from error


def unused_name(name: str, attrs: Mapping[str, Any]) -> str:
    """``name``, or ``name_2``, ``name_3``, ... where ``attrs`` has an entry of that name."""
    number, free = 1, name
    while free in attrs:
        number += 1
        free = f"{name}_{number}"
    return free
