"""HDF5: a dataset, with the attributes of CREMI, ilastik or funlib."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.exchange.libraries import library, unreadable_as
from scalenet_gp.exchange.volume_file import Stated, VolumeFile
from scalenet_gp.volumes import number

__all__ = ["HDF5", "hdf5_parts", "open_hdf5"]

HDF5 = (".h5", ".hdf5", ".hdf", ".he5", ".ilp")
"""The names of HDF5 files end so."""

_DEFAULTS = {2: "yx", 3: "zyx", 4: "czyx"}


def hdf5_parts(path: str) -> tuple[str, str | None]:
    """Split ``a.h5/volumes/raw`` into the file and the dataset; without a dataset it is None."""
    whole = Path(path)
    for file in (whole, *whole.parents):
        if file.suffix.lower() in HDF5 and not file.is_dir():
            return str(file), "/".join(whole.parts[len(file.parts) :]) or None
    return path, None


def open_hdf5(path: str, dataset: str | None, axes: str | None) -> VolumeFile:
    """Open a dataset of an HDF5 file.

    Args:
        path: the path of the file.
        dataset: the path of the dataset in it; not needed if there is only one.
        axes: the names of the axes; by default as the file says, or z, y, x after channels.

    Raises:
        VolumeFormatError: no HDF5 file, no such dataset, or several and none is named.
    """
    h5py = library("h5py", path)
    with unreadable_as(path, "HDF5"):
        file = h5py.File(path, "r")
    try:
        with unreadable_as(path, "HDF5"):
            array = _dataset(h5py, path, file, dataset)
            where = f"{path}/{array.name.strip('/')}"
            named = axes or _axes(array) or _DEFAULTS.get(array.ndim, "")
            return VolumeFile(
                where,
                named,
                array.shape,
                array.dtype,
                lambda box: np.asarray(array[box]),
                piece=array.chunks,
                stated=lambda: _stated(where, array, len(named) - ("c" in named)),
                close=file.close,
            )
    except BaseException:
        file.close()
        raise


def _dataset(h5py: Any, path: str, file: Any, name: str | None) -> Any:
    found: list[str] = []
    file.visititems(lambda key, item: found.append(key) if isinstance(item, h5py.Dataset) and item.ndim > 1 else None)
    listed = ", ".join(f"{key} {file[key].shape}" for key in found) or "none"
    if name is None and len(found) == 1:
        name = found[0]
    if name is None:
        raise VolumeFormatError(f"{path}: choose a dataset with --dataset; there are {listed}")
    if name.strip("/") not in found:
        raise VolumeFormatError(f"{path}: there is no dataset {name!r} of two or more axes; there are {listed}")
    return file[name]


def _axes(array: Any) -> str | None:
    """Return the names of the axes by ilastik's attribute, or by HDF5's own labels."""
    if "axistags" in array.attrs:
        return "".join(axis["key"] for axis in json.loads(_text(array.attrs["axistags"]))["axes"])
    labels = [dimension.label for dimension in array.dims]
    return "".join(labels) if all(len(label) == 1 for label in labels) else None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _stated(where: str, array: Any, dims: int) -> Stated | None:
    attributes: Mapping[str, Any] = array.attrs
    found = []
    for name, unit in (("resolution", "nanometer"), ("voxel_size", "nanometer"), ("element_size_um", "micrometer")):
        if name in attributes:
            named = attributes.get("unit", attributes.get("units", unit)) if name != "element_size_um" else unit
            named = named if isinstance(named, (str, bytes)) else {_text(one) for one in np.ravel(named)}
            if isinstance(named, set) and len(named) > 1:
                raise VolumeFormatError(f"{where}: units {', '.join(sorted(named))}; they have to be the same")
            unit = _text(named.pop() if isinstance(named, set) else named)
            sizes = _lengths(where, name, attributes[name], dims)
            corner = _lengths(where, "offset", attributes["offset"], dims) if "offset" in attributes else None
            found.append(Stated(f"the attribute {name}", sizes, unit, None if name == "element_size_um" else corner))
    said = {one.in_nm(where, None).voxel_size for one in found}
    if len(said) > 1:
        raise VolumeFormatError(
            f"{where}: {' and '.join(one.source for one in found)} contradict each other; leave them out with "
            "--ignore-metadata, and state --voxel-size"
        )
    return found[0] if found else None


def _lengths(where: str, name: str, value: Any, dims: int) -> tuple[Fraction, ...]:
    """Return an attribute of one number per axis; what it says of channels is left out."""
    values = np.ravel(value)
    if len(values) not in (dims, dims + 1):
        raise VolumeFormatError(f"{where}: the attribute {name} has {len(values)} numbers for {dims} axes of space")
    return tuple(number(one.item()) for one in values[-dims:])
