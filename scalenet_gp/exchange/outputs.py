"""Volumes written for other programs, box by box: OME-TIFF, HDF5 and neuroglancer's precomputed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, final

import numpy as np

from scalenet_gp.errors import ArgumentError, DataError
from scalenet_gp.exchange.libraries import library
from scalenet_gp.volumes import Level, create_precomputed, open_precomputed

__all__ = ["VolumeOutput", "WriteBox", "output_of"]

WriteBox = Callable[[int, Sequence[int], np.ndarray], None]
"""Writes a box: the level, its first voxel (z, y, x), and its voxels, (c, z, y, x) or (z, y, x)."""


class VolumeOutput(ABC):
    """Abstract: a format to write.

    Attributes:
        pyramid: True if the format holds coarser levels.
        many: True if several processes can write at once, and an interrupted one leaves a file that can be read.

    Args:
        levels: the levels, of which a format without a pyramid takes the first.
        channels: the number of channels; None without an axis of channels.
        dtype: of the values.
        labels: the values are names.

    Example:
        >>> import tempfile
        >>> from fractions import Fraction
        >>> level = Level("s0", (2, 3, 4), (Fraction(8),) * 3, (Fraction(0),) * 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.h5")
        ...     output = output_of(path)([level], None, np.dtype("uint8"), labels=False)
        ...     output.create(path)
        ...     with output.writing(path) as write:
        ...         write(0, (1, 0, 0), np.ones((1, 3, 4), np.uint8))
        >>> output.shape
        (2, 3, 4)
    """

    pyramid: ClassVar[bool] = False
    many: ClassVar[bool] = True

    def __init__(self, levels: Sequence[Level], channels: int | None, dtype: np.dtype[Any], labels: bool) -> None:
        self.levels = tuple(levels) if self.pyramid else tuple(levels)[:1]
        self.channels = channels
        self.dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
        self.labels = labels

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the finest level with its channels."""
        return (() if self.channels is None else (self.channels,)) + self.levels[0].shape

    @abstractmethod
    def create(self, path: Path) -> None:
        """Create the file, full of zeros.

        Raises:
            ArgumentError, LatticeError: the format cannot hold the volume.
            OSError: it cannot be written.
        """

    @abstractmethod
    def writing(self, path: Path) -> Any:
        """Return a context that opens the file and gives a :data:`WriteBox`."""


@final
class TiffOutput(VolumeOutput):
    """OME-TIFF, not compressed, with voxel sizes in nm. Numbers of 64 bits are stored in 32, if they fit.

    Example:
        >>> TiffOutput.pyramid
        False
    """

    def __init__(self, levels: Sequence[Level], channels: int | None, dtype: np.dtype[Any], labels: bool) -> None:
        super().__init__(levels, channels, dtype, labels)
        smaller = {"uint64": "uint32", "int64": "int32", "float16": "float32"}
        self.dtype = np.dtype(smaller.get(self.dtype.name, self.dtype.name))

    def create(self, path: Path) -> None:
        axes = ("C" if self.channels is not None else "") + ("ZYX" if len(self.levels[0].shape) == 3 else "YX")
        sizes = dict(zip(axes[-len(self.levels[0].shape) :], self.levels[0].voxel_size, strict=True))
        metadata: dict[str, Any] = {"axes": axes}
        for axis, size in sizes.items():
            metadata |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": "nm"}
        tifffile = library("tifffile", str(path))
        mapped = tifffile.memmap(
            path,
            shape=self.shape,
            dtype=self.dtype,
            ome=True,
            bigtiff=self.dtype.itemsize * int(np.prod(self.shape)) > 2**31,
            photometric="minisblack",
            metadata=metadata,
        )
        mapped.flush()

    @contextmanager
    def writing(self, path: Path) -> Iterator[WriteBox]:
        mapped = library("tifffile", str(path)).memmap(path, mode="r+").reshape(self.shape)

        def write(level: int, begin: Sequence[int], data: np.ndarray) -> None:
            if data.dtype.itemsize > self.dtype.itemsize:
                _check_fits(path, begin, data, self.dtype)
            mapped[_box(begin, data)] = data
            mapped.flush()

        yield write


@final
class Hdf5Output(VolumeOutput):
    """HDF5 with the dataset ``volumes/raw`` or ``volumes/labels/ids``, and CREMI's attributes ``resolution`` and
    ``offset`` in nm.

    Example:
        >>> Hdf5Output.many
        False
    """

    many = False

    @property
    def dataset(self) -> str:
        """The path of the dataset."""
        return "volumes/labels/ids" if self.labels else "volumes/raw"

    def create(self, path: Path) -> None:
        leading = () if self.channels is None else (1,)
        chunks = leading + tuple(min(64, length) for length in self.levels[0].shape)
        with library("h5py", str(path)).File(path, "w") as file:
            array = file.create_dataset(
                self.dataset, self.shape, self.dtype, chunks=chunks, compression="gzip", compression_opts=1
            )
            array.attrs["resolution"] = [float(length) for length in self.levels[0].voxel_size]
            array.attrs["offset"] = [float(length) for length in self.levels[0].begin]
            array.attrs["unit"] = "nanometer"

    @contextmanager
    def writing(self, path: Path) -> Iterator[WriteBox]:
        lock = Lock()
        with library("h5py", str(path)).File(path, "r+") as file:

            def write(level: int, begin: Sequence[int], data: np.ndarray) -> None:
                with lock:
                    file[self.dataset][_box(begin, data)] = data

            yield write


@final
class PrecomputedOutput(VolumeOutput):
    """Neuroglancer's precomputed volume, with all levels.

    Example:
        >>> PrecomputedOutput.pyramid
        True
    """

    pyramid = True

    def create(self, path: Path) -> None:
        create_precomputed(path, self.levels, self.channels or 1, self.dtype, self.labels)

    @contextmanager
    def writing(self, path: Path) -> Iterator[WriteBox]:
        scales = open_precomputed(path)

        def write(level: int, begin: Sequence[int], data: np.ndarray) -> None:
            voxels = data if self.channels is not None else data[np.newaxis]
            scales[level].write(_box(begin, voxels), voxels.astype(self.dtype, copy=False))

        yield write


def output_of(path: Path) -> type[VolumeOutput]:
    """Return the format that the name of a file asks for.

    Raises:
        ArgumentError: it asks for none that is written.

    Example:
        >>> output_of(Path("mito.tif")).__name__
        'TiffOutput'
    """
    name = path.name.lower()
    if name.endswith((".tif", ".tiff")):
        return TiffOutput
    if name.endswith((".h5", ".hdf5", ".hdf")):
        return Hdf5Output
    if name.endswith("precomputed"):
        return PrecomputedOutput
    raise ArgumentError(
        f"{path}: the name of the output says its format: it ends in .tif or .tiff, .h5 or .hdf5, or, for a folder of "
        "neuroglancer's format, in precomputed"
    )


def _box(begin: Sequence[int], data: np.ndarray) -> tuple[slice, ...]:
    dims = len(begin)
    space = tuple(slice(int(b), int(b) + n) for b, n in zip(begin, data.shape[-dims:], strict=True))
    return (slice(None),) * (data.ndim - dims) + space


def _check_fits(path: Path, begin: Sequence[int], data: np.ndarray, dtype: np.dtype[Any]) -> None:
    limits = np.iinfo(dtype)
    if data.size and (int(data.max()) > limits.max or int(data.min()) < limits.min):
        wrong = int(data.max()) if int(data.max()) > limits.max else int(data.min())
        raise DataError(
            f"{path.name}: {wrong} in the block from voxel {tuple(begin)} on does not fit into the {dtype} of TIFF; "
            "export to .h5 or precomputed, which hold 64 bits"
        )
