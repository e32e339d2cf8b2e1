"""A sampler that lays samples on points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from funlib.geometry import Coordinate, Roi
from gunpowder import BatchProvider, BatchRequest, GraphKey, GraphSpec, build
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, DataError, PipelineError
from scalenet_gp.geometry import World
from scalenet_gp.nodes.samplers.holding import TRIES, draw_holding
from scalenet_gp.nodes.samplers.sampler import Axis, Sample, Sampler
from scalenet_gp.volumes import read_points

__all__ = ["PointSampler"]


@final
@dataclass(frozen=True, eq=False)
class PointSampler(Sampler):
    """Draw a point, such as a synapse or a node of a skeleton, and lay a sample on it.

    The point lies within the central half of the sample, at every position equally likely, as the voxel of a
    :class:`.MaskSampler`. If the lattice or the arrays' bounds leave no such position, the sample is laid as near to
    one as they allow. A point that no sample can hold is passed over. The record of the draw has the index of the point
    as ``"point"``.

    :meth:`of_file` reads points from a file, :meth:`of_source` from a source of gunpowder.

    Args:
        points: world positions, (point, axis).
        within: take only the points inside this ROI. World units.
        inside: keep the samples inside this ROI, too. World units.
        balance_radius: draw a point in inverse proportion to the number of points within this distance, itself
            included, so that dense places are not drawn more often than sparse ones. World units. By default all points
            are equally likely.

    Raises:
        ArgumentError: points of another shape or that are not finite, or a radius that is not above 0.
        DataError: there is no point, or none within ``within``.
        LatticeError: when drawn: no sample can hold a point.
        PipelineError: when drawn: the sample has other axes.

    Example:
        >>> opening = [Axis(length=64, voxel_size=8, step=8, offset=0) for _ in range(2)]
        >>> sample = PointSampler([(100.5, 40)]).draw(np.random.default_rng(0), opening)
        >>> sample.info, all(b <= p < b + 64 for b, p in zip(sample.begin, (100.5, 40)))
        ({'point': 0}, True)
    """

    points: NDArray[np.float64] | Sequence[Sequence[float]]
    within: Roi | None = None
    inside: Roi | None = None
    balance_radius: float | None = None

    def __post_init__(self) -> None:
        points = np.array(self.points, float)
        object.__setattr__(self, "points", points)
        if points.size and (points.ndim != 2 or not np.isfinite(points).all()):
            raise ArgumentError(f"points have shape {points.shape}; they have to be finite positions, (point, axis)")
        if self.balance_radius is not None and not self.balance_radius > 0:
            raise ArgumentError(f"balance_radius is {self.balance_radius!r}; write a length above 0, in world units")
        if not len(self._chosen):
            where = "" if self.within is None or not len(points) else f" of {len(points)} within {self.within}"
            raise DataError(f"no point{where} to lay a sample on")

    @classmethod
    def of_file(cls, path: Path, world: World, columns: Sequence[str] = ("z", "y", "x"), **options: Any) -> Self:
        """Return the sampler for the points in a CSV, SWC or JSON file.

        Args:
            path: the file: see :func:`scalenet_gp.volumes.read_points`.
            world: the world that the pipeline counts in.
            columns: names of the columns of a CSV file that hold the position in nm, in the order of the axes.
            options: further arguments of the class.

        Raises:
            FileNotFoundError: there is no such file.
            VolumeFormatError: the file is of another form.
        """
        points = read_points(path, columns)
        origin = world.position_in_nm(Coordinate((0,) * points.shape[1]))
        return cls((points - np.array(origin, float)) / float(world.unit), **options)

    @classmethod
    def of_source(cls, source: BatchProvider, key: GraphKey, roi: Roi | None = None, **options: Any) -> Self:
        """Return the sampler for the nodes of a graph that a source provides, such as gunpowder's ``CsvPointsSource``.

        Args:
            source: the source, which is built and asked once.
            key: of the graph.
            roi: the part to take points from; all that the source has unless given.
            options: further arguments of the class.

        Raises:
            PipelineError: the source has no such graph, or it has no bounds and no ``roi`` is given.
        """
        with build(source):
            if key not in source.spec:
                raise PipelineError(f"{source.name()} does not provide {key}")
            offered = source.spec[key].roi
            asked = offered if roi is None else roi if offered is None else roi.intersect(offered)
            if asked is None or asked.unbounded:
                raise PipelineError(f"{key} of {source.name()} has no bounds; name the roi to take points from")
            request = BatchRequest()
            request[key] = GraphSpec(roi=asked)
            nodes = list(source.request_batch(request)[key].nodes)
        return cls(np.array([node.location for node in nodes], float), **options)

    @cached_property
    def _chosen(self) -> NDArray[np.int64]:
        """The indices of the points that may be drawn."""
        points = np.asarray(self.points)
        if self.within is None or not len(points):
            return np.arange(len(points))
        if self.within.dims != points.shape[1]:
            raise ArgumentError(f"within={self.within} has {self.within.dims} axes, the points have {points.shape[1]}")
        begin, end = np.array(self.within.begin), np.array(self.within.end)
        return np.flatnonzero(((points >= begin) & (points < end)).all(axis=1))

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        """The sum of the weights of the points up to each one, up to 1 in all."""
        weights = np.ones(len(self._chosen))
        if self.balance_radius is not None:
            from scipy.spatial import KDTree  # slow to import

            places = np.asarray(self.points)[self._chosen]
            weights /= KDTree(places).query_ball_point(places, self.balance_radius, return_length=True)
        total: NDArray[np.float64] = np.cumsum(weights)
        return total / total[-1]

    def __str__(self) -> str:
        return f"{len(self._chosen)} points" + ("" if self.within is None else f" within {self.within}")

    def draw(self, generator: np.random.Generator, opening: Sequence[Axis]) -> Sample:
        drawn = self._chosen[np.searchsorted(self._cumulative, generator.random(TRIES), side="right")]
        points = np.asarray(self.points)[drawn]
        corners = np.floor(points).astype(np.int64)
        size = Coordinate((1,) * points.shape[1])
        first, begin = draw_holding(generator, opening, corners, size, self.inside, str(self))
        return Sample(begin, {"point": int(drawn[first])})
