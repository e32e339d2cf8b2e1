"""A network in gunpowder's own Train and Predict: what they compute is what torch computes without them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import gunpowder as gp
import numpy as np
import pytest
import torch
from gunpowder import ArrayKey, Coordinate, Roi, build
from torch import Tensor, nn

from scalenet_gp import LeibNet, Plan, TensorSpec
from scalenet_gp.errors import GraphError
from scalenet_gp.layers import Head
from scalenet_gp.nodes import GunpowderModel
from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.nodes.testing import RampSource
from tests.nodes.train.two_scales import (
    INPUTS,
    OUTPUTS,
    PREDICTION,
    RAW,
    ROIS,
    TARGET,
    Silent,
    fields,
    inputs_of,
    plan_for,
    read,
    same_state,
    shifted,
    small_net,
)

ARRAYS = {**INPUTS, **OUTPUTS}
COARSE, FINE = PREDICTION["0"], PREDICTION["1"]


def loss_of_both(coarse: Tensor, coarse_target: Tensor, fine: Tensor, fine_target: Tensor) -> Tensor:
    """Called by gunpowder with what its ``loss_inputs`` say."""
    pairs = ((coarse, coarse_target), (fine, fine_target))
    return sum((nn.functional.binary_cross_entropy(p, t.float()) for p, t in pairs), start=torch.zeros(()))


def by_hand(net: LeibNet, plans: list[Plan]) -> tuple[list[float], list[dict[str, Tensor]]]:
    """Losses and predictions of a loop in plain torch."""
    optimizer, losses, predictions = torch.optim.Adam(net.parameters(), lr=1e-2), [], []
    for plan in plans:
        made = net(inputs_of(plan), plan)
        loss = loss_of_both(
            made["0_output"],
            read(TARGET["0"], plan.outputs["0_output"]),
            made["1_output"],
            read(TARGET["1"], plan.outputs["1_output"]),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        predictions.append({name: output.detach() for name, output in made.items()})
    return losses, predictions


def train_node(net: LeibNet, plan: Plan, folder: Path, outputs: Mapping[int | str, ArrayKey]) -> gp.torch.Train:
    """gunpowder's own, with Adam."""
    model = GunpowderModel(net, plan)
    return gp.torch.Train(
        model,
        loss_of_both,
        torch.optim.Adam(model.parameters(), lr=1e-2),
        inputs=INPUTS,
        outputs=outputs,
        loss_inputs={0: COARSE, 1: TARGET["0"], "fine": FINE, "fine_target": TARGET["1"]},
        array_specs=model.array_specs(OUTPUTS),
        checkpoint_basename=str(folder / "model"),
    )


def with_targets(request: gp.BatchRequest) -> gp.BatchRequest:
    for name in PREDICTION:
        request[TARGET[name]] = gp.ArraySpec(roi=request[PREDICTION[name]].roi)
    return request


@pytest.mark.parametrize("outputs", [OUTPUTS, {0: COARSE, 1: FINE}], ids=["named", "numbered"])
@pytest.mark.parametrize("batched", [False, True], ids=["one sample", "batch axis"])
def test_training_is_that_of_plain_torch(tmp_path: Path, outputs: Mapping[int | str, ArrayKey], batched: bool) -> None:
    net = small_net(norm_layer="batch")
    twin = copy.deepcopy(net)
    # gunpowder's RandomLocation would move requests like this; a plan fits wherever the shapes are the same
    step = net.plan({name: ROIS[key] for name, key in OUTPUTS.items()}).step
    plans = [plan_for(net, shifted(ROIS, index)) for index in range(3)]
    assert all(o % s == 0 for o, s in zip((32, -64), step, strict=True))
    losses, predictions = by_hand(twin, plans)

    chain = RampSource(fields())
    if batched:
        chain += gp.Unsqueeze([*INPUTS.values(), *TARGET.values()])
    chain += train_node(net, plans[0], tmp_path, outputs)
    with build(chain) as pipeline:
        for plan, loss, prediction in zip(plans, losses, predictions, strict=True):
            request = with_targets(GunpowderModel(net, plan).request(ARRAYS))
            batch = pipeline.request_batch(request)
            assert batch.loss == pytest.approx(loss, rel=1e-6)
            for name, key in OUTPUTS.items():
                made = batch[key].data if batched else batch[key].data[None]
                np.testing.assert_allclose(made, prediction[name].numpy(), rtol=0, atol=1e-6)
                assert batch[key].spec.roi == plan.outputs[name]
                assert batch[key].spec.voxel_size == net.voxel_size[name]
    assert batch.iteration == 3
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, twin.state_dict()[name], rtol=0, atol=1e-6)


