"""Reports of a run: numbers by hand, lines that are strict JSON, a bar that fits a terminal."""

import io
import json
import math
import platform
import weakref
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from rich.console import Console

from scalenet_gp.metrics.confusion import ConfusionCounts
from scalenet_gp.pipelines.process import progress
from scalenet_gp.pipelines.process.progress import progress_bar
from scalenet_gp.pipelines.training import reports as training_report
from scalenet_gp.pipelines.training.reports import BarReport, JsonReport
from scalenet_gp.training import UpdateResult
from scalenet_gp.training.early_stopping import Validated, ValidationResult
from scalenet_gp.training.memory import resident_bytes
from scalenet_gp.training.step_result import StepResult

CPU = torch.device("cpu")
NAN = math.nan

RECORD = StepResult(
    iteration=1,
    loss=0.5123,
    losses={"0_output": 0.61, "1_output": 0.5, "2_output": 0.48},
    learning_rate=1e-3,
    update=UpdateResult(taken=True, skipped=False, gradient_norm=0.813),
    skipped=1,
    samples=2,
    seconds=0.2,
    waited=0.01,
    plan=None,
    inputs={},
    outputs={},
    targets={},
    masks={},
    loss_of=None,
)
RESULT = ValidationResult({"0_output": {"mito": ConfusionCounts(6, 2, 2), "er": ConfusionCounts(0, 0, 0)}}, loss=NAN)


def refused(constant):
    raise ValueError(f"{constant} is no JSON")


def events(stream):
    return [json.loads(line, parse_constant=refused) for line in stream.getvalue().splitlines()]


def record(iteration, **changes):
    return replace(RECORD, iteration=iteration, **changes)


@pytest.fixture
def terminal(monkeypatch):
    """The text that a terminal of 100 columns shows."""
    console = Console(width=100, file=io.StringIO(), force_terminal=True, record=True, legacy_windows=False)
    monkeypatch.setattr(progress, "console", console)
    monkeypatch.setattr(training_report, "console", console)
    return console


def test_a_line_of_json_for_each_event():
    stream = io.StringIO()
    with JsonReport(4, 2, CPU, stream=stream) as report:
        report.step(record(3))
        report.validation(Validated(3, RESULT, "dice", True))
        report.checkpoint(Path("run/checkpoint_3.safetensors"))
        report.finish("SIGTERM", Path("run/checkpoint_3.safetensors"))
    begin, step, validation, checkpoint, end = events(stream)
    versions = begin.pop("versions")
    assert begin == {"event": "begin", "iterations": 4, "first": 2, "device": "cpu", "data": []}
    assert versions["torch"] == version("torch")
    assert versions["python"] == platform.python_version()
    assert versions.keys() == {"python", "scalenet_gp", "gunpowder", "torch", "numpy"}
    assert step.pop("memory") == pytest.approx(resident_bytes(), rel=0.1)
    assert step == {
        "event": "step",
        "iteration": 3,
        "loss": 0.5123,
        "losses": {"0_output": 0.61, "1_output": 0.5, "2_output": 0.48},
        "learning_rate": 1e-3,
        "gradient_norm": 0.813,
        "samples_per_second": pytest.approx(10),
        "waiting": pytest.approx(0.05),
        "device_memory": None,
        "skipped": 1,
    }
    assert validation["value"] == pytest.approx(12 / 16)
    assert validation["best"] is True
    assert validation["loss"] is None
    assert validation["scores"]["0_output"]["mito"]["precision"] == pytest.approx(6 / 8)
    assert validation["scores"]["0_output"]["er"]["dice"] is None
    assert checkpoint == {"event": "checkpoint", "path": "run/checkpoint_3.safetensors"}
    assert end == {"event": "end", "reason": "SIGTERM", "checkpoint": "run/checkpoint_3.safetensors"}


def test_rates_are_those_since_the_last_line_and_the_norm_is_the_newest():
    stream = io.StringIO()
    none = UpdateResult(taken=False, skipped=False)
    with JsonReport(12, 3, CPU, every=4, stream=stream) as report:
        report.step(record(4, samples=3, seconds=1.5, waited=1.5, update=none))
        for iteration in range(5, 9):
            step = replace(RECORD.update, gradient_norm=float(iteration)) if iteration < 7 else none
            report.step(record(iteration, samples=iteration, seconds=2.0, waited=0.5, update=step))
        report.step(record(9))
    first, second = (event for event in events(stream) if event["event"] == "step")
    assert (first["iteration"], first["samples_per_second"], first["waiting"]) == (4, 2, 1)
    assert first["gradient_norm"] is None
    assert (second["iteration"], second["waiting"], second["gradient_norm"]) == (8, 0.25, 6)
    assert second["samples_per_second"] == (5 + 6 + 7 + 8) / 8


def test_what_is_not_finite_is_null():
    stream = io.StringIO()
    step = UpdateResult(taken=False, skipped=True, gradient_norm=math.inf)
    with JsonReport(1, 0, CPU, stream=stream) as report:
        report.step(record(1, loss=NAN, losses={"0_output": -math.inf}, update=step, seconds=0.0))
    _, told = events(stream)
    assert [told[name] for name in ("loss", "gradient_norm", "samples_per_second", "waiting")] == [None] * 4
    assert told["losses"] == {"0_output": None}


