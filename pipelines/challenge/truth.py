"""The truth to score against: crops in the challenge's form, or those of its training data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.metrics import CropGrid, connected_objects, is_instance_class
from scalenet_gp.volumes import (
    ClassVolume,
    CropLattice,
    MultiscaleImage,
    find_node,
    is_ome_zarr,
    open_array,
    read_annotation,
    stated_place,
)

__all__ = ["TrueClass", "true_classes"]

_PLACES = ("crop*", "*.zarr/*/labels/groundtruth/crop*", "*/*.zarr/*/labels/groundtruth/crop*")
_MASK = "_mask"


@dataclass(frozen=True, slots=True)
class TrueClass:
    """One annotated class of one crop.

    Attributes:
        crop: the name of the crop.
        label: the class.
        path: the array or multiscale volume.
        dataset: the name of the dataset; empty if the folders do not tell.
    """

    crop: str
    label: str
    path: Path
    dataset: str

    def lattice(self) -> CropLattice:
        """Return the voxels of the crop.

        Raises:
            VolumeFormatError: the array does not state its place.
        """
        node = find_node(self.path)
        if node is not None and node.array is not None:
            size, translation = stated_place(str(self.path), node.attributes)
            return CropLattice.of_centres(size, translation, open_array(self.path).shape)
        level = MultiscaleImage.open(self.path).levels[0]
        return CropLattice(level.voxel_size, level.begin, level.shape)

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the truth, ids or values above 0, and where it is annotated: everywhere if None.

        Raises:
            VolumeFormatError: it cannot be read, or the mask has another shape.
        """
        node = find_node(self.path)
        if node is not None and node.array is not None:
            values, beside = open_array(self.path)[:], self.path.with_name(f"{self.label}{_MASK}")
            mask = open_array(beside)[:] if find_node(beside) is not None else None
            if mask is not None and mask.shape != values.shape:
                raise VolumeFormatError(f"{beside} has the shape {mask.shape}, and the truth {values.shape}")
            return values, mask
        image = MultiscaleImage.open(self.path)
        level = image.levels[0]
        annotation = read_annotation(str(self.path), level.path)
        classes = ClassVolume(image, annotation.absent, annotation.present, annotation.unknown)
        world = image.world(level.voxel_size)
        size = world.size(level.voxel_size)
        stored = image.read(image.roi(size, world), size, world)[0]
        present, known = classes.read(stored)
        mask = None if known.all() else known
        if not is_instance_class(self.label):
            return present, mask
        # one value for all objects says nothing about which voxels are of one
        return (connected_objects(present) if annotation.present is not None else np.where(present, stored, 0)), mask


def true_classes(folder: Path) -> tuple[TrueClass, ...]:
    """Return the classes of the crops in a folder, sorted by crop.

    The crops are folders ``crop<ID>`` in it, or in ``<dataset>/<dataset>.zarr/recon-1/labels/groundtruth``, as the
    challenge's training data lie. An array ``<class>_mask`` is the mask of its class.

    Raises:
        FileNotFoundError: there is no such folder.
        VolumeFormatError: there are no crops in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    for place in _PLACES:
        if crops := sorted(path for path in folder.glob(place) if path.is_dir()):
            break
    found = tuple(one for crop in crops for one in _classes(crop))
    if not found:
        raise VolumeFormatError(
            f"{folder}: there is no crop with a class in it: neither crop<ID>/<class> nor "
            "<dataset>/<dataset>.zarr/recon-1/labels/groundtruth/crop<ID>/<class>"
        )
    return found


def _classes(crop: Path) -> Iterator[TrueClass]:
    containers = [part for part in crop.parts if part.endswith(".zarr")]
    dataset = containers[-1].removesuffix(".zarr") if containers else ""
    names = {path.name for path in crop.iterdir() if path.is_dir()}
    for name in sorted(names):
        node = find_node(crop / name)
        if node is None or not (node.array is not None or is_ome_zarr(node)):
            continue
        if not (name.endswith(_MASK) and name.removesuffix(_MASK) in names):
            yield TrueClass(crop.name, name, crop / name, dataset)


def grid_of(lattice: CropLattice) -> CropGrid:
    """Return a lattice as the challenge's rule has it, in floating point."""
    size, translation = (tuple(map(float, lengths)) for lengths in (lattice.voxel_size, lattice.translation))
    return CropGrid(size, translation, lattice.shape)
