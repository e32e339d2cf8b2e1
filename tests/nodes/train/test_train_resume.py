"""Train: runs that repeat, stop, go on and go wrong, and the checkpoints that they leave."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gunpowder as gp
import numpy as np
import pytest
import torch
from gunpowder import BatchRequest, Coordinate, PipelineRequestError, Roi, build
from gunpowder.pipeline import PipelineTeardownError
from safetensors import safe_open
from torch import Tensor

from scalenet_gp.nodes.testing import Field, RampSource
from scalenet_gp.nodes.train.train import Train
from scalenet_gp.training import Callback, CheckpointOptions, StepResult, TrainerView
from scalenet_gp.training.checkpoint import load_checkpoint, load_network, save_checkpoint
from tests.nodes.train.two_scales import (
    ADAM,
    PREDICTION,
    RAW,
    ROIS,
    fetch,
    fields,
    plan_for,
    read,
    same_state,
    setup_refusal,
    shifted,
    small_net,
    supervision,
    texture,
    trained,
    training,
)

COARSE, FINE = PREDICTION["0"], PREDICTION["1"]

# Repeating, stopping and going on


def random_places(node: Train, seed: int) -> list[float]:
    torch.manual_seed(seed)
    source = RampSource(fields(), Roi((-4096, -4096), (8192, 8192)))
    with build(source + gp.RandomLocation() + node) as pipeline:
        return [fetch(pipeline, ROIS, seed=100 * seed + step).loss for step in range(4)]


def test_a_seeded_run_repeats_to_the_bit() -> None:
    nets = [small_net(dropout_prob=0.3, norm_layer="batch") for _ in range(3)]
    first, again, other = (random_places(training(net), seed) for net, seed in zip(nets, (1, 1, 2), strict=True))
    assert first == again
    assert same_state(nets[0], nets[1])
    assert not set(first) & set(other)


def test_checkpoints_are_written_when_they_are_due_and_at_the_end(tmp_path: Path) -> None:
    net = small_net(norm_layer="batch")
    seen: dict[int, dict[str, Tensor]] = {}

    def record(optimizer: torch.optim.Optimizer, *_: object) -> None:
        seen[len(seen) + 1] = {key: tensor.clone() for key, tensor in net.state_dict().items()}

    def recording(parameters: Any) -> torch.optim.Optimizer:
        optimizer = ADAM(parameters)
        optimizer.register_step_post_hook(record)
        return optimizer

    metadata = {"iteration": "not ours", "classes": ("a", "b"), "config": {"lr": 1e-2}}
    arguments = {
        "checkpoints": tmp_path / "new",
        "checkpoint_options": CheckpointOptions(every=2),
        "metadata": metadata,
    }
    trained(training(net, optimizer=recording, **arguments), steps=5)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {f"checkpoint_{i}.safetensors" for i in (2, 4, 5)}
    for iteration in (2, 4, 5):
        checkpoint = load_checkpoint(tmp_path / "new" / f"checkpoint_{iteration}.safetensors")
        assert checkpoint.iteration == iteration
        assert checkpoint.metadata == json.loads(json.dumps(metadata)) | {"callbacks": {}}
        assert all(torch.equal(tensor, seen[iteration][key]) for key, tensor in checkpoint.weights.items())


def test_an_end_that_was_just_written_is_not_written_again(tmp_path: Path) -> None:
    node = training(small_net(), checkpoints=tmp_path, checkpoint_options=CheckpointOptions(every=2))
    with build(RampSource(fields()) + node) as pipeline:
        for step in range(2):
            fetch(pipeline, shifted(ROIS, step))
        (tmp_path / "checkpoint_2.safetensors").unlink()
    assert not list(tmp_path.iterdir())


def test_without_a_step_nothing_is_written(tmp_path: Path) -> None:
    with build(RampSource(fields()) + training(small_net(), checkpoints=tmp_path)):
        pass
    assert not list(tmp_path.iterdir())


def test_going_on_from_a_checkpoint_equals_never_having_stopped(tmp_path: Path) -> None:
    whole = small_net(norm_layer="batch")
    reference = training(whole)
    losses = [batch.loss for batch in trained(reference, steps=5)]

    trained(training(small_net(norm_layer="batch"), checkpoints=tmp_path), steps=3)
    later = small_net(seed=7, norm_layer="batch")
    node = training(later, checkpoints=tmp_path, optimizer=partial(torch.optim.Adam, lr=99.0))
    with build(RampSource(fields()) + node) as pipeline:
        assert node.trainer.iteration == 3
        batches = [fetch(pipeline, shifted(ROIS, step)) for step in (3, 4)]
    assert [batch.iteration for batch in batches] == [4, 5]
    assert [batch.loss for batch in batches] == losses[3:]
    assert same_state(whole, later)
    ours, theirs = node.trainer.state.optimizer.state_dict(), reference.trainer.state.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for index, state in theirs["state"].items():
        assert all(torch.equal(value, ours["state"][index][key]) for key, value in state.items())
    assert same_state(load_network(tmp_path / "checkpoint_5.safetensors"), whole)


class Interrupting(gp.BatchFilter):
    def process(self, batch: gp.Batch, request: BatchRequest) -> None:
        raise KeyboardInterrupt


def test_an_interruption_downstream_still_leaves_the_last_step_on_disk(tmp_path: Path) -> None:
    net = small_net()
    chain = RampSource(fields()) + training(net, checkpoints=tmp_path) + Interrupting()
    with build(chain) as pipeline, pytest.raises(KeyboardInterrupt):
        fetch(pipeline, ROIS)
    assert same_state(load_network(tmp_path / "checkpoint_1.safetensors"), net)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    trained(training(small_net(base_nc=3), checkpoints=tmp_path))
    net = small_net()
    message = r"checkpoint_1.safetensors is a checkpoint of another network: .* '0_in_conv_0', .* 3 there and 2 here"
    with setup_refusal(message), build(RampSource(fields()) + training(net, checkpoints=tmp_path)):
        pass
    assert same_state(net, small_net())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_1.safetensors"]


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    trained(training(small_net(), checkpoints=tmp_path))
    net, sgd = small_net(seed=3), partial(torch.optim.SGD, lr=0.1)
    with (
        setup_refusal("is of an optimizer with other settings"),
        build(RampSource(fields()) + training(net, checkpoints=tmp_path, optimizer=sgd)),
    ):
        pass
    assert same_state(net, small_net(seed=3))


def test_a_checkpoint_that_is_cut_short_is_passed_over(tmp_path: Path) -> None:
    trained(training(small_net(), checkpoints=tmp_path, checkpoint_options=CheckpointOptions(every=1)), steps=2)
    path = tmp_path / "checkpoint_2.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    node = training(small_net(), checkpoints=tmp_path)
    with build(RampSource(fields()) + node):
        assert node.trainer.iteration == 1


def test_training_begins_with_given_weights_and_goes_on_with_its_own(tmp_path: Path) -> None:
    given = small_net(seed=5)
    given.save(tmp_path / "given.safetensors")
    net, checkpoints = small_net(), tmp_path / "checkpoints"
    node = training(net, checkpoints=checkpoints, start_from=tmp_path / "given.safetensors")
    with build(RampSource(fields()) + node) as pipeline:
        assert same_state(net, given)
        fetch(pipeline, ROIS)
    later = small_net(seed=9)
    with build(RampSource(fields()) + training(later, checkpoints=checkpoints, start_from=tmp_path / "nothing")):
        assert same_state(later, net)
    other = small_net(base_nc=3)
    with (
        setup_refusal("given.safetensors has weights of another network: .* are not alike in the two"),
        build(RampSource(fields()) + training(other, start_from=tmp_path / "given.safetensors")),
    ):
        pass


class Counting(Callback):
    """Counts its steps, and keeps the count in checkpoints."""

    name = "counting"

    def __init__(self) -> None:
        self.count = 0

    def after_step(self, trainer: TrainerView, result: StepResult) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


def test_states_of_callbacks_come_back_with_the_run(tmp_path: Path) -> None:
    for count in (1, 2):
        counting = Counting()
        with build(
            RampSource(fields()) + training(small_net(), checkpoints=tmp_path, callbacks=[counting])
        ) as pipeline:
            assert counting.count == count - 1
            fetch(pipeline, ROIS)
        assert counting.count == count


# What is not finite


def with_nan(centres: np.ndarray) -> np.ndarray:
    return np.where(centres[-1:] > 0, np.nan, texture(centres)).astype(np.float32)


def infinite(prediction: Tensor, *_: object) -> Tensor:
    return prediction.sum() * float("inf")


ELSEWHERE = Coordinate(0, -4000)


def test_a_batch_that_is_not_finite_is_skipped_and_leaves_no_trace(tmp_path: Path) -> None:
    net, twin = small_net(norm_layer="batch"), small_net(norm_layer="batch")
    data = fields() | {RAW["0"]: Field((16, 16), with_nan, interpolatable=True)}
    away = {key: roi.shift(ELSEWHERE) for key, roi in ROIS.items()}
    node = training(net, checkpoints=tmp_path)
    with build(RampSource(data) + node) as pipeline:
        fetch(pipeline, away)
        after = copy.deepcopy(net)
        assert np.isnan(fetch(pipeline, ROIS).loss)
        assert same_state(net, after)
        assert (node.trainer.iteration, node.trainer.state.skipped, node.trainer.state.skipped_in_a_row) == (2, 1, 1)
        fetch(pipeline, shifted(away, 1))
        assert (node.trainer.iteration, node.trainer.state.skipped, node.trainer.state.skipped_in_a_row) == (3, 1, 0)
    with build(RampSource(data) + training(twin)) as pipeline:
        fetch(pipeline, away)
        fetch(pipeline, shifted(away, 1))
    assert same_state(net, twin)
    assert same_state(load_network(tmp_path / "checkpoint_3.safetensors"), net)


@pytest.mark.parametrize(
    ("outputs", "data", "culprit"),
    [
        ({}, {RAW["0"]: Field((16, 16), with_nan, interpolatable=True)}, "the input '0_input' is"),
        ({"_1": {"loss": infinite}}, {}, "the loss or its gradient is"),
    ],
)
def test_too_many_in_a_row_end_the_run_and_leave_the_batch(tmp_path: Path, outputs, data, culprit) -> None:
    net, checkpoints = small_net(), tmp_path / "checkpoints"
    node = training(net, supervision(**outputs), checkpoints=checkpoints, optimization={"skips_in_a_row": 2})
    with build(RampSource(fields() | data) + node) as pipeline:
        for _ in range(2):
            fetch(pipeline, ROIS)
        with pytest.raises(PipelineRequestError) as caught:
            fetch(pipeline, ROIS)
    told = str(caught.value)
    assert "3 steps in a row were skipped, the last in iteration 3" in told
    assert culprit in told
    kept = tmp_path / "skipped_3.safetensors"
    assert str(kept) in told
    raw, roi = RAW["1"], plan_for(net, ROIS).inputs["1_input"]
    with safe_open(kept, framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor(raw.identifier), read(raw, roi)[0])
        described = json.loads(file.metadata()[raw.identifier])
    assert (described["begin"], described["voxel_size"]) == (list(roi.begin), list(fields()[raw].voxel_size))
    assert same_state(net, small_net())
    assert not checkpoints.exists()


def test_a_network_that_has_diverged_is_not_saved(tmp_path: Path) -> None:
    outputs = supervision(_0={"loss": lambda p, *_: p.sum()}, _1={"loss": lambda p, *_: p.sum()})
    net = small_net(final_activation="Identity")
    sgd = partial(torch.optim.SGD, lr=1e30)
    node = training(net, outputs, sgd, {"skips_in_a_row": 0}, checkpoints=tmp_path / "checkpoints")
    with build(RampSource(fields()) + node) as pipeline:
        fetch(pipeline, ROIS)
        with pytest.raises(PipelineRequestError, match=r"the prediction '._output' is not finite"):
            fetch(pipeline, ROIS)
    assert not (tmp_path / "checkpoints").exists()


def test_weights_that_are_not_finite_at_the_end_are_told_and_not_written(tmp_path: Path) -> None:
    net = small_net()
    save_checkpoint(tmp_path, net, {"iteration": 0})
    pipeline = RampSource(fields()) + training(net, checkpoints=tmp_path)
    (tmp_path / "checkpoint_0.safetensors").rename(tmp_path / "other.safetensors")
    pipeline.setup()
    fetch(pipeline, ROIS)
    with torch.no_grad():
        next(net.parameters()).fill_(float("inf"))
    with pytest.raises(PipelineTeardownError) as error:
        pipeline.internal_teardown()
    assert "no checkpoint of iteration 1 is written" in str(error.value.__cause__)
    assert [path.name for path in tmp_path.iterdir()] == ["other.safetensors"]
