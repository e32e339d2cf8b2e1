"""Trainer: the same bits as through the Train node, plain loops over tensors, and the order of callbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from scalenet_gp import LeibNet, build_autoencoder, build_unet
from scalenet_gp.losses import BinaryCrossEntropy, DistanceRegression, KullbackLeibler
from scalenet_gp.metrics.confusion import ConfusionCounts
from scalenet_gp.training import (
    Callback,
    CheckpointOptions,
    ComputeConfig,
    JointLoss,
    Optimization,
    OutputLoss,
    Phase,
    StepResult,
    Trainer,
    TrainerView,
    ValidationCallback,
    ValidationOptions,
    ValidationResult,
    callbacks,
    load_checkpoint,
)
from tests.nodes.train.two_scales import (
    ADAM,
    MASK,
    PREDICTION,
    ROIS,
    TARGET,
    inputs_of,
    plan_for,
    read,
    same_state,
    shifted,
    small_net,
    supervision,
    trained,
    training,
)


def u_net() -> LeibNet:
    torch.manual_seed(0)
    return build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)], norm_layer=None)


def samples(net: LeibNet, count: int) -> list[tuple[Tensor, Tensor]]:
    """Raw data and targets of the smallest plan, without batch axis."""
    generator, plan = torch.Generator().manual_seed(4), net.smallest_plan
    raw, output = plan.input_tensors["input"], plan.tensor("output")
    return [
        (
            torch.rand(raw.channels, *raw.shape, generator=generator),
            (torch.rand(output.channels, *output.shape, generator=generator) > 0.5).to(torch.uint8),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2, "ema_decay": 0.9, "clip_norm": 0.1}], ids=["plain", "all"])
def test_the_same_tensors_give_the_same_bits_through_the_node_and_through_the_trainer(settings: dict[str, Any]) -> None:
    outputs = supervision(_0={"weight": 0.25}, _1={"loss": BinaryCrossEntropy(), "class_weights": (1.0, 2.0)})
    ours, theirs = (small_net(norm_layer="batch", dropout_prob=0.2) for _ in range(2))
    batches = trained(training(theirs, outputs, optimization=settings, seed=3), steps=4)

    losses = {name: each.output_loss for name, each in outputs.items()}
    trainer = Trainer(ours, losses, optimization=Optimization(optimizer=ADAM, **settings), seed=3)
    for step, batch in enumerate(batches):
        rois = shifted(ROIS, step)
        plan = plan_for(ours, rois)
        targets, masks = ({f"{n}_output": read(kind[n], rois[PREDICTION[n]]) for n in "01"} for kind in (TARGET, MASK))
        result = trainer.step(inputs_of(plan), targets, masks, plan)
        assert (result.loss, result.iteration) == (batch.loss, batch.iteration)
        for name, tensor in result.outputs.items():
            assert torch.equal(tensor[0], torch.from_numpy(batch[PREDICTION[name[0]]].data))
    assert same_state(ours, theirs)


def test_a_loop_over_a_data_loader_is_one_over_a_list_of_tensors(tmp_path: Path) -> None:
    nets = [u_net(), u_net()]
    data = samples(nets[0], 6)
    with Trainer(nets[0], {"output": BinaryCrossEntropy()}, checkpoints=tmp_path) as trainer:
        losses = [
            trainer.step({"input": raw}, {"output": target}).loss for raw, target in DataLoader(data, batch_size=2)
        ]
    other = Trainer(nets[1], {"output": OutputLoss(BinaryCrossEntropy())})
    pairs = [tuple(torch.stack(tensors) for tensors in zip(*data[i : i + 2], strict=True)) for i in range(0, 6, 2)]
    assert losses == [other.step({"input": raw}, {"output": target}).loss for raw, target in pairs]
    assert all(torch.equal(one, nets[1].state_dict()[name]) for name, one in nets[0].state_dict().items())
    assert load_checkpoint(tmp_path / "checkpoint_3.safetensors").iteration == 3

    resumed = u_net()
    with Trainer(resumed, {"output": BinaryCrossEntropy()}, checkpoints=tmp_path) as trainer:
        assert trainer.iteration == 3
    assert all(torch.equal(one, nets[1].state_dict()[name]) for name, one in resumed.state_dict().items())


class Note(Callback):
    """Writes down when it is called, and what is there by then."""

    def __init__(self, phase: Phase, seen: list[tuple[str, int | None, str | None]]) -> None:
        self.phase = phase  # type: ignore[misc]
        self._seen = seen

    def after_step(self, trainer: TrainerView, result: StepResult) -> None:
        validated = None if trainer.validated is None else trainer.validated.iteration
        newest = None if trainer.newest_checkpoint is None else trainer.newest_checkpoint.stem
        self._seen.append((self.phase.name, validated, newest))


def test_validation_comes_before_the_checkpoint_and_that_before_reports(tmp_path: Path) -> None:
    """Validated after 1 and 2, of which the second is worse and the last that is waited for."""
    net, seen, losses = u_net(), [], iter([0.5, 0.7])
    counts = {"output": {"nucleus": ConfusionCounts(1, 0, 0)}}
    options = ValidationOptions(every=1, metric="loss", patience=1)
    validation = ValidationCallback(options, lambda _: ValidationResult(counts, next(losses)))
    trainer = Trainer(
        net,
        checkpoints=tmp_path / "checkpoints",
        checkpoint_options=CheckpointOptions(every=2),
        best=tmp_path / "best.safetensors",
        callbacks=[Note(Phase.REPORT, seen), Note(Phase.LOG, seen), validation],
    )
    (raw, target), *_ = samples(net, 1)
    reasons = []
    for _ in range(2):
        trainer.step({"input": raw[None]}, {"output": target[None]})
        reasons.append(trainer.stop_reason)
    assert seen == [
        ("LOG", 1, None),
        ("REPORT", 1, "checkpoint_1"),  # which is the best so far
        ("LOG", 2, "checkpoint_1"),
        ("REPORT", 2, "checkpoint_2"),
    ]
    assert reasons == [None, "1 validations without a better one"]
    assert load_checkpoint(tmp_path / "best.safetensors").iteration == 1
    kept = load_checkpoint(tmp_path / "checkpoints" / "checkpoint_2.safetensors").metadata["callbacks"]["best"]
    assert (kept["iteration"], kept["last"], kept["without_improvement"]) == (1, 2, 1)


def test_a_run_killed_between_its_checkpoint_and_the_best_file_keeps_the_best_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trainer(losses: list[float]) -> Trainer:
        left, counts = iter(losses), {"output": {"nucleus": ConfusionCounts(1, 0, 0)}}
        options = ValidationOptions(every=1, metric="loss")
        validation = ValidationCallback(options, lambda _: ValidationResult(counts, next(left)))
        folders = {"checkpoints": tmp_path / "checkpoints", "best": tmp_path / "best.safetensors"}
        return Trainer(u_net(), callbacks=[validation], **folders)

    (raw, target), *_ = samples(u_net(), 1)
    first = trainer([0.5, 0.4])
    first.step({"input": raw[None]}, {"output": target[None]})

    def killed(*_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(callbacks, "save_best", killed)
        with pytest.raises(KeyboardInterrupt):
            first.step({"input": raw[None]}, {"output": target[None]})
    assert load_checkpoint(tmp_path / "best.safetensors").iteration == 1
    with trainer([0.6]) as second:
        assert second.iteration == 2
        second.step({"input": raw[None]}, {"output": target[None]})
    assert load_checkpoint(tmp_path / "best.safetensors").iteration == 2


class Closed(Callback):
    def __init__(self, closed: list[str], name: str) -> None:
        self._closed, self._name = closed, name

    def close(self) -> None:
        self._closed.append(self._name)
        if self._name == "first":
            raise OSError("no space left")


def test_all_callbacks_are_closed_also_if_one_of_them_fails() -> None:
    closed: list[str] = []
    trainer = Trainer(u_net(), callbacks=[Closed(closed, "first"), Closed(closed, "second")])
    trainer.start()
    with pytest.raises(OSError, match="no space left"):
        trainer.stop()
    assert closed == ["first", "second"]


def test_what_does_not_fit_is_refused() -> None:
    net = u_net()
    (raw, target), *_ = samples(net, 1)
    trainer = Trainer(net)
    with pytest.raises(ValueError, match="output 'output' has no target; there are none"):
        trainer.step({"input": raw[None]}, {})
    with pytest.raises(ValueError, match=r"output 'output' has shape \(1, 1, .*\), its mask has \(1, 2, "):
        trainer.step({"input": raw[None]}, {"output": target[None]}, {"output": target[None].expand(-1, 2, -1, -1)})
    with pytest.raises(ValueError, match=r"losses are of nothing; .* has the outputs output"):
        Trainer(net, {"nothing": BinaryCrossEntropy()})
    with pytest.raises(ValueError, match="output 'output' has 1 channels, but 2 class weights are given"):
        Trainer(net, {"output": OutputLoss(class_weights=(1, 2))})
    with pytest.raises(RuntimeError, match="no state before start"):
        Trainer(net).state  # noqa: B018 - a property that raises


def test_a_trainer_that_was_stopped_says_so() -> None:
    net = u_net()
    (raw, target), *_ = samples(net, 1)
    trainer = Trainer(net)
    trainer.step({"input": raw[None]}, {"output": target[None]})
    trainer.stop()
    with pytest.raises(RuntimeError, match=r"the trainer was stopped; start\(\) goes on"):
        trainer.step({"input": raw[None]}, {"output": target[None]})
    trainer.start()
    assert trainer.step({"input": raw[None]}, {"output": target[None]}).iteration == 1


def test_a_run_in_float16_gets_over_confidently_wrong_voxels() -> None:
    """A loss of the probabilities, which float16 rounds to 1, has no gradient there and stays where it is."""

    def of_probabilities(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        return functional.binary_cross_entropy(prediction, target)

    ends = {}
    for name, losses in (("logits", None), ("probabilities", {"output": of_probabilities})):
        net = u_net()
        (raw, target), *_ = samples(net, 1)
        with torch.no_grad():
            output = next(module for module in reversed(list(net.modules())) if isinstance(module, torch.nn.Conv2d))
            output.bias += 30
        trainer = Trainer(
            net,
            losses,
            optimization=Optimization(learning_rate=0.1, skips_in_a_row=10),
            compute=ComputeConfig(device="cpu", precision="float16"),
        )
        results = [trainer.step({"input": raw[None]}, {"output": 0 * target[None]}) for _ in range(25)]
        ends[name] = results[0].loss, results[-1].loss
        assert not any(result.update.skipped for result in results[11:])
    assert ends["logits"][1] < ends["logits"][0] - 1
    assert ends["probabilities"][1] == ends["probabilities"][0]


def test_a_joint_loss_reads_several_outputs_and_needs_no_target(tmp_path):
    """Total, parts and gradients are those that torch gives, and a resumed run has the same weights."""

    def autoencoder() -> LeibNet:
        torch.manual_seed(0)
        return build_autoencoder((8, 8), base_nc=1, latent_nc=2, downsample_factors=[(2, 2)], norm_layer=None)

    def trainer(net: LeibNet, **options: Any) -> Trainer:
        joint = {"kl": JointLoss(KullbackLeibler(), ["mean", "log_variance"], lambda iteration: 0.5 * iteration)}
        losses = {"output": DistanceRegression()}
        options = {"optimization": Optimization(learning_rate=0.1), "seed": 1, "joint_losses": joint, **options}
        return Trainer(net, losses, compute=ComputeConfig(device="cpu"), **options)

    net, twin = autoencoder(), autoencoder()
    plan = net.smallest_plan
    batch = {"input": torch.rand(2, 1, *plan.input_tensors["input"].shape)}
    targets = {"output": torch.rand(2, 1, *plan.tensor("output").shape)}
    learning = trainer(net)
    first, second = (learning.step(batch, targets) for _ in range(2))
    assert set(first.losses) == {"output", "kl"}
    assert first.targets.keys() == {"output"}
    assert first.loss == pytest.approx(first.losses["output"])
    assert second.loss == pytest.approx(second.losses["output"] + 0.5 * second.losses["kl"])
    made = second.raw_outputs
    assert second.losses["kl"] == pytest.approx(KullbackLeibler()(made["mean"], made["log_variance"]).item())
    alone = learning.step(batch, targets, plan=net.plan({"output": plan.outputs["output"]}))
    assert alone.losses.keys() == {"output"}
    with trainer(twin, checkpoints=tmp_path) as stopped:
        stopped.step(batch, targets)
    twin = autoencoder()
    with trainer(twin, checkpoints=tmp_path) as resumed:
        resumed.step(batch, targets)
        resumed.step(batch, targets, plan=net.plan({"output": plan.outputs["output"]}))
    same_state(net, twin)


@pytest.mark.parametrize(
    ("joint", "message"),
    [
        ({"output": JointLoss(KullbackLeibler(), ["mean", "log_variance"])}, "has the name of an output"),
        ({"kl": JointLoss(KullbackLeibler(), ["mean", "variance"])}, "reads 'variance'.* has the outputs output, mean"),
    ],
)
def test_joint_losses_that_do_not_fit_are_refused(joint, message):
    with pytest.raises(ValueError, match=message):
        Trainer(build_autoencoder((8, 8), base_nc=1, latent_nc=2), joint_losses=joint)
