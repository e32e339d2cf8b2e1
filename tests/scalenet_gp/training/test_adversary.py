"""Adversarial training: the steps that torch takes, to the bit after a break, and only where it is annotated."""

import copy

import pytest
import torch
from torch.nn import functional

from scalenet_gp import build_unet
from scalenet_gp.losses import BinaryCrossEntropy
from scalenet_gp.training import Adversary, AdversaryOptions, ComputeConfig, JointLoss, Optimization, Trainer
from scalenet_gp.training.checkpoint import load_checkpoint

CPU = torch.device("cpu")
OPTIONS = AdversaryOptions(weight=0.5, base_nc=2, depth=1, learning_rate=0.01)


def new_net():
    torch.manual_seed(0)
    return build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)], norm_layer=None)


def batches(net, count=3):
    plan, generator = net.smallest_plan, torch.Generator().manual_seed(1)
    raw, made = plan.input_tensors["input"].shape, plan.tensor("output").shape
    for _ in range(count):
        target = (torch.rand(2, 1, *made, generator=generator) > 0.5).float()
        yield {"input": torch.rand(2, 1, *raw, generator=generator)}, {"output": target}


def trainer(net, adversary=OPTIONS, **options):
    told = {"optimization": Optimization(optimizer={"kind": "SGD"}, learning_rate=0.1), "seed": 4, **options}
    return Trainer(
        net, {"output": BinaryCrossEntropy()}, adversary=adversary, compute=ComputeConfig(device="cpu"), **told
    )


def weights_of(trainer):
    return {**trainer.net.state_dict(), **trainer.state.adversary.discriminator.state_dict()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_both_learn_as_two_optimizers_of_torch_would():
    """The network to deceive the discriminator of before the step, and that from predictions without gradient."""
    net, twin = new_net(), new_net()
    ours = trainer(net)
    judge = Adversary(OPTIONS, 1, 2, CPU, seed=4).discriminator
    of_net = torch.optim.SGD(twin.parameters(), 0.1)
    of_judge = torch.optim.Adam(judge.parameters(), 0.01, (0.5, 0.999))
    entropy = functional.binary_cross_entropy_with_logits
    for inputs, targets in batches(net):
        result = ours.step(inputs, targets)
        logits = twin(inputs, twin.smallest_plan, logits=True)["output"]
        judged = judge(logits.sigmoid())
        deceived = entropy(judged, torch.ones_like(judged))
        of_net.zero_grad()
        (entropy(logits, targets["output"]) + 0.5 * deceived).backward()
        of_net.step()
        of_judge.zero_grad()
        false, true = judge(logits.sigmoid().detach()), judge(targets["output"])
        told_apart = (entropy(false, torch.zeros_like(false)) + entropy(true, torch.ones_like(true))) / 2
        told_apart.backward()
        of_judge.step()
        assert result.losses["adversarial"] == pytest.approx(deceived.item(), rel=1e-5)
        assert result.losses["discriminator"] == pytest.approx(told_apart.item(), rel=1e-5)
        assert result.loss == pytest.approx(result.losses["output"] + 0.5 * deceived.item(), rel=1e-5)
    for name, value in {**twin.state_dict(), **judge.state_dict()}.items():
        torch.testing.assert_close(weights_of(ours)[name], value, rtol=1e-4, atol=1e-6)


def test_a_resumed_run_comes_to_the_same_bits(tmp_path):
    whole, parts = trainer(new_net()), list(batches(new_net(), 4))
    for batch in parts:
        whole.step(*batch)
    for some in (parts[:2], parts[2:]):
        with trainer(new_net(), checkpoints=tmp_path) as stopped:
            for batch in some:
                stopped.step(*batch)
    assert same(weights_of(stopped), weights_of(whole))
    assert "adversary" in load_checkpoint(stopped.newest_checkpoint).state
    with pytest.raises(ValueError, match="different entries in the state of training: adversary"):
        trainer(new_net(), None, checkpoints=tmp_path).start()
    other = AdversaryOptions(base_nc=3)
    with pytest.raises(ValueError, match="another discriminator"):
        trainer(new_net(), other, checkpoints=tmp_path).start()


def test_a_step_that_is_skipped_leaves_the_discriminator_as_it_was():
    ours = trainer(new_net())
    (inputs, targets), *_ = batches(ours.net)
    ours.step(inputs, targets)
    before = copy.deepcopy(weights_of(ours))
    result = ours.step({"input": torch.full_like(inputs["input"], torch.inf)}, targets)
    assert result.update.skipped
    assert "discriminator" not in result.losses
    assert same(weights_of(ours), before)


def test_what_is_not_annotated_is_not_judged():
    (inputs, targets), *_ = batches(new_net())
    mask = torch.zeros_like(targets["output"])
    mask[..., 0] = 2
    found = []
    for unknown in (0, 1):
        ours = trainer(new_net())
        told = torch.where(mask > 0, targets["output"], torch.tensor(float(unknown)))
        ours.step(inputs, {"output": told}, {"output": mask})
        found.append(copy.deepcopy(weights_of(ours)))
    assert same(*found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adversary": AdversaryOptions(output="mask")}, "'mask', which learns from no targets; .* output"),
        ({"optimization": Optimization(accumulate=2)}, "leave out optimization.accumulate"),
        ({"joint_losses": {"adversarial": JointLoss(BinaryCrossEntropy(), ["output"])}}, "rename it"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(new_net(), **options)
