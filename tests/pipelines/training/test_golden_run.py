"""The losses of a short run, as committed: a change that should not alter what is learned must reproduce them.

Where a change is meant to alter them, ``python -m tests.pipelines.training.test_golden_run`` writes them anew.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scalenet_gp.pipelines.training.train_job import train
from tests.pipelines.conftest import tiny_config, write_volume
from tests.pipelines.training.test_train import assert_equal, reporting

GOLDEN = Path(__file__).with_name("golden_run.json")
CONFIG = {
    "network__subnets__0__norm_layer": "group",
    "network__subnets__1__norm_layer": "group",
    "network__subnets__0__normalize_input": True,
    "network__subnets__1__normalize_input": True,
    "training__iterations": 10,
    "training__optimization__optimizer": {
        "kind": "RAdam",
        "arguments": {"weight_decay": 1e-4, "decoupled_weight_decay": True},
    },
    "training__optimization__learning_rate": 0.01,
    "training__batch_size": 2,
    "training__optimization__warm_up": 2,
    "training__optimization__clip_norm": 1.0,
    "training__optimization__ema_decay": 0.9,
    "training__log__images_every": None,
}


def golden_run(volume, run):
    """The losses of the run, in all and of each output, and its checkpoint."""
    records = []
    with reporting(records.append):
        checkpoint = train(tiny_config(**CONFIG), volume, run, "cpu", "none")
    losses = {"total": [record.loss for record in records]}
    for name in records[0].losses:
        losses[name] = [record.losses[name] for record in records]
    return losses, checkpoint


def test_the_losses_are_those_committed_and_two_runs_agree_to_the_bit(volume, tmp_path):
    losses, checkpoint = golden_run(volume, tmp_path / "run")
    golden = json.loads(GOLDEN.read_text())
    assert losses.keys() == golden.keys()
    for name, expected in golden.items():
        # other processors round sums otherwise, and ten steps carry that on
        assert losses[name] == pytest.approx(expected, rel=1e-4), name
    again, other = golden_run(volume, tmp_path / "again")
    assert again == losses
    assert_equal(checkpoint, other)


def _write() -> None:
    with TemporaryDirectory() as folder:
        losses, _ = golden_run(write_volume(Path(folder, "volume.zarr")), Path(folder, "run"))
    rounded = {name: [float(f"{loss:.6g}") for loss in values] for name, values in losses.items()}
    GOLDEN.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(_write())
