"""NIfTI: .nii and .nii.gz."""

from __future__ import annotations

from typing import Any

import numpy as np

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.exchange.libraries import library, rounded, unreadable_as
from scalenet_gp.exchange.volume_file import Stated, VolumeFile

__all__ = ["NIFTI", "open_nifti"]

NIFTI = (".nii", ".nii.gz")
"""The names of NIfTI files end so."""

_UNITS = {"mm": "millimeter", "micron": "micrometer", "meter": "meter"}


def open_nifti(path: str, axes: str | None, ignore_metadata: bool) -> VolumeFile:
    """Open a NIfTI file, whose axes are x, y, z as they are stored.

    Args:
        path: the path of the file.
        axes: the names of the axes; by default xyz, and c after them.
        ignore_metadata: take voxels as they are stored, whatever the file says about place and values.

    Raises:
        VolumeFormatError: no NIfTI file; voxels that the file turns, mirrors or scales, unless that is ignored.
    """
    nibabel = library("nibabel", path)
    with unreadable_as(path, "NIfTI"):
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise VolumeFormatError(f"{path}: not readable as NIfTI: it is {type(image).__name__}")
        proxy = image.dataobj
    shape = tuple(int(length) for length in image.shape)
    kept = tuple(axis for axis in range(len(shape)) if axis < 3 or shape[axis] > 1)
    if (proxy.slope, proxy.inter) != (1, 0) and not ignore_metadata:
        raise VolumeFormatError(
            f"{path}: its header scales the stored numbers by {proxy.slope} and adds {proxy.inter}; import the stored "
            "numbers with --ignore-metadata and --voxel-size, or write the file anew without scaling"
        )
    raw = nibabel.arrayproxy.ArrayProxy(path, (shape, image.header.get_data_dtype(), proxy.offset, 1.0, 0.0))

    def read(box: tuple[slice, ...]) -> np.ndarray:
        parts: list[Any] = [0] * len(shape)
        for axis, part in zip(kept, box, strict=True):
            parts[axis] = part
        with unreadable_as(path, "NIfTI"):
            return np.asarray(raw[tuple(parts)])

    lengths = tuple(shape[axis] for axis in kept)
    return VolumeFile(
        path,
        axes or ("xyz"[: len(lengths)] + "c" * (len(lengths) - 3)),
        lengths,
        np.dtype(raw.dtype),
        read,
        piece=(*lengths[:2], *(1 for _ in lengths[2:])),
        stated=lambda: _stated(path, image),
    )


def _stated(path: str, image: Any) -> Stated | None:
    sizes = [float(length) for length in image.header.get_zooms()[:3]]
    dims = len(sizes)
    turn, centre = np.asarray(image.affine)[:dims, :dims], np.asarray(image.affine)[:dims, 3]
    unit = _UNITS.get(image.header.get_xyzt_units()[0])
    code = max(int(image.header["sform_code"]), int(image.header["qform_code"]))
    if min(sizes) <= 0:
        return None
    corner = None
    if code > 0:
        if not np.allclose(turn, np.diag(sizes), rtol=1e-4, atol=1e-4 * min(sizes)):
            raise VolumeFormatError(
                f"{path}: its header turns or mirrors the axes: {turn.tolist()}; import the voxels as they "
                "are stored with --ignore-metadata and --voxel-size"
            )
        corner = tuple(
            rounded(place) - rounded(size) / 2 for place, size in zip(centre[::-1], sizes[::-1], strict=True)
        )
    return Stated("its header", tuple(rounded(size) for size in sizes[::-1]), unit, corner)
