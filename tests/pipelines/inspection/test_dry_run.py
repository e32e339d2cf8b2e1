"""The dry run tells the cost of a run, against counting by hand, and leaves nothing behind."""

import io
import os
from dataclasses import replace
from types import SimpleNamespace

import gunpowder as gp
import pytest
from rich.console import Console

from scalenet_gp.analysis.cost import predict_cost
from scalenet_gp.nodes import Train
from scalenet_gp.pipelines.inspection import draw_samples
from scalenet_gp.pipelines.inspection import dry_run_job as dry_run_module
from scalenet_gp.pipelines.inspection.dry_run_job import dry_run, dry_run_table
from scalenet_gp.pipelines.training import train
from scalenet_gp.training import memory
from tests.pipelines.conftest import files_below, tiny_config


@pytest.fixture(scope="module")
def result(volume):
    return dry_run(tiny_config(training__batch_size=2, training__optimization__accumulate=2), volume, "cpu")


def test_it_tells_what_is_computed(result):
    config = tiny_config()
    net = config.build_network()
    assert result.device == "cpu"
    assert (result.iterations, result.batch_size, result.workers) == (4, 2, 0)
    assert result.parameters == sum(parameter.numel() for parameter in net.parameters())
    # 36 nm of output at 9 and 4.5 nm
    assert result.outputs == {"0_output": ((9,) * 3, (4,) * 3), "1_output": ((4.5,) * 3, (8,) * 3)}
    plan = net.plan({name: gp.Roi((0,) * 3, [36 / net.unit] * 3) for name in net.output_keys})
    assert {name: shape for name, (_, shape) in result.inputs.items()} == {
        name: tensor.shape for name, tensor in plan.input_tensors.items()
    }
    assert result.predicted_memory == predict_cost(net.graph, plan, batch=2, training=True).peak


def test_what_is_computed_again_takes_no_memory(result, volume):
    again = dry_run(
        tiny_config(training__batch_size=2, training__compute__activation_checkpointing=["*"]), volume, "cpu"
    )
    assert again.predicted_memory < result.predicted_memory


def test_a_checkpoint_has_weights_and_two_moments_of_each(result):
    parameters = list(tiny_config().build_network().parameters())
    moments_and_counts = 2 * result.parameters * 4 + len(parameters) * 4
    assert result.checkpoint == result.parameters * 4 + moments_and_counts


def test_every_time_is_measured_and_memory_holds_the_libraries(result):
    assert min(result.build, result.first, result.data, result.step) > 0
    assert result.memory > 100 * 2**20


def test_nothing_is_written(volume, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files_below(volume)
    dry_run(tiny_config(training__compute__precision="bfloat16"), volume, "cpu")
    assert files_below(tmp_path) == []
    assert files_below(volume) == before


OVERLAPPING = {"begin": [None, None, 90], "end": [None] * 3}


@pytest.mark.parametrize(
    "changes", [{"evaluation__region": OVERLAPPING}, {"validation": {"region": OVERLAPPING, "every": 2}}]
)
def test_regions_to_assess_in_are_checked(volume, changes):
    with pytest.raises(ValueError, match=r"shares annotated voxels with training\.region"):
        dry_run(tiny_config(**changes), volume, "cpu")


@pytest.mark.parametrize(("data", "step", "waited"), [([5.0, 1.0], [0.5, 1.5], [5.0, 1.0])])
def test_time_for_data_and_time_for_learning(monkeypatch, data, step, waited):
    """A clock that moves with the batches alone."""
    now, done = [0.0], []
    watch = SimpleNamespace(waited=None)

    def request_batch(_):
        index = len(done)
        now[0] += data[index] + step[index]
        watch.waited = waited[index]
        done.append(index)

    monkeypatch.setattr(dry_run_module.time, "perf_counter", lambda: now[0])
    pipeline = SimpleNamespace(request_batch=request_batch)
    assert dry_run_module._time_step(pipeline, watch, {}, 2)[:2] == (3.0, 1.0)


def test_the_estimate_by_hand(result, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    known = replace(result, build=10.0, data=6.0, step=2.0, iterations=100)
    assert known.run == 10 + 100 * (6 + 2)
    assert replace(known, workers=2).run == 10 + 100 * 3  # data are the slower
    assert replace(known, workers=3).run == 10 + 100 * 2
    assert replace(known, workers=16).run == 10 + 100 * 2  # no faster than the step
    assert replace(known, workers=16, data=16.0).run == 10 + 100 * 4  # of sixteen, four at a time


def test_the_table_fits_a_terminal(result):
    known = replace(
        result,
        **{"build": 10.0, "first": 3.5, "data": 6.0, "step": 2.0, "iterations": 1000, "workers": 2},
        **{"memory": 3 * 2**30, "predicted_memory": 1023 * 2**20, "checkpoint": 1536, "parameters": 1_234_567},
    )
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(dry_run_table(known))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    for expected in (
        "parameters 1,234,567",
        "output 1_output 8 × 8 × 8 voxels of 4.5 × 4.5 × 4.5 nm",
        "memory 3.0 GiB of the process, at most",
        "1,023.0 MiB predicted for the network, without loss and optimizer",
        "checkpoint 1.5 KiB",
        "both 3 s with 2 workers",
        "the run 0:50:10 for 1,000 iterations, without validation, pictures, checkpoints",
    ):
        assert expected in lines


def test_what_does_not_fit_into_memory_is_refused_before_anything_is_computed(volume, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**17)
    monkeypatch.setattr(Train, "process", lambda *_: pytest.fail("a step was done"))
    config = tiny_config()
    for job in (
        lambda: dry_run(config, volume, "cpu"),
        lambda: train(config, volume, tmp_path / "run", "cpu", "none"),
        lambda: draw_samples(config, volume, 9),
    ):
        with pytest.raises(MemoryError, match=r"needs about|are free"):
            job()
    assert not list(tmp_path.rglob("*.safetensors"))
