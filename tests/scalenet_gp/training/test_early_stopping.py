"""The best network and the end of a run, for scripted validations, with and without breaks."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp.metrics.confusion import ConfusionCounts
from scalenet_gp.metrics.groups import GroupCounts
from scalenet_gp.training.checkpoint import load_checkpoint, save_checkpoint, thin_checkpoints
from scalenet_gp.training.early_stopping import EarlyStopping, ValidationResult, save_best
from scalenet_gp.training.options import CheckpointOptions, ValidationOptions
from tests.pipelines.conftest import files_below, tiny_config

SCORES = {
    "0_output": {"bright": ConfusionCounts(9, 0, 0), "dark": ConfusionCounts(9, 0, 0)},
    "1_output": {"bright": ConfusionCounts(6, 2, 4), "dark": ConfusionCounts(0, 0, 2), "none": ConfusionCounts()},
}
GROUPS = {"1_output": {"shade": GroupCounts(("bright", "dark"), (3, 0), (1.5, 0))}}


def of_loss(loss):
    return ValidationResult({}, loss)


def validated(script, every, patience, length, breaks=()):
    """Run with validations as the script says, by iteration; return what it did, and its end.

    ``breaks`` say where it is killed: (iteration, whether the checkpoint it goes on from was written after the
    validation of that iteration instead of before).
    """
    best, iteration, told = EarlyStopping(ValidationOptions(metric="loss", every=every, patience=patience)), 0, []
    breaks = dict(breaks)
    while True:
        saved = json.dumps(best.state_dict(), allow_nan=False)
        if best.due(iteration):
            told.append((iteration, best.add(iteration, of_loss(script[iteration]))))
        if iteration in breaks:
            state = json.dumps(best.state_dict(), allow_nan=False) if breaks.pop(iteration) else saved
            best = EarlyStopping(ValidationOptions(metric="loss", every=every, patience=patience))
            best.load_state_dict(json.loads(state))
            if best.due(iteration):
                told.pop()  # it is made again
            continue
        if best.stop or iteration == length:
            return told, iteration, best.state_dict()
        iteration += 1


def test_a_metric_is_the_mean_over_the_classes_of_the_finest_output_that_have_one():
    result = ValidationResult(SCORES, 0.25)
    assert result.metric("dice") == pytest.approx((12 / 18 + 0) / 2)
    assert result.metric("iou") == pytest.approx((6 / 12 + 0) / 2)
    assert result.metric("precision") == 6 / 8
    assert result.metric("recall") == pytest.approx((6 / 10 + 0) / 2)
    assert result.metric("loss") == result.loss_like("loss") == 0.25
    assert result.loss_like("precision") == 1 - 6 / 8
    assert math.isnan(ValidationResult({"0_output": {"bright": ConfusionCounts()}}, 0.25).metric("dice"))


def test_high_scores_and_low_losses_are_better_and_anything_is_better_than_nothing():
    high = ValidationResult({"0_output": {"bright": ConfusionCounts(6, 1, 1)}}, 0.5)
    low = ValidationResult({"0_output": {"bright": ConfusionCounts(5, 2, 2)}}, 0.1)
    nothing = ValidationResult({"0_output": {"bright": ConfusionCounts()}}, math.nan)
    for metric in ("dice", "iou", "precision", "recall"):
        assert high.better_than(low, metric)
        assert not low.better_than(high, metric)
    assert low.better_than(high, "loss")
    assert not high.better_than(low, "loss")
    for metric in ("dice", "loss"):
        assert low.better_than(nothing, metric)
        assert not nothing.better_than(low, metric)
        assert not nothing.better_than(nothing, metric)
        assert not low.better_than(low, metric)


def test_a_result_comes_back_from_json():
    for loss in (0.1, math.nan):
        text = json.dumps(ValidationResult(SCORES, loss, GROUPS).to_json(), allow_nan=False)
        again = ValidationResult.from_json(json.loads(text))
        assert again.scores == SCORES
        assert again.groups == GROUPS
        assert again.loss == pytest.approx(loss, abs=0, nan_ok=True)


def test_a_run_stops_once_patience_is_at_its_end():
    losses = [3, 2, 2.5, 2, 1, 1.5, math.nan, 1, 0.5]  # the best is the fifth; three after it are not better
    script = {10 * (number + 1): loss for number, loss in enumerate(losses)}
    told, ended, state = validated(script, 10, 3, 90)
    assert [iteration for iteration, best in told if best] == [10, 20, 50]
    assert ended == 80
    assert (state["iteration"], state["without_improvement"], state["best"]["loss"]) == (50, 3, 1)
    assert validated(script, 10, 4, 90)[1:] == (90, {**state, "iteration": 90, "without_improvement": 0, "last": 90,
                                                  "best": {"loss": 0.5, "scores": {}, "groups": {}}})  # fmt: skip
    assert validated(script, 10, None, 90)[1] == 90


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan]), min_size=12, max_size=12),
    st.integers(1, 4),
    st.none() | st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=4, unique_by=lambda at: at[0]),
)
def test_a_run_with_breaks_validates_and_stops_as_one_without(losses, every, patience, breaks):
    script = dict(enumerate(losses, 1))
    whole = validated(script, every, patience, 12)
    assert validated(script, every, patience, 12, breaks) == whole
    # by hand: the number of validations behind the best one, wherever the run could have ended
    at = list(range(every, 13, every))
    for count in range(1, len(at) + 1):
        seen = [math.inf if math.isnan(script[iteration]) else script[iteration] for iteration in at[:count]]
        if patience is not None and count - 1 - seen.index(min(seen)) >= patience:
            assert whole[1] == at[count - 1]
            return
    assert whole[1] == 12


def test_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match=r"ValidationOptions: every is 0: it has to be greater than 0"):
        ValidationOptions(every=0)
    with pytest.raises(ValueError, match=r"ValidationOptions: patience is 0: it has to be greater than 0"):
        ValidationOptions(every=1, patience=0)


def test_an_incomplete_state_changes_nothing():
    best = EarlyStopping(ValidationOptions(metric="loss", every=1))
    best.add(1, of_loss(0.5))
    before = best.state_dict()
    with pytest.raises(KeyError, match="last"):
        best.load_state_dict({"best": None, "iteration": 7, "without_improvement": 2})
    assert best.state_dict() == before


def test_the_best_checkpoint_outlives_the_thinning_of_the_others(tmp_path):
    net = tiny_config().build_network()
    weights = {}
    for iteration in (1, 2, 3, 4):
        torch.nn.init.constant_(next(net.parameters()), iteration)
        path = save_checkpoint(tmp_path, net, {"iteration": iteration})
        weights[iteration] = path.read_bytes()
        if iteration in (1, 2):
            assert save_best(path, tmp_path / "best.safetensors") == tmp_path / "best.safetensors"
        thin_checkpoints(tmp_path, CheckpointOptions(keep_newest=1))
    assert files_below(tmp_path) == ["best.safetensors", "checkpoint_4.safetensors"]
    assert (tmp_path / "best.safetensors").read_bytes() == weights[2]
    assert load_checkpoint(tmp_path / "best.safetensors").iteration == 2


def test_keeping_the_same_checkpoint_twice_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "checkpoint_1.safetensors").write_text("one")
    (tmp_path / "best.partial").write_text("left by a process that was killed")
    for _ in range(2):
        save_best(tmp_path / "checkpoint_1.safetensors", tmp_path / "best.safetensors")
        assert files_below(tmp_path) == ["best.safetensors", "checkpoint_1.safetensors"]
        assert (tmp_path / "best.safetensors").read_text() == "one"


def test_where_there_are_no_hard_links_the_checkpoint_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    (tmp_path / "checkpoint_1.safetensors").write_text("one")
    best = save_best(tmp_path / "checkpoint_1.safetensors", tmp_path / "new" / "best.safetensors")
    assert best.read_text() == "one"
    assert best.stat().st_nlink == 1


def test_what_cannot_be_kept_leaves_the_best_as_it_was(tmp_path):
    (tmp_path / "best.safetensors").write_text("best")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*checkpoint_1\.safetensors to keep as best"):
        save_best(tmp_path / "checkpoint_1.safetensors", tmp_path / "best.safetensors")
    assert files_below(tmp_path) == ["best.safetensors"]
    assert (tmp_path / "best.safetensors").read_text() == "best"
