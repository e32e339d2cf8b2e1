"""Generated recordings on disk, in the layout of CellMap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from scalenet_gp.volumes import MultiscaleWriter, StrPath, create_group

__all__ = ["RAW", "Crop", "Recording", "write_recording"]

RAW = "recon-1/em/fibsem-uint8"
"""The group of the recording in its container."""

CROPS = "recon-1/labels/groundtruth"
"""The group of the crops."""

LEVELS = 4
"""Levels of each pyramid; every one has voxels of twice the size of the one before."""


@dataclass(frozen=True, slots=True)
class Crop:
    """An annotated part of a recording.

    Attributes:
        begin: its first voxel, Z Y X.
        labels: the label volume of each class, of one shape.
    """

    begin: tuple[int, ...]
    labels: Mapping[str, NDArray[np.unsignedinteger]]


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording and its annotated parts.

    Attributes:
        raw: uint8, Z Y X.
        crops: the annotated parts by name.
    """

    raw: NDArray[np.uint8]
    crops: Mapping[str, Crop]


def write_recording(
    path: StrPath, make: Callable[[], Recording], voxel_size_nm: int, progress: Callable[[str], None] | None = None
) -> None:
    """Write a recording as OME-Zarr pyramids of four levels. The first voxel's corner is at 0 nm.

    The recording is at ``<path>/recon-1/em/fibsem-uint8``, the label volumes at
    ``<path>/recon-1/labels/groundtruth/<crop>/<class>``.

    Args:
        path: path of the Zarr container, which appears when it is whole.
        make: returns the recording; called once it is known that nothing is at ``path``.
        voxel_size_nm: the edge of a voxel.
        progress: called with a few words after the recording was made and after each group was written.

    Raises:
        FileExistsError: there is something at ``path``.
    """
    target = Path(path)
    if target.exists():
        raise FileExistsError(f"{target} exists; choose another path or remove it")
    tell = progress or (lambda _: None)
    recording = make()
    tell("made")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{target.name}.", dir=target.parent) as workshop:
        container = Path(workshop, target.name)
        raw, crops = container / RAW, container / CROPS
        for group in (container, container / "recon-1", raw.parent, crops.parent, crops):
            create_group(group, {})
        _write(raw, recording.raw, (0,) * recording.raw.ndim, voxel_size_nm, labels=False)
        tell(f"wrote {raw.name}")
        for name, crop in recording.crops.items():
            create_group(crops / name, {"classes": list(crop.labels)})
            for label, voxels in crop.labels.items():
                _write(crops / name / label, voxels, crop.begin, voxel_size_nm, labels=True)
                tell(f"wrote {label}")
        container.rename(target)


def _write(place: Path, voxels: np.ndarray, begin: tuple[int, ...], voxel_size: int, *, labels: bool) -> None:
    with MultiscaleWriter(
        place,
        voxel_size=(voxel_size,) * voxels.ndim,
        corner=tuple(first * voxel_size for first in begin),
        shape=voxels.shape,
        dtype=voxels.dtype,
        levels=LEVELS,
        labels=labels,
    ) as writer:
        writer.write((0,) * voxels.ndim, voxels)
