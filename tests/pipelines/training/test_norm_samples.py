"""Statistics of batch normalization in a run: estimated over samples of its own, the same after a break."""

import torch

from scalenet_gp.pipelines.training.train_job import train
from scalenet_gp.training import load_checkpoint, load_network
from tests.pipelines.conftest import VALIDATED_RUN, tiny_config
from tests.pipelines.training.test_train import reporting

NORMED = VALIDATED_RUN | {
    "network__subnets__0__norm_layer": "batch",
    "network__subnets__1__norm_layer": "batch",
    "training__batch_size": 2,
    "training__optimization__schedule": "constant",
    "training__norm_statistics__samples": 3,
}


def run(volume, folder, **changes):
    """Losses and checkpoint of a run."""
    losses = []
    with reporting(lambda record: losses.append(record.loss)):
        checkpoint = train(tiny_config(**NORMED | changes), volume, folder, "cpu")
    return losses, checkpoint


def test_statistics_are_estimated_anew_and_training_does_not_notice(volume, tmp_path):
    losses, whole = run(volume, tmp_path / "whole")
    same, kept = run(volume, tmp_path / "kept", training__norm_statistics__samples=0)
    assert losses == same
    estimated, running = load_checkpoint(whole), load_checkpoint(kept)
    changed = {name for name, tensor in estimated.weights.items() if not torch.equal(tensor, running.weights[name])}
    assert changed == {name for name in estimated.weights if "running_" in name}
    own = estimated.state["own_statistics"]
    assert own.keys() == changed
    assert all(torch.equal(tensor, running.weights[name]) for name, tensor in own.items())

    run(volume, tmp_path / "parts", training__iterations=3)
    later, resumed = run(volume, tmp_path / "parts")
    assert later == losses[3:]
    weights = load_checkpoint(resumed).weights
    assert all(torch.equal(tensor, estimated.weights[name]) for name, tensor in weights.items())
    best, again = (load_network(tmp_path / name / "best.safetensors").state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in best.items())
