"""Experiments on the tiny volume: a U-Net and a ScaleNet of one convolution per level, and a model that diverges."""

from pathlib import Path

import pytest
import yaml

from scalenet_gp.pipelines.experiments import Matrix
from tests.pipelines.conftest import TINY, changed

SUBNET = {"base_nc": 2, "downsample_factors": [[2, 2, 2]], "convs_per_level": 1, "norm_layer": None}
UNET = {"network": {"kind": "unet", "top_resolution": [4.5] * 3, **SUBNET}}
DIVERGES = {"training": {"optimization": {"learning_rate": 1e30, "skips_in_a_row": 0}}}
"""Changes with which the second step of a run has a loss that is not finite."""


def write_matrix(folder, volume, base=None, **fields):
    """The file of a matrix, and the run file that it is about: the tiny config without augmentation."""
    settings = changed(TINY, data__folder=str(volume), augmentation=[], training__iterations=2)
    settings = changed(settings, **(base or {}))
    (folder / "base.yaml").write_text(yaml.safe_dump(settings))
    path = folder / "matrix.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "base": "base.yaml", "models": {"unet": UNET}, **fields}))
    return path


@pytest.fixture
def matrix_of(tmp_path, volume):
    """Write a matrix, and return what it says."""

    def make(**fields) -> Matrix:
        return Matrix.read(write_matrix(tmp_path, volume, **fields))

    return make


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "experiment"
