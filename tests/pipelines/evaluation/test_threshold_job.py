"""Thresholds that are chosen in the region of the validation, and who takes them."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.metrics import ThresholdSweep
from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.evaluation import choose_thresholds, evaluate
from scalenet_gp.pipelines.runs import ChosenThresholds
from scalenet_gp.pipelines.segmentation import segment
from scalenet_gp.volumes import group_attributes
from tests.pipelines.conftest import (
    CLASSES,
    EVALUATED,
    OUTPUTS,
    VALIDATED_RUN,
    tiny_config,
    truth_at,
    write_config,
    write_prediction,
)
from tests.pipelines.segmentation.predictions import random_predictions, write_predicted

WITHIN = Region(begin=(None, None, 99), end=(None, None, None))


def values(seed=0):
    """Predictions that are right from another threshold on for each class."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, factor in OUTPUTS.items():
        truth, _ = truth_at(factor)
        noise = rng.random(truth.shape) / 10
        found[name] = np.where(truth, [[[[0.8]]], [[[0.3]]]], [[[[0.65]]], [[[0.1]]]]) + noise
    return found


@pytest.fixture(scope="module")
def prediction(tmp_path_factory):
    return write_prediction(tmp_path_factory.mktemp("predicted") / "p", values(), [bounds[0] for bounds in EVALUATED])


def test_the_best_thresholds_are_chosen_and_taken(volume, prediction, tmp_path):
    config, run = tiny_config(), tmp_path / "run"
    chosen = choose_thresholds(config, volume, prediction, run, WITHIN)
    assert ChosenThresholds.read(run / "thresholds.json") == chosen
    for output in OUTPUTS:
        assert chosen.of(output) == {"bright": 0.75, "dark": 0.3}
    plain = evaluate(config, volume, prediction)
    assert plain.classes["1_output"]["dark"].scores["dice"] == 0
    better = evaluate(config, volume, prediction, thresholds={name: chosen.of(name) for name in OUTPUTS})
    for output, classes in better.classes.items():
        for name, counts in classes.items():
            assert counts.scores["dice"] == pytest.approx(chosen.outputs[output][name].dice)
            assert counts.scores["dice"] > plain.classes[output][name].scores["dice"]
    assert (run / "thresholds.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileExistsError, match=r"thresholds.json exists; replace it with --force"):
        choose_thresholds(config, volume, prediction, run, WITHIN)
    with pytest.raises(ConfigError, match="another network than the one that predicted"):
        chosen.check_networks(["a" * 64])


def test_faults_are_told(volume, prediction, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"no validation.region to choose thresholds in: name another one"):
        choose_thresholds(tiny_config(), volume, prediction, tmp_path)
    with pytest.raises(ConfigError, match="not all of"):  # of the region of the validation
        choose_thresholds(tiny_config(**VALIDATED_RUN), volume, prediction, tmp_path)
    exclusive = tiny_config(training__targets={"*": {"kind": "classes", "exclusive": True}})
    with pytest.raises(ConfigError, match="no output has a threshold"):
        choose_thresholds(exclusive, volume, prediction, tmp_path, WITHIN)
    monkeypatch.setattr(ThresholdSweep, "update", lambda *_: None)  # as where no class is
    with pytest.raises(DataError, match=r"no class occurs in .*, so that no threshold is better than another"):
        choose_thresholds(tiny_config(), volume, prediction, tmp_path, WITHIN)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "thresholds.json").write_text('{"version": 2}')
    with pytest.raises(ConfigError, match=r"thresholds.json does not hold chosen thresholds: .*version"):
        ChosenThresholds.read(tmp_path / "thresholds.json")


def test_objects_are_found_with_the_thresholds_of_the_run(tmp_path):
    predicted = write_predicted(tmp_path / "prediction.zarr", {"1_output": random_predictions(1)})
    chosen = {"1_output": {"bright": 0.4, "dark": 0.6}}
    config = tiny_config(segmentation={"classes": {"dark": {"threshold": 0.55}, "*": {}}})
    made = segment(config, predicted, tmp_path / "out.zarr", thresholds=chosen)
    classes = group_attributes(made)["job"]["classes"]
    assert {name: classes[name]["options"]["threshold"] for name in CLASSES} == {"bright": 0.4, "dark": 0.55}


def test_the_commands_choose_and_take_them(volume, prediction, tmp_path):
    config, run = write_config(tmp_path / "run.yaml"), tmp_path / "run"
    common = [str(config), "--volume", str(volume), "--run", str(run), "--prediction", str(prediction)]
    told = CliRunner().invoke(app, ["evaluate", *common, "--region", "0,0,99:9999,9999,9999", "--choose-thresholds"])
    assert told.exit_code == 0, told.output
    assert "0.75" in told.stdout
    assert json.loads((run / "thresholds.json").read_text())["outputs"]["1_output"]["dark"]["threshold"] == 0.3
    told = CliRunner().invoke(app, ["evaluate", *common])
    assert told.exit_code == 0, told.output
    assert "thresholds of classes are those of" in told.stdout
    scores = json.loads((run / "scores.json").read_text())["outputs"]["1_output"]["classes"]
    assert scores["dark"]["dice"] > 0.9
