"""Words for a local path without a volume: a file of another format, a folder of slices, or a typo."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

from scalenet_gp.options import suggest
from scalenet_gp.volumes.location import StrPath, local_path

__all__ = ["describe_absence"]

_SIGNATURES = {
    b"II*\0": "a TIFF file",
    b"MM\0*": "a TIFF file",
    b"II+\0": "a TIFF file",
    b"MM\0+": "a TIFF file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x89PNG": "a PNG file",
    b"\xff\xd8\xff": "a JPEG file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x93NUMPY": "an array of numpy",
}
_SLICES = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_CURE = "`scalenet-gp import` makes an OME-Zarr volume of it"
_LISTED = 12


def describe_absence(path: StrPath) -> str:
    """Return a clause for a message on a path without a volume: the things that are there; empty for URLs.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a.tif").write_bytes(b"II*" + bytes(9))
        ...     describe_absence(f"{folder}/a.tif")
        'it is a TIFF file; `scalenet-gp import` makes an OME-Zarr volume of it'
    """
    wanted = local_path(path)
    if wanted is None:
        return ""
    there = next(place for place in (wanted, *wanted.parents) if place.exists() or place == place.parent)
    if there.is_file():
        kind = _kind_of(there)
        cure = f"; {_CURE}" if kind != "a file" else ""
        return f"it is {kind}{cure}" if there == wanted else f"{there} is {kind}, not a folder{cure}"
    names = sorted(entry.name for entry in there.iterdir() if not entry.name.startswith("."))
    if there == wanted:
        slices = Counter(_SLICES[suffix] for name in names if (suffix := Path(name).suffix.lower()) in _SLICES)
        if slices:
            kind, count = slices.most_common(1)[0]
            return f"it is a folder with {count} {kind} file{'s' if count > 1 else ''}; {_CURE}"
        listed = ", ".join(names[:_LISTED]) + (" and others" if len(names) > _LISTED else "")
        return f"it is a folder with {listed}" if names else "it is an empty folder"
    missing = wanted.relative_to(there).parts[0]
    return f"in {there}, {suggest(missing, names[:_LISTED], 'there')}"


def _kind_of(file: Path) -> str:
    """Return the format of a file by its first bytes, in words."""
    with file.open("rb") as opened:
        head = opened.read(352)
    if head[:2] == b"\x1f\x8b":
        try:
            with gzip.open(file) as opened:
                head = opened.read(352)
        except (OSError, EOFError):
            return "a compressed file"
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if head[208:212] == b"MAP ":
        return "an MRC file"
    return "a NIfTI file" if head[344:347] in (b"n+1", b"ni1") or head[4:7] == b"n+2" else "a file"
