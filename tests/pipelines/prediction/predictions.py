"""Helpers of the tests of this folder: small networks, and the voxels that were predicted."""

from pathlib import Path

import torch

from scalenet_gp.pipelines.config import Region
from scalenet_gp.training.checkpoint import save_checkpoint
from scalenet_gp.volumes.storage import open_array

BLOCKS = (18, 18, 18)
REGION = Region(begin=(0, 90, 72), end=(54, 180, 126))
"""At three faces of the volume; 90 blocks."""


def network(folder, config):
    """A checkpoint of a network that was not trained."""
    torch.manual_seed(0)
    return save_checkpoint(folder, config.build_network(), {"iteration": 1})


def files(output):
    """All files of a prediction, but for the attributes of the group, which name its place."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in Path(output).rglob("*")
        if path.is_file() and path != output / ".zattrs"
    }


def voxels(output, name):
    return open_array(output / name / "s0")[:]
