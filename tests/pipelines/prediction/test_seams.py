"""Blocks give what one piece gives, for every kind of network, at the borders of the volume too."""

import numpy as np
import pytest

from scalenet_gp.pipelines.prediction import predict
from tests.pipelines.conftest import CPU, TINY, options_with, tiny_config
from tests.pipelines.prediction.predictions import network, voxels

SUBNET = TINY["network"]["subnets"][0]


def scales(*sizes, **options):
    return [{**SUBNET, "top_resolution": [size] * 3, **options} for size in sizes]


NETWORKS = {
    "unet": scales(4.5, downsample_factors=[[2, 2, 2], [2, 2, 2]]),
    "scalenet": scales(18, 9, 4.5),
    "attentive": [
        *scales(9, attention_gates=True),
        *scales(4.5, attention_gates=True, bottleneck_join="attention"),
    ],
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_there_are_no_seams(volume, tmp_path, kind):
    config = tiny_config(network__subnets=NETWORKS[kind], prediction__block_shape=[1800] * 3)
    checkpoint = network(tmp_path, config)
    names = config.build_network().output_keys
    whole = predict(config, volume, checkpoint, tmp_path / "whole.zarr", "all", workers=CPU)
    for number, block in enumerate(([36, 72, 108], [90, 54, 36])):
        config = tiny_config(network__subnets=NETWORKS[kind], prediction__block_shape=block)
        blocks = predict(config, volume, checkpoint, tmp_path / f"{number}.zarr", "all", workers=CPU)
        for name in names:
            one = voxels(whole, name)
            assert one.std() > 1e-4  # it has something to say
            np.testing.assert_allclose(voxels(blocks, name), one, rtol=1e-5, atol=1e-6)


def test_a_choice_of_outputs_is_the_same_as_among_all(volume, tmp_path):
    config = tiny_config(network__subnets=NETWORKS["scalenet"], prediction__block_shape=[1800] * 3)
    checkpoint = network(tmp_path, config)
    everything = predict(config, volume, checkpoint, tmp_path / "all.zarr", "all", workers=CPU)
    for name in config.build_network().output_keys:
        alone = predict(
            config,
            volume,
            checkpoint,
            tmp_path / f"{name}.zarr",
            "all",
            options=options_with(config, outputs=[name]),
            workers=CPU,
        )
        assert [path.name for path in alone.iterdir() if path.is_dir()] == [name]
        np.testing.assert_allclose(voxels(alone, name), voxels(everything, name), rtol=1e-5, atol=1e-6)
