"""A picture of training samples: raw data of every scale, and the classes over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from math import log, prod
from textwrap import fill
from typing import TYPE_CHECKING, Literal

import gunpowder as gp
import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ArgumentError, UnknownNameError
from scalenet_gp.geometry import World, format_size
from scalenet_gp.pipelines.config import BACKGROUND
from scalenet_gp.pipelines.plots.augmentation_records import describe_augmentation
from scalenet_gp.pipelines.plots.drawing import (
    as_greys,
    class_patches,
    halo,
    middle_section,
    scale_bar,
    section,
    show,
    spread_channels,
    true_classes,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_batch"]

_PANEL = 2.2  # inches
_LEGEND_ENTRY = 1.6  # inches
_LETTERS = 13  # of a caption to an inch
_FIELD_COLORS = ("deepskyblue", "magenta", "lime", "orangered")
_TARGET_COLOR = "gold"
_LineStyle = Literal["-", "--"]


def draw_batch(
    batch: gp.Batch,
    raw: Sequence[gp.ArrayKey],
    targets: Mapping[gp.ArrayKey, gp.ArrayKey | None],
    classes: Sequence[str] | Mapping[gp.ArrayKey, Sequence[str]],
    *,
    before: gp.Batch | None = None,
    world: World | None = None,
    intensities: tuple[float, float] = (0.0, 1.0),
    captions: Sequence[str] | None = None,
    names: Mapping[gp.ArrayKey, str] | None = None,
) -> Figure:
    """Draw a batch of any chain of nodes: a row of panels for each sample, or two rows with ``before``.

    All panels show the section in the middle of the finest target (or of the finest raw array, without targets), each
    at its own voxel size. In two dimensions they show everything. A panel for each raw array outlines the finer arrays
    in the colors that frame their own panels, and the target of its voxel size dashed. A panel for each target shows
    its classes over the raw data of the nearest voxel size, dark where none of them is annotated.

    Args:
        batch: one sample, or several stacked.
        raw: the arrays of intensities, from coarse to fine, (channel, z, y, x) or (channel, y, x). Of several channels
            the first is drawn.
        targets: arrays of classes, from coarse to fine, in [0, 1], (class, z, y, x) or (class, y, x), each with its
            mask, or None where all is annotated.
        classes: names of the targets' channels, or of the channels of each target by its key. A channel named
            ``background`` is not drawn.
        before: the same samples without augmentation, which are drawn above.
        world: world coordinates of the arrays; the unit is 1 nm unless given.
        intensities: the intensities that are black and white; integers count as fractions of the range of their type.
        captions: a text for each sample; a description of its augmentation unless given.
        names: what arrays of ``raw`` show that are not raw data, such as predictions that a network reads beside them.

    Raises:
        UnknownNameError: an array is not in the batch.
        ArgumentError: no raw arrays; arrays in another order; an array without channels; a target with another number
            of channels than names; another number of samples in ``before``, or of captions.
        DataError: an array does not reach the section.
    """
    from matplotlib.figure import Figure

    if not raw:
        raise ArgumentError("there are no raw arrays to draw; name one or more, from coarse to fine")
    channels = classes if isinstance(classes, Mapping) else dict.fromkeys(targets, tuple(classes))
    drawing = _Drawing(tuple(raw), dict(targets), channels, (world or World()).unit, intensities, names or {})
    after = drawing.samples(batch)
    rows = {"": after} if before is None else {"before": drawing.samples(before), "augmented": after}
    if any(len(samples) != len(after) for samples in rows.values()):
        raise ArgumentError(f"the batch has {len(after)} samples, before has {len(rows['before'])}")
    if captions is None:
        captions = [describe_augmentation(records, world) for records in _records(batch[raw[-1]], len(after))]
    if len(captions) != len(after):
        raise ArgumentError(f"the batch has {len(after)} samples, there are {len(captions)} captions")
    columns = len(raw) + len(targets)
    width = max(_PANEL * columns + 0.4, 5)
    tallest = max(plane.roi.shape[0] / plane.roi.shape[1] for plane in after[0].values())
    height = len(rows) * _PANEL * tallest + 0.6
    figure = Figure(figsize=(width, len(after) * height + 0.5), layout="constrained")
    for index, block in enumerate(figure.subfigures(len(after), 1, squeeze=False)[:, 0]):
        if captions[index]:
            caption = fill(captions[index], int(width * _LETTERS))
            block.suptitle(caption, x=0.01, horizontalalignment="left", fontsize="medium")
        panels = block.subplots(len(rows), columns, squeeze=False)
        for row, (name, samples) in zip(panels, rows.items(), strict=True):
            drawing.draw(row, samples[index])
            row[0].set_ylabel(name)
        for panel, title in zip(panels[0], drawing.titles(after[index]), strict=True):
            panel.set_title(title, fontsize="small")
    handles = drawing.legend(after[0])
    in_a_row = min(len(handles), int(width / _LEGEND_ENTRY))
    figure.legend(handles=handles, loc="outside lower center", ncols=in_a_row, frameon=False)
    return figure


@dataclass(frozen=True, slots=True)
class _Plane:
    """The section of an array that is drawn.

    Attributes:
        values: (C, Y, X).
        roi: ROI along Y and X, world units.
        voxel_size: voxel size of the array along all axes.
    """

    values: np.ndarray
    roi: Roi
    voxel_size: Coordinate


_Sample = Mapping[gp.ArrayKey, _Plane]


@dataclass(frozen=True, slots=True)
class _Drawing:
    """The drawing of samples: see :func:`draw_batch`. ``unit`` is the world's."""

    raw: tuple[gp.ArrayKey, ...]
    targets: Mapping[gp.ArrayKey, gp.ArrayKey | None]
    channels: Mapping[gp.ArrayKey, Sequence[str]]
    unit: Fraction
    intensities: tuple[float, float]
    names: Mapping[gp.ArrayKey, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of all targets."""
        names = (name for target in self.targets for name in self.channels[target])
        return tuple(dict.fromkeys(name for name in names if name != BACKGROUND))

    def samples(self, batch: gp.Batch) -> list[_Sample]:
        """Return the planes to draw of every sample in a batch."""
        masks = (mask for mask in self.targets.values() if mask is not None)
        keys = [*self.raw, *self.targets, *masks]
        if missing := [str(key) for key in keys if key not in batch]:
            raise UnknownNameError(f"the batch has no {', '.join(missing)}; it has {', '.join(map(str, batch.arrays))}")
        for kind in (self.raw, tuple(self.targets)):
            sizes = [prod(batch[key].spec.voxel_size) for key in kind]
            if sizes != sorted(sizes, reverse=True):
                raise ArgumentError(f"{', '.join(map(str, kind))} have to be named from coarse to fine")
        finest = batch[(*self.raw, *self.targets)[-1]].spec
        middle = middle_section(finest.roi, finest.voxel_size)
        planes = {key: _planes(key, batch[key], middle) for key in keys}
        for target in self.targets:
            names = self.channels.get(target, ())
            if (channels := len(planes[target][0].values)) != len(names):
                raise ArgumentError(f"{target} has {channels} channels for the classes {', '.join(names) or '(none)'}")
        return [dict(zip(planes, sample, strict=True)) for sample in zip(*planes.values(), strict=True)]

    def draw(self, row: Sequence[Axes], sample: _Sample) -> None:
        """Fill a row of panels: one for each raw array, then one for each target."""
        greys = {key: as_greys(sample[key].values[0], self.intensities) for key in self.raw}
        colors = self._colors()
        for index, (panel, key) in enumerate(zip(row, self.raw, strict=False)):
            self._show(panel, greys[key], sample[key], colors[key])
            for finer in self.raw[index + 1 :]:
                self._outline(panel, sample[finer], colors[finer], "-")
            for target in self.targets:
                if sample[target].voxel_size == sample[key].voxel_size:
                    self._outline(panel, sample[target], _TARGET_COLOR, "--")
        for panel, (target, mask) in zip(row[len(self.raw) :], self.targets.items(), strict=True):
            true = spread_channels(sample[target].values, self.channels[target], self.classes)
            annotated = np.ones_like(true) if mask is None else sample[mask].values
            nearest = min(self.raw, key=lambda key: _ratio(sample[key], sample[target]))
            background = _beneath(greys[nearest], sample[nearest], sample[target])
            self._show(panel, true_classes(true, annotated, background), sample[target], _TARGET_COLOR)

    def titles(self, sample: _Sample) -> list[str]:
        """Return the titles of the panels."""
        return [self._title(key, sample) for key in self.raw] + [
            f"classes, {self._size(sample[target])}" for target in self.targets
        ]

    def legend(self, sample: _Sample) -> list[Artist]:
        """Return the legend's entries."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        handles: list[Artist] = [
            Line2D([], [], color=color, label=self._title(key, sample))
            for key, color in self._colors().items()
            if key != self.raw[0]
        ]
        if self.targets:
            handles += [Line2D([], [], color=_TARGET_COLOR, linestyle="--", label="target")]
            handles += class_patches(self.classes)
        if any(self.targets.values()):
            handles.append(Patch(color="0.25", label="not annotated"))
        return handles

    def _title(self, key: gp.ArrayKey, sample: _Sample) -> str:
        return f"{self.names.get(key, 'raw')}, {self._size(sample[key])}"

    def _colors(self) -> dict[gp.ArrayKey, str]:
        """Return the color of the frame and outlines of every raw array; nothing outlines the coarsest."""
        return dict(zip(self.raw, ("black", *islice(cycle(_FIELD_COLORS), len(self.raw) - 1)), strict=True))

    def _show(self, panel: Axes, picture: np.ndarray, plane: _Plane, color: str) -> None:
        (top, left), (bottom, right) = (map(self._nm, end) for end in (plane.roi.begin, plane.roi.end))
        show(panel, picture, (left, right, bottom, top))
        scale_bar(panel)
        for spine in panel.spines.values():
            spine.set(edgecolor=color, linewidth=2)

    def _outline(self, panel: Axes, plane: _Plane, color: str, style: _LineStyle) -> None:
        from matplotlib.patches import Rectangle

        (top, left), (height, width) = (map(self._nm, end) for end in (plane.roi.begin, plane.roi.shape))
        box = Rectangle((left, top), width, height, fill=False, edgecolor=color, linestyle=style, linewidth=1.5)
        box.set_path_effects(halo())
        panel.add_patch(box)

    def _nm(self, length: int) -> float:
        return float(length * self.unit)

    def _size(self, plane: _Plane) -> str:
        return f"{format_size(length * self.unit for length in plane.voxel_size)} nm"