def test_it_learns(tmp_path: Path) -> None:
    net = small_net()
    plan = plan_for(net, ROIS)
    request = with_targets(GunpowderModel(net, plan).request(ARRAYS))
    with build(RampSource(fields()) + train_node(net, plan, tmp_path, OUTPUTS)) as pipeline:
        losses = [float(pipeline.request_batch(request).loss) for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]


def predict_node(
    net: LeibNet, plan: Plan, outputs: Mapping[int | str, ArrayKey], **arguments: object
) -> gp.BatchFilter:
    """gunpowder's own."""
    model = GunpowderModel(net, plan).eval()
    return gp.torch.Predict(model, INPUTS, outputs, array_specs=model.array_specs(OUTPUTS), **arguments)


@pytest.mark.parametrize("outputs", [OUTPUTS, {0: COARSE, 1: FINE}], ids=["named", "numbered"])
def test_predictions_are_those_of_the_network(outputs: Mapping[int | str, ArrayKey]) -> None:
    net = small_net().eval()
    plan = plan_for(net, ROIS)
    with torch.no_grad():
        expected = net(inputs_of(plan), plan)
    with build(RampSource(fields()) + predict_node(net, plan, outputs)) as pipeline:
        batch = pipeline.request_batch(GunpowderModel(net, plan).request(ARRAYS))
    for name, key in OUTPUTS.items():
        np.testing.assert_array_equal(batch[key].data, expected[name][0].numpy())
        assert (batch[key].spec.roi, batch[key].spec.voxel_size) == (plan.outputs[name], net.voxel_size[name])


def test_stacked_samples_are_predicted_together() -> None:
    net = small_net().eval()
    plan = plan_for(net, ROIS)
    with torch.no_grad():
        expected = net(inputs_of(plan), plan)
    chain = RampSource(fields()) + gp.Stack(3) + predict_node(net, plan, OUTPUTS)
    with build(chain) as pipeline:
        batch = pipeline.request_batch(GunpowderModel(net, plan).request(ARRAYS))
    for name, key in OUTPUTS.items():
        assert batch[key].data.shape[0] == 3
        for sample in batch[key].data:
            np.testing.assert_allclose(sample, expected[name][0].numpy(), rtol=0, atol=1e-6)


def test_gunpowders_scan_in_steps_of_the_plan_is_the_whole() -> None:
    net = small_net().eval()
    tile = Roi((0, 0), net.plan({"1_output": Roi((0, 0), (8, 8))}).step)
    plan = net.plan({"1_output": tile})
    whole = net.plan({"1_output": Roi((0, 0), tile.shape * Coordinate(3, 2))})
    with torch.no_grad():
        expected = net(inputs_of(whole), whole)["1_output"][0].numpy()
    model = GunpowderModel(net, plan)
    arrays = {**INPUTS, "1_output": FINE}
    request = GunpowderModel(net, whole).request(arrays)
    specs = model.array_specs({"1_output": FINE})
    chain = RampSource(fields()) + gp.torch.Predict(model.eval(), INPUTS, {"1_output": FINE}, array_specs=specs)
    with build(chain + gp.Scan(model.request(arrays), progress_callback=Silent())) as pipeline:
        batch = pipeline.request_batch(request)
    np.testing.assert_allclose(batch[FINE].data, expected, rtol=0, atol=1e-6)


