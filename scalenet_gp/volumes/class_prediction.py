"""The prediction of one class: an array, a multiscale volume, or a channel of one of a network's outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, final

import numpy as np

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.geometry import exact_size
from scalenet_gp.volumes.crop_lattice import CropLattice, check_covered, read_on_lattice
from scalenet_gp.volumes.multiscale_array_writer import StoredValues
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes.ome_zarr import channel_names, is_ome_zarr, multiscale_groups
from scalenet_gp.volumes.storage import ZarrNode, find_node, open_array

__all__ = ["ClassPrediction", "nearest_voxel_size", "stated_place"]

_SIZES, _POSITIONS = ("voxel_size", "resolution", "scale"), ("translation", "offset")


@final
@dataclass(frozen=True, slots=True, eq=False)
class ClassPrediction:
    """The prediction of one class: see :meth:`find`.

    Args:
        image: the volume, of one channel.
        scale: the value of a stored 1, if these are probabilities; None if they are ids.

    Example:
        >>> image = MultiscaleImage.from_arrays([np.array([[[0.2, 0.9]]])], [(8, 8, 8)])
        >>> prediction = ClassPrediction(image, 1.0)
        >>> prediction.read(CropLattice((8, 8, 8), (0, 0, 0), (1, 1, 2)), threshold=0.5).tolist()
        [[[0, 1]]]
    """

    image: MultiscaleImage
    scale: float | None

    @classmethod
    def find(cls, path: Path, label: str, voxel_size: Sequence[Fraction]) -> ClassPrediction | None:
        """Return the prediction of a class, None if there is none.

        Args:
            path: an array, or a multiscale volume, of this class or with a channel of its name; or a group of such
                volumes with channels, as :func:`scalenet_gp.pipelines.prediction.predict` writes them. Of several
                volumes with the class, that of the nearest voxel size is taken; a variance never is.
            label: the class.
            voxel_size: nm.

        Raises:
            VolumeFormatError: malformed metadata, or an array that does not state its place.
        """
        node = find_node(path)
        if node is None:
            return None
        if node.array is not None:
            return cls._of_array(node)
        if is_ome_zarr(node):
            return cls._of_image(node, label, alone=True)
        outputs = [find_node(path / name) for name in multiscale_groups(path)]
        found = [cls._of_image(output, label, alone=False) for output in outputs if output is not None]
        having = [prediction for prediction in found if prediction is not None]
        sizes = [prediction.image.levels[0].voxel_size for prediction in having]
        return having[nearest_voxel_size(sizes, voxel_size)] if having else None

    @classmethod
    def names(cls, path: Path) -> tuple[str, ...]:
        """Return the channels that :meth:`find` looks among, each once.

        Raises:
            VolumeFormatError: malformed metadata.
        """
        node = find_node(path)
        if node is None or node.array is not None:
            return ()
        outputs = [node] if is_ome_zarr(node) else [find_node(path / name) for name in multiscale_groups(path)]
        return tuple(dict.fromkeys(name for output in outputs if output is not None for name in channel_names(output)))

    @classmethod
    def _of_image(cls, node: ZarrNode, label: str, alone: bool) -> ClassPrediction | None:
        values = StoredValues.of(node.path, node.attributes)
        names = channel_names(node)
        if label not in names and (not alone or len(names) > 1):
            return None
        if not alone and values.kind == "quantities":
            return None
        image = MultiscaleImage.open(node.path, select={"c": label} if label in names else None)
        if image.channels > 1:
            raise VolumeFormatError(f"{node.path}: {image.channels} channels without names; one of {label} is needed")
        fractions = values.kind == "fractions" or image.dtype.kind == "f"
        return cls(image, values.scale if fractions else None)

    @classmethod
    def _of_array(cls, node: ZarrNode) -> ClassPrediction:
        if any(name in node.attributes for name in ("translation", "scale")):
            size, position = stated_place(node.path, node.attributes)
            stored = open_array(node.path)
            corner = CropLattice.of_centres(size, position, stored.shape).corner
            image = MultiscaleImage.from_arrays([stored[:]], [size], corner, name=node.path)
        else:
            image = MultiscaleImage.open(node.path)
        return cls(image, 1.0 if image.dtype.kind == "f" else None)

    def check_covers(self, lattice: CropLattice) -> None:
        """Check that a lattice lies within the prediction.

        Raises:
            LatticeError: it does not.
        """
        check_covered(self.image, lattice)

    def slabs(self, lattice: CropLattice, threshold: float, planes: int = 64) -> Iterator[np.ndarray]:
        """Yield the prediction on a lattice, part after part along the first axis: see :meth:`read`."""
        for begin in range(0, lattice.shape[0], planes):
            yield self.read(lattice.planes(begin, min(begin + planes, lattice.shape[0])), threshold)

    def read(self, lattice: CropLattice, threshold: float) -> np.ndarray:
        """Read the prediction on a lattice, (z, y, x).

        Args:
            lattice: the lattice.
            threshold: the probability from which on a voxel is of the class.

        Returns:
            Ids of the nearest voxel, or 1 where the linearly interpolated probability reaches the threshold.

        Raises:
            LatticeError: the lattice reaches out of the prediction.
        """
        values = read_on_lattice(self.image, lattice, labels=self.scale is None)[0]
        return values if self.scale is None else (values >= threshold / self.scale).astype(np.uint8)


def stated_place(path: str, attributes: Mapping[str, Any]) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """Return voxel size and translation, nm, as the arrays of the challenge state them in their attributes.

    Raises:
        VolumeFormatError: they do not.
    """
    found = []
    for names in (_SIZES, _POSITIONS):
        name = next((name for name in names if name in attributes), None)
        if name is None:
            raise VolumeFormatError(f"{path}: the array has none of the attributes {', '.join(names)}")
        value = attributes[name]
        if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in value):
            raise VolumeFormatError(f"{path}: the attribute {name} has to be a list of numbers, not {value!r}")
        found.append(exact_size(value))
    return found[0], found[1]


def nearest_voxel_size(voxel_sizes: Sequence[Sequence[Fraction]], wanted: Sequence[Fraction]) -> int:
    """Return the index of the voxel size that is nearest, by the ratios along the axes; the finer of two equally near.

    Example:
        >>> nearest_voxel_size([(8, 8, 8), (16, 16, 16), (32, 32, 32)], (16, 20, 20))
        1
    """

    def apart(size: Sequence[Fraction]) -> tuple[float, float]:
        steps = [math.log(own / other) for own, other in zip(size, wanted, strict=True)]
        return round(sum(map(abs, steps)), 9), sum(steps)

    return min(range(len(voxel_sizes)), key=lambda index: apart(voxel_sizes[index]))
