"""Predictions made by hand, as `predict` stores them."""

import numpy as np

from scalenet_gp.volumes import (
    ImageLayout,
    MultiscaleArrayWriter,
    MultiscaleImage,
    VolumeFingerprint,
    create_group,
    create_image,
)
from tests.pipelines.conftest import CLASSES, CORNER, OUTPUTS, VOXEL, tiny_config

RAW_CORNER = CORNER - 2 * VOXEL
"""The corner of the raw volume, nm: the prediction begins two voxels further."""


def write_predicted(path, values, chunk=8, stored="uint8", classes=CLASSES, kind="fractions", network="a" * 64):
    """A prediction: ``values[output]``, (class, z, y, x) from 0 to 1; its finest voxels are of 4.5 nm."""
    raw = MultiscaleImage.from_arrays([np.zeros((4, 4, 4), np.uint8)], [(VOXEL,) * 3], (RAW_CORNER,) * 3)
    job = {
        "raw": VolumeFingerprint.of(raw).model_dump(mode="json"),
        "networks": [{"path": "best.safetensors", "sha256": network, "weight": 1.0}],
    }
    create_group(path, {"channels": {output: list(classes) for output in values}, "job": job})
    for output, data in values.items():
        voxel = VOXEL * OUTPUTS[output]
        layout = ImageLayout(
            (voxel,) * 3, (CORNER,) * 3, data.shape[1:], classes, stored, kind, chunks=(chunk,) * 3, levels=2
        )
        create_image(path / output, layout)
        MultiscaleArrayWriter.open(path / output).write((0, 0, 0), data.astype(np.float32))
    return path


def random_predictions(seed, shape=(14, 12, 10), smooth=True):
    """Probabilities of both classes: objects of all sizes touch faces, edges and corners of blocks."""
    values = np.random.default_rng(seed).random((len(CLASSES), *shape))
    if smooth:
        values = (values + sum(np.roll(values, 1, axis) for axis in (1, 2, 3))) / 4
    return values


def segmenting(**options):
    """The tiny config, with these options of both classes."""
    return tiny_config(segmentation={"classes": {"*": options}})


def ids_in(volume):
    image = MultiscaleImage.open(volume)
    size = image.world().size(image.levels[0].voxel_size)
    return image.read(image.roi(size, image.world()), size, image.world())[0]
