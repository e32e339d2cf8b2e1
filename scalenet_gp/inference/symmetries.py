"""The mirrors and transpositions of space that carry every lattice of a network onto itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from funlib.geometry import Roi
from numpy.typing import NDArray
from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.leibnet import LeibNet

__all__ = ["Symmetry", "SymmetryGroup", "lattice_symmetries"]

SymmetryGroup = Literal["none", "mirrors", "all"]
"""Symmetries to average over: the identity alone, all mirrors, or all mirrors and transpositions."""

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
"""Types that torch does not mirror, and those of the same bits that it does."""


@dataclass(frozen=True, slots=True)
class Symmetry:
    """Space with its axes in another order, some of them mirrored about the world's origin.

    Point x goes to the y with ``y[i] = ±x[axes[i]]``, minus for each ``i`` in ``mirrored``. Symmetries of as many axes
    are a group: ``g @ h`` is what ``h`` does followed by what ``g`` does, :attr:`inverse` undoes it.

    Args:
        axes: for each spatial axis of the result the one that it was.
        mirrored: the axes of the result that are mirrored.

    Raises:
        ValueError: ``axes`` does not name each axis once, or ``mirrored`` names one that is not there.
    """

    axes: tuple[int, ...]
    mirrored: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(self.axes))
        object.__setattr__(self, "mirrored", frozenset(self.mirrored))
        if not self.axes or sorted(self.axes) != list(range(self.dims)):
            raise ArgumentError(f"the axes {self.axes} are no order of 0, 1 and so on, each of them once")
        if not self.mirrored <= set(self.axes):
            raise ArgumentError(f"mirrored axes are some of 0 to {self.dims - 1}, not {sorted(self.mirrored)}")

    @classmethod
    def identity(cls, dims: int) -> Symmetry:
        """The one that leaves everything where it is."""
        return cls(tuple(range(dims)))

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.axes)

    @property
    def inverse(self) -> Symmetry:
        """The symmetry that undoes this one."""
        back = tuple(self.axes.index(axis) for axis in range(self.dims))
        return Symmetry(back, frozenset(self.axes[axis] for axis in self.mirrored))

    def __matmul__(self, first: Symmetry) -> Symmetry:
        """What ``first`` does, followed by what this one does.

        Raises:
            ValueError: the two have different numbers of axes.
        """
        if first.dims != self.dims:
            raise ArgumentError(
                f"{first} has {first.dims} axes and {self} has {self.dims}: neither can follow the other"
            )
        carried = {axis for axis in range(self.dims) if self.axes[axis] in first.mirrored}
        return Symmetry(tuple(first.axes[axis] for axis in self.axes), self.mirrored ^ carried)

    def __str__(self) -> str:
        """``(0, -2, 1)``: which axis each one was, with a minus if it is mirrored."""
        return f"({', '.join('-' * (axis in self.mirrored) + str(was) for axis, was in enumerate(self.axes))})"

    def keeps(self, voxel_size: Sequence[int]) -> bool:
        """Whether voxels of this size, on multiples of it from the origin, land on such voxels again."""
        return all(voxel_size[was] == size for was, size in zip(self.axes, voxel_size, strict=True))

    def roi(self, roi: Roi) -> Roi:
        """Where the world ROI ``roi`` lands."""
        begin = [-roi.end[was] if axis in self.mirrored else roi.begin[was] for axis, was in enumerate(self.axes)]
        return Roi(begin, [roi.shape[was] for was in self.axes])

    def tensor(self, tensor: Tensor) -> Tensor:
        """``tensor`` (..., Z, Y, X), which covers some ROI, as it covers the one where that lands.

        A transposition is a view. A mirror is a copy, as torch knows no negative strides. The identity is the tensor
        itself.
        """
        if self.axes != tuple(range(self.dims)):
            tensor = tensor.permute(self._all_axes(tensor.dim()))
        if not self.mirrored:
            return tensor
        bits = tensor.view(_SIGNED.get(tensor.dtype, tensor.dtype))
        return bits.flip([axis - self.dims for axis in sorted(self.mirrored)]).view(tensor.dtype)

    def array(self, array: NDArray[Any]) -> NDArray[Any]:
        """``array`` (..., Z, Y, X), which covers some ROI, as it covers the one where that lands: always a view."""
        return np.flip(array.transpose(self._all_axes(array.ndim)), tuple(axis - self.dims for axis in self.mirrored))

    def _all_axes(self, count: int) -> tuple[int, ...]:
        leading = count - self.dims
        return (*range(leading), *(leading + axis for axis in self.axes))


def lattice_symmetries(
    net: LeibNet, *, mirror_axes: Iterable[int] | None = None, transpose_axes: Iterable[int] | None = None
) -> tuple[Symmetry, ...]:
    """The group of symmetries under which every tensor of a network keeps its lattice, the identity first.

    Mirrors about the origin keep every lattice. Axes change places where every tensor's voxel size is the same along
    them: isotropic networks of three axes have 48 symmetries, those with thicker sections 16, of which 8 leave the
    order of the sections as it is.

    Args:
        net: the network.
        mirror_axes: the spatial axes that may be mirrored; all unless given.
        transpose_axes: the spatial axes that may change places, where the lattices let them; all unless given.

    Raises:
        ValueError: an axis is not there or named twice, or a mirrored axis would change places with one that is not,
            which makes no group: the mirror of the one would be that of the other.
    """
    mirrors = _axes("mirror_axes", mirror_axes, net.dims)
    movable = _axes("transpose_axes", transpose_axes, net.dims)
    orders: list[tuple[int, ...]] = []
    for order in itertools.permutations(movable):
        places = dict(zip(movable, order, strict=True))
        axes = tuple(places.get(axis, axis) for axis in range(net.dims))
        if all(Symmetry(axes).keeps(voxel_size) for voxel_size in net.voxel_size.values()):
            orders.append(axes)
    for axes in orders:
        for axis in mirrors:
            if axes[axis] not in mirrors:
                raise ArgumentError(
                    f"axis {axis} is mirrored and changes places with axis {axes[axis]}, which is not: give both in "
                    f"mirror_axes {mirrors}, or neither, or leave one of them out of transpose_axes {movable}"
                )
    mirrored = [
        frozenset(chosen) for count in range(len(mirrors) + 1) for chosen in itertools.combinations(mirrors, count)
    ]
    return tuple(Symmetry(axes, chosen) for axes in orders for chosen in mirrored)


def _axes(name: str, axes: Iterable[int] | None, dims: int) -> tuple[int, ...]:
    given = tuple(range(dims)) if axes is None else tuple(axes)
    if len(set(given)) < len(given) or not set(given) <= set(range(dims)):
        raise ArgumentError(
            f"{name} is {given}; it takes some of the axes {', '.join(map(str, range(dims)))}, each once"
        )
    return tuple(sorted(given))
