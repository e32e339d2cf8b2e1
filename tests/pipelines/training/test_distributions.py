"""A run file whose network describes a distribution: a loss of several outputs, which learn from no annotation."""

import pytest

from scalenet_gp.errors import ArgumentError, ConfigError
from scalenet_gp.pipelines.inspection import preview
from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.pipelines.training import train
from scalenet_gp.training.checkpoint import load_checkpoint
from scalenet_gp.volumes.storage import find_node
from tests.pipelines.conftest import CPU, tiny_config

NETWORK = {
    "kind": "autoencoder",
    "top_resolution": [4.5] * 3,
    "base_nc": 1,
    "latent_nc": 2,
    "downsample_factors": [[2, 2, 2]],
    "convs_per_level": 1,
    "norm_layer": None,
}
MEAN = {"kind": "distribution", "log_variance": "log_variance", "weight": [{"iteration": 0, "weight": 0.1}]}
TARGETS = {"mean": MEAN, "*": {"kind": "classes", "classes": ["bright"]}}


def run_of(targets=TARGETS, **changes):
    return tiny_config(network=NETWORK, training__targets=targets, training__iterations=2, **changes)


def test_a_distribution_is_trained_validated_and_left_out_of_predictions(volume, tmp_path):
    validation = {"region": {"begin": [None, None, 63], "end": [None, None, 99]}, "every": 2, "samples": 1}
    region = {"begin": [None] * 3, "end": [None, None, 63]}
    config = run_of(validation=validation, training__region=region, training__overhang=None)
    assert preview(config, volume, tmp_path / "samples.png", 1).exists()
    checkpoint = train(config, volume, tmp_path / "run", "cpu", "none")
    metadata = load_checkpoint(checkpoint).metadata
    assert metadata["learned"]["channels"] == {"output": ["bright"]}
    predicted = predict(config, volume, checkpoint, tmp_path / "made.zarr", workers=CPU)
    assert find_node(str(predicted / "output")) is not None
    assert find_node(str(predicted / "mean")) is None


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({**TARGETS, "mean": {**MEAN, "log_variance": "log_varianc"}}, "no 'log_varianc'; did you mean log_variance"),
        ({**TARGETS, "mean": {**MEAN, "prior": ["output", "output"]}}, "have to be three different outputs"),
        ({**TARGETS, "mean": {**MEAN, "prior": ["output", "m"]}}, "has no 'm'"),
    ],
)
def test_a_distribution_of_outputs_that_are_not_there_is_refused(volume, tmp_path, targets, message):
    with pytest.raises(ValueError, match=message):
        train(run_of(targets), volume, tmp_path / "run", "cpu", "none")


def test_an_output_of_a_distribution_is_not_predicted(volume, tmp_path, trained):
    config = run_of(prediction__outputs=["mean"])
    with pytest.raises(ConfigError, match="'mean', which is part of a distribution"):
        predict(config, volume, trained / "checkpoints" / "checkpoint_4.safetensors", tmp_path / "made.zarr")


def test_a_run_file_names_an_adversary(volume, tmp_path):
    changes = {"training__adversary": {"output": "output", "weight": 0.1, "base_nc": 2}}
    checkpoint = train(run_of(**changes), volume, tmp_path / "run", "cpu", "none")
    assert "discriminator" in load_checkpoint(checkpoint).state["adversary"]
    wrong = run_of(training__adversary={"output": "mean"})
    with pytest.raises(ArgumentError, match="'mean', which learns from no targets; those that do are output"):
        train(wrong, volume, tmp_path / "other", "cpu", "none")
