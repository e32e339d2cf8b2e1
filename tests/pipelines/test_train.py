"""The training job: what it leaves, and that runs are the same to the bit, with or without a break."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import scalenet_gp.pipelines.train as train_module
from scalenet_gp.checkpoint import latest_checkpoint, load_checkpoint
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.train import train
from tests.pipelines.conftest import CLASSES, files_below, tiny_config, tissue, write_array


def state(path):
    """Every tensor of a checkpoint by name: weights and the optimizer's."""
    checkpoint = load_checkpoint(path)
    found = dict(checkpoint.weights)
    for parameter, entries in checkpoint.optimizer["state"].items():
        found |= {f"{parameter}.{name}": torch.as_tensor(value) for name, value in entries.items()}
    return found


def assert_equal(path, other):
    one, two = state(path), state(other)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


@contextmanager
def interrupted_bar(title, total):
    """A progress bar under which the second step is interrupted from the keyboard, once it is done."""
    steps = []

    def advance(note=""):
        steps.append(note)
        if len(steps) == 2:
            raise KeyboardInterrupt

    yield advance


def test_a_run_leaves_config_checkpoints_and_log(trained):
    assert Config.read(trained / "config.yaml") == tiny_config()
    assert {path.name for path in (trained / "checkpoints").iterdir()} == {"checkpoint_3.pt", "checkpoint_4.pt"}
    checkpoint = load_checkpoint(trained / "checkpoints" / "checkpoint_4.pt")
    assert checkpoint.iteration == 4
    assert checkpoint.metadata["learned"] == {"classes": list(CLASSES), "padding": "reflect", "intensities": [0.0, 1.0]}
    log = EventAccumulator(str(trained / "log"), size_guidance={"scalars": 0, "images": 0}).Reload()
    assert [event.step for event in log.Scalars("loss/total")] == [1, 2, 3, 4]
    assert [event.step for event in log.Images("raw, target, prediction/1_output")] == [2, 4]


def test_the_log_says_with_which_learning_rate_a_step_was_taken(trained):
    log = EventAccumulator(str(trained / "log"), size_guidance={"scalars": 0}).Reload()
    cosine = [1e-3 * 0.5 * (1 + np.cos(np.pi * step / 4)) for step in range(4)]
    assert [event.value for event in log.Scalars("learning_rate")] == pytest.approx(cosine)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(volume, trained, tmp_path):
    again = train(tiny_config(), volume, tmp_path / "again", "cpu")
    assert_equal(again, trained / "checkpoints" / "checkpoint_4.pt")
    other = train(tiny_config(training__seed=2, training__iterations=1), volume, tmp_path / "other", "cpu")
    one = train(tiny_config(training__iterations=1), volume, tmp_path / "one", "cpu")
    assert any(not torch.equal(weights, state(other)[name]) for name, weights in state(one).items())


@pytest.mark.parametrize("dropout", [None, 0.2])
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(volume, tmp_path, monkeypatch, dropout):
    config = tiny_config(network__1__dropout_prob=dropout, training__images_every=100)
    whole = train(config, volume, tmp_path / "whole", "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "progress_bar", interrupted_bar)
        with pytest.raises(KeyboardInterrupt):
            train(config, volume, tmp_path / "parts", "cpu")
    assert latest_checkpoint(tmp_path / "parts" / "checkpoints").name == "checkpoint_2.pt"
    torch.manual_seed(99)  # what else happened meanwhile is of no effect
    assert_equal(train(config, volume, tmp_path / "parts", "cpu"), whole)


def test_a_finished_run_can_be_made_longer_and_is_left_as_it_is_otherwise(volume, tmp_path):
    run = tmp_path / "run"
    short = train(tiny_config(training__iterations=2), volume, run, "cpu")
    assert short.name == "checkpoint_2.pt"
    long = train(tiny_config(), volume, run, "cpu")
    assert long.name == "checkpoint_4.pt"
    log = EventAccumulator(str(run / "log"), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in log.Scalars("loss/total")] == [1, 2, 3, 4]
    assert Config.read(run / "config.yaml") == tiny_config()
    before = long.read_bytes()
    assert train(tiny_config(), volume, run, "cpu") == long
    assert long.read_bytes() == before


@pytest.mark.parametrize("changes", [{"training__learning_rate": 0.5}, {"data__classes": ["dark"]}])
def test_a_run_does_not_go_on_with_another_config(volume, trained, changes):
    before = files_below(trained)
    with pytest.raises(ValueError, match=r"holds a run with another config.* only training\.iterations may change"):
        train(tiny_config(**changes), volume, trained, "cpu")
    assert files_below(trained) == before


def test_batches_are_prepared_by_workers(volume, tmp_path):
    config = tiny_config(training__workers=2, training__batch_size=2, training__iterations=3)
    seen = []
    original = train_module.progress_bar

    @contextmanager
    def watched(title, total):
        with original(title, total) as advance:
            yield lambda note: (seen.append(note), advance(note))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "progress_bar", watched)
        checkpoint = train(config, volume, tmp_path / "run", "cpu")
    assert checkpoint.name == "checkpoint_3.pt"
    assert len(set(seen)) == 3  # not one batch for ever


