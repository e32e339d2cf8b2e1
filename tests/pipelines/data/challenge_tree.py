"""A folder in the layout of the CellMap Segmentation Challenge, with as many tiny crops as one likes.

Crops share the voxels of a few arrays, through links; each has metadata, and a place off the raw data's lattice, of its
own. Voxel sizes and classes differ among the data sets.
"""

import json
from fractions import Fraction

import numpy as np

from scalenet_gp.volumes import MultiscaleWriter
from tests.pipelines.conftest import tissue, write_array

SIZES = (4.5, 2.25, 1.5)
CLASSES = ("bright", "dark", "rare")
EDGE = 16


def write_challenge(folder, crops=289, datasets=22, names=CLASSES):
    """Write the crops, numbered from 1, and return the folder; every third data set has no labels of the last class."""
    raw, masks = tissue()
    rare = masks["bright"] & (np.indices(raw.shape)[2] < 16)
    masks = dict(zip(names, (masks["bright"], masks["dark"], rare), strict=True))
    box = (slice(2, 2 + EDGE),) * 3
    for number in range(datasets):
        voxel = SIZES[number % len(SIZES)]
        top = folder / f"set{number}" / f"set{number}.zarr" / "recon-1"
        first = top / "labels" / "groundtruth" / f"crop{number + 1}"
        write_array(top / "em" / "fibsem-uint8", raw, voxel=voxel, levels=2)
        classes = names if number % 3 else names[:2]
        for name in classes:
            write_array(first / name, masks[name][box].astype(np.uint8), voxel=voxel, labels=True, levels=2)
        for crop in range(number + 1, crops + 1, datasets):
            for name in classes:
                _copy_moved(first / name, first.with_name(f"crop{crop}") / name, voxel * (2 + crop % 3 / 4))
    return folder


def _copy_moved(origin, copy, by):
    """Copy the metadata of a label volume, moved along each axis; its arrays are links."""
    attributes = json.loads((origin / ".zattrs").read_text())
    for dataset in attributes["multiscales"][0]["datasets"]:
        for transformation in dataset["coordinateTransformations"]:
            if transformation["type"] == "translation":
                transformation["translation"] = [t + by for t in transformation["translation"]]
    if copy != origin:
        copy.mkdir(parents=True)
        (copy / ".zgroup").write_text('{"zarr_format": 2}')
        for array in origin.iterdir():
            if array.is_dir():
                (copy / array.name).symlink_to(array)
    (copy / ".zattrs").write_text(json.dumps(attributes))


VOXEL_SIZES = [
    *((z, "2", "2") for z in ("1.62", "1.68", "1.72", "1.74", "2", "2.28", "2.62")),
    *((size,) * 3 for size in ("3.36", "4", "8", "16", "32", "64")),
]
"""nm, of the crops in the challenge; and 3.36 nm along all axes, which divides nothing that a network has."""


def write_voxel_sizes(folder, numbers=None):
    """Write a crop of each voxel size, off the lattice of its raw volume, and return the places of their planes.

    A crop is about 100 nm long, or 128. The class ``beyond`` is its half from a plane on; raw data are 200 there, and
    60 before. In another class, ``seen``, the first half of the crop along y is unknown. Crops are numbered from 1.
    """
    planes = {}
    for number in numbers or range(1, 1 + len(VOXEL_SIZES)):
        voxel = [Fraction(length) for length in VOXEL_SIZES[number - 1]]
        shape = [max(2, int(100 / length)) for length in voxel]
        fine = [min(2 * length, Fraction(8)) for length in voxel]
        corner = [10 * length + Fraction(37 * number, 100) for length in fine]
        plane = corner[0] + shape[0] // 2 * voxel[0]
        top = folder / f"set{number}" / f"set{number}.zarr" / "recon-1"
        section = np.array([min(max(fine[0] * (z + 1) - plane, 0), fine[0]) / fine[0] for z in range(48)], dtype=float)
        raw = np.broadcast_to(np.rint(60 + 140 * section).astype(np.uint8)[:, np.newaxis, np.newaxis], (48, 48, 48))
        _write(top / "em" / "fibsem-uint8", raw, fine, [Fraction(0)] * 3, levels=3, chunks=(48, 48, 48))
        beyond = np.zeros(shape, np.uint8)
        beyond[shape[0] // 2 :] = 1
        seen = np.ones(shape, np.uint8)
        seen[:, : shape[1] // 2] = 2
        encoding = {"type": "semantic_segmentation", "encoding": {"absent": 0, "present": 1, "unknown": 2}}
        for name, values in (("beyond", beyond), ("seen", seen)):
            attributes = {"cellmap": {"annotation": {"class_name": name, "annotation_type": encoding}}}
            path = top / "labels" / "groundtruth" / f"crop{number}" / name
            _write(path, values, voxel, corner, labels=True, levels=1, chunks=(64, 64, 64), attributes=attributes)
        planes[f"crop{number}"] = plane
    return planes


def _write(path, data, voxel, corner, **options):
    with MultiscaleWriter(
        path, voxel_size=voxel, corner=corner, shape=data.shape, dtype=data.dtype, **options
    ) as writer:
        writer.write((0, 0, 0), data)
