"""Coarser levels are the means of finer ones, whether they were made with the blocks or at the end."""

import numpy as np
import pytest

from scalenet_gp.nodes.volumes.block_volume import BlockVolume
from scalenet_gp.nodes.volumes.storage import open_array
from scalenet_gp.pipelines.blockwise.coarser_levels import levels_within_blocks
from scalenet_gp.pipelines.predict import predict
from tests.pipelines.blockwise.predictions import network
from tests.pipelines.conftest import tiny_config, tissue, write_array


@pytest.mark.parametrize("block", [(72, 72, 576), (72, 72, 675)])  # two chunks of 64 voxels, three of 50
def test_levels_are_means(tmp_path, block):
    raw, _ = tissue((16, 16, 300))
    write_array(tmp_path / "volume" / "em" / "raw", raw, levels=2)
    config = tiny_config(block_shape=block)
    output = predict(config, tmp_path / "volume", network(tmp_path, config), tmp_path / "out.zarr", "all", "cpu")
    for name, levels in (("0_output", 2), ("1_output", 3)):
        layout = BlockVolume.open(output / name).layout
        assert layout.levels == levels
        for level in range(1, levels):
            fine = open_array(output / name / f"s{level - 1}")[:]
            coarse = open_array(output / name / f"s{level}")[:]
            factors = [n // m for n, m in zip(fine.shape, coarse.shape, strict=True)]
            cut = fine[tuple(slice(n * f) for n, f in zip(coarse.shape, factors, strict=True))]
            parts = cut.reshape([n for pair in zip(coarse.shape, factors, strict=True) for n in pair])
            np.testing.assert_allclose(coarse, parts.mean(axis=(1, 3, 5, 7)), rtol=1e-6)
    within = levels_within_blocks(layout, (0, 0, block[2] // 4.5))
    assert within == (2 if block[2] == 576 else 1)