def test_gunpowders_checkpoints_hold_the_networks_weights(tmp_path: Path) -> None:
    net, other = small_net(0), small_net(1).eval()
    plan = plan_for(net, ROIS)
    torch.save({"model_state_dict": GunpowderModel(net, plan).state_dict()}, tmp_path / "model_checkpoint_1")
    with build(
        RampSource(fields()) + predict_node(other, plan, OUTPUTS, checkpoint=str(tmp_path / "model_checkpoint_1"))
    ) as pipeline:
        pipeline.request_batch(GunpowderModel(net, plan).request(ARRAYS))
    assert same_state(net, other)


def model_and_inputs() -> tuple[GunpowderModel, dict[str, Tensor]]:
    net = small_net()
    plan = plan_for(net, ROIS)
    return GunpowderModel(net, plan), inputs_of(plan)


def test_inputs_by_number_by_name_and_both() -> None:
    model, inputs = model_and_inputs()
    expected = model(**inputs)
    for made in (model(*inputs.values()), model(inputs["0_input"], **{"1_input": inputs["1_input"]})):
        assert all(torch.equal(one, other) for one, other in zip(made, expected, strict=True))
    assert [tuple(output.shape) for output in model(**{name: x[0] for name, x in inputs.items()})] == [
        tuple(output.shape[1:]) for output in expected
    ]


