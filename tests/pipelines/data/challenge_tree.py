"""A folder in the layout of the CellMap Segmentation Challenge, with as many tiny crops as one likes.

Crops share the voxels of a few arrays, through links; each has metadata, and a place off the raw data's lattice, of its
own. Voxel sizes and classes differ among the data sets.
"""

import json

import numpy as np

from tests.pipelines.conftest import tissue, write_array

SIZES = (4.5, 2.25, 1.5)
CLASSES = ("bright", "dark", "rare")
EDGE = 16


def write_challenge(folder, crops=289, datasets=22, links=True):
    """Write the crops, numbered from 1, and return the folder; every third data set has no labels of ``rare``."""
    raw, masks = tissue()
    masks = {**masks, "rare": masks["bright"] & (np.indices(raw.shape)[2] < 16)}
    box = (slice(2, 2 + EDGE),) * 3
    for number in range(datasets):
        voxel = SIZES[number % len(SIZES)]
        top = folder / f"set{number}" / f"set{number}.zarr" / "recon-1"
        first = top / "labels" / "groundtruth" / f"crop{number + 1}"
        write_array(top / "em" / "fibsem-uint8", raw, voxel=voxel, levels=2)
        classes = CLASSES if number % 3 else CLASSES[:2]
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
