"""The training job: what it leaves, and that runs are the same to the bit, with or without a break."""

import os
import signal
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import scalenet_gp.pipelines.training.train_job as train_module
import scalenet_gp.pipelines.training.training_loop as training_run
from scalenet_gp.errors import ArgumentError, ConfigError
from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.data.datasets import Datasets
from scalenet_gp.pipelines.process.signals import EXIT_CODES, Interrupted
from scalenet_gp.pipelines.runs import RunFolder
from scalenet_gp.pipelines.training.reports import NoReport
from scalenet_gp.pipelines.training.train_job import train
from scalenet_gp.training.checkpoint import latest_checkpoint, load_checkpoint
from tests.pipelines.conftest import CLASSES, VALIDATED_RUN, files_below, tiny_config, tissue, write_array


def state(path):
    """Every tensor of a checkpoint by name: weights and the optimizer's."""
    checkpoint = load_checkpoint(path)
    found = dict(checkpoint.weights)
    for parameter, entries in checkpoint.state["optimizer"]["state"].items():
        found |= {f"{parameter}.{name}": torch.as_tensor(value) for name, value in entries.items()}
    return found


def assert_equal(path, other):
    one, two = state(path), state(other)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


@contextmanager
def reporting(to):
    """Have ``to(record)`` called after every batch."""

    class Told(NoReport):
        def _step(self, record):
            to(record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "training_report", lambda form, *arguments: Told(*arguments[:3]))
        yield


def test_a_run_leaves_config_checkpoints_and_log(volume, trained):
    config = Config.read(trained / "config.yaml")
    assert config.model_copy(update={"learned_from": ()}) == tiny_config(data__folder=str(volume))
    assert [one.raw.path for one in config.learned_from] == [str(volume / "em" / "raw")]
    assert {path.name for path in (trained / "checkpoints").iterdir()} == {
        "checkpoint_3.safetensors",
        "checkpoint_4.safetensors",
    }
    checkpoint = load_checkpoint(trained / "checkpoints" / "checkpoint_4.safetensors")
    assert checkpoint.iteration == 4
    channels = {name: list(CLASSES) for name in ("0_output", "1_output")}
    assert checkpoint.metadata["learned"] == {"channels": channels, "padding": "reflect", "intensities": "range"}
    log = EventAccumulator(str(trained / "log"), size_guidance={"scalars": 0, "images": 0}).Reload()
    assert [event.step for event in log.Scalars("loss/total")] == [1, 2, 3, 4]
    assert [event.step for event in log.Images("raw, target, prediction, mask/1_output")] == [1, 2, 4]


def test_the_log_says_with_which_learning_rate_a_step_was_taken(trained):
    log = EventAccumulator(str(trained / "log"), size_guidance={"scalars": 0}).Reload()
    cosine = [1e-2 * 0.5 * (1 + np.cos(np.pi * step / 4)) for step in range(4)]
    assert [event.value for event in log.Scalars("learning_rate")] == pytest.approx(cosine)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(volume, trained, tmp_path, monkeypatch):
    monkeypatch.delenv("MKL_CBWR", raising=False)
    again = train(tiny_config(), volume, tmp_path / "again", "cpu")
    assert_equal(again, trained / "checkpoints" / "checkpoint_4.safetensors")
    other = train(tiny_config(training__seed=2, training__iterations=1), volume, tmp_path / "other", "cpu")
    one = train(tiny_config(training__iterations=1), volume, tmp_path / "one", "cpu")
    assert any(not torch.equal(weights, state(other)[name]) for name, weights in state(one).items())
    # in a new process, with several threads, a run of Python differed from one of the command line before
    assert os.environ["MKL_CBWR"] == "AVX2,STRICT"