WRONG = {
    "missing": (
        lambda x: {"0_input": x["0_input"]},
        r"takes 0_input, 1_input by number or name, not 0 .* and 0_input by",
    ),
    "unknown": (lambda x: {**x, "raw": x["0_input"]}, "takes 0_input, 1_input .* 0_input, 1_input, raw by name"),
    "integers": (lambda x: {**x, "0_input": x["0_input"].to(torch.uint8)}, r"\['0_input'\] hold integers; .*Normalize"),
    "axes": (lambda x: {**x, "0_input": x["0_input"][0]}, r"all inputs are \(batch, channel, 2 spatial axes\) or all"),
    "too few axes": (lambda x: {name: tensor[0, 0] for name, tensor in x.items()}, "all inputs are .* but the shapes"),
    "shape": (lambda x: {**x, "1_input": x["1_input"][..., 1:]}, "'1_input' has shape .*; the plan takes"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_arrays_that_do_not_fit_are_refused(change, message) -> None:
    model, inputs = model_and_inputs()
    with pytest.raises(ValueError, match=message):
        model(**change(inputs))


def test_an_input_given_twice_is_refused() -> None:
    model, inputs = model_and_inputs()
    with pytest.raises(ValueError, match="not 2 by number and 1_input by name"):
        model(*inputs.values(), **{"1_input": inputs["1_input"]})


def test_what_it_cannot_write_a_request_for() -> None:
    model, _ = model_and_inputs()
    with pytest.raises(ValueError, match=r"nothing called \['2_output'\], and \['1_input'\] are given no array"):
        model.request({"0_input": RAW["0"], "2_output": FINE})
    with pytest.raises(ValueError, match="needs an array of its own"):
        model.request({"0_input": RAW["0"], "1_input": RAW["0"]})
    with pytest.raises(ValueError, match=r"the outputs 0_output, 1_output, but no \['0_input'\]"):
        model.array_specs({"0_input": RAW["0"]})
    with pytest.raises(ValueError, match="the plan is for network"):
        GunpowderModel(small_net(), small_net(base_nc=3).smallest_plan)


def net_of(*outputs: str) -> LeibNet:
    """One head per output, all on one input."""
    torch.manual_seed(0)
    heads = [Head(["a"], [name], 1, ["x"], dims=2, identifier=f"head_{i}") for i, name in enumerate(outputs)]
    return LeibNet(heads, {"a": TensorSpec((8, 8), 1)}, outputs)


ODD_NAMES = ["head.fine", "a name of words", "0", "passed", "größe", "_output"]


def test_outputs_of_any_name_are_found_by_gunpowder(tmp_path: Path) -> None:
    net = net_of(*ODD_NAMES)
    roi = Roi((0, 0), (32, 40))
    plan = net.plan(dict.fromkeys(ODD_NAMES, roi))
    keys = {name: ArrayKey(f"MADE_{index}") for index, name in enumerate(ODD_NAMES)}
    model = GunpowderModel(net, plan)
    raw = {"a": RAW["1"]}
    x = read(RAW["1"], roi)
    with torch.no_grad():
        expected = net({"a": x}, plan)
    request = model.request({**raw, **keys})
    specs = model.array_specs(keys)
    predict = gp.torch.Predict(copy.deepcopy(model).eval(), raw, keys, array_specs=specs)
    train = gp.torch.Train(
        model,
        lambda *made: sum(m.square().mean() for m in made),
        torch.optim.SGD(model.parameters(), lr=0.1),
        inputs=raw,
        outputs=keys,
        loss_inputs=dict(enumerate(keys.values())),
        array_specs=specs,
        checkpoint_basename=str(tmp_path / "model"),
    )
    for node in (predict, train):
        with build(RampSource(fields()) + node) as pipeline:
            batch = pipeline.request_batch(request)
        for name, key in keys.items():
            np.testing.assert_allclose(batch[key].data, expected[name][0].numpy(), rtol=0, atol=1e-6)
    assert batch.loss == pytest.approx(sum(m.square().mean().item() for m in expected.values()), rel=1e-5)


@pytest.mark.parametrize("name", ["net", "plan", "training", "forward", "request", "half", "_modules"])
def test_an_output_that_would_hide_what_the_model_has_is_refused(name: str) -> None:
    net = net_of("fine", name)
    with pytest.raises(ValueError, match=f"attributes \\['{name}'\\] that are something else; give these outputs of"):
        GunpowderModel(net, net.smallest_plan)


@pytest.mark.parametrize(
    ("dtype", "returned"),
    [
        (torch.float64, np.float64),
        (torch.float32, np.float32),
        (torch.float16, np.float16),
        (torch.bfloat16, np.float32),
    ],
    ids=str,
)
def test_arrays_are_computed_with_in_the_precision_of_the_weights(dtype: torch.dtype, returned: type) -> None:
    net = small_net().to(dtype).eval()
    plan = plan_for(net, ROIS)
    with torch.no_grad():
        expected = net({name: x.to(dtype) for name, x in inputs_of(plan).items()}, plan)
    with build(RampSource(fields()) + predict_node(net, plan, OUTPUTS)) as pipeline:
        batch = pipeline.request_batch(GunpowderModel(net, plan).request(ARRAYS))
    for name, key in OUTPUTS.items():
        assert batch[key].data.dtype == batch[key].spec.dtype == returned
        np.testing.assert_array_equal(batch[key].data, expected[name][0].to(torch.float64).numpy())


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({0: RAW["0"], 1: RAW["1"]}, {0: COARSE}, "with tensors by number.*GunpowderModel"),
        (INPUTS, {0: COARSE}, "with the tensors '0_input', '1_input'.*GunpowderModel"),
        (INPUTS, {"0_output": COARSE}, "has the output '0_output', which is not an attribute.*GunpowderModel"),
    ],
    ids=["inputs by number", "inputs by name", "outputs by name"],
)
def test_a_network_without_it_is_refused_by_gunpowders_nodes(inputs: dict, outputs: dict, message: str) -> None:
    net = small_net()
    model = GunpowderModel(net, plan_for(net, ROIS))
    request, specs = model.request({**INPUTS, "0_output": COARSE}), model.array_specs({"0_output": COARSE})
    adam = torch.optim.Adam(net.parameters())

    def train() -> None:
        loss = {0: COARSE, 1: COARSE}
        node = gp.torch.Train(net, nn.functional.l1_loss, adam, inputs, outputs, loss, array_specs=specs)
        with build_chain(RampSource(fields()) + node) as pipeline:
            pipeline.request_batch(request)

    def predict() -> None:
        node = gp.torch.Predict(net.eval(), inputs, outputs, specs)
        with build_chain(RampSource(fields()) + node) as pipeline:
            pipeline.request_batch(request)

    for use in (train, predict):
        with pytest.raises((AttributeError, GraphError), match=message):
            use()
    assert not hasattr(net, "0_output")
