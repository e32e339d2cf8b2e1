"""The prediction of several networks is the mean of their predictions one by one."""

import numpy as np
import pytest
import torch

from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.training.checkpoint import save_checkpoint
from scalenet_gp.volumes.storage import group_attributes
from tests.pipelines.conftest import CPU, options_with, tiny_config
from tests.pipelines.prediction.predictions import REGION, voxels

CONFIG = tiny_config(prediction__block_shape=(54, 54, 54))
NAME = "1_output"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = CONFIG.build_network()
        paths.append(save_checkpoint(tmp_path_factory.mktemp("network"), net, {"iteration": 1}))
    return paths


@pytest.fixture(scope="module")
def alone(volume, checkpoints, tmp_path_factory):
    """The volumes that each network predicts."""
    folder = tmp_path_factory.mktemp("alone")
    made = [predict(CONFIG, volume, path, folder / str(i), REGION, workers=CPU) for i, path in enumerate(checkpoints)]
    return [voxels(output, NAME).astype(np.float64) for output in made]


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((1.0, 1.0), [[0.5, 0.5], [0.5, 0.5]]),
        ((1.0, 3.0), [[0.25, 0.25], [0.75, 0.75]]),
        (({NAME: (1, 0.5)}, {NAME: (1, 1.5)}), [[0.5, 0.25], [0.5, 0.75]]),
    ],
    ids=["mean", "by network", "by class"],
)
def test_networks_are_averaged(volume, checkpoints, alone, tmp_path, weights, shares):
    weighed = dict(zip(checkpoints, weights, strict=True))
    output = predict(
        CONFIG,
        volume,
        weighed,
        tmp_path / "out",
        REGION,
        options=options_with(CONFIG, outputs=[NAME], products=["mean", "variance"]),
        workers=CPU,
    )
    each = np.array(shares)[:, :, None, None, None]
    mean = sum(share * of_one for share, of_one in zip(each, alone, strict=True))
    variance = sum(share * (of_one - mean) ** 2 for share, of_one in zip(each, alone, strict=True))
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    np.testing.assert_allclose(voxels(output, NAME), mean, atol=1e-6)
    np.testing.assert_allclose(voxels(output, f"{NAME}_variance"), variance, atol=1e-6)
    kept = group_attributes(output)["job"]["networks"]
    assert [network["path"] for network in kept] == [str(path.resolve()) for path in checkpoints]


def test_mirrors_leave_a_mean_that_is_between_the_members(volume, checkpoints, alone, tmp_path):
    output = predict(
        CONFIG,
        volume,
        checkpoints[0],
        tmp_path / "out",
        REGION,
        options=options_with(CONFIG, symmetries="mirrors", outputs=[NAME], products=["mean", "entropy", "variance"]),
        workers=CPU,
    )
    mean, variance = voxels(output, NAME), voxels(output, f"{NAME}_variance")
    assert np.abs(mean - alone[0]).max() > 1e-3
    # a member is one of eight: it is no farther from the mean than the variance allows
    assert (np.abs(mean - alone[0]) <= np.sqrt(8 * variance) + 1e-4).all()
    p = mean.astype(np.float64)
    np.testing.assert_allclose(
        voxels(output, f"{NAME}_entropy"), -(p * np.log2(p) + (1 - p) * np.log2(1 - p)), atol=1e-4
    )


def test_weights_that_fit_no_class_are_refused(volume, checkpoints, tmp_path):
    weights = {path: {NAME: (1, 1, 1)} for path in checkpoints}
    with pytest.raises(ValueError, match=r"network 0 has weights .* for each of its 2 channels"):
        predict(
            CONFIG, volume, weights, tmp_path / "out", REGION, options=options_with(CONFIG, outputs=[NAME]), workers=CPU
        )
    assert not list(tmp_path.iterdir())
