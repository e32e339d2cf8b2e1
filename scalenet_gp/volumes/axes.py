"""Choice of the axes of a stored array: space always, channels if there are any, time at one index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.volumes.stored_array import StoredArray

__all__ = ["served_axes"]

_SPATIAL = (("z", "y", "x"), ("y", "x"))


def served_axes(
    path: str,
    names: Sequence[str],
    channel: str | None,
    arrays: Sequence[StoredArray],
    select: Mapping[str, int | str],
    labels: Sequence[str] = (),
) -> tuple[tuple[str, ...], tuple[StoredArray, ...]]:
    """Return the names of the spatial axes, and the arrays as (channel, z, y, x) or without the channel axis.

    Args:
        path: the path of the volume, for messages.
        names: the names of the axes of every array, in order.
        channel: the name of the channel axis, None if there is none.
        arrays: the arrays of all levels.
        select: for an axis before the spatial ones, the index to read, or the channel's label.
        labels: the labels of the channels.

    Raises:
        VolumeFormatError: axes in another order, or a selection by a label of channels that are not all named.
        ArgumentError: no selection from an axis that has several entries and is not the channel axis, or a selection
            that does not exist.
    """
    dims = next((len(space) for space in _SPATIAL if tuple(names[-len(space) :]) == space), 0)
    leading = names[: len(names) - dims]
    if not dims or len(set(names)) < len(names) or {"z", "y", "x"} & set(leading):
        raise VolumeFormatError(
            f"{path}: the axes are {', '.join(names)}; they have to be z, y, x or y, x, after axes of time and "
            "channels, if there are any"
        )
    for array in arrays:
        if array.ndim != len(names):
            raise VolumeFormatError(
                f"{array.path} has {array.ndim} dimensions, the axes are {len(names)}: {', '.join(names)}"
            )
    if unknown := select.keys() - set(leading):
        raise ArgumentError(
            f"{path}: there is no axis {', '.join(sorted(unknown))} to select from; there are: "
            f"{', '.join(leading) or 'only axes of space'}"
        )
    chosen: dict[int, int] = {}
    for axis, name in enumerate(leading):
        length = min(array.shape[axis] for array in arrays)
        if name in select:
            chosen[axis] = _index(path, name, select[name], length, labels if name == channel else ())
        elif name != channel and length != 1:
            raise ArgumentError(
                f"{path}: axis {name} has {length} entries: select one, for example select={{{name!r}: 0}}"
            )
        elif name != channel:
            chosen[axis] = 0
    return tuple(names[len(leading) :]), tuple(array.at(chosen) for array in arrays)


def _index(path: str, axis: str, wanted: int | str, length: int, labels: Sequence[str]) -> int:
    if isinstance(wanted, str):
        named = f"the labels are {', '.join(labels)}" if labels else "it has no labels: give its index"
        if labels and len(labels) != length:
            raise VolumeFormatError(
                f"{path}: axis {axis} has {length} entries, and its metadata name {len(labels)}, {', '.join(labels)}: "
                "select an entry by its index"
            )
        if labels.count(wanted) != 1:
            raise ArgumentError(f"{path}: axis {axis} has {labels.count(wanted)} entries labelled {wanted!r}; {named}")
        wanted = labels.index(wanted)
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 0 <= wanted < length:
        raise ArgumentError(f"{path}: axis {axis} has no entry {wanted!r}; they are 0 to {length - 1}")
    return wanted
