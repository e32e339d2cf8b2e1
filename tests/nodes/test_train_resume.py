"""Train: runs that repeat, stop, go on and go wrong, and the checkpoints that they leave."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import gunpowder as gp
import numpy as np
import pytest
import torch
from gunpowder import BatchRequest, Coordinate, PipelineRequestError, Roi, build
from gunpowder.pipeline import PipelineTeardownError
from torch import Tensor

from scalenet_gp.checkpoint import load_checkpoint, load_network, save_checkpoint
from scalenet_gp.nodes.learning.train import Train
from tests.nodes.ramps import Field, RampSource
from tests.nodes.two_scales import (
    ADAM,
    PREDICTION,
    RAW,
    ROIS,
    fetch,
    fields,
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
    arguments = {"checkpoints": tmp_path / "new", "checkpoint_every": 2, "metadata": metadata}
    trained(training(net, optimizer=recording, **arguments), steps=5)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {f"checkpoint_{i}.pt" for i in (2, 4, 5)}
    for iteration in (2, 4, 5):
        checkpoint = load_checkpoint(tmp_path / "new" / f"checkpoint_{iteration}.pt")
        assert checkpoint.iteration == iteration
        assert checkpoint.metadata == json.loads(json.dumps(metadata))
        assert all(torch.equal(tensor, seen[iteration][key]) for key, tensor in checkpoint.weights.items())


def test_an_end_that_was_just_written_is_not_written_again(tmp_path: Path) -> None:
    node = training(small_net(), checkpoints=tmp_path, checkpoint_every=2)
    with build(RampSource(fields()) + node) as pipeline:
        for step in range(2):
            fetch(pipeline, shifted(ROIS, step))
        (tmp_path / "checkpoint_2.pt").unlink()
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
        assert node.iteration == 3
        batches = [fetch(pipeline, shifted(ROIS, step)) for step in (3, 4)]
    assert [batch.iteration for batch in batches] == [4, 5]
    assert [batch.loss for batch in batches] == losses[3:]
    assert same_state(whole, later)
    ours, theirs = node.optimizer.state_dict(), reference.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    for index, state in theirs["state"].items():
        assert all(torch.equal(value, ours["state"][index][key]) for key, value in state.items())
    assert same_state(load_network(tmp_path / "checkpoint_5.pt"), whole)


class Interrupting(gp.BatchFilter):
    def process(self, batch: gp.Batch, request: BatchRequest) -> None:
        raise KeyboardInterrupt


def test_an_interruption_downstream_still_leaves_the_last_step_on_disk(tmp_path: Path) -> None:
    net = small_net()
    chain = RampSource(fields()) + training(net, checkpoints=tmp_path) + Interrupting()
    with build(chain) as pipeline, pytest.raises(KeyboardInterrupt):
        fetch(pipeline, ROIS)
    assert same_state(load_network(tmp_path / "checkpoint_1.pt"), net)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    trained(training(small_net(base_nc=3), checkpoints=tmp_path))
    net = small_net()
    message = r"checkpoint_1.pt is a checkpoint of another network: .* makes '0_in_conv_0', .* 3 there and 2 here"
    with setup_refusal(message), build(RampSource(fields()) + training(net, checkpoints=tmp_path)):
        pass
    assert same_state(net, small_net())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_1.pt"]


def test_a_checkpoint_of_another_optimizer_or_cut_short_is_refused(tmp_path: Path) -> None:
    trained(training(small_net(), checkpoints=tmp_path))
    net, sgd = small_net(seed=3), partial(torch.optim.SGD, lr=0.1)
    with (
        setup_refusal("is of an optimizer with other settings"),
        build(RampSource(fields()) + training(net, checkpoints=tmp_path, optimizer=sgd)),
    ):
        pass
    path = tmp_path / "checkpoint_1.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with (
        setup_refusal("checkpoint_1.pt cannot be read as a checkpoint .* cut short"),
        build(RampSource(fields()) + training(net, checkpoints=tmp_path)),
    ):
        pass
    assert same_state(net, small_net(seed=3))
    assert path.stat().st_size == 1000


# What is not finite


def with_nan(centres: np.ndarray) -> np.ndarray:
    return np.where(centres[-1:] > 0, np.nan, texture(centres)).astype(np.float32)


def not_finite(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return prediction.sum() * float("inf")


def test_an_input_that_is_not_finite_is_refused_before_it_touches_the_network(tmp_path: Path) -> None:
    net = small_net(norm_layer="batch")
    node = training(net, checkpoints=tmp_path)
    data = fields() | {RAW["0"]: Field((16, 16), with_nan, interpolatable=True)}
    with build(RampSource(data) + node) as pipeline:
        fetch(pipeline, {key: roi.shift(Coordinate(0, -4000)) for key, roi in ROIS.items()})
        after = copy.deepcopy(net)
        with pytest.raises(PipelineRequestError, match="the input of '0_input' is not finite in iteration 2; no step"):
            fetch(pipeline, ROIS)
        assert node.iteration == 1
        assert same_state(net, after)
    assert same_state(load_network(tmp_path / "checkpoint_1.pt"), after)


def test_a_loss_that_is_not_finite_is_refused_before_a_step() -> None:
    net = small_net()
    outputs = supervision(_1={"loss": not_finite})
    with (
        build(RampSource(fields()) + training(net, outputs)) as pipeline,
        pytest.raises(
            PipelineRequestError, match="the loss of '1_output' is not finite in iteration 1; no step was taken"
        ),
    ):
        fetch(pipeline, ROIS)
    assert same_state(net, small_net())


def test_a_network_that_has_diverged_is_refused_and_not_saved(tmp_path: Path) -> None:
    outputs = supervision(_0={"loss": lambda p, *_: p.sum()}, _1={"loss": lambda p, *_: p.sum()})
    net = small_net(final_activation="Identity")
    node = training(net, outputs, checkpoints=tmp_path, optimizer=partial(torch.optim.SGD, lr=1e30))
    with build(RampSource(fields()) + node) as pipeline:
        fetch(pipeline, ROIS)
        with pytest.raises(
            PipelineRequestError, match=r"the prediction of '._output' is not finite in iteration 2; no step"
        ):
            fetch(pipeline, ROIS)
    assert node.iteration == 1
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_at_the_end_are_told_and_not_written(tmp_path: Path) -> None:
    net = small_net()
    save_checkpoint(tmp_path, net, ADAM(net.parameters()), 0)
    pipeline = RampSource(fields()) + training(net, checkpoints=tmp_path)
    pipeline.setup()
    fetch(pipeline, ROIS)
    with torch.no_grad():
        next(net.parameters()).fill_(float("inf"))
    with pytest.raises(PipelineTeardownError) as error:
        pipeline.internal_teardown()
    assert "no checkpoint of iteration 1 is written" in str(error.value.__cause__)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_0.pt"]
