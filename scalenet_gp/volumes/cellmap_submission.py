"""The zip file that the CellMap Segmentation Challenge takes, and its arrays: ``crop<ID>/<class>`` of zarr format 2."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self, final
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import DTypeLike

from scalenet_gp.errors import ArgumentError, VolumeFormatError
from scalenet_gp.volumes.array_creation import create_array

__all__ = ["SubmissionWriter", "extract_class", "submitted_classes"]

_CHUNK = 64
_GROUP = json.dumps({"zarr_format": 2})
_METADATA = re.compile(r"(?:(?P<top>[^/]+\.zarr)/)?(?P<crop>crop[^/]+)/(?P<label>[^/]+)/(?:\.zarray|\.zgroup)")


@final
@dataclass(eq=False)
class SubmissionWriter:
    """Write a zip file of zarr arrays, one for each class of each crop; a context manager.

    Args:
        path: the file to write.

    Example:
        >>> with TemporaryDirectory() as folder:
        ...     with SubmissionWriter(Path(folder, "submission.zip")) as writer:
        ...         writer.add("crop1", "mito", (2, 4, 4), np.uint8, [np.ones((2, 4, 4))], {"voxel_size": [8, 8, 8]})
        ...     sorted(submitted_classes(Path(folder, "submission.zip")))
        [('crop1', 'mito')]
    """

    path: Path
    _groups: set[str] = field(default_factory=set, init=False)

    def __enter__(self) -> Self:
        self._zip = ZipFile(self.path, "w")
        self._add(".zgroup", _GROUP.encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._zip.close()

    def add(
        self,
        crop: str,
        label: str,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        slabs: Iterable[np.ndarray],
        attributes: Mapping[str, Any],
    ) -> None:
        """Add an array.

        Args:
            crop: the name of the crop.
            label: the class.
            shape: voxels.
            dtype: of the voxels.
            slabs: the voxels, part after part along the first axis. Parts of 64 planes are fastest.
            attributes: those of the array, JSON.

        Raises:
            ArgumentError: a value does not fit the dtype, or the slabs have not the shape together.
        """
        with TemporaryDirectory(prefix=".submission.", dir=self.path.parent) as folder:
            place = Path(folder, label)
            array = create_array(place, shape, tuple(min(n, _CHUNK) for n in shape), np.dtype(dtype))
            array.attrs.update(dict(attributes))
            begin = 0
            for slab in slabs:
                stored = slab.astype(dtype)
                if not np.array_equal(stored, slab):
                    raise ArgumentError(f"{crop}/{label}: a value does not fit into {np.dtype(dtype)}")
                array[begin : begin + len(slab)] = stored
                begin += len(slab)
            if begin != shape[0]:
                raise ArgumentError(f"{crop}/{label}: {begin} planes for an array of {shape[0]}")
            if crop not in self._groups:
                self._groups.add(crop)
                self._add(f"{crop}/.zgroup", _GROUP.encode())
            for file in sorted(path for path in place.rglob("*") if path.is_file()):
                self._add(f"{crop}/{label}/{file.relative_to(place).as_posix()}", file.read_bytes())

    def _add(self, name: str, content: bytes) -> None:
        entry = ZipInfo(name)  # of a fixed date, so that equal arrays make equal files
        entry.external_attr = 0o644 << 16
        self._zip.writestr(entry, content)  # chunks are compressed already


def submitted_classes(path: Path) -> dict[tuple[str, str], str]:
    """Return the crops and classes in a zip file, and the folder of each.

    A folder ``<name>.zarr`` that holds all of them is passed over, as the challenge does.

    Raises:
        FileNotFoundError: there is no such file.
        VolumeFormatError: it is not a zip file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with ZipFile(path) as file:
            names = file.namelist()
    except BadZipFile as error:
        raise VolumeFormatError(f"{path}: not a zip file that can be read: {error}") from error
    found = [match for name in names if (match := _METADATA.fullmatch(name))]
    return {(match["crop"], match["label"]): match[0].rpartition("/")[0] for match in found}


@contextmanager
def extract_class(path: Path, folder: str) -> Iterator[Path]:
    """Yield a copy of a folder of a zip file, which vanishes afterwards."""
    with TemporaryDirectory(prefix="submission.") as target, ZipFile(path) as file:
        for name in file.namelist():
            inside = PurePosixPath(name)
            if name.startswith(f"{folder}/") and not name.endswith("/") and ".." not in inside.parts:
                copy = Path(target, *inside.parts)
                copy.parent.mkdir(parents=True, exist_ok=True)
                with file.open(name) as source, copy.open("wb") as destination:
                    shutil.copyfileobj(source, destination)
        yield Path(target, *PurePosixPath(folder).parts)
