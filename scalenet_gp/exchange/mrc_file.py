"""MRC, the format of electron tomography: .mrc, .rec, .st, .map, .ali."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.exchange.libraries import library, rounded, unreadable_as
from scalenet_gp.exchange.volume_file import Stated, VolumeFile

__all__ = ["MRC", "open_mrc"]

MRC = (".mrc", ".mrcs", ".rec", ".st", ".ali", ".map", ".ccp4")
"""The names of MRC files end so."""

_IMOD_STAMP, _SIGNED = 1146047817, 1


def open_mrc(path: str, axes: str | None) -> VolumeFile:
    """Open an MRC file.

    Args:
        path: the path of the file.
        axes: the names of the axes; by default zyx.

    Raises:
        VolumeFormatError: no MRC file, or one that is compressed, of several volumes, or of axes in another order.
    """
    mrcfile = library("mrcfile", path)
    with unreadable_as(path, "MRC"):
        file = mrcfile.mmap(path, mode="r")
        header = file.header
        order = tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))
        if order not in ((1, 2, 3), (0, 0, 0)) and axes is None:
            file.close()
            raise VolumeFormatError(
                f"{path}: its header lists the axes as {order} (columns, rows, sections), not 1, 2, 3; state with "
                "--axes which is which, slowest first, as zyx"
            )
        if file.is_volume_stack():
            file.close()
            raise VolumeFormatError(f"{path}: a stack of volumes; write each to a file of its own")
        voxels = file.data if file.data.ndim == 3 else file.data[np.newaxis]
    if voxels.dtype == np.int8 and _unsigned_bytes(header):
        voxels = voxels.view(np.uint8)
    shape = voxels.shape
    return VolumeFile(
        path,
        axes or "zyx",
        shape,
        voxels.dtype,
        lambda box: np.array(voxels[box]),
        piece=(1, *shape[1:]),
        stated=lambda: _stated(header),
        close=file.close,
    )


def _unsigned_bytes(header: Any) -> bool:
    """Return True if IMOD wrote bytes of 0 to 255, which it did before it marked them as signed."""
    extra = header["extra2"].item() if hasattr(header["extra2"], "item") else bytes(header["extra2"])
    stamp, flags = np.frombuffer(bytes(extra)[40:48], "<i4")  # at bytes 152 and 156 of the file
    return bool(stamp == _IMOD_STAMP and not flags & _SIGNED)


def _stated(header: Any) -> Stated | None:
    sizes = []
    for axis in "zyx":
        cell, voxels = float(header["cella"][axis]), int(header[f"m{axis}"])
        if cell <= 0 or voxels <= 0:
            return None
        # the length of the whole, in single precision, is rounded, too
        sizes.append(rounded(float(Fraction(str(np.float32(cell))) / voxels)))
    return Stated("its header", tuple(sizes), "angstrom")
