"""Augmentation nodes that change named arrays, each by one draw of physical parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from operator import index
from typing import Any, ClassVar, Generic, Self, TypedDict, TypeVar

import numpy as np
from gunpowder import Array, ArrayKey, Batch, BatchRequest, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, DataError, UnknownNameError
from scalenet_gp.nodes.augment.augment import Augment, Record, as_probability, unused_name
from scalenet_gp.nodes.requests import request_generator
from scalenet_gp.options import Probability

__all__ = [
    "AugmentArguments",
    "DrawnT",
    "RandomAugment",
    "as_interval",
    "as_whole",
    "check_intensities",
    "writable_data",
]

_STEPS = 16  # of rounding by which a mean of values in [0, 1] may lie outside; that of 128 sections does by 5

DrawnT = TypeVar("DrawnT", bound=Record)


class AugmentArguments(TypedDict, total=False):
    """Keyword arguments of every :class:`RandomAugment`."""

    p: float
    replay: str | None


class RandomAugment(Augment, Generic[DrawnT]):
    """Change the named arrays of a batch by one draw of physical parameters: the same at every voxel size.

    The draw is kept as JSON text in the ``attrs`` of every array that it was applied to, under :attr:`record_name` (a
    second node of the same kind in a chain appends ``_2``). Given back as ``replay``, it is applied again.

    A batch that is not changed, as ``p`` below 1 allows, has no record. To get such a batch again, build the node with
    ``p=0``: ``replay=None`` draws anew.

    Arrays that are not requested are left out, and a request for none of them passes the node by. Data keeps its type.
    It is changed in place if the array owns it, else copied first. So a source must not hand out an array that it
    keeps: a source that holds its volume in memory hands out views or copies.

    A subclass names its :attr:`parameters` and writes :meth:`draw` and :meth:`apply`, and :meth:`source_roi` if it
    reads more than it delivers.

    Args:
        arrays: the arrays to change. Those that are not requested are left out.
        p: the probability that a batch is changed at all.
        replay: a record of an earlier batch, applied to every batch instead of a draw.

    Raises:
        ArgumentError: no arrays, or a key instead of a list; ``p`` outside [0, 1]; ``replay`` is not a record of this
            node.
        UnknownNameError: when the pipeline is built: an array is not provided upstream.
    """

    parameters: ClassVar[type[Any]]

    def __init__(self, arrays: Iterable[ArrayKey], *, p: Probability = 1.0, replay: str | None = None) -> None:
        if isinstance(arrays, ArrayKey):
            raise ArgumentError(f"arrays is {arrays}; write a list of keys, [{arrays}]")
        self.arrays = tuple(arrays)
        if not self.arrays:
            raise ArgumentError(f"arrays is empty; name the arrays that {type(self).__name__} is to change")
        self.p = as_probability("p", p)
        self._replay: DrawnT | None = None if replay is None else self.parameters.from_json(replay)
        self._drawn: DrawnT | None = None

    @classmethod
    def for_arrays(cls, arrays: Iterable[ArrayKey], **arguments: Any) -> Self:
        return cls(arrays, **arguments)

    @abstractmethod
    def draw(self, generator: np.random.Generator, rois: Mapping[ArrayKey, Roi]) -> DrawnT:
        """Return parameters for one batch.

        Args:
            generator: the source of all random numbers.
            rois: the requested ROIs of the arrays that are to be changed and lie in space.
        """

    @abstractmethod
    def apply(self, key: ArrayKey, array: Array, roi: Roi, drawn: DrawnT) -> NDArray[Any]:
        """Return the values of one array, (..., z, y, x), in ``roi``, in any float type for a float array.

        Args:
            key: the array's key.
            array: the array as it was read, which covers the ROI that :meth:`source_roi` asked for.
            roi: the ROI to deliver; None for an array that does not lie in space.
            drawn: the parameters to apply.
        """

    def source_roi(self, key: ArrayKey, roi: Roi, drawn: DrawnT) -> Roi:
        """Return the ROI of an array that has to be read so that ``roi`` can be delivered."""
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
        """Draw the parameters, and turn every requested ROI into the one that has to be read."""
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
        """Apply the parameters to the arrays that are in the batch."""
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
    """Return the array's data to write to, in native byte order: a copy where the memory may be another's."""
    data = array.data
    if data.flags.owndata and data.flags.writeable and data.dtype.isnative:
        return data
    return data.astype(data.dtype.newbyteorder("="), order="C")


def check_intensities(key: ArrayKey, data: NDArray[Any], node: str, *, bounded: bool = True) -> None:
    """Refuse an array that does not hold intensities.

    Raises:
        DataError: ``data`` is not of a float type of up to 64 bits; or, if ``bounded``, holds numbers outside [0, 1] by
            more than the rounding of a mean. NaN passes: :class:`.Train` skips such a batch.
    """
    if data.dtype.kind != "f" or data.dtype.itemsize > 8:
        raise DataError(
            f"{key} is of type {data.dtype}; put a Normalize node before {node}, or use DeformAugment(normalize=True)"
        )
    rounding = _STEPS * np.finfo(data.dtype).eps
    low, high = data.min(initial=0), data.max(initial=1)
    if np.isnan(low):  # to look past NaN takes several times as long
        low, high = np.fmin.reduce(data, axis=None, initial=0), np.fmax.reduce(data, axis=None, initial=1)
    if bounded and not (low >= -rounding and high <= 1 + rounding):
        raise DataError(
            f"{key} has intensities from {np.nanmin(data)} to {np.nanmax(data)}, outside [0, 1]; "
            f"put a Normalize node before {node}, or set clip=False"
        )


def as_interval(name: str, bounds: Sequence[float] | float, *, least: float = -np.inf) -> tuple[float, float]:
    """Return ``(low, high)`` with ``least <= low <= high``; one number stands for both.

    Raises:
        ArgumentError: ``bounds`` is not such an interval.
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


def as_whole(name: str, length: int) -> int:
    """Return a whole number of world units.

    Raises:
        ArgumentError: ``length`` is not a whole number.
    """
    try:
        return index(length)
    except TypeError as error:
        raise ArgumentError(f"{name} is {length!r}; write a whole number of world units") from error
