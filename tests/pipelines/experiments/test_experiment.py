"""Experiments really done: runs in processes, one that fails, one that is killed, and what is added later."""

import json
import os
import signal
import sys

import pytest
import torch
from typer.testing import CliRunner

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.experiments import Matrix, experiment
from scalenet_gp.pipelines.experiments import processes as processes_module
from scalenet_gp.pipelines.process import Interrupted
from scalenet_gp.pipelines.runs import RunFacts, RunFolder
from scalenet_gp.pipelines.training import train
from scalenet_gp.training import latest_checkpoint, load_checkpoint
from tests.pipelines.experiments.conftest import DIVERGES, UNET, write_matrix

pytestmark = pytest.mark.usefixtures("warm_python")


def facts_of(run):
    return RunFacts.read(RunFolder(run).facts)


def weights_of(run):
    return load_checkpoint(latest_checkpoint(RunFolder(run).checkpoints)).weights


def test_runs_are_done_once_failures_are_listed_and_what_is_added_is_done(tmp_path, volume, folder):
    models = {"unet": UNET, "bad": {**UNET, **DIVERGES}}
    matrix = write_matrix(tmp_path, volume, models=models, objects=["bright"])
    command = ["experiment", str(matrix), "--folder", str(folder), "--device", "cpu"]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 1, told.output
    good, bad = (folder / "runs" / name / "data" / "0" for name in ("unet", "bad"))
    assert "bad/data/0 failed: 1 steps in a row were skipped" in told.stdout
    assert str(folder / "logs" / "bad" / "data" / "0.log") in told.stdout
    assert (facts_of(good).done, facts_of(bad).attempts[-1].ended) == (True, "failed")
    attempt = facts_of(good).attempts[0]
    assert attempt.training_processor > 0
    assert attempt.prediction_processor > 0
    assert attempt.memory_before < attempt.memory_training
    objects = json.loads((good / "segmentation_scores.json").read_text())["classes"]
    assert list(objects) == ["bright"]
    assert objects["bright"]["true_objects"] > 0
    # an ordinary run: the same weights as by hand
    config = Config.read(folder / "files" / "unet" / "data" / "0.yaml")
    train(config, volume, tmp_path / "by_hand", "cpu", "none")
    for name, tensor in weights_of(tmp_path / "by_hand").items():
        assert torch.equal(tensor, weights_of(good)[name])
    times = {path: path.stat().st_mtime_ns for path in good.rglob("*") if path.is_file()}
    models["wide"] = {"network": {**UNET["network"], "base_nc": 3}}
    matrix = write_matrix(tmp_path, volume, models=models, objects=["bright"])
    result = experiment(Matrix.read(matrix), folder, device="cpu", parallel=2)
    assert {str(cell): run.progress.state for cell, run in result.runs.items()} == {
        "unet/data/0": "done",
        "bad/data/0": "failed",
        "wide/data/0": "done",
    }
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert json.loads((folder / "runs/wide/data/0/scores.json").read_text())["version"] == 1


def test_a_killed_run_goes_on_and_ends_with_the_weights_of_one_that_was_not(tmp_path, volume, folder, monkeypatch):
    base = {"training__iterations": 12, "training__checkpoints": {"every": 1}, "evaluation": {}}
    matrix = Matrix.read(write_matrix(tmp_path, volume, base=base))
    run = folder / "runs" / "unet" / "data" / "0"
    read, killed = processes_module.read_progress, []

    def kill_in_between(cell, log):
        seen = read(cell, log)
        if seen.iteration >= 2 and not killed:
            killed.append(int((run / ".lock").read_text().split()[1]))
            os.kill(killed[0], signal.SIGKILL)
        return seen

    monkeypatch.setattr(processes_module, "read_progress", kill_in_between)
    monkeypatch.setattr(processes_module, "_POLL", 0.01)
    (outcome,) = experiment(matrix, folder, device="cpu").runs.values()
    assert (outcome.progress.state, outcome.progress.error) == ("failed", "it was killed by SIGKILL")
    (outcome,) = experiment(matrix, folder, device="cpu").runs.values()
    assert outcome.progress.state == "done"
    assert [attempt.ended for attempt in facts_of(run).attempts] == ["lost", "done"]
    train(Config.read(folder / "files/unet/data/0.yaml"), volume, tmp_path / "whole", "cpu", "none")
    for name, tensor in weights_of(tmp_path / "whole").items():
        assert torch.equal(tensor, weights_of(run)[name])


def test_a_signal_ends_all_runs_in_good_order(tmp_path, volume, folder, monkeypatch):
    base = {"training__iterations": 10_000}
    matrix = Matrix.read(write_matrix(tmp_path, volume, base=base, seeds=[0, 1]))
    read = processes_module.read_progress

    def ask_in_between(cell, log):
        seen = read(cell, log)
        if seen.iteration >= 1 and cell.seed == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return seen

    monkeypatch.setattr(processes_module, "read_progress", ask_in_between)
    with pytest.raises(Interrupted, match="SIGTERM ended the run, which resumes from") as ended:
        experiment(matrix, folder, device="cpu")
    assert ended.value.code == os.EX_TEMPFAIL
    run = folder / "runs" / "unet" / "data" / "0"
    assert [attempt.ended for attempt in facts_of(run).attempts] == ["interrupted"]
    assert latest_checkpoint(RunFolder(run).checkpoints) is not None
    assert not (folder / "runs" / "unet" / "data" / "1").exists()


def test_a_launcher_starts_the_runs_and_one_that_is_not_there_is_refused(matrix_of, folder, tmp_path):
    with pytest.raises(ConfigError, match="--launcher 'nosuch -n1' begins with 'nosuch'"):
        experiment(matrix_of(), folder, launcher="nosuch -n1")
    assert not folder.exists()
    started = tmp_path / "started"
    launcher = tmp_path / "launch"
    launcher.write_text(f'#!/bin/sh\necho "$@" > {started}\nexit 7\n')
    launcher.chmod(0o755)
    (outcome,) = experiment(matrix_of(), folder, launcher=f"{launcher} -n1").runs.values()
    assert outcome.progress.error == "it ended with the exit code 7, and said nothing"
    words = started.read_text().split()
    assert words[:4] == ["-n1", sys.executable, "-m", "scalenet_gp.pipelines.experiments.worker"]
    assert "--until-input-ends" not in words
