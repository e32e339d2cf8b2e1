"""One map from target to source positions, the same for every voxel size.

Letters: D spatial axes (2 or 3). World coordinates are whole numbers at voxel corners; voxel ``i`` of an array that
begins at ``b`` with voxel size ``v`` has its centre at ``b + (i + 1/2) v``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from math import factorial
from typing import Any, NamedTuple

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from scalenet_gp.errors import ArgumentError

__all__ = ["Deformation", "ElasticField"]


@dataclass(frozen=True, slots=True)
class ElasticField:
    """Random displacements at the points of a regular grid, joined by a cubic spline.

    All fields are plain numbers: the displacements are drawn again from ``seed``.

    Attributes:
        begin: world position of the first control point, per axis.
        spacing: world units between control points, per axis.
        shape: number of control points per axis, at least four.
        sigma: standard deviation of the displacement at a control point, in world units, per axis.
        seed: the seed of the ``numpy.random.Generator`` that draws the displacements.
    """

    begin: tuple[int, ...]
    spacing: tuple[int, ...]
    shape: tuple[int, ...]
    sigma: tuple[float, ...]
    seed: int

    @classmethod
    def covering(cls, roi: Roi, spacing: Sequence[int], sigma: Sequence[float], seed: int) -> ElasticField:
        """Return a field with at least one more control point beyond each face of ``roi``, where splines overshoot."""
        return cls(
            begin=tuple(int(b) - s for b, s in zip(roi.begin, spacing, strict=True)),
            spacing=tuple(spacing),
            shape=tuple(-(-int(length) // s) + 3 for length, s in zip(roi.shape, spacing, strict=True)),
            sigma=tuple(sigma),
            seed=seed,
        )

    def displacements(self) -> NDArray[np.float64]:
        """Return the displacement (world units) of every control point: (D, *shape)."""
        unit = np.random.default_rng(self.seed).standard_normal((len(self.shape), *self.shape))
        return unit * _per_axis(self.sigma)

    def coefficients(self) -> NDArray[np.float64]:
        """Return the coefficients of the cubic B-splines that go through the displacements.

        World units, (D, *shape).
        """
        return _coefficients(self)

    def basis(self, axis: int, along: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the four splines that are not zero at positions along an axis, (4, n), and the first one's index.

        Args:
            axis: the number of the axis.
            along: the positions, ascending, (n,).

        Raises:
            ArgumentError: a position lies beyond the control points.
        """
        splines = _unit_splines(self.shape[axis])
        steps = (along - self.begin[axis]) / self.spacing[axis]
        if steps[0] < 0 or steps[-1] > self.shape[axis] - 1:
            end = self.begin[axis] + (self.shape[axis] - 1) * self.spacing[axis]
            raise ArgumentError(
                f"the elastic field has control points from {self.begin[axis]} to {end} along axis {axis}, "
                f"and none for {along[0]:g} to {along[-1]:g}"
            )
        piece = np.searchsorted(splines.breaks, steps, side="right") - 1
        rest = steps - splines.breaks[piece]
        values = splines.polynomials[0][:, piece]
        for coefficients in splines.polynomials[1:]:
            values = values * rest + coefficients[:, piece]
        return values, splines.first[piece]


@lru_cache(maxsize=4)  # all arrays of a request need those of one field
def _coefficients(field: ElasticField) -> NDArray[np.float64]:
    result = field.displacements()
    for axis, points in enumerate(field.shape):
        unit = _unit_splines(points).unit_coefficients
        result = np.moveaxis(np.tensordot(unit, result, axes=(1, axis + 1)), 0, axis + 1)
    result.setflags(write=False)
    return result


class _UnitSplines(NamedTuple):
    """The cubic B-splines for control points at 0, 1, 2, ..., with scipy's "not-a-knot" ends.

    Attributes:
        unit_coefficients: (P, P), times the values at the control points: what the splines are multiplied by.
        breaks: where a piece begins, (pieces,).
        first: the first of the four splines that are not zero in a piece, (pieces,).
        polynomials: those four in each piece, (power, 4, pieces), from the third power to the zeroth.
    """

    unit_coefficients: NDArray[np.float64]
    breaks: NDArray[np.float64]
    first: NDArray[np.int64]
    polynomials: NDArray[np.float64]


@cache
def _unit_splines(points: int) -> _UnitSplines:
    from scipy.interpolate import BSpline, make_interp_spline

    spline = make_interp_spline(np.arange(points), np.eye(points))
    basis, breaks = BSpline(spline.t, np.eye(points), 3), np.unique(spline.t)[:-1]
    first = np.searchsorted(spline.t, breaks, side="right") - 4
    powers = []
    for power in (3, 2, 1, 0):
        values = (basis.derivative(power) if power else basis)(breaks) / factorial(power)
        powers.append(np.take_along_axis(values, first[:, None] + np.arange(4), axis=1).T)
    return _UnitSplines(spline.c, breaks, first, np.stack(powers))