def test_every_line_is_there_as_soon_as_it_is_told(tmp_path):
    path = tmp_path / "lines"
    with path.open("w") as stream, JsonReport(9, 0, CPU, stream=stream) as report:
        for lines in (1, 2, 3):
            assert len(path.read_text().splitlines()) == lines
            report.step(record(lines))


def test_lines_go_to_standard_output(capsys):
    with JsonReport(1, 0, CPU):
        pass
    captured = capsys.readouterr()
    assert json.loads(captured.out)["event"] == "begin"
    assert captured.err == ""


def test_an_error_is_the_end_of_the_run_once():
    stream = io.StringIO()
    with pytest.raises(ValueError, match="too large"), JsonReport(1, 0, CPU, stream=stream):
        raise ValueError("too large\nand more")
    assert events(stream)[-1] == {"event": "end", "reason": "ValueError: too large", "checkpoint": None}
    with pytest.raises(KeyboardInterrupt), JsonReport(1, 0, CPU, stream=stream):
        raise KeyboardInterrupt
    assert events(stream)[-1]["reason"] == "KeyboardInterrupt"
    stream = io.StringIO()
    report = JsonReport(1, 0, CPU, stream=stream)
    report.__enter__()
    report.finish("SIGTERM", None)
    report.__exit__(SystemExit, SystemExit(75), None)
    assert [event["event"] for event in events(stream)] == ["begin", "end"]


def test_the_bar_fits_a_terminal_of_100_columns(terminal):
    with BarReport(400_000, 121_000, CPU) as report:
        for iteration in range(121_001, 121_031):
            report.step(record(iteration, seconds=0.2 if iteration > 121_010 else 100.0))
    *_, bar, losses, facts = (line.rstrip() for line in terminal.export_text().rstrip().splitlines())
    bar = bar[bar.rindex("training") :]  # after what the cursor went back over
    assert "121030/400000" in bar
    assert bar.endswith("loss 0.512")
    assert losses == "0_output 0.610  1_output 0.500  2_output 0.480"
    memory = f"{resident_bytes() / 2**30:.1f} GiB"
    # of the last twenty batches, which took 0.2 s each
    assert facts == f"lr 1.0e-03  |g| 0.81  10 samples/s  waiting 5 %  {memory}  skipped 1"
    assert all(len(line) <= 100 for line in (bar, losses, facts))


def test_numbers_that_are_none_are_shown_as_such(terminal):
    with BarReport(10, 0, CPU) as report:
        report.step(record(1, loss=NAN, update=UpdateResult(taken=False, skipped=True), seconds=0.0))
    text = terminal.export_text()
    assert "loss nan" in text
    assert "|g| -  nan samples/s  waiting nan %" in text


def test_other_events_leave_a_line_above_the_bar(terminal):
    with BarReport(10, 0, CPU) as report:
        report.validation(Validated(5, RESULT, "dice", True))
        report.validation(Validated(6, RESULT, "loss", False))
        report.checkpoint(Path("run/[bold]/checkpoint_6.safetensors"))
        report.finish("done", None)
    text = terminal.export_text()
    assert "iteration 5: dice 0.7500, the best so far\n" in text
    assert "iteration 6: loss nan\n" in text
    assert "checkpoint run/[bold]/checkpoint_6.safetensors\n" in text
    assert "ends" not in text


def test_what_ends_a_run_early_is_said(terminal):
    with BarReport(10, 0, CPU) as report:
        report.finish("SIGTERM", None)
    assert "the run ends: SIGTERM" in terminal.export_text()


def test_reports_let_go_of_the_tensors_of_a_batch():
    report = JsonReport(10, 0, CPU, stream=io.StringIO())
    tensor = torch.zeros(3)
    watched = weakref.ref(tensor)
    report.step(record(1, outputs={"0_output": tensor}))
    del tensor
    assert watched() is None


def test_a_bar_begins_with_what_was_done_and_shows_what_follows_the_first_line_below(terminal):
    with progress_bar("predicting", 5, completed=3) as advance:
        advance("beside\nbelow")
    lines = terminal.export_text().rstrip().splitlines()
    assert "4/5" in lines[-2]
    assert lines[-2].rstrip().endswith("beside")
    assert lines[-1].rstrip() == "below"


def test_no_report_is_silent(capfd):
    with training_report.training_report("none", 4, 0, CPU) as report:
        report.step(record(1))
        report.validation(Validated(1, RESULT, "dice", True))
        report.checkpoint(Path("run/checkpoint_1.safetensors"))
        report.finish("done", None)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_of_forms_and_numbers_that_there_are_not():
    assert isinstance(training_report.training_report("bar", 4, 0, CPU), BarReport)
    assert isinstance(training_report.training_report("json", 4, 0, CPU, 2), JsonReport)
    with pytest.raises(ValueError, match="'bar', 'json' or 'none', not 'xml'"):
        training_report.training_report("xml", 4, 0, CPU)
    with pytest.raises(ValueError, match="from 1 up, not 0"):
        JsonReport(4, 0, CPU, every=0)
