"""A gunpowder node that takes every sample from a location that a sampler draws."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from math import lcm
from operator import index
from typing import Any, final

import numpy as np
from funlib.geometry import Coordinate, Roi
from gunpowder import Array, ArrayKey, Batch, BatchFilter, BatchRequest

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.requests import check_shift, offered_shift, request_generator, request_shift
from scalenet_gp.nodes.samplers.sampler import Axis, Sample, Sampler

__all__ = ["SampleLocation", "count_draws", "describe_location"]

_WORDS = ("volume", "region", "stratum", "class")
"""Entries of a record that say where a sample lies."""


@final
class SampleLocation(BatchFilter):
    """Move all ROIs of a request to a location that a sampler draws, and the arrays of the batch back.

    Downstream, only the shapes of ROIs and their positions relative to one another count, as with gunpowder's
    ``RandomLocation``. The sampler draws the location of one array's ROI, the reference. Usually this is the finest
    target, so that regions, masks and classes speak of the voxels that are trained on, and contexts reach beyond them.

    With a :class:`.DeformAugment` upstream, the reference ROI can begin at every voxel of its array: ROIs are moved by
    multiples of the least common multiple of the voxel sizes of all requested arrays, and the deformation is asked, in
    the request, to read content further on by the remainder. It is found through nodes with one upstream each. Without
    a deformation, locations are multiples of that common multiple apart.

    Bounded arrays stay inside their bounds. These are the bounds of the sources: a deformation that turns or stretches
    reads more, so sources before one should pad. Before a deformation, a bounded array has locations from the first
    multiple of the common lattice on at which all arrays begin inside.

    The draw is kept as JSON text in ``array.attrs["location"]`` of every moved array: ``"begin"``, the world position
    at which the reference ROI began; ``"shift"``, the distance by which it was moved; and the sampler's own entries,
    such as ``"class"`` or ``"stratum"``. :func:`count_draws` counts them. Graphs are moved as well.

    Args:
        reference: the array whose ROI is placed. It has to be requested, as a placeholder at least.
        sampler: draws the location.
        replay: a text of an earlier batch; the sample is put there again.

    Raises:
        ArgumentError: ``replay`` is not such a text, or does not fit the request.
        PipelineError: when the pipeline is built: the reference is not provided, or does not lie in space. For a
            request: the reference is not in it; an array has other spatial axes, or cannot stay inside its bounds; a
            node in between lost the remainder. Errors of the sampler pass.

    Example:
        >>> import gunpowder as gp
        >>> from scalenet_gp.nodes import UniformSampler
        >>> region = gp.Roi((0, 0, 0), (4096, 4096, 4096))
        >>> node = SampleLocation(gp.ArrayKey("TARGET"), UniformSampler(region))
    """

    def __init__(self, reference: ArrayKey, sampler: Sampler, *, replay: str | None = None) -> None:
        self.reference = reference
        self.sampler = sampler
        self._replay = None if replay is None else _recorded(replay)
        self._offered: dict[Any, Roi] = {}
        self._shift_key: ArrayKey | None = None
        self._moved = Coordinate()
        self._requested_shift: tuple[int, ...] = ()
        self._record = ""

    def setup(self) -> None:
        """Announce the arrays without bounds."""
        upstream = self.get_upstream_provider()
        voxels = [
            key
            for key, spec in upstream.spec.array_specs.items()
            if spec.roi is not None and spec.voxel_size is not None
        ]
        if self.reference not in voxels:
            raise PipelineError(
                f"the reference {self.reference} is not an array of voxels that is provided upstream; "
                f"there are {', '.join(map(str, voxels)) or 'none'}"
            )
        self._offered = {key: spec.roi.copy() for key, spec in upstream.spec.items() if spec.roi is not None}
        for key, roi in self._offered.items():
            spec = self.spec[key].copy()
            spec.roi = Roi((None,) * roi.dims, (None,) * roi.dims)
            self.updates(key, spec)
        self._shift_key = offered_shift(self)

    def draw(self, generator: np.random.Generator, request: BatchRequest) -> Sample:
        """Draw the location of the reference ROI of ``request``."""
        self.sampler.load()
        return self.sampler.draw(generator, self._opening(request))

    def prepare(self, request: BatchRequest) -> None:
        """Draw a location, and move the ROIs there."""
        if self.reference not in request or request[self.reference].roi is None:
            raise PipelineError(
                f"the reference {self.reference} is not requested; ask for it, as a placeholder at least"
            )
        if self._replay is None:
            sample = self.draw(request_generator(request, type(self).__name__), request)
        else:
            sample = self._replayed(request)
        shift = sample.begin - request[self.reference].roi.begin
        self._record = json.dumps({"begin": list(sample.begin), "shift": list(shift), **sample.info})
        self._moved = shift if self._shift_key is None else shift - shift % self._lattice(request)
        for _, spec in request.items():
            if spec.roi is not None:
                spec.roi = spec.roi.shift(self._moved)
        if self._shift_key is not None:
            self._requested_shift = request_shift(request, self._shift_key, shift - self._moved)

    def process(self, batch: Batch, request: BatchRequest) -> None:
        """Give the arrays the ROIs with which they were requested."""
        if self._shift_key is not None:
            check_shift(batch, self._shift_key, self._requested_shift, request, self.name())
        for key, asked in request.array_specs.items():
            if asked.roi is not None:
                array = batch[key]
                spec = array.spec.copy()
                spec.roi = asked.roi
                batch[key] = Array(array.data, spec, {**array.attrs, "location": self._record})
        for key, asked in request.graph_specs.items():
            graph = batch[key]
            graph.spec.roi = asked.roi.copy()
            graph.shift(-self._moved)

    def _opening(self, request: BatchRequest) -> tuple[Axis, ...]:
        """Return the positions at which the reference ROI may begin, per axis."""
        roi, voxel_size = request[self.reference].roi, self.spec[self.reference].voxel_size
        bounds, lattice = self._bounds(request), self._lattice(request)
        opening = []
        for d, ((low, low_by), (high, high_by)) in enumerate(bounds):
            begin, step, offset = int(roi.begin[d]), int(lattice[d]), int(roi.begin[d])
            if self._shift_key is not None:
                # the ROIs that are asked of the deformation have to stay inside, too
                low = None if low is None else -(-low // step) * step
                step, offset = int(voxel_size[d]), 0
            opening.append(
                Axis(
                    length=int(roi.shape[d]),
                    voxel_size=int(voxel_size[d]),
                    step=step,
                    offset=offset,
                    low=None if low is None else begin + low,
                    high=None if high is None else begin + high,
                    low_by=low_by,
                    high_by=high_by,
                )
            )
        return tuple(opening)

    def _bounds(self, request: BatchRequest) -> list[tuple[_Bound, _Bound]]:
        """Return the least and the largest shift along each axis that keeps all arrays inside their bounds."""
        dims = request[self.reference].roi.dims
        least: list[list[tuple[int, str]]] = [[] for _ in range(dims)]
        most: list[list[tuple[int, str]]] = [[] for _ in range(dims)]
        for key, spec in request.items():
            if spec.roi is None:
                continue
            roi, offered = spec.roi, self._offered[key]
            if roi.dims != dims:
                raise PipelineError(f"{key} has {roi.dims} spatial axes, the reference {self.reference} has {dims}")
            bounded = [d for d in range(dims) if offered.shape[d] is not None]
            missing = tuple(max(0, int(roi.shape[d] - offered.shape[d])) if d in bounded else 0 for d in range(dims))
            if any(missing):
                raise PipelineError(
                    f"{key} can never be met: it offers {offered}, and a ROI of {tuple(roi.shape)} is asked for; "
                    f"{missing} world units are missing"
                )
            for d in bounded:
                least[d].append((int(offered.begin[d] - roi.begin[d]), str(key)))
                most[d].append((int(offered.end[d] - roi.end[d]), str(key)))
        unbounded: _Bound = (None, "")
        return [
            (max(low, default=unbounded), min(high, default=unbounded)) for low, high in zip(least, most, strict=True)
        ]

    def _lattice(self, request: BatchRequest) -> Coordinate:
        """Return the least common multiple of the voxel sizes of all arrays in ``request``."""
        specs = (self.spec[key] for key, spec in request.array_specs.items() if spec.roi is not None)
        sizes = [spec.voxel_size for spec in specs if spec.voxel_size is not None]
        return Coordinate(lcm(*map(int, lengths)) for lengths in zip(*sizes, strict=True))

    def _replayed(self, request: BatchRequest) -> Sample:
        opening, sample = self._opening(request), self._replay
        if sample is None or len(sample.begin) != len(opening):
            raise ArgumentError(
                f"replay begins at {sample and tuple(sample.begin)}, the sample has {len(opening)} axes"
            )
        for number, (axis, begin) in enumerate(zip(opening, sample.begin, strict=True)):
            if not axis.begins(begin, begin):
                raise ArgumentError(f"replay, along axis {number}: " + axis.refusal(begin, begin, "replay"))
        return sample


def count_draws(records: Iterable[str], name: str) -> Counter[Any]:
    """Count how often each class, stratum or volume was drawn.

    Args:
        records: the texts ``array.attrs["location"]`` of many batches, one of each.
        name: ``"class"``, ``"stratum"``, ``"volume"`` or ``"region"``.

    Example:
        >>> count_draws(['{"class": "mito"}', '{"class": null}', '{"class": "mito"}'], "class")
        Counter({'mito': 2, None: 1})
    """
    return Counter(json.loads(record).get(name) for record in records)


def describe_location(record: str) -> list[str]:
    """Return phrases such as ``class mito`` for the text ``array.attrs["location"]`` of a sample."""
    drawn = json.loads(record)
    return [f"{name} {drawn[name]}" for name in _WORDS if drawn.get(name) is not None]


_Bound = tuple[int | None, str]
"""A shift, and the array that sets it."""


def _recorded(record: str) -> Sample:
    try:
        drawn = json.loads(record)
        begin = Coordinate(index(along) for along in drawn.pop("begin"))
        drawn.pop("shift", None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArgumentError(f'replay={record!r} is not a text of array.attrs["location"]') from error
    return Sample(begin, drawn)
