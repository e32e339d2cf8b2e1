"""The manifest of the CellMap Segmentation Challenge: which classes of which test crops are scored, and their voxels.

The format is that of ``test_crop_manifest.csv`` in https://github.com/janelia-cellmap/cellmap-segmentation-challenge.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, final

from pydantic import BaseModel, Field, ValidationError

from scalenet_gp.errors import ArgumentError, LatticeError, VolumeFormatError
from scalenet_gp.geometry import exact
from scalenet_gp.volumes.cellmap_files import table_rows
from scalenet_gp.volumes.crop_lattice import CropLattice
from scalenet_gp.volumes.location import StrPath

__all__ = ["ManifestEntry", "read_crop_manifest"]

_COLUMNS = ("crop_name", "dataset", "class_label", "voxel_size", "translation", "shape")


@final
class ManifestEntry(BaseModel, frozen=True, extra="forbid", arbitrary_types_allowed=True):
    """One class of one test crop.

    Attributes:
        crop: the name of the crop.
        dataset: the name of the dataset that it was cut from.
        label: the class.
        voxel_size: nm, (z, y, x).
        translation: the centre of the first voxel, nm.
        shape: voxels.

    Example:
        >>> nm = (Fraction(4),) * 3
        >>> entry = ManifestEntry(
        ...     crop="crop1", dataset="jrc_x", label="mito", voxel_size=nm, translation=nm, shape=(9, 9, 9)
        ... )
        >>> entry.lattice.corner[0]
        Fraction(2, 1)
    """

    crop: str = Field(pattern=r"^crop\w+$")
    dataset: str = Field(min_length=1)
    label: str = Field(pattern=r"^[\w-]+$")
    voxel_size: tuple[Fraction, Fraction, Fraction]
    translation: tuple[Fraction, Fraction, Fraction]
    shape: tuple[int, int, int]

    @property
    def lattice(self) -> CropLattice:
        """The voxels of the crop."""
        return CropLattice.of_centres(self.voxel_size, self.translation, self.shape)


def read_crop_manifest(path: StrPath) -> tuple[ManifestEntry, ...]:
    """Read the classes of the test crops, in file order.

    The file is CSV with the columns crop_name, dataset, class_label, voxel_size, translation and shape; a row is
    ``557,jrc_ctl-id8-1,mito,[1.74;2.0;2.0],[23837.13;7599.0;35999.0],[600;600;600]``. Lengths are nm, and translations
    name voxel centres.

    Raises:
        FileNotFoundError: there is no such file.
        ArgumentError: it lies behind a URL.
        VolumeFormatError: it is not CSV in UTF-8, lacks the header or a crop; a row is not of this form, or is there
            twice. The message names the line.
    """
    rows = list(table_rows(path))
    if not rows or tuple(rows[0][1]) != _COLUMNS:
        found = ", ".join(rows[0][1]) if rows else "nothing"
        raise VolumeFormatError(f"{path}: the first line has to be {','.join(_COLUMNS)}, not {found}")
    entries: dict[tuple[str, str], ManifestEntry] = {}
    for where, fields in rows[1:]:
        if len(fields) != len(_COLUMNS):
            raise VolumeFormatError(f"{where}: {len(fields)} fields; they have to be {', '.join(_COLUMNS)}")
        entry = _entry(where, dict(zip(_COLUMNS, fields, strict=True)))
        if (entry.crop, entry.label) in entries:
            raise VolumeFormatError(f"{where}: {entry.label} of {entry.crop} has a row already")
        entries[entry.crop, entry.label] = entry
    if not entries:
        raise VolumeFormatError(f"{path}: there are no crops in it")
    return tuple(entries.values())


def _entry(where: str, fields: dict[str, str]) -> ManifestEntry:
    name = fields["crop_name"].removeprefix("crop")
    try:
        entry = ManifestEntry(
            crop=f"crop{name}",
            dataset=fields["dataset"],
            label=fields["class_label"],
            voxel_size=_numbers(fields["voxel_size"], exact),
            translation=_numbers(fields["translation"], exact),
            shape=_numbers(fields["shape"], int),
        )
        entry.lattice  # noqa: B018 raises if lengths are not positive
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise VolumeFormatError(f"{where}: {fault['loc'][0]} {fault['input']!r}: {fault['msg']}") from error
    except (LatticeError, ArgumentError, ValueError) as error:
        raise VolumeFormatError(f"{where}: {error}") from error
    return entry


def _numbers(text: str, read: Callable[[str], Any]) -> Any:
    """Return the numbers of ``[1.74;2.0;2.0]``."""
    if not (text.startswith("[") and text.endswith("]")):
        raise VolumeFormatError(f"{text!r} has to be three numbers, as [1.74;2.0;2.0]")
    return tuple(read(part.strip()) for part in text[1:-1].split(";"))