@pytest.fixture
def obeyed():
    """Have signals obeyed that a shell in the background has its jobs ignore."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in EXIT_CODES}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("received", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)], ids=str
)
def test_a_run_that_is_asked_to_end_goes_on_as_if_it_had_not_been(volume, tmp_path, obeyed, received, code):
    config = tiny_config(
        network__subnets__1__dropout_prob=0.2,
        training__log__images_every=100,
        training__optimization__accumulate=3,
        training__optimization__ema_decay=0.5,
    )
    whole = train(config, volume, tmp_path / "whole", "cpu")

    def end(record):
        if record.iteration == 2:
            os.kill(os.getpid(), received)

    with (
        reporting(end),
        pytest.raises(Interrupted, match=f"{received.name} ended the run, which resumes from") as caught,
    ):
        train(config, volume, tmp_path / "parts", "cpu")
    assert caught.value.code == code
    assert latest_checkpoint(tmp_path / "parts" / "checkpoints").name == "checkpoint_2.safetensors"
    torch.manual_seed(99)  # what else happened meanwhile is of no effect
    assert_equal(train(config, volume, tmp_path / "parts", "cpu"), whole)


def test_a_finished_run_can_be_made_longer_and_is_left_as_it_is_otherwise(volume, tmp_path):
    run = tmp_path / "run"
    short = train(tiny_config(training__iterations=2), volume, run, "cpu")
    assert short.name == "checkpoint_2.safetensors"
    long = train(tiny_config(), volume, run, "cpu")
    assert long.name == "checkpoint_4.safetensors"
    log = EventAccumulator(str(run / "log"), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in log.Scalars("loss/total")] == [1, 2, 3, 4]
    # of a cosine over two iterations, then of one over four
    rates = [1e-2 * 0.5 * (1 + np.cos(np.pi * share)) for share in (0 / 2, 1 / 2, 2 / 4, 3 / 4)]
    assert [event.value for event in log.Scalars("learning_rate")] == pytest.approx(rates)
    config = Config.read(run / "config.yaml").model_copy(update={"learned_from": ()})
    assert config == tiny_config(data__folder=str(volume))
    before = long.read_bytes()
    assert train(tiny_config(), volume, run, "cpu") == long
    assert long.read_bytes() == before


@pytest.mark.parametrize("changes", [{"training__optimization__learning_rate": 0.5}, {"data__classes": ["dark"]}])
def test_a_run_does_not_go_on_with_another_config(volume, trained, changes):
    before = files_below(trained)
    with pytest.raises(
        ValueError, match=r"^choose another folder than .*: .* there, .* here\. Of a run .* only training\.iterations, "
    ):
        train(tiny_config(**changes), volume, trained, "cpu")
    assert files_below(trained) == before


@pytest.mark.usefixtures("warm_workers")
def test_batches_are_prepared_by_workers(volume, tmp_path):
    config = tiny_config(training__workers=2, training__batch_size=2, training__iterations=3)
    seen = []
    with reporting(lambda record: seen.append(record.loss)):
        checkpoint = train(config, volume, tmp_path / "run", "cpu")
    assert checkpoint.name == "checkpoint_3.safetensors"
    assert len(set(seen)) == 3  # not one batch for ever


def test_two_trainings_of_one_run_are_refused(volume, tmp_path):
    def again(record):
        if record.iteration == 1:
            with pytest.raises(BlockingIOError, match=f"is being trained .*{os.getpid()}"):
                train(tiny_config(), volume, tmp_path / "run", "cpu")

    with reporting(again):
        assert train(tiny_config(), volume, tmp_path / "run", "cpu").name == "checkpoint_4.safetensors"


def test_validation_changes_nothing_and_keeps_the_best(volume, tmp_path):
    without = {name: value for name, value in VALIDATED_RUN.items() if name != "validation"}
    plain = train(tiny_config(**without), volume, tmp_path / "plain", "cpu")
    validated = train(tiny_config(**VALIDATED_RUN), volume, tmp_path / "validated", "cpu")
    assert_equal(plain, validated)
    log = EventAccumulator(str(tmp_path / "validated" / "log"), size_guidance={"scalars": 0}).Reload()
    scores = [tag for tag in log.Tags()["scalars"] if tag.startswith("validation/")]
    assert scores
    assert all({event.step for event in log.Scalars(tag)} <= {2, 4} for tag in scores)
    best = load_checkpoint(tmp_path / "validated" / "best.safetensors")
    assert best.iteration in (2, 4)
    assert best.metadata["callbacks"]["best"]["iteration"] == best.iteration


def test_a_run_ends_early_without_a_better_validation(volume, tmp_path):
    # nothing is learned, so that nothing becomes better
    config = tiny_config(
        **VALIDATED_RUN,
        training__iterations=50,
        training__optimization__learning_rate=1e-30,
        training__optimization__optimizer={"kind": "SGD"},
    )
    config = config.model_copy(update={"validation": config.validation.model_copy(update={"patience": 2})})
    assert train(config, volume, tmp_path / "run", "cpu").name == "checkpoint_6.safetensors"


def test_a_plateau_lowers_the_learning_rate(volume, tmp_path):
    config = tiny_config(
        **VALIDATED_RUN,
        training__iterations=9,
        training__optimization__learning_rate=1e-20,
        training__optimization__optimizer={"kind": "SGD"},
        training__optimization__schedule="plateau",
    )
    config = config.model_copy(
        update={"validation": config.validation.model_copy(update={"patience": 6, "metric": "loss"})}
    )
    rates = []
    with reporting(lambda record: rates.append(record.learning_rate)):
        train(config, volume, tmp_path / "run", "cpu")
    # validated after 2, 4, 6 and 8: the first is the best, and more than two without a better one lower the rate
    assert rates == pytest.approx([1e-20] * 8 + [1e-21])


@pytest.mark.parametrize("at", [2, 3])
def test_a_plateau_goes_on_after_a_break(volume, tmp_path, obeyed, at):
    config = tiny_config(
        **VALIDATED_RUN,
        training__iterations=6,
        training__optimization__schedule="plateau",
        training__log__images_every=100,
    )
    config = config.model_copy(update={"validation": config.validation.model_copy(update={"patience": 3})})
    whole = train(config, volume, tmp_path / "whole", "cpu")

    def end(record):
        if record.iteration == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with reporting(end), pytest.raises(Interrupted):
        train(config, volume, tmp_path / "parts", "cpu")
    parts = train(config, volume, tmp_path / "parts", "cpu")
    assert_equal(parts, whole)
    one, other = load_checkpoint(parts), load_checkpoint(whole)
    assert one.state["plateau"] == other.state["plateau"]
    kept = [load_checkpoint(tmp_path / run / "best.safetensors") for run in ("parts", "whole")]
    assert kept[0].iteration == kept[1].iteration
    assert kept[0].state["plateau"] == kept[1].state["plateau"]


def test_a_signal_before_the_first_batch_is_not_lost(volume, tmp_path, monkeypatch, obeyed):
    def opened(*arguments):
        os.kill(os.getpid(), signal.SIGUSR1)
        return Datasets.find(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "Datasets", SimpleNamespace(find=opened))
        with pytest.raises(Interrupted) as caught:
            train(tiny_config(), volume, tmp_path / "run", "cpu")
    assert caught.value.code == 75
    assert train(tiny_config(), volume, tmp_path / "run", "cpu").name == "checkpoint_4.safetensors"


def test_weights_of_losses_follow_their_schedule(volume, tmp_path):
    coarse = [{"iteration": 0, "weight": 1}, {"iteration": 2, "weight": 0}]
    fine = [{"iteration": 0, "weight": 0}, {"iteration": 2, "weight": 4}]
    targets = {"0_*": {"kind": "classes", "weight": coarse}, "*": {"kind": "classes", "weight": fine}}
    totals = []
    with reporting(lambda record: totals.append((record.loss, list(record.losses.values())))):
        train(tiny_config(training__targets=targets), volume, tmp_path / "run", "cpu")
    expected = [(1, 0), (0.5, 2), (0, 4), (0, 4)]
    for (total, losses), (coarse, fine) in zip(totals, expected, strict=True):
        assert total == pytest.approx(coarse * losses[0] + fine * losses[1], rel=1e-6)


def test_a_network_learns(volume, tmp_path):
    """Bright and dark voxels are told apart within some steps: raw data and targets lie on each other."""
    config = tiny_config(
        augmentation=[],
        training__iterations=60,
        training__optimization__learning_rate=0.02,
        training__output_shape=[36, 72, 72],
        training__overhang=None,
        training__log__images_every=None,
        network__subnets__0__base_nc=8,
        network__subnets__1__base_nc=8,
    )
    train(config, volume, tmp_path / "run", "cpu")
    log = EventAccumulator(str(tmp_path / "run" / "log"), size_guidance={"scalars": 0}).Reload()
    losses = [event.value for event in log.Scalars("loss/total")]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data__sources__0__raw": "em/other"}, FileNotFoundError, "em/other: no such multiscale group"),
        ({"data__classes": ["bright", "grey"]}, FileNotFoundError, "class 'grey' has no labels .* bright, dark"),
        (
            {"network__subnets__0__top_resolution": [10] * 3},
            ValueError,
            "whole multiple of the other, .* 9 nm or 18 nm",
        ),
        ({"training__output_shape": [40, 36, 36]}, ValueError, "training.output_shape 40 × 36 × 36 nm .* multiple"),
        ({"prediction__block_shape": [40, 36, 36]}, ConfigError, "prediction.block_shape 40 × 36 × 36 nm .* multiple"),
        (
            {"evaluation__region": {"begin": [0, 0, 900], "end": [18, 18, 918]}},
            ConfigError,
            "evaluation.region: nothing is annotated in the region",
        ),
        (
            {"evaluation__region": {"begin": [99], "end": [None]}},
            ConfigError,
            r"evaluation.region: the region \[99\] to \[null\] nm has 1 axes, the volume 3",
        ),
        (
            {"evaluation__region": {"begin": [None, None, 90], "end": [None] * 3}},
            ConfigError,
            r"evaluation.region, \[null, null, 90\] .*, shares annotated voxels with training.region, .* or set "
            "evaluation.allow_training_region",
        ),
        ({"training__output_shape": [36, 36, 0]}, ValueError, "training.output_shape 36 × 36 × 0 nm .* positive"),
        ({"training__overhang": [18, 36]}, ValueError, "training.overhang 18 × 36 nm has to be 3 lengths"),
        (
            {"training__region": {"begin": [90, 0, 0], "end": [99, 180, 180]}},
            ValueError,
            "nothing is annotated in the region",
        ),
        (
            {"training__targets": {"0_output": {"kind": "classes"}}},
            ConfigError,
            "training.targets has no entry for the output '1_output'; it has 0_output",
        ),
        (
            {"training__targets": {"*": {"kind": "classes"}, "2_output": {"kind": "classes"}}},
            ConfigError,
            "training.targets.2_output is of no output; did you mean",
        ),
        (
            {"training__output_shape": {"0_output": [72, 72, 72]}},
            ConfigError,
            "training.output_shape has no entry for the output '1_output'",
        ),
        (
            {"training__output_shape": {"0_output": [72, 72, 72], "1_output": [36, 36, 36], "output": [36, 36, 36]}},
            ConfigError,
            "training.output_shape has 'output'; did you mean 1_output",
        ),
        (
            {"training__output_shape": {"0_output": [40.5, 36, 36], "1_output": [36, 36, 36]}},
            ConfigError,
            "training.output_shape.0_output 40.5 × 36 × 36 nm has to be a positive multiple of 9 × 9 × 9 nm",
        ),
        (
            {"training__targets": {"*": {"kind": "classes", "classes": ["bright", "drak"]}}},
            ConfigError,
            "'drak' is not one of data.classes; did you mean dark",
        ),
        (
            {
                "training__targets": {"*": {"kind": "classes", "exclusive": True}},
                "network__subnets__0__final_activation": "Sigmoid",
            },
            ConfigError,
            "output '0_output' does not end in a Softmax, and training.targets of the kind classes has exclusive",
        ),
        (
            {"training__targets": {"*": {"kind": "classes", "class_weights": {"brigth": 1}}}},
            ConfigError,
            "class_weights names 'brigth', which is not learned; did you mean bright",
        ),
        (
            {"training__optimization__schedule": "plateau"},
            ValueError,
            "schedule is 'plateau', which waits for validations",
        ),
        (
            {"validation": {"region": {"begin": [None] * 3, "end": [None, None, 99]}, "every": 2}},
            ValueError,
            "shares annotated voxels with training.region",
        ),
        ({"augmentation__0__jitter_sigma": [1, 1]}, ValueError, "jitter_sigma"),
        (
            {"training__sampler": {"kind": "class", "shares": {"grey": 0.5}}},
            ValueError,
            "names grey, which is not a class; the classes are bright, dark",
        ),
        (
            {
                "training__sampler": {
                    "kind": "stratified",
                    "strata": {"far": {"weight": 1, "regions": [{"begin": [99, 0, 0], "end": [108, 180, 180]}]}},
                }
            },
            ValueError,
            "strata.far has a region in which nothing is annotated",
        ),
        (
            {"augmentation__1": {"kind": "missing_sections", "thickness": 4.2, "probability": 0.1}},
            ValueError,
            "augmentation.1.thickness 4.2 nm",
        ),
        ({"augmentation__0__rotation_axes": [1, 3]}, ValueError, "rotation_axes"),
        (
            {"network__subnets__1__output_nc": 1},
            ConfigError,
            "output '1_output' has 1 channels, and training.targets of the kind classes has 2, bright, dark",
        ),
        (  # as many classes as there are, and others
            {"network__subnets__1__heads": {"organelles": ["er", "golgi"]}},
            ConfigError,
            "head '1_organelles' makes the classes er, golgi, and training.targets of the kind classes has bright, d",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(volume, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        train(tiny_config(**changes), volume, tmp_path / "run", "cpu")
    assert files_below(tmp_path) == []


@pytest.mark.usefixtures("warm_workers")
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
    assert (tmp_path / "run" / "config.yaml").exists()
    RunFolder(tmp_path / "run").check_config(tiny_config(training__seed=9))  # the config may be mended


def test_a_run_is_not_made_shorter_than_it_is(volume, trained):
    before = files_below(trained)
    with pytest.raises(ValueError, match=r"has done 4 iterations already; training\.iterations is 2"):
        train(tiny_config(training__iterations=2), volume, trained, "cpu")
    assert files_below(trained) == before


def test_the_device_is_that_of_the_config_unless_another_is_given(volume, tmp_path):
    config = tiny_config(training__compute__device="cuda:99")
    with pytest.raises(ArgumentError, match="device 'cuda:99'"):
        train(config, volume, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ArgumentError, match="device 'cuda:98'"):
        train(config, volume, tmp_path / "run", "cuda:98")