def test_a_network_learns(volume, tmp_path):
    """Bright and dark voxels are told apart within some steps: raw data and targets lie on each other."""
    config = tiny_config(
        augmentation=None,
        training__iterations=60,
        training__learning_rate=0.02,
        training__output_shape=[36, 72, 72],
        training__overhang=None,
        training__images_every=1000,
        network__0__base_nc=8,
        network__1__base_nc=8,
    )
    train(config, volume, tmp_path / "run", "cpu")
    log = EventAccumulator(str(tmp_path / "run" / "log"), size_guidance={"scalars": 0}).Reload()
    losses = [event.value for event in log.Scalars("loss/total")]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data__raw": "em/other"}, FileNotFoundError, "em/other: no such multiscale group"),
        ({"data__classes": ["bright", "grey"]}, FileNotFoundError, "class 'grey' has no labels .* bright, dark"),
        ({"network__0__top_resolution": [10] * 3}, ValueError, "whole multiple of the other, .* 9 nm or 18 nm"),
        ({"training__output_shape": [40, 36, 36]}, ValueError, "training.output_shape 40 × 36 × 36 nm .* multiple"),
        ({"training__output_shape": [36, 36, 0]}, ValueError, "training.output_shape 36 × 36 × 0 nm .* positive"),
        ({"training__overhang": [18, 36]}, ValueError, "training.overhang 18 × 36 nm has to be 3 lengths"),
        (
            {"training__region": {"begin": [90, 0, 0], "end": [99, 180, 180]}},
            ValueError,
            "no class has a whole voxel annotated",
        ),
        ({"training__loss_weights": [1, 2, 3]}, ValueError, "training.loss_weights has 3 entries"),
        ({"augmentation__jitter_sigma": [1, 1]}, ValueError, "jitter_sigma"),
        ({"training__sampling": {"classes": {"grey": 0.5}}}, ValueError, "names grey; the classes are bright, dark"),
        (
            {
                "training__sampling": {
                    "strata": {"far": {"weight": 1, "regions": [{"begin": [99, 0, 0], "end": [108, 180, 180]}]}}
                }
            },
            ValueError,
            "strata.far has a region in which nothing is annotated",
        ),
        ({"augmentation__sections": {"thickness": 4.2, "missing": 0.1}}, ValueError, "sections.thickness 4.2 nm"),
        ({"augmentation__rotation_axes": [1, 3]}, ValueError, "rotation_axes"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(volume, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        train(tiny_config(**changes), volume, tmp_path / "run", "cpu")
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_chunk_is_named(tmp_path, workers):
    raw, masks = tissue()
    write_array(tmp_path / "volume" / "em" / "raw", raw)
    for name, mask in masks.items():
        write_array(tmp_path / "volume" / "labels" / "crop" / name, mask)
    for chunk in (path for path in (tmp_path / "volume" / "em" / "raw" / "s0").rglob("*") if path.name.isdigit()):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:20])
    config = tiny_config(training__workers=workers)
    with pytest.raises(OSError, match=r"em/raw/s0: voxels .* cannot be read: .*/s0/.*blosc"):
        train(config, tmp_path / "volume", tmp_path / "run", "cpu")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_is_not_made_shorter_than_it_is(volume, trained):
    before = files_below(trained)
    with pytest.raises(ValueError, match=r"has done 4 iterations already; training\.iterations is 2"):
        train(tiny_config(training__iterations=2), volume, trained, "cpu")
    assert files_below(trained) == before
