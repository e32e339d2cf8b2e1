"""A gunpowder source that reads one multiscale volume at any number of voxel sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import final

import numpy as np
from gunpowder import ArrayKey, BatchRequest, Coordinate, Roi

from scalenet_gp.errors import ArgumentError, LatticeError
from scalenet_gp.geometry import World
from scalenet_gp.nodes.requests import CheapCopySpec
from scalenet_gp.nodes.sources.reading_source import ReadingSource, check_masks
from scalenet_gp.volumes import MultiscaleImage, Padding, StrPath

__all__ = ["MultiscaleSource"]


@final
class MultiscaleSource(ReadingSource):
    """Provide one volume at several voxel sizes, every array with its own ROI.

    Arrays are (channel, z, y, x). An array comes from the level of its voxel size, or is made from a finer one: see
    :meth:`MultiscaleImage.read`, which also describes the padding.

    Args:
        volume: the volume, or its path or URL for :meth:`MultiscaleImage.open`.
        voxel_sizes: the voxel sizes of the arrays to provide, world units.
        world: the world that the pipeline counts in; :meth:`MultiscaleImage.world` makes one that fits.
        labels: the values are names: levels are made by majority, and no node downstream may interpolate them.
        padding: the values outside the volume: "constant" or "reflect" for unbounded arrays, None for arrays that end
            with the volume.
        fill_value: the value of constant padding.
        masks: for an array of ``voxel_sizes``, the key of its mask: uint8 (1, z, y, x), unbounded, 1 inside the volume
            and 0 outside.
        within: masks are 0 outside this ROI, too: a training split, for example. World units.
        channel_axis: False delivers arrays and masks as (z, y, x), as gunpowder's own nodes for labels take them:
            ``AddAffinities``, ``GrowBoundary``, ``BalanceLabels``.

    Raises:
        FileNotFoundError, VolumeFormatError: see :meth:`MultiscaleImage.open`.
        LatticeError: a voxel size that no level can give, or that is larger than the volume.
        ArgumentError: masks that name an unknown array or a key twice; a volume of several channels that is to be
            without their axis.

    Example:
        >>> import gunpowder as gp
        >>> import numpy as np
        >>> from scalenet_gp.volumes import MultiscaleImage
        >>> raw = gp.ArrayKey("RAW")
        >>> volume = MultiscaleImage.from_arrays([np.ones((4, 4, 4), np.uint8)], [(8, 8, 8)])
        >>> with gp.build(MultiscaleSource(volume, {raw: (16, 16, 16)})) as source:
        ...     batch = source.request_batch(gp.BatchRequest({raw: gp.Roi((0, 0, 0), (32, 32, 32))}))
        >>> batch[raw].data.shape
        (1, 2, 2, 2)
    """

    def __init__(
        self,
        volume: MultiscaleImage | StrPath,
        voxel_sizes: Mapping[ArrayKey, Iterable[int]],
        world: World | None = None,
        *,
        labels: bool = False,
        padding: Padding | None = None,
        fill_value: float = 0,
        masks: Mapping[ArrayKey, ArrayKey] | None = None,
        within: Roi | None = None,
        channel_axis: bool = True,
    ) -> None:
        self.volume = volume if isinstance(volume, MultiscaleImage) else MultiscaleImage.open(volume)
        self.world = World() if world is None else world
        self.labels, self.padding, self.fill_value = labels, padding, fill_value
        self.volume.check_padding(padding, fill_value)
        if not channel_axis and self.volume.channels > 1:
            raise ArgumentError(
                f"{self.volume.path} has {self.volume.channels} channels, so that arrays need their axis: leave out "
                "channel_axis, or open the volume with a channel selected"
            )
        self.within, self.channel_axis = within, channel_axis
        self._masks = dict(masks or {})
        check_masks(voxel_sizes, self._masks)
        self._specs: dict[ArrayKey, CheapCopySpec] = {}
        unbounded = Roi((None,) * self.volume.dims, (None,) * self.volume.dims)
        for key, voxel_size in voxel_sizes.items():
            size = tuple(voxel_size)
            roi = self.volume.roi(size, self.world, labels)
            if roi.empty:
                raise LatticeError(f"{self.volume.path} holds no whole voxel of the {size} world units of {key}")
            self._specs[key] = CheapCopySpec(
                roi=unbounded if padding else roi,
                voxel_size=Coordinate(size),
                interpolatable=not labels,
                dtype=self.volume.dtype,
            )
            if key in self._masks:
                self._specs[self._masks[key]] = CheapCopySpec(
                    roi=unbounded, voxel_size=Coordinate(size), interpolatable=False, dtype=np.dtype(np.uint8)
                )

    def start(self, request: BatchRequest) -> Mapping[ArrayKey, Callable[[], np.ndarray]]:
        """Start to read the requested arrays."""
        masks = set(self._masks.values())
        reading: dict[ArrayKey, Callable[[], np.ndarray]] = {}
        for key, asked in request.array_specs.items():
            place = (asked.roi, self.spec[key].voxel_size, self.world)
            if key in masks:
                reading[key] = partial(self._valid, *place)
            else:
                reading[key] = self.volume.start(*place, self.labels, self.padding, self.fill_value)
        return reading

    def _valid(self, roi: Roi, size: Coordinate, world: World) -> np.ndarray:
        """Return the mask of the whole voxels inside the volume and ``within``, (1, z, y, x)."""
        valid = self.volume.valid(roi, size, world, self.labels)
        if self.within is None:
            return valid
        inside = np.zeros_like(valid)
        part = self.within.snap_to_grid(size, mode="shrink").intersect(roi)
        if not part.empty:
            voxels = (slice(None), *((part - roi.begin) // size).to_slices())
            inside[voxels] = valid[voxels]
        return inside

    def name(self) -> str:
        """Return the name of the node with its volume, for messages."""
        return f"{super().name()}[{self.volume.path}]"
