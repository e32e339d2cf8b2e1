"""The tables of the CellMap Segmentation Challenge: which crops to use for what, and which classes unite others.

Both are CSV without a header. What follows is what
https://github.com/janelia-cellmap/cellmap-segmentation-challenge writes and reads.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast, final, get_args

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.volumes.location import StrPath, join, local_path

__all__ = ["Crop", "Usage", "read_class_groups", "read_datasplit", "table_rows"]

Usage = Literal["train", "validate"]
"""The purpose of a crop."""


@final
@dataclass(frozen=True, slots=True)
class Crop:
    """One annotated crop, and the raw volume that it was cut from.

    Args:
        usage: the purpose of the crop.
        raw: path or URL of the multiscale group of the raw volume.
        labels: path or URL of the folder that holds one multiscale group per class.
        classes: the names of the classes to use.

    Example:
        >>> Crop("train", "jrc_hela.zarr/recon-1/em/fibsem-uint8", "jrc_hela.zarr/labels/crop1", ("mito", "nuc")).usage
        'train'
    """

    usage: Usage
    raw: str
    labels: str
    classes: tuple[str, ...]


def read_datasplit(path: StrPath) -> tuple[Crop, ...]:
    """The crops of a datasplit, in file order.

    A row is ``"train","x.zarr","recon-1/em/fibsem-uint8","x.zarr","recon-1/labels/groundtruth/crop234/[nuc,mito]"``:
    usage, container and dataset of the raw volume, and those of the labels. A label dataset without brackets is that of
    one class. Relative paths start at the working directory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file lies behind a URL, or is not CSV in UTF-8; a row that is not of this form, or two rows of
            one crop; the message names the line.
    """
    crops: dict[str, Crop] = {}
    for where, fields in table_rows(path):
        if len(fields) != 5:
            raise VolumeFormatError(
                f"{where}: {len(fields)} fields; they have to be 5: usage, raw container, raw dataset, label "
                "container, label dataset"
            )
        usage, raw_container, raw_dataset, container, dataset = fields
        if usage not in get_args(Usage):
            raise VolumeFormatError(f"{where}: the usage {usage!r} has to be one of {', '.join(get_args(Usage))}")
        if empty := [field for field in fields if not field]:
            raise VolumeFormatError(f"{where}: {len(empty)} of the fields {fields} are empty")
        folder, classes = _classes(where, dataset)
        labels = join(container, folder) if folder else container
        if labels in crops:
            raise VolumeFormatError(
                f"{where}: {labels} has a row already; a crop has one row, with all its classes in brackets"
            )
        crops[labels] = Crop(cast(Usage, usage), join(raw_container, raw_dataset), labels, classes)
    return tuple(crops.values())


def read_class_groups(path: StrPath) -> dict[str, tuple[str, ...]]:
    """Read the single classes of every class, in file order: itself, or those that it unites.

    A line is ``mito,50,"3,4,5"``: the name of a class, its number, and the numbers of the classes that it unites, none
    for a single class. The united ones may be united themselves.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file lies behind a URL, or is not CSV in UTF-8; a line that is not of this form, a name or a
            number twice, a number of no class, or a class that unites itself; the message names the line.
    """
    names: dict[int, str] = {}
    members: dict[str, tuple[str, list[int]]] = {}
    for where, fields in table_rows(path):
        if len(fields) != 3:
            raise VolumeFormatError(
                f"{where}: {len(fields)} fields; they have to be 3: class, number, numbers that it unites"
            )
        name, number, united = fields
        identity = _integer(where, number)
        if not name or name in members:
            raise VolumeFormatError(
                f"{where}: the class {name!r} has a line already" if name else f"{where}: a class without name"
            )
        if identity in names:
            raise VolumeFormatError(f"{where}: {name} has the number {identity}, which is that of {names[identity]}")
        names[identity] = name
        members[name] = where, [_integer(where, part) for part in united.split(",") if part.strip()]
    return {name: tuple(dict.fromkeys(_single(name, names, members, ()))) for name in members}


def _single(
    name: str, names: Mapping[int, str], members: Mapping[str, tuple[str, list[int]]], above: tuple[str, ...]
) -> Iterator[str]:
    """Yield the single classes of a class, some perhaps more than once."""
    where, united = members[name]
    if name in above:
        raise VolumeFormatError(f"{where}: {name} unites itself: {' > '.join((*above, name))}")
    if not united:
        yield name
    for identity in united:
        if identity not in names:
            raise VolumeFormatError(f"{where}: {name} unites the class {identity}, which has no line")
        yield from _single(names[identity], names, members, (*above, name))


def _classes(where: str, dataset: str) -> tuple[str, tuple[str, ...]]:
    """Split ``crop234/[nuc,mito]`` into ``crop234`` and its classes."""
    folder, bracket, listed = dataset.rpartition("[")
    if not bracket:
        folder, _, listed = dataset.rstrip("/").rpartition("/")
    elif not listed.endswith("]") or (folder and not folder.endswith("/")):
        raise VolumeFormatError(
            f"{where}: the label dataset {dataset!r} has to end in its classes, as in 'crop1/[nuc,mito]'"
        )
    classes = tuple(name.strip() for name in listed.removesuffix("]").split(","))
    if strange := [name for name in classes if set(name) & set("[]\"'")]:
        raise VolumeFormatError(
            f"{where}: the classes {', '.join(strange)} of {dataset!r} have to be without quotes and brackets, as in "
            "'crop1/[nuc,mito]'"
        )
    if not all(classes) or len(set(classes)) < len(classes):
        raise VolumeFormatError(f"{where}: the classes of {dataset!r} have to have names, and each to be there once")
    return folder.rstrip("/"), classes


def table_rows(path: StrPath) -> Iterator[tuple[str, list[str]]]:
    """Yield the line of each row, for messages, and its fields. Empty lines are left out."""
    file = local_path(path)
    if file is None:
        raise ArgumentError(f"{path}: tables are read from local files only; copy it, and give the path of the copy")
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise VolumeFormatError(f"{path}: not readable as text in UTF-8: {error}") from error
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        for row in reader:
            if row and row != [""]:
                yield f"{path}, line {reader.line_num}", [field.strip() for field in row]
    except csv.Error as error:
        raise VolumeFormatError(f"{path}, line {reader.line_num}: not readable as CSV: {error}") from error


def _integer(where: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise VolumeFormatError(f"{where}: {text!r} has to be the number of a class") from error