@dataclass(frozen=True, slots=True)
class Deformation:
    """The map that gives for every target position p the source position

    ``matrix @ (p - target_centre) + source_centre + elastic(p)``

    in world units. All arrays of a request are sampled through the same map, so they agree at every voxel size.

    Attributes:
        matrix: D rows of D numbers.
        target_centre: the fixed point of ``matrix``, as a target position.
        source_centre: where the target centre is read from.
        elastic: a displacement on top, or None.

    Example:
        >>> import numpy as np
        >>> from funlib.geometry import Coordinate, Roi
        >>> turn = np.array([[0.0, -1.0], [1.0, 0.0]])
        >>> deformation = Deformation.centred(turn, Roi((0, 0), (64, 64)), Coordinate((8, 8)))
        >>> Deformation.from_json(deformation.to_json()) == deformation
        True
    """

    matrix: tuple[tuple[float, ...], ...]
    target_centre: tuple[int, ...]
    source_centre: tuple[int, ...]
    elastic: ElasticField | None = None

    @classmethod
    def centred(
        cls, matrix: NDArray[np.float64], roi: Roi, lattice: Coordinate, elastic: ElasticField | None = None
    ) -> Deformation:
        """Return the map that keeps the centre of ``roi`` where it is, as far as the lattice allows.

        A mirror, a transposition or a quarter turn carries voxels to voxels at every voxel size if it turns about a
        point of ``lattice`` (the least common multiple of all voxel sizes). So these keep the centre to half a step of
        it, and the mirror image of a ROI on the lattice is read from that same ROI. Any other map turns about the
        centre itself, to a world unit.
        """
        step = np.array(lattice)
        doubled = np.array(roi.begin) + np.array(roi.end)
        if _permutes_axes(matrix):
            target = (doubled + step) // (2 * step) * step
            rest = doubled / 2 - target
            source = target + np.floor((rest - matrix @ rest) / step + 0.5).astype(np.int64) * step
        else:
            target = source = doubled // 2
        rows = tuple(tuple(float(entry) for entry in row) for row in matrix)
        return cls(rows, tuple(target.tolist()), tuple(source.tolist()), elastic)

    def shifted(self, offset: Coordinate) -> Deformation:
        """Return the map that reads everything ``offset`` (world units) further on."""
        source = tuple(int(place + by) for place, by in zip(self.source_centre, offset, strict=True))
        return replace(self, source_centre=source)

    def describe(self, unit: float) -> list[str]:
        """Return phrases such as ``scale 1.05`` and ``mirrored``.

        Rotations and elastic deformations are left out: they are seen more easily than said.
        """
        matrix = np.array(self.matrix)
        factors = np.linalg.svd(matrix, compute_uv=False)  # rotation, mirror and transposition have factors of 1
        ends = dict.fromkeys(f"{factor:.3g}" for factor in (factors.min(), factors.max()))
        scaled = [] if list(ends) == ["1"] else [f"scale {' to '.join(ends)}"]
        return scaled + (["mirrored"] if np.linalg.det(matrix) < 0 else [])

    def to_json(self) -> str:
        """Return the map as text; :meth:`from_json` gives an equal one back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Deformation:
        """Return the map that :meth:`to_json` wrote.

        Raises:
            ArgumentError: the text is not such a map.
        """
        try:
            deformation = TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise ArgumentError(f"{text!r} is not a record of a deformation: {error}") from error
        dims, elastic = len(deformation.matrix), deformation.elastic
        parts = [*deformation.matrix, deformation.target_centre, deformation.source_centre]
        if elastic is not None:
            parts += [elastic.begin, elastic.spacing, elastic.shape, elastic.sigma]
        if dims not in (2, 3) or any(len(part) != dims for part in parts):
            raise ArgumentError(f"{text!r} is not a record of a deformation: its parts differ in their number of axes")
        return deformation


def _permutes_axes(matrix: NDArray[np.float64]) -> bool:
    """Return True if every axis becomes an axis, forwards or backwards, up to the rounding of a sine and a cosine."""
    whole = np.rint(matrix)
    return bool(np.allclose(matrix, whole, rtol=0, atol=1e-12) and (np.abs(whole).sum(axis=0) == 1).all())


def _per_axis(values: Sequence[Any]) -> NDArray[Any]:
    """Return one value per axis, to be combined with a (D, Z, Y, X) array."""
    return np.array(values).reshape(-1, *(1,) * len(values))