def _planes(key: gp.ArrayKey, array: gp.Array, middle: Roi) -> list[_Plane]:
    """Return the planes to draw of an array, one for each sample."""
    roi, dims = array.spec.roi, array.spec.roi.dims
    if array.data.ndim not in (dims + 1, dims + 2):
        raise ArgumentError(
            f"{key} has shape {array.data.shape}; to be drawn it has to be (channel, {dims} spatial axes), or several "
            "of those stacked"
        )
    samples = array.data if array.data.ndim == dims + 2 else array.data[None]
    flat = Roi(roi.begin[-2:], roi.shape[-2:])
    return [_Plane(section(data, roi, middle), flat, array.spec.voxel_size) for data in samples]


def _records(array: gp.Array, samples: int) -> list[dict[str, str]]:
    """Return the records of every sample. A stacked array has lists, with None for a sample without a record."""
    records = {name: value if isinstance(value, list) else [value] for name, value in array.attrs.items()}
    return [
        {name: values[index] for name, values in records.items() if values[index] is not None}
        for index in range(samples)
    ]


def _ratio(one: _Plane, other: _Plane) -> float:
    """Return the distance of two voxel sizes, as the logarithm of their ratio."""
    return abs(log(prod(one.voxel_size) / prod(other.voxel_size)))


def _beneath(picture: np.ndarray, plane: _Plane, target: _Plane) -> np.ndarray:
    """Sample a picture (Y, X, 3) of a plane at the middle of every voxel of another plane; black outside."""
    indices, inside = [], []
    for axis, (begin, size) in enumerate(zip(target.roi.begin, target.voxel_size[-2:], strict=True)):
        # in half world units, so that the middles are whole numbers
        middles = 2 * begin + (2 * np.arange(target.values.shape[1 + axis]) + 1) * size
        index = (middles - 2 * plane.roi.begin[axis]) // (2 * plane.voxel_size[-2:][axis])
        inside.append((index >= 0) & (index < picture.shape[axis]))
        indices.append(np.clip(index, 0, picture.shape[axis] - 1))
    return picture[np.ix_(*indices)] * np.logical_and.outer(*inside)[..., None]
