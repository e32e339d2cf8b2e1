"""Statistics for prediction: pooled over samples, in what is validated and stored, and without a trace in training."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scalenet_gp import LeibNet, build_unet
from scalenet_gp.training import (
    CheckpointOptions,
    ComputeConfig,
    NormSamples,
    Optimization,
    ProcessGroup,
    Trainer,
    ValidationCallback,
    ValidationOptions,
    ValidationResult,
    estimate_norm_statistics,
    load_checkpoint,
    load_network,
    norms_with_statistics,
)


def u_net(seed: int = 0, **arguments: Any) -> LeibNet:
    torch.manual_seed(seed)
    return build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)], **{"norm_layer": "batch", **arguments})


def batches_for(net: LeibNet, count: int, size: int = 2) -> list[dict[str, Tensor]]:
    generator, raw = torch.Generator().manual_seed(4), net.smallest_plan.input_tensors["input"]
    return [{"input": torch.rand(size, 1, *raw.shape, generator=generator)} for _ in range(count)]


def pooled_slowly(net: LeibNet, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Statistics of all that each layer is given in training mode, kept in memory."""
    twin, given, groups = copy.deepcopy(net).train(), {}, {}
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    for name, layer in norms_with_statistics(twin).items():
        seen, groups[name] = given.setdefault(name, []), len(layer.running_mean)
        layer.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].double()))
    for batch in batches:
        twin(batch, twin.smallest_plan)
    values = {
        name: torch.cat([x.unflatten(1, (groups[name], -1)).movedim(1, 0).flatten(1) for x in seen], dim=1)
        for name, seen in given.items()
    }
    means = {f"{name}.running_mean": x.mean(1) for name, x in values.items()}
    return means | {f"{name}.running_var": x.var(1) for name, x in values.items()}


@pytest.mark.parametrize(
    "arguments",
    [{"dropout_prob": 0.5}, {"residual": True, "normalize_input": True}, {"norm_layer": "calibrated_group"}],
)
def test_they_are_those_of_all_that_a_layer_is_given(arguments: dict[str, Any]) -> None:
    net = u_net(**arguments)
    batches = batches_for(net, 3)
    before, generator = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    net.nodes["bottleneck"].eval()
    kept = dict(net.named_buffers())
    found = estimate_norm_statistics(net, NormSamples(batches))
    assert found.keys() == {name for name in before if "running" in name}
    for name, expected in pooled_slowly(net, batches).items():
        torch.testing.assert_close(found[name], expected.float())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(tensor is kept[name] for name, tensor in net.named_buffers())
    assert [net.nodes[name].training for name in ("bottleneck", "output")] == [False, True]
    assert torch.equal(torch.get_rng_state(), generator)
    again = estimate_norm_statistics(net.eval(), NormSamples(batches, net.smallest_plan))
    assert all(torch.equal(tensor, again[name]) for name, tensor in found.items())


def never() -> Iterator[dict[str, Tensor]]:
    pytest.fail("a sample is drawn")
    yield {}


@pytest.mark.parametrize("kind", [None, "instance", "group"])
def test_without_batch_normalization_nothing_is_drawn(kind: str | None) -> None:
    assert estimate_norm_statistics(u_net(norm_layer=kind), NormSamples(never())) == {}


def test_frozen_layers_keep_theirs() -> None:
    net = u_net()
    names = list(norms_with_statistics(net))
    found = estimate_norm_statistics(net, NormSamples(batches_for(net, 1)), names[1:])
    assert found.keys() == {f"{names[0]}.running_mean", f"{names[0]}.running_var"}


def test_samples_that_are_not_finite_are_left_out() -> None:
    net = u_net()
    good, bad = batches_for(net, 2)
    bad["input"][0, 0, 0, 0] = torch.nan
    found, expected = (estimate_norm_statistics(net, NormSamples(batches)) for batches in ([bad, good], [good]))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    with pytest.raises(ValueError, match=r"statistics of normalization are estimated over is finite"):
        estimate_norm_statistics(net, NormSamples([bad]))


