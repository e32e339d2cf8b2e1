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

    Point x goes to the y with ``y[i] = ±x[axes[i]]``, minus for each ``i`` in ``mirrored``. Symmetries of one number of
    axes are a group: ``g @ h`` is ``h`` followed by ``g``, and :attr:`inverse` undoes a symmetry.

    Args:
        axes: for each spatial axis of the result the axis that it was.
        mirrored: the axes of the result that are mirrored.

    Raises:
        ArgumentError: ``axes`` does not name each axis once, or ``mirrored`` names one that does not exist.

    Example:
        >>> turn = Symmetry((0, 2, 1), frozenset({1}))
        >>> print(turn, turn @ turn, turn @ turn.inverse == Symmetry.identity(3))
        (0, -2, 1) (0, -1, -2) True
    """

    axes: tuple[int, ...]
    mirrored: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(self.axes))
        object.__setattr__(self, "mirrored", frozenset(self.mirrored))
        if not self.axes or sorted(self.axes) != list(range(self.dims)):
            raise ArgumentError(f"the axes {self.axes} are not an order of 0, 1 and so on, each once")
        if not self.mirrored <= set(self.axes):
            raise ArgumentError(f"mirrored axes are some of 0 to {self.dims - 1}, not {sorted(self.mirrored)}")

    @classmethod
    def identity(cls, dims: int) -> Symmetry:
        """Return the symmetry that changes nothing."""
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
        """Return ``first`` followed by this symmetry.

        Raises:
            ArgumentError: the two have different numbers of axes.
        """
        if first.dims != self.dims:
            raise ArgumentError(
                f"{first} has {first.dims} axes and {self} has {self.dims}: neither can follow the other"
            )
        carried = {axis for axis in range(self.dims) if self.axes[axis] in first.mirrored}
        return Symmetry(tuple(first.axes[axis] for axis in self.axes), self.mirrored ^ carried)

    def __str__(self) -> str:
        """Return the former axis of each axis, with a minus if it is mirrored: ``(0, -2, 1)``."""
        return f"({', '.join('-' * (axis in self.mirrored) + str(was) for axis, was in enumerate(self.axes))})"

    def keeps(self, voxel_size: Sequence[int]) -> bool:
        """Return True if voxels of this size, on multiples of it from the origin, land on such voxels again."""
        return all(voxel_size[was] == size for was, size in zip(self.axes, voxel_size, strict=True))

    def roi(self, roi: Roi) -> Roi:
        """Return the world ROI on which ``roi`` lands."""
        begin = [-roi.end[was] if axis in self.mirrored else roi.begin[was] for axis, was in enumerate(self.axes)]
        return Roi(begin, [roi.shape[was] for was in self.axes])

    def tensor(self, tensor: Tensor) -> Tensor:
        """Return ``tensor`` (..., Z, Y, X), which covers some ROI, as it covers the ROI on which that lands.

        A transposition is a view. A mirror is a copy, as torch has no negative strides. The identity returns the tensor
        itself.
        """
        if self.axes != tuple(range(self.dims)):
            tensor = tensor.permute(self._all_axes(tensor.dim()))
        if not self.mirrored:
            return tensor
        bits = tensor.view(_SIGNED.get(tensor.dtype, tensor.dtype))
        return bits.flip([axis - self.dims for axis in sorted(self.mirrored)]).view(tensor.dtype)

    def array(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return ``array`` (..., Z, Y, X), which covers some ROI, as it covers the ROI on which that lands; a view."""
        return np.flip(array.transpose(self._all_axes(array.ndim)), tuple(axis - self.dims for axis in self.mirrored))

    def _all_axes(self, count: int) -> tuple[int, ...]:
        leading = count - self.dims
        return (*range(leading), *(leading + axis for axis in self.axes))


def lattice_symmetries(
    net: LeibNet, *, mirror_axes: Iterable[int] | None = None, transpose_axes: Iterable[int] | None = None
) -> tuple[Symmetry, ...]:
    """Return the group of symmetries under which every tensor of a network keeps its lattice, the identity first.

    Mirrors about the origin keep every lattice. Axes are permuted where every tensor's voxel size is the same along
    them: isotropic networks of three axes have 48 symmetries, networks with thicker sections 16; 8 of these keep the
    order of the sections.

    Args:
        net: the network.
        mirror_axes: the spatial axes that may be mirrored; all unless given.
        transpose_axes: the spatial axes that may be permuted, if the lattices allow it; all unless given.

    Raises:
        ArgumentError: an axis does not exist or is named twice, or a mirrored axis would be swapped with one that
            is not mirrored, which is not a group.

    Example:
        >>> from scalenet_gp import build_unet
        >>> len(lattice_symmetries(build_unet((8, 8, 8), base_nc=1)))
        48
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
                    f"axis {axis} is mirrored and swapped with axis {axes[axis]}, which is not: give both in "
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
