"""A step of training: against plain loops of torch, and to the bit across breaks."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, ReduceLROnPlateau

from scalenet_gp import LeibNet, TensorSpec, build_unet
from scalenet_gp.layers import ConvPass, Pool
from scalenet_gp.training import ComputeConfig, Optimization, Trainer, TrainingState, UpdateResult

CPU = ComputeConfig(device="cpu")
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def small_net(**arguments: Any) -> LeibNet:
    torch.manual_seed(0)
    return build_unet((8, 8), **{"base_nc": 2, "downsample_factors": [(2, 2)], "norm_layer": None, **arguments})


def inputs_of(net: LeibNet, iteration: int, samples: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1000 + iteration)
    planned = net.smallest_plan.input_tensors
    return {name: torch.rand(samples, t.channels, *t.shape, generator=generator) for name, t in planned.items()}


def squared_error(outputs: dict[str, Tensor]) -> Tensor:
    return sum(((output - 0.3) ** 2).mean() for output in outputs.values())


def learn(state: TrainingState, batches: int, spoiled: tuple[int, ...] = (), **options: Any) -> list[UpdateResult]:
    """Steps on batches whose content depends on the iteration alone."""
    steps = []
    for _ in range(batches):
        state.begin()
        inputs = inputs_of(state.net, state.iteration)
        if state.iteration in spoiled:
            inputs = {name: torch.full_like(tensor, math.nan) for name, tensor in inputs.items()}
        steps.append(state.advance(squared_error(state.forward(inputs, state.net.smallest_plan)), **options))
    return steps


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_steps_are_those_of_a_plain_loop():
    net, twin = small_net(), small_net()
    state, optimizer = TrainingState(net, Optimization(optimizer=SGD), CPU), SGD(twin.parameters())
    learn(state, 5)
    for iteration in range(5):
        optimizer.zero_grad()
        squared_error(twin(inputs_of(twin, iteration), twin.smallest_plan)).backward()
        optimizer.step()
    assert equal(weights_of(net), weights_of(twin))
    assert (state.iteration, state.skipped) == (5, 0)


def test_batches_that_are_accumulated_make_the_step_of_their_mean():
    net, twin = small_net(), small_net()
    steps = learn(TrainingState(net, Optimization(optimizer=SGD, accumulate=3), CPU), 6)
    optimizer = SGD(twin.parameters())
    for first in (0, 3):
        optimizer.zero_grad()
        losses = [squared_error(twin(inputs_of(twin, first + i), twin.smallest_plan)) for i in range(3)]
        (sum(losses) / 3).backward()
        optimizer.step()
    assert [step.taken for step in steps] == [False, False, True] * 2
    for name, tensor in weights_of(twin).items():
        torch.testing.assert_close(net.state_dict()[name], tensor, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("norm", [1e-3, 1e3])
def test_a_gradient_beyond_the_norm_is_scaled_down_to_it(norm):
    net, twin = small_net(), small_net()
    (step,) = learn(TrainingState(net, Optimization(optimizer=SGD, clip_norm=norm), CPU), 1)
    squared_error(twin(inputs_of(twin, 0), twin.smallest_plan)).backward()
    own = math.sqrt(sum((p.grad.double() ** 2).sum().item() for p in twin.parameters()))
    assert step.gradient_norm == pytest.approx(own, rel=1e-5)
    for (name, before), parameter in zip(small_net().named_parameters(), twin.parameters(), strict=True):
        moved = before - 0.1 * parameter.grad * min(1, norm / own)
        torch.testing.assert_close(net.get_parameter(name), moved, rtol=1e-4, atol=1e-6)


def test_the_update_ratio_is_measured_on_demand():
    net = small_net()
    before = weights_of(net)
    (step,) = learn(TrainingState(net, Optimization(optimizer=SGD), CPU), 1, measure=True)
    flat = [torch.cat([w[name].flatten().double() for name in before]) for w in (before, weights_of(net))]
    assert step.update_ratio == pytest.approx(((flat[1] - flat[0]).norm() / flat[0].norm()).item(), rel=1e-4)
    assert learn(TrainingState(small_net(), Optimization(optimizer=SGD), CPU), 1)[0].update_ratio is None


def test_warming_up_ends_in_the_schedule():
    state = TrainingState(
        small_net(),
        Optimization(optimizer=SGD, schedule=partial(ExponentialLR, gamma=0.5), warm_up=4, accumulate=2),
        CPU,
    )
    rates = []
    for _ in range(7):
        rates.append(state.learning_rate)
        learn(state, 2)
    expected = [0.1 * (0.001 + 0.999 * step / 4) for step in range(4)] + [0.1, 0.05, 0.025]
    assert rates == pytest.approx(expected)


def falling(step: int, steps: int) -> float:
    return max(0, 1 - step / steps)


@pytest.mark.parametrize("warm_up", [0, 3])
@pytest.mark.parametrize("done", [2, 5, 8])
def test_a_schedule_of_other_length_has_its_own_rates_from_the_first_step_on(warm_up, done):
    """The cases: within warming up, past it, and where the shorter schedule has come to zero."""
    short, long = (
        TrainingState(
            small_net(),
            Optimization(
                optimizer=SGD, schedule=partial(LambdaLR, lr_lambda=partial(falling, steps=n)), warm_up=warm_up
            ),
            CPU,
        )
        for n in (5, 10)
    )
    learn(short, done)
    long.load_state_dict(copy.deepcopy(short.state_dict()))
    for step in range(done, 13):
        warming = 0.1 * (0.001 + 0.999 * step / 3)
        assert long.learning_rate == pytest.approx(warming if step < warm_up else 0.1 * falling(step - warm_up, 10))
        learn(long, 1)


def test_a_plateau_is_told_from_outside():
    state = TrainingState(
        small_net(), Optimization(optimizer=SGD, schedule=partial(ReduceLROnPlateau, patience=1, factor=0.1)), CPU
    )
    rates = []
    for score in (1.0, 0.5, 0.5, 0.6, 0.7):
        learn(state, 1)
        state.update_plateau(score)
        rates.append(state.learning_rate)
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01])


def test_the_average_follows_the_weights_and_is_what_is_validated():
    state = TrainingState(small_net(norm_layer="batch"), Optimization(optimizer=SGD, ema_decay=0.75), CPU)
    expected: dict[str, Tensor] = {}
    for _ in range(4):
        learn(state, 1)
        for name, tensor in weights_of(state.net).items():
            floating = name in expected and tensor.is_floating_point()
            expected[name] = 0.75 * expected[name] + 0.25 * tensor if floating else tensor
    averaged = state.eval_net
    assert averaged is not state.net
    for name, tensor in expected.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(averaged.state_dict()[name], tensor)
    without = TrainingState(small_net(), Optimization(optimizer=SGD), CPU)
    assert without.average is None
    assert without.eval_net is without.net


def test_what_is_frozen_stays_and_keeps_its_statistics():
    net = small_net(norm_layer="batch")
    first = f"nodes.{next(iter(net.nodes))}."
    before = weights_of(net)
    learn(TrainingState(net, Optimization(optimizer=SGD, frozen=(f"{first}*",)), CPU), 2)
    after = weights_of(net)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if not name.startswith(first)}
    assert any(name.startswith(first) and "running" in name for name in before)


@pytest.mark.parametrize(("frozen", "message"), [(("nothing.*",), "matches no parameter"), (("*",), "leaves no")])
def test_freezing_what_is_not_there_or_everything_is_refused(frozen, message):
    with pytest.raises(ValueError, match=message):
        TrainingState(small_net(), Optimization(frozen=frozen), CPU)


def test_computing_again_gives_the_same_step_and_counts_a_batch_once():
    plain, again = (
        TrainingState(
            small_net(norm_layer="batch", dropout_prob=0.2),
            Optimization(optimizer=SGD),
            ComputeConfig(device="cpu", activation_checkpointing=patterns),
            seed=1,
        )
        for patterns in ((), ("*",))
    )
    learn(plain, 3)
    learn(again, 3)
    assert equal(weights_of(plain.net), weights_of(again.net))


def test_computing_again_keeps_less_in_memory():
    kept = {}
    for patterns in ((), ("*",)):
        state = TrainingState(
            small_net(), Optimization(optimizer=SGD), ComputeConfig(device="cpu", activation_checkpointing=patterns)
        )
        sizes = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            state.forward(inputs_of(state.net, 0), state.net.smallest_plan)
        kept[patterns] = sum(sizes)
    assert kept[("*",)] < 0.7 * kept[()]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_computes_in_it_and_keeps_weights_and_outputs(precision):
    net = small_net()
    state = TrainingState(net, Optimization(optimizer=SGD), ComputeConfig(device="cpu", precision=precision))
    types = set()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, given, made: types.add(made.dtype))
    outputs = state.forward(inputs_of(net, 0), net.smallest_plan)
    assert types == {getattr(torch, precision)}
    assert {output.dtype for output in outputs.values()} == {torch.float32}
    exact = small_net()(inputs_of(net, 0), net.smallest_plan)
    for name, output in outputs.items():
        torch.testing.assert_close(output, exact[name], rtol=0.05, atol=0.02)
    assert all(step.taken for step in learn(state, 3))
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_float16_scales_the_loss_and_takes_a_smaller_scale_after_an_overflow():
    state = TrainingState(small_net(), Optimization(optimizer=SGD), ComputeConfig(device="cpu", precision="float16"))
    before = weights_of(state.net)
    scale = state.loss_scale
    state.begin()
    outputs = state.forward(inputs_of(state.net, 0), state.net.smallest_plan)
    step = state.advance(squared_error(outputs) * 1e12)
    assert step.skipped
    assert not step.taken
    assert scale > 1
    assert state.loss_scale == scale / 2
    assert equal(before, weights_of(state.net))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_network_learns_the_same_from_logits():

    def smallest_net() -> LeibNet:
        """The C++ compiler takes a second for every kernel."""
        torch.manual_seed(0)
        nodes = [
            Pool(["raw"], ["pooled"], (2, 2)),
            ConvPass(["pooled"], ["output"], 1, 2, [(3, 3)], final_activation="Sigmoid"),
        ]
        return LeibNet(nodes, {"raw": TensorSpec((8, 8), 1)}, ["output"])

    options = Optimization(optimizer=SGD)
    plain, compiled = (
        Trainer(smallest_net(), optimization=options, compute=ComputeConfig(device="cpu", compile=compile_it))
        for compile_it in (False, True)
    )
    target = {"output": torch.rand(1, 2, *plain.net.smallest_plan.tensor("output").shape) > 0.5}
    for iteration in range(2):
        inputs = inputs_of(plain.net, iteration)
        one, other = (trainer.step(inputs, target) for trainer in (plain, compiled))
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.activations == {"output": "Sigmoid"}
        torch.testing.assert_close(other.raw_outputs["output"], one.raw_outputs["output"], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(other.outputs["output"], one.raw_outputs["output"].sigmoid(), rtol=1e-4, atol=1e-6)
    for name, tensor in weights_of(plain.net).items():
        torch.testing.assert_close(compiled.net.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_with_what_is_not_finite_leaves_everything_as_it_was(accumulate):
    optimization = Optimization(
        optimizer=partial(torch.optim.Adam, lr=0.01),
        schedule=partial(ExponentialLR, gamma=0.9),
        accumulate=accumulate,
        ema_decay=0.9,
    )
    state = TrainingState(small_net(norm_layer="batch"), optimization, CPU)
    learn(state, accumulate)
    before = copy.deepcopy((state.state_dict(), weights_of(state.net)))
    steps = learn(state, accumulate, spoiled=(2 * accumulate - 1,))
    assert [step.skipped for step in steps] == [False] * (accumulate - 1) + [True]
    after = state.state_dict()
    assert (after["skipped"], after["skipped_in_a_row"]) == (1, 1)
    assert equal(before[1], weights_of(state.net))
    assert equal(before[0]["average"], after["average"])
    assert after["schedule"]["last_epoch"] == before[0]["schedule"]["last_epoch"]
    for slot, values in before[0]["optimizer"]["state"].items():
        assert equal(values, after["optimizer"]["state"][slot])
    learn(state, accumulate)
    assert (state.skipped, state.skipped_in_a_row) == (1, 0)


def test_an_infinite_gradient_of_a_finite_loss_is_skipped():
    state = TrainingState(small_net(), Optimization(optimizer=SGD), CPU)
    before = weights_of(state.net)
    state.begin()
    (output,) = state.forward(inputs_of(state.net, 0), state.net.smallest_plan).values()
    step = state.advance((output - output.detach()).abs().sum().sqrt())
    assert step.skipped
    assert not math.isfinite(step.gradient_norm)
    assert equal(before, weights_of(state.net))


@pytest.mark.parametrize(
    "scheduler", [partial(ExponentialLR, gamma=0.9), partial(LambdaLR, lr_lambda=partial(falling, steps=3))]
)
@pytest.mark.parametrize("cut", [1, 2, 3, 5])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_run_in_two_pieces_is_the_run_in_one(cut, precision, scheduler):
    optimization = Optimization(schedule=scheduler, warm_up=2, accumulate=2, ema_decay=0.9, clip_norm=1.0)

    def begun() -> TrainingState:
        net = small_net(norm_layer="batch", dropout_prob=0.2)
        return TrainingState(net, optimization, ComputeConfig(device="cpu", precision=precision), seed=5)

    whole, first, second = begun(), begun(), begun()
    learn(whole, 7, spoiled=(2,))
    learn(first, cut, spoiled=(2,))
    kept = copy.deepcopy((first.state_dict(), weights_of(first.net)))
    torch.manual_seed(99)
    second.net.load_state_dict(kept[1])
    second.load_state_dict(kept[0])
    learn(second, 7 - cut, spoiled=(2,))
    assert equal(weights_of(whole.net), weights_of(second.net))
    assert equal(weights_of(whole.eval_net), weights_of(second.eval_net))
    assert whole.learning_rate == second.learning_rate


def test_layers_draw_by_seed_and_iteration_alone():
    drawn = []
    for seed in (1, 1, 2):
        state = TrainingState(small_net(dropout_prob=0.5), Optimization(optimizer=SGD), CPU, seed=seed)
        torch.manual_seed(np.random.default_rng().integers(2**31))
        state.begin()
        (output,) = state.forward(inputs_of(state.net, 0), state.net.smallest_plan).values()
        drawn.append(output)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_state_with_other_parts_is_refused():
    kept = TrainingState(small_net(), Optimization(optimizer=SGD, ema_decay=0.9), CPU).state_dict()
    with pytest.raises(ValueError, match="with one where there is none now: average"):
        TrainingState(small_net(), Optimization(optimizer=SGD), CPU).load_state_dict(kept)


def test_a_state_of_another_number_of_processes_is_refused():
    state = TrainingState(small_net(), Optimization(optimizer=SGD), CPU)
    with pytest.raises(ValueError, match="2 processes trained together and 1 do now"):
        state.load_state_dict({**state.state_dict(), "ranks": 2})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warm_up": -1}, "Optimization: warm_up is -1: it has to be greater than or equal to 0"),
        ({"accumulate": 0}, "Optimization: accumulate is 0: it has to be greater than 0"),
        ({"ema_decay": 1.0}, "Optimization: ema_decay is 1.0: it has to be less than 1"),
        ({"clip_norm": 0.0}, "Optimization: clip_norm is 0.0: it has to be greater than 0"),
        ({"skips_in_a_row": -1}, "skips_in_a_row"),
        ({"optimizer": {"kind": "Radam"}}, "there is no torch.optim.Radam; did you mean RAdam"),
        ({"optimizer": {"kind": "SGD", "arguments": {"lr": 1}}}, "takes no argument lr here; there are momentum"),
        ({"schedule": {"kind": "ExponentialLR", "arguments": {"gama": 0.9}}}, "takes no argument gama .* gamma"),
        ({"optimizer": {"kind": "SGD", "arguments": {"momentum": "much"}}}, "torch.optim.SGD refuses its arguments"),
        ({"optimizer": {"kind": "Adam", "arguments": {"betas": [2, 3]}}}, "Invalid beta parameter at index 0: 2"),
        ({"schedule": {"kind": "StepLR"}}, "StepLR refuses its arguments: .*missing.*'step_size'"),
        ({"schedule": "linear"}, "Optimization: schedule is 'linear': it has to be 'cosine', 'constant' or 'plateau'"),
        ({"optimizer": SGD, "learning_rate": 1.0}, "learning_rate is 1.0, but optimizer is a function"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Optimization(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"precision": "float64"},
            "ComputeConfig: precision is 'float64': it has to be 'float16', 'bfloat16' or 'float32'",
        ),
        ({"compile": True, "activation_checkpointing": ("*",)}, "exclude each other"),
    ],
)
def test_computations_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ComputeConfig(**arguments)


def test_a_pattern_of_no_node_is_refused():
    with pytest.raises(ValueError, match="activation_checkpointing='nothing' matches no node"):
        TrainingState(small_net(), Optimization(), ComputeConfig(device="cpu", activation_checkpointing=("nothing",)))


def test_weights_and_voxels_have_their_channels_last():
    net = small_net(base_nc=4)
    state = TrainingState(net, Optimization(optimizer=SGD), CPU)
    orders = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels > 1:
            module.register_forward_pre_hook(lambda module, given: orders.append((module.weight, given[0])))
    learn(state, 2)
    assert len(orders) > 2
    for weight, voxels in orders:
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert voxels.stride(1) == 1