SETTINGS = {
    "plain": {},
    "averaged": {"optimization": Optimization(learning_rate=0.1, schedule="constant", ema_decay=0.5)},
    "frozen": {"optimization": Optimization(learning_rate=0.1, schedule="constant", frozen=("nodes.bottleneck.*",))},
    "groups": {},
    "checkpointing": {"compute": ComputeConfig(activation_checkpointing=("*",))},
}


def learn(net: LeibNet, steps: range, **arguments: Any) -> Trainer:
    batches, shape = batches_for(net, 5), net.smallest_plan.tensor("output").shape
    given = {"optimization": Optimization(learning_rate=0.1, schedule="constant"), "seed": 1} | arguments
    with Trainer(net, **given) as trainer:
        for step in steps:
            trainer.step(batches[step], {"output": torch.ones(2, 1, *shape)})
    return trainer


@pytest.mark.parametrize("name", SETTINGS)
def test_checkpoints_hold_them_and_training_goes_on_as_without(name: str, tmp_path: Path) -> None:
    arguments = {**SETTINGS[name], "checkpoint_options": CheckpointOptions(every=2)}
    norm = "calibrated_group" if name == "groups" else "batch"
    plain, whole, parted, resumed = (u_net(seed, dropout_prob=0.2, norm_layer=norm) for seed in (0, 0, 0, 7))
    samples = NormSamples(batches_for(plain, 3))
    without = learn(plain, range(4), **SETTINGS[name])
    trainer = learn(whole, range(4), norm_samples=samples, checkpoints=tmp_path / "whole", **arguments)
    assert all(torch.equal(tensor, whole.state_dict()[key]) for key, tensor in plain.state_dict().items())

    stored = load_network(tmp_path / "whole" / "checkpoint_4.safetensors")
    frozen = trainer.state.frozen_modules
    expected = estimate_norm_statistics(without.state.eval_net, samples, frozen)
    assert len(expected) == (8 if name == "frozen" else 12)
    for key, tensor in stored.state_dict().items():
        assert torch.equal(tensor, expected.get(key, without.state.eval_net.state_dict()[key])), key

    for net, steps in ((parted, range(3)), (resumed, range(3, 4))):
        learn(net, steps, norm_samples=samples, checkpoints=tmp_path / "parts", **arguments)
    assert all(torch.equal(tensor, whole.state_dict()[key]) for key, tensor in resumed.state_dict().items())
    files = [tmp_path / folder / "checkpoint_4.safetensors" for folder in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_validation_sees_them() -> None:
    net, seen = u_net(), []
    samples = NormSamples(batches_for(net, 2))

    def validate(given: LeibNet) -> ValidationResult:
        seen.append({name: tensor.clone() for name, tensor in given.state_dict().items()})
        return ValidationResult({}, loss=0.5)

    callback = ValidationCallback(ValidationOptions(every=2, metric="loss"), validate)
    learn(net, range(2), norm_samples=samples, callbacks=[callback])
    (found,) = seen
    expected = estimate_norm_statistics(net, samples)
    assert all(torch.equal(tensor, expected.get(name, tensor)) for name, tensor in found.items())
    assert not torch.equal(found["nodes.output.layers.0.running_mean"], net.nodes["output"].layers[0].running_mean)


def test_only_the_first_process_estimates_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProcessGroup, "is_main", property(lambda group: False))
    trainer = Trainer(u_net(), norm_samples=NormSamples(never()))
    trainer.start()
    with trainer.prediction_statistics():
        pass


def test_a_checkpoint_without_samples_has_the_running_averages_of_training(tmp_path: Path) -> None:
    net = u_net()
    learn(net, range(2), checkpoints=tmp_path)
    checkpoint = load_checkpoint(tmp_path / "checkpoint_2.safetensors")
    assert checkpoint.state["own_statistics"] == {}
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in checkpoint.weights.items())
