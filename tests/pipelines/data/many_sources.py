"""Two volumes that differ in all that may differ: the tiny one, and one of ids with finer voxels somewhere else."""

import numpy as np

from tests.pipelines.conftest import tissue, write_array, write_volume

CLASSES = {"bright": ["bright", 7], "dark": ["dark", 3, 4]}
UNLABELLED = 255
FIRST = (200, 40, -80)  # the first voxel of the second volume, in voxels of 4.5 nm from the corner of the first one
CROP = ((2, 14), (4, 26), (6, 30))  # its annotation, in voxels of 4.5 nm
WINDOW = (6553.5, 45874.5)  # stored values of uint16
SOURCES = [
    {"raw": "a.zarr/em/raw", "labels": "a.zarr/labels/crop", "use": "train"},
    {
        "raw": "b.zarr/raw",
        "labels": "b.zarr/ids",
        "use": "train",
        "weight": 3,
        "encoding": "ids",
        "unlabelled": UNLABELLED,
        "intensities": list(WINDOW),
    },
]


def second_raw():
    """Raw data of 2.25 nm, uint16."""
    coarse, _ = tissue()
    fine = np.repeat(np.repeat(np.repeat(coarse[:, ::-1], 2, 0), 2, 1), 2, 2).astype(np.uint16) * 200
    return fine + np.random.default_rng(1).integers(0, 400, fine.shape, dtype=np.uint16)


def second_ids():
    """Ids of 4.5 nm in the crop: 7 is bright, 3 and 4 are dark, 9 is something else, and some are not labelled."""
    _, masks = tissue()
    box = tuple(slice(*bounds) for bounds in CROP)
    bright, dark = (masks[name][:, ::-1][box] > 0 for name in ("bright", "dark"))
    ids = np.zeros(bright.shape, np.uint8)
    ids[bright] = 7
    ids[dark] = (
        3
        + (np.arange(dark.shape[2]) % 2)[np.newaxis, np.newaxis].repeat(dark.shape[0], 0).repeat(dark.shape[1], 1)[dark]
    )
    ids[5, 3:6] = 9
    ids[:2] = UNLABELLED
    return ids


def write_two(folder):
    """The folder with both volumes."""
    write_volume(folder / "a.zarr")
    write_array(folder / "b.zarr" / "raw", second_raw(), [2 * f for f in FIRST], voxel=2.25, levels=2)
    first = [f + b for f, (b, _) in zip(FIRST, CROP, strict=True)]
    write_array(folder / "b.zarr" / "ids", second_ids(), first, labels=True)
    return folder
