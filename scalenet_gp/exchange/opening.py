"""Recognition of the format of a volume that another program wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.exchange.hdf5_file import HDF5, hdf5_parts, open_hdf5
from scalenet_gp.exchange.mrc_file import MRC, open_mrc
from scalenet_gp.exchange.nifti_file import NIFTI, open_nifti
from scalenet_gp.exchange.slice_folder import SLICES, open_slices
from scalenet_gp.exchange.stored_volume import open_stored
from scalenet_gp.exchange.tiff_file import open_tiff
from scalenet_gp.exchange.volume_file import VolumeFile
from scalenet_gp.volumes import find_node, local_path

__all__ = ["file_state", "open_volume_file"]

_TIFF = (".tif", ".tiff", ".btf", ".tf8")


def open_volume_file(
    path: str,
    *,
    dataset: str | None = None,
    axes: str | None = None,
    unit: str | None = None,
    voxel_size: Sequence[Fraction] | None = None,
    ignore_metadata: bool = False,
) -> VolumeFile:
    """Open a volume of any format: TIFF, a folder of slices, HDF5, MRC, NIfTI, zarr, N5 or precomputed.

    Args:
        path: the path of a file or folder, or the URL of a zarr, N5 or precomputed volume; of HDF5 with the dataset
            behind it, if there are several.
        dataset: the dataset of an HDF5 file, or the index of a series of TIFF.
        axes: the names of the stored axes, a letter for each of z, y, x and c, where the file does not name them right.
        unit: the unit of lengths in a file that names none.
        voxel_size: the voxel size (nm) of an array without metadata.
        ignore_metadata: do not read voxel size, position, names of axes and scaling of values from the file.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        VolumeFormatError: a format that is not read, or a file that is damaged or not clear.
        ArgumentError: arguments that do not fit, or a library that is not installed.
        OSError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> import h5py
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with h5py.File(f"{folder}/a.h5", "w") as file:
        ...         file["volumes/raw"] = np.zeros((2, 3, 4), np.uint8)
        ...     with open_volume_file(f"{folder}/a.h5") as volume:
        ...         print(volume.axes, volume.shape)
        ('z', 'y', 'x') (2, 3, 4)
    """
    local = local_path(path.removeprefix("precomputed://"))
    file, inner = hdf5_parts(path)
    if local is None:
        opened = _stored(path, dataset, axes, unit, voxel_size, ignore_metadata)
    elif inner is not None or (local.name.lower().endswith(HDF5) and not local.is_dir()):
        if inner is not None and dataset is not None:
            raise ArgumentError(f"{path}: it names the dataset {inner!r}, and --dataset {dataset!r}; leave one out")
        if not Path(file).is_file():
            raise FileNotFoundError(f"{file}: no such file")
        opened = open_hdf5(file, inner or dataset, axes)
    elif local.is_file():
        opened = _single_file(str(local), dataset, axes, ignore_metadata)
    elif not local.exists():
        # a scale of a precomputed volume need not have a folder yet, and a message of the reader says more
        opened = _stored(path, dataset, axes, unit, voxel_size, ignore_metadata)
    elif _has_slices(local):
        if dataset is not None:
            raise ArgumentError(f"{path}: --dataset {dataset!r} is for HDF5 and TIFF, and this is a folder of slices")
        opened = open_slices(str(local), axes)
    else:
        opened = _stored(path, dataset, axes, unit, voxel_size, ignore_metadata)
    return opened.without_metadata() if ignore_metadata else opened


def file_state(path: str) -> str:
    """Return the sizes and times of the files of a volume, to tell whether they changed; "" for stores of chunks."""
    local, (file, _) = local_path(path), hdf5_parts(path)
    if local is None:
        return ""
    if Path(file).is_file():
        files = [Path(file)]
    else:
        folder = local if local.is_dir() and _has_slices(local) else None
        files = sorted(folder.iterdir()) if folder is not None else []
    states = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in files]
    return hashlib.sha256(repr(states).encode()).hexdigest() if states else ""


def _single_file(path: str, dataset: str | None, axes: str | None, ignore_metadata: bool) -> VolumeFile:
    name = path.lower()
    if name.endswith(_TIFF):
        return open_tiff(path, dataset, axes)
    if dataset is not None:
        raise ArgumentError(f"{path}: --dataset {dataset!r} is for HDF5 and TIFF; leave it out")
    if name.endswith(MRC):
        return open_mrc(path, axes)
    if name.endswith(NIFTI):
        return open_nifti(path, axes, ignore_metadata)
    if name.endswith(".png"):
        raise VolumeFormatError(f"{path}: a single picture; name the folder that holds a volume's slices")
    known = ", ".join((*_TIFF, *HDF5, *MRC, *NIFTI))
    raise VolumeFormatError(
        f"{path}: a file of unknown format; names end in {known}, or it is a folder: of slices, zarr, N5 or precomputed"
    )


def _has_slices(folder: Path) -> bool:
    if (node := find_node(folder)) is not None and (node.array is not None or node.attributes):
        return False
    return any(path.suffix.lower() in SLICES for path in folder.iterdir() if path.is_file())


def _stored(
    path: str,
    dataset: str | None,
    axes: str | None,
    unit: str | None,
    voxel_size: Sequence[Fraction] | None,
    ignore_metadata: bool,
) -> VolumeFile:
    if dataset is not None:
        raise ArgumentError(
            f"{path}: --dataset {dataset!r} is for HDF5 and TIFF; put it behind the path of a container"
        )
    return open_stored(path, axes, unit, voxel_size, ignore_metadata)
