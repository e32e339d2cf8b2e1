"""Writing one volume as OME-Zarr 0.4: its blocks, then its coarser levels, under its name only when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, final

import numpy as np
from numpy.typing import DTypeLike

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length, exact_size
from scalenet_gp.volumes.image_layout import ImageLayout
from scalenet_gp.volumes.location import StrPath
from scalenet_gp.volumes.multiscale_array_writer import MultiscaleArrayWriter, create_image, volume_attributes

__all__ = ["MultiscaleWriter"]


@final
class MultiscaleWriter:
    """Write one volume; a context manager.

    The blocks go to ``<name>.partial`` beside the destination. A clean exit adds the coarser levels and renames; an
    exception removes it, so that under ``path`` there is a whole volume or nothing. Voxels never written are zero.

    A level halves every axis, whole blocks only, but an axis that is at least twice as coarse as the finest waits for
    the others, and an axis of one voxel stays: 50 x 4.6 x 4.6 nm is followed by 50 x 9.2 x 9.2 nm.

    Args:
        path: the path of the multiscale group; its parent folders are made.
        voxel_size: nm, per spatial axis: (z, y, x) or (y, x).
        corner: the corner of the first voxel, nm.
        shape: voxels of the finest level, without channels.
        dtype: the dtype of the voxels: bool, integer or float.
        channels: names; none means that there is no channel axis.
        levels: the number of levels to write.
        labels: make coarser levels by majority instead of mean.
        chunks: voxels; by default 64 per axis, 512 in two dimensions, and one channel.
        attributes: further attributes of the group, JSON: the origin of the data, for example.

    Raises:
        FileExistsError: there is something at ``path``, or an unfinished volume beside it.
        ArgumentError: one of the arguments does not fit the others or the format.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> layout = {"voxel_size": (8, 8, 8), "corner": (0, 0, 0), "shape": (4, 4, 4), "dtype": np.uint8}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with MultiscaleWriter(f"{folder}/raw", **layout) as writer:
        ...         writer.write((0, 0, 0), np.ones((4, 4, 4), np.uint8))
        ...     print(sorted(path.name for path in writer.path.iterdir() if path.is_dir()))
        ['s0']
    """

    def __init__(
        self,
        path: StrPath,
        *,
        voxel_size: Iterable[Length],
        corner: Iterable[Length],
        shape: Iterable[int],
        dtype: DTypeLike,
        channels: Sequence[str] = (),
        levels: int = 1,
        labels: bool = False,
        chunks: Iterable[int] | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        self.path = Path(path)
        self._partial = self.path.with_name(f"{self.path.name}.partial")
        self._attributes = attributes
        self._volume: MultiscaleArrayWriter | None = None
        try:
            self.layout = ImageLayout(
                exact_size(voxel_size),
                exact_size(corner),
                tuple(shape),
                tuple(channels),
                np.dtype(dtype).name,
                "labels" if labels else "quantities",
                levels,
                () if chunks is None else tuple(chunks),
            )
        except ValueError as error:
            raise ArgumentError(f"{path}: {error}") from error
        volume_attributes(self.path.name, self.layout, attributes)
        self._check_free()

    def start(self) -> Self:
        """Create the unfinished volume. Entering the context does this.

        Raises:
            FileExistsError: see the class.
        """
        self._check_free()
        create_image(self._partial, self.layout, self._attributes, self.path.name)
        self._volume = MultiscaleArrayWriter.open(self._partial)
        return self

    def write(self, begin: Sequence[int], data: np.ndarray) -> None:
        """Write a block of the finest level.

        Args:
            begin: its first voxel, per spatial axis, counted from the volume's corner.
            data: (z, y, x), or (channel, z, y, x) if the volume has channels.

        Raises:
            RuntimeError: the writer was not started, or is finished.
            ArgumentError, LatticeError, DataError: see :meth:`MultiscaleArrayWriter.write`.
            OSError: it cannot be written.
        """
        if self._volume is None:
            raise RuntimeError(f"{self.path}: the writer is not open: write within its context")
        self._volume.write(begin, data)

    def finish(self) -> None:
        """Make the coarser levels and give the volume its name. A clean exit from the context does this.

        Raises:
            RuntimeError: the writer was not started, or is finished.
            FileExistsError: something else took the name meanwhile.
        """
        if self._volume is None:
            raise RuntimeError(f"{self.path}: the writer is not open: nothing to finish")
        try:
            for number, level in enumerate(self.layout.pyramid[1:], start=1):
                self._volume.coarsen(number, (0,) * len(level.shape), level.shape)
            if self.path.exists():
                raise FileExistsError(f"{self.path} exists; it was made while this volume was written")
            os.rename(self._partial, self.path)
        except BaseException:
            self.discard()
            raise
        self._volume = None

    def discard(self) -> None:
        """Remove the unfinished volume, if there is one. An exception within the context does this."""
        if self._volume is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
        self._volume = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()

    def _check_free(self) -> None:
        if self.path.exists():
            raise FileExistsError(f"{self.path} exists; choose another path or remove it")
        if self._partial.exists():
            raise FileExistsError(
                f"{self._partial} exists: an unfinished volume; remove it if nothing is writing it any more"
            )
