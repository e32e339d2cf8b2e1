"""The picture of segmentations: a panel for each, of the section that the truth has its middle in."""

import matplotlib.image
import numpy as np
import pytest

from scalenet_gp.errors import LatticeError
from scalenet_gp.pipelines.plots import draw_objects
from scalenet_gp.volumes import MultiscaleWriter


def write(path, voxels, corner, labels=True):
    with MultiscaleWriter(
        path,
        voxel_size=(8, 8, 8),
        corner=corner,
        shape=voxels.shape,
        dtype=voxels.dtype,
        levels=1,
        labels=labels,
    ) as writer:
        writer.write((0, 0, 0), voxels)
    return path


def test_a_panel_shows_each_segmentation(tmp_path):
    rng = np.random.default_rng(0)
    raw = write(tmp_path / "raw", rng.integers(60, 200, (10, 20, 30), dtype=np.uint8), (0, 0, 0), labels=False)
    ids = np.zeros((6, 16, 24), np.uint16)
    ids[:, :7], ids[:, 9:] = 3, 8
    truth = write(tmp_path / "truth", ids, (16, 16, 16))
    merged = write(tmp_path / "merged", (ids > 0).astype(np.uint8), (16, 16, 16))
    made = draw_objects(raw, truth, {"one": truth, "other": merged}, tmp_path / "made" / "picture.png")
    picture = matplotlib.image.imread(made)[..., :3]
    width = picture.shape[1] // 4
    middle = picture[picture.shape[0] // 3]  # a row through the upper object
    colors = [middle[int((n + 0.5) * width)] for n in range(4)]
    assert np.ptp(colors[0]) < 0.01  # grey
    assert np.ptp(colors[1]) > 0.1
    np.testing.assert_array_equal(colors[2], colors[1])


def test_a_segmentation_of_other_voxels_is_refused(tmp_path):
    raw = write(tmp_path / "raw", np.zeros((8, 8, 8), np.uint8), (0, 0, 0), labels=False)
    truth = write(tmp_path / "truth", np.ones((8, 8, 8), np.uint8), (0, 0, 0))
    small = write(tmp_path / "small", np.ones((8, 8, 4), np.uint8), (0, 0, 0))
    with pytest.raises(LatticeError, match="small"):
        draw_objects(raw, truth, {"small": small}, tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()
