"""Train: every step is to the bit the one that torch takes on crops that are read by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gunpowder as gp
import numpy as np
import pytest
import torch
from gunpowder import ArrayKey, BatchRequest, Coordinate, PipelineRequestError, Roi, build
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from scalenet_gp import LeibNet
from scalenet_gp.losses import BinaryCrossEntropy, CrossEntropyDice, Dice
from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.nodes.samplers import Reject
from scalenet_gp.nodes.targets.class_weights import ClassWeights
from scalenet_gp.nodes.testing import Field, RampSource
from scalenet_gp.nodes.train.supervision import Supervision
from scalenet_gp.nodes.train.train import Train
from scalenet_gp.training import ComputeConfig
from tests.nodes.train.two_scales import (
    ADAM,
    INPUTS,
    MASK,
    OUTPUTS,
    PREDICTION,
    RAW,
    ROIS,
    TARGET,
    Fields,
    Silent,
    fetch,
    fields,
    inputs_of,
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


def steps_by_hand(
    net: LeibNet, outputs: Mapping[str, Supervision], rois: Mapping[ArrayKey, Roi], steps: int
) -> tuple[list[float], list[dict[str, Tensor]]]:
    """Losses and predictions of a training loop in plain torch."""
    optimizer, losses, predictions = ADAM(net.parameters()), [], []
    for step in range(steps):
        plan = plan_for(net, shifted(rois, step))
        raw = net.train()(inputs_of(plan), plan, logits=True)
        made = {name: tensor.detach().sigmoid() for name, tensor in raw.items()}
        loss = torch.zeros(())
        for name, roi in plan.outputs.items():
            wanted = outputs[name]
            target = read(wanted.target, roi).float()
            mask = torch.ones_like(target) if wanted.mask is None else read(wanted.mask, roi).float()
            loss = loss + wanted.output_loss.weight_at(step) * wanted.loss(
                raw[name], target, mask, activation="Sigmoid"
            )
        fresh = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
        for parameter, gradient in zip(net.parameters(), fresh, strict=True):
            parameter.grad = gradient
        optimizer.step()
        losses.append(loss.item())
        predictions.append({name: tensor.detach() for name, tensor in made.items()})
    return losses, predictions


CASES: dict[str, tuple[dict[str, Supervision], dict[ArrayKey, Roi]]] = {
    "both": (supervision(), ROIS),
    "weights": (supervision(_0={"weight": 0.25}, _1={"weight": 3}), ROIS),
    "losses": (supervision(_0={"loss": BinaryCrossEntropy()}, _1={"loss": Dice()}), ROIS),
    "no mask": (supervision(_0={"mask": None}, _1={"mask": None}), ROIS),
    "coarse alone": (supervision(), {COARSE: ROIS[COARSE]}),
    "fine alone": (supervision(), {FINE: ROIS[FINE]}),
}


@pytest.mark.parametrize(("outputs", "rois"), CASES.values(), ids=CASES)
def test_steps_are_those_that_torch_takes(outputs: dict[str, Supervision], rois: dict[ArrayKey, Roi]) -> None:
    net = small_net()
    start, other = copy.deepcopy(net), copy.deepcopy(net)
    batches = trained(training(net, outputs), rois, steps=3)
    losses, predictions = steps_by_hand(other, outputs, rois, steps=3)
    assert not same_state(net, start)
    assert same_state(net, other)
    assert [batch.loss for batch in batches] == losses
    assert [batch.iteration for batch in batches] == [1, 2, 3]
    for step, (batch, expected) in enumerate(zip(batches, predictions, strict=True)):
        assert set(batch.arrays) == set(rois)
        for key, roi in shifted(rois, step).items():
            assert batch[key].spec.roi == roi
            assert batch[key].data.dtype == np.float32
        for name, tensor in expected.items():
            np.testing.assert_array_equal(batch[OUTPUTS[name]].data, tensor[0].numpy())


def test_what_goes_up_is_what_the_plan_needs_and_the_targets_beside_the_predictions() -> None:
    net, source = small_net(), RampSource(fields())
    with build(source + training(net, supervision(_0={"mask": None}))) as pipeline:
        fetch(pipeline, ROIS)
        fetch(pipeline, {FINE: ROIS[FINE]})
    for request, rois in zip(source.requests, (ROIS, {FINE: ROIS[FINE]}), strict=True):
        expected = {INPUTS[name]: roi for name, roi in plan_for(net, rois).inputs.items()}
        expected |= {TARGET["1"]: ROIS[FINE], MASK["1"]: ROIS[FINE]}
        expected |= {TARGET["0"]: ROIS[COARSE]} if COARSE in rois else {}
        assert {key: spec.roi for key, spec in request.items()} == expected


def test_targets_and_raw_data_come_down_with_the_predictions() -> None:
    net, big = small_net(), Roi((-512, -512), (1024, 1024))
    with build(RampSource(fields()) + training(net)) as pipeline:
        batch = fetch(pipeline, ROIS | {RAW["1"]: big, TARGET["0"]: big, MASK["1"]: ROIS[FINE]})
    assert batch.loss == steps_by_hand(small_net(), supervision(), ROIS, 1)[0][0]
    for key, roi in ((RAW["1"], big), (TARGET["0"], big), (MASK["1"], ROIS[FINE])):
        np.testing.assert_array_equal(batch[key].data, read(key, roi)[0].numpy())


def test_stacked_samples_make_one_step() -> None:
    net, other = small_net(), small_net()
    source = RampSource(fields(), Roi((-4096, -4096), (8192, 8192)))
    plan = plan_for(net, ROIS)
    wanted = {key: ROIS[PREDICTION[name]] for keys in (TARGET, MASK) for name, key in keys.items()}
    wanted |= {INPUTS[name]: roi for name, roi in plan.inputs.items()}
    with build(source + gp.RandomLocation() + gp.Stack(3) + training(net)) as pipeline:
        batch = fetch(pipeline, ROIS | wanted)
    tensors = {key: torch.from_numpy(batch[key].data) for key in wanted}
    assert all(tensor.shape[0] == 3 for tensor in tensors.values())
    outputs = other({name: tensors[key] for name, key in INPUTS.items()}, plan, logits=True)
    loss = torch.zeros(())
    for name, output in outputs.items():
        true = tensors[TARGET[name[0]]].float(), tensors[MASK[name[0]]].float()
        loss = loss + CrossEntropyDice()(output, *true, activation="Sigmoid")
        np.testing.assert_array_equal(batch[OUTPUTS[name]].data, output.detach().sigmoid().numpy())
    loss.backward()
    ADAM(other.parameters()).step()
    assert batch.loss == loss.item()
    assert same_state(net, other)


def test_without_predictions_asked_for_nothing_is_learnt() -> None:
    net, node = small_net(), training(small_net())
    (batch,) = trained(node, {RAW["0"]: Roi((0, 0), (32, 32))})
    assert node.trainer.iteration == 0
    assert batch.loss is None
    assert same_state(net, node.net)


def test_it_learns_in_training_mode_whatever_others_do_with_the_network() -> None:
    left, disturbed = (small_net(norm_layer="batch") for _ in range(2))
    trained(training(left))
    with build(RampSource(fields()) + training(disturbed)) as pipeline:
        disturbed.eval()
        fetch(pipeline, ROIS)
    assert same_state(left, disturbed)
    statistics = "nodes.0_in_conv_0.layers.2.running_mean"
    assert left.state_dict()[statistics].any()


# What is not annotated


def spoilt(name: str, value: float) -> Fields:
    """Targets that hold ``value`` wherever nothing is annotated, and 1 or 0 elsewhere."""
    clean = fields()
    target, mask = clean[TARGET[name]], clean[MASK[name]]

    def content(centres: np.ndarray) -> np.ndarray:
        return np.where(mask.content(centres) > 0, target.content(centres), value).astype(np.float32)

    return clean | {TARGET[name]: Field(target.voxel_size, content, interpolatable=False)}


@pytest.mark.parametrize("value", [0.0, 1.0, 255.0, float("nan")])
def test_targets_that_are_not_annotated_never_count(value: float) -> None:
    clean, other = small_net(), small_net()
    losses = [batch.loss for batch in trained(training(clean), steps=2)]
    assert losses == [batch.loss for batch in trained(training(other), steps=2, data=spoilt("1", value))]
    assert same_state(clean, other)


def test_where_nothing_is_annotated_nothing_is_learnt() -> None:
    def nothing(centres: np.ndarray) -> np.ndarray:
        return np.zeros((1, *centres.shape[1:]), dtype=np.uint8)

    net, data = small_net(), fields()
    data |= {key: Field(data[key].voxel_size, nothing, interpolatable=False) for key in MASK.values()}
    (batch,) = trained(training(net, optimizer=partial(torch.optim.SGD, lr=1.0)), data=data)
    assert batch.loss == 0
    assert same_state(net, small_net())


def test_a_mask_of_one_channel_holds_for_all() -> None:
    data, repeated = fields(), fields()
    one = data[MASK["1"]].content
    data[MASK["1"]] = Field((8, 8), lambda centres: one(centres)[:1], interpolatable=False)
    repeated[MASK["1"]] = Field((8, 8), lambda centres: one(centres)[[0, 0]], interpolatable=False)
    first, second = small_net(), small_net()
    assert trained(training(first), data=data)[0].loss == trained(training(second), data=repeated)[0].loss
    assert same_state(first, second)


def test_one_array_may_be_input_and_target() -> None:
    net, other = small_net(), small_net()
    outputs = supervision(_0={"target": RAW["0"], "mask": None})
    batches = trained(training(net, outputs), {COARSE: ROIS[COARSE]})
    losses, _ = steps_by_hand(other, outputs, {COARSE: ROIS[COARSE]}, 1)
    assert [batch.loss for batch in batches] == losses
    assert same_state(net, other)


# Refusals


def per_voxel(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return (prediction - target) ** 2


def test_a_loss_for_each_voxel_is_refused() -> None:
    net = small_net()
    with (
        build(RampSource(fields()) + training(net, supervision(_1={"loss": per_voxel}))) as pipeline,
        pytest.raises(PipelineRequestError, match="scalar"),
    ):
        fetch(pipeline, ROIS)
    assert same_state(net, small_net())


def channels(count: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda centres: np.ones((count, *centres.shape[1:]), np.uint8)


@pytest.mark.parametrize(("key", "count"), [(TARGET["1"], 1), (TARGET["1"], 3), (TARGET["0"], 2), (MASK["1"], 3)])
def test_targets_and_masks_of_other_channels_are_refused(key: ArrayKey, count: int) -> None:
    node = training(small_net())
    data = fields() | {key: Field(fields()[key].voxel_size, channels(count), interpolatable=False)}
    message = (
        rf"output '._output' has shape \(1, [12], .*\), its {key} has \(1, {count}, .*\): batch, channels and voxels"
    )
    with build(RampSource(data) + node) as pipeline, pytest.raises(PipelineRequestError, match=message):
        fetch(pipeline, ROIS)
    assert node.trainer.iteration == 0
    assert same_state(node.net, small_net())


@pytest.mark.parametrize("key", [TARGET["1"], MASK["1"]], ids=["target", "mask"])
@pytest.mark.parametrize("voxel_size", [(16, 8), (8, 8, 8), None], ids=["voxel size", "dimensions", "absent"])
def test_targets_and_masks_on_other_lattices_are_refused(key: ArrayKey, voxel_size: tuple[int, ...] | None) -> None:
    data = {k: field for k, field in fields().items() if k != key}
    message = f"output '1_output' is trained on {key}, which no node upstream provides"
    if voxel_size is not None:
        data[key] = Field(voxel_size, channels(2), interpolatable=False)
        message = rf"'1_output' has voxels of \(8, 8\) world units, its {key} upstream has \({voxel_size[0]}, 8"
    with setup_refusal(message), build(RampSource(data) + training(small_net())):
        pass


def test_inputs_that_do_not_fit_are_refused() -> None:
    data = fields() | {RAW["0"]: Field((32, 32), texture, interpolatable=True)}
    with (
        setup_refusal(r"'0_input' of ScaleNet has voxels of \(16, 16\) .* upstream has \(32, 32\)"),
        build(RampSource(data) + training(small_net())),
    ):
        pass


def test_predictions_and_targets_outside_zero_and_one_are_refused() -> None:
    data = fields() | {TARGET["0"]: Field((16, 16), lambda c: 255 * channels(1)(c), interpolatable=False)}
    with (
        build(RampSource(data) + training(small_net())) as pipeline,
        pytest.raises(PipelineRequestError, match=r"annotated part of the target has to lie in \[0, 1\], .* to 255"),
    ):
        fetch(pipeline, ROIS)


def test_a_roi_off_its_lattice_is_refused() -> None:
    with (
        build(RampSource(fields()) + training(small_net())) as pipeline,
        pytest.raises(
            PipelineRequestError, match=r"'0_output': the ROI .* is off the lattice, whose voxels are \(16, 16\)"
        ),
    ):
        fetch(pipeline, {COARSE: Roi((0, 8), (16, 16))})


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown output": ({"outputs": {"2_output": Supervision(FINE, TARGET["1"])}}, r"no output \['2_output'\]"),
    "no output": ({"outputs": {}}, "at least one output"),
    "missing input": ({"inputs": {}}, r"no array is given for \['0_input', '1_input'\]"),
    "absent device": ({"compute": ComputeConfig(device="cuda:99")}, "'cuda:99' was asked for by name"),
    "metadata": ({"metadata": {"data": Path("/data")}}, "metadata has to be plain values, .*PosixPath"),
}


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Train(small_net(), **({"inputs": INPUTS, "outputs": supervision()} | arguments))


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_weights_of_losses_are_not_negative(weight: float) -> None:
    with pytest.raises(ValueError, match=r"the weight of the loss on PREDICTION_FINE has to be from 0 up, not "):
        Supervision(FINE, TARGET["1"], weight=weight)


def test_the_optimizer_is_adamw_unless_given() -> None:
    node = Train(small_net(), INPUTS, supervision())
    with build(RampSource(fields()) + node):
        assert type(node.trainer.state.optimizer) is torch.optim.AdamW
        assert node.trainer.state.optimizer.param_groups[0]["lr"] == 1e-2


def test_requests_reach_it_through_gunpowders_own_nodes() -> None:
    reference = BatchRequest()
    for key in ROIS:
        reference[key] = Roi((0, 0), (32, 32))
    net, node = small_net(), training(small_net())
    chain = (
        RampSource(fields())
        + node
        + gp.PrintProfilingStats(every=1000)
        + gp.Scan(reference, progress_callback=Silent())
    )
    with build(chain) as pipeline:
        batch = fetch(pipeline, {FINE: Roi((0, 0), (64, 64))})
    assert node.trainer.iteration == 4
    assert batch[FINE].data.shape == (2, 8, 8)
    assert not same_state(net, node.net)
    assert np.isfinite(batch[FINE].data).all()


@pytest.mark.parametrize("kind", ["location", "reject"])
def test_a_mask_that_nodes_upstream_decide_by_is_asked_for(kind: str) -> None:
    tissue = ArrayKey("TISSUE")
    made = {**fields(), tissue: Field((16, 16), lambda centres: (centres[-1] > 700).astype(np.uint8), False)}
    source = RampSource(made, Roi((-1024, -1024), (2048, 2048)))
    above = {
        "location": lambda: gp.RandomLocation(mask=tissue, min_masked=0.5),
        "reject": lambda: gp.RandomLocation() + Reject(tissue, min_masked=0.5),
    }[kind]()
    with build_chain(source + above + training(small_net())) as pipeline:
        source.requests.clear()
        for seed in range(3):
            fetch(pipeline, ROIS, seed)
    wanted = ROIS[PREDICTION["0"]].union(ROIS[PREDICTION["1"]])
    places = [request[tissue].roi for request in source.requests]
    assert len(places) >= 3
    assert {roi.shape for roi in places} == {wanted.snap_to_grid(Coordinate(16, 16), mode="grow").shape}
    assert kind == "reject" or all(roi.end[1] > 700 for roi in places)


def test_the_schedule_multiplies_the_learning_rate_also_after_a_break(tmp_path):
    def rates(steps, checkpoints=None):
        node = training(
            small_net(),
            optimizer=partial(torch.optim.SGD, lr=0.5),
            optimization={"schedule": partial(LambdaLR, lr_lambda=lambda iteration: 1 / (1 + iteration))},
            checkpoints=checkpoints,
        )
        used = []
        with build(RampSource(fields()) + node) as pipeline:
            for _ in range(steps):
                used.append(node.trainer.state.learning_rate)
                fetch(pipeline, ROIS)
        return used

    assert rates(4) == pytest.approx([0.5, 0.25, 0.5 / 3, 0.125])
    assert [*rates(2, tmp_path), *rates(2, tmp_path)] == pytest.approx([0.5, 0.25, 0.5 / 3, 0.125])


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate": 2}, {"precision": "float16"}], ids=["plain", "accumulated", "scaled"]
)
def test_gradients_come_down_as_autograd_gives_them(settings: dict[str, Any]) -> None:
    gradients = {name: gp.ArrayKey(f"GRADIENT_{name}") for name in ("0", "1")}
    outputs = supervision(_0={"gradient": gradients["0"], "weight": 0.5}, _1={"gradient": gradients["1"]})
    compute = ComputeConfig(device="cpu", precision=settings.get("precision", "float32"))
    optimization = {name: value for name, value in settings.items() if name == "accumulate"}
    net, twin = small_net(), small_net()
    rois = ROIS | {gradients[name]: ROIS[PREDICTION[name]] for name in gradients}
    node = training(net, outputs, optimization=optimization, compute=compute)
    (batch,) = trained(node, rois)
    plan = plan_for(twin, ROIS)
    raw = twin.train()(inputs_of(plan), plan, logits=True)
    made = {name: tensor.detach().requires_grad_() for name, tensor in raw.items()}
    loss = torch.zeros(())
    for name, tensor in made.items():
        wanted, roi = outputs[name], plan.outputs[name]
        target, mask = (read(key, roi).float() for key in (wanted.target, wanted.mask))
        loss = loss + wanted.output_loss.weight_at(0) * wanted.loss(tensor, target, mask, activation="Sigmoid")
    loss.backward()
    tolerance = {"rtol": 0.05, "atol": 1e-3} if "precision" in settings else {"rtol": 1e-4, "atol": 1e-7}
    for name, key in gradients.items():
        expected = made[f"{name}_output"].grad[0].numpy()
        np.testing.assert_allclose(batch[key].data, expected, **tolerance)
        assert batch[key].spec.roi == rois[key]
        assert batch[key].spec.voxel_size == net.voxel_size[f"{name}_output"]


def test_a_whole_scale_may_be_frozen() -> None:
    net = small_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    trained(training(net, optimization={"frozen": ("nodes.0_*",)}))
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not any(name.startswith("nodes.0_") for name in changed)


def test_a_gradient_without_its_prediction_is_refused() -> None:
    gradient = gp.ArrayKey("GRADIENT")
    chain = RampSource(fields()) + training(small_net(), supervision(_1={"gradient": gradient}))
    with (
        build(chain) as pipeline,
        pytest.raises(PipelineRequestError, match="GRADIENT, the gradient of PREDICTION_FINE, is requested; ask"),
    ):
        fetch(pipeline, {gradient: ROIS[FINE]})


def test_class_weights_and_weights_that_change_reach_the_losses() -> None:
    seen: list[Tensor] = []

    def weighted(prediction: Tensor, target: Tensor, mask: Tensor, class_weights: Tensor) -> Tensor:
        seen.append(class_weights)
        return (prediction.mean(dim=(0, 2, 3)) * class_weights).sum()

    outputs = supervision(
        _1={"loss": weighted, "class_weights": (1.0, 3.0), "weight": lambda iteration: float(iteration)}
    )
    losses = [batch.loss for batch in trained(training(small_net(), outputs), {FINE: ROIS[FINE]}, steps=3)]
    assert all(weights.tolist() == [1.0, 3.0] for weights in seen)
    assert losses[0] == 0
    assert all(loss > 0 for loss in losses[1:])


def test_class_weights_as_a_mask_weigh_present_and_absent_voxels_equally() -> None:
    weights, roi = ArrayKey("CLASS_WEIGHTS"), ROIS[FINE]
    node = training(small_net(), supervision(_1={"mask": weights, "loss": BinaryCrossEntropy()}))
    chain = RampSource(fields()) + ClassWeights(TARGET["1"], weights, mask=MASK["1"]) + node
    with build(chain) as pipeline:
        batch = fetch(pipeline, {FINE: roi})
    target, mask = read(TARGET["1"], roi)[0].numpy(), read(MASK["1"], roi)[0].numpy()
    losses = -np.log(np.where(target, batch[FINE].data, 1 - batch[FINE].data).astype(float))
    sides = [losses[c][(mask[c] > 0) & (target[c] == side)].mean() for c in range(2) for side in (0, 1)]
    known = np.repeat([np.count_nonzero(mask[c]) for c in range(2)], 2)
    assert batch.loss == pytest.approx(np.average(sides, weights=known), rel=1e-5)


def test_running_out_of_memory_says_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> Tensor:
        raise MemoryError("no room")

    node = training(small_net(), supervision(_1={"loss": failing}))
    with (
        build(RampSource(fields()) + node) as pipeline,
        pytest.raises(PipelineRequestError, match=r"MemoryError: out of memory on cpu: .* largest tensors: .*no room"),
    ):
        fetch(pipeline, ROIS)
