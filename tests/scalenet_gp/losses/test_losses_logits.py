"""Losses of logits: the gradient of a confidently wrong voxel, against autograd in float64, and agreement elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scalenet_gp.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    CrossEntropyDice,
    DeepSupervision,
    Dice,
    Focal,
    Tversky,
    WeightedSum,
    apply_activation,
    call_loss,
)

SIGMOID_LOSSES = {
    "cross-entropy": BinaryCrossEntropy(),
    "smoothed": BinaryCrossEntropy(label_smoothing=0.1),
    "cross-entropy and Dice": CrossEntropyDice(),
    "focal": Focal(),
    "focal below one": Focal(gamma=0.5, alpha=0.5),
    "Dice": Dice(),
    "Tversky": Tversky(gamma=4 / 3),
    "sum": WeightedSum({"entropy": BinaryCrossEntropy(), "overlap": Dice()}, {"entropy": 1, "overlap": 0.5}),
}


def gradient(loss, logits: Tensor, target: Tensor, activation: str) -> Tensor:
    logits = logits.clone().requires_grad_()
    loss(logits, target, torch.ones_like(target), activation=activation).backward()
    return logits.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("logit", [8.0, -8.0, 20.0, -20.0])
def test_a_confidently_wrong_voxel_gets_the_gradient_that_float64_has(logit: float, dtype: torch.dtype) -> None:
    logits = torch.full((1, 1, 1, 1), logit, dtype=dtype)
    target = torch.full_like(logits, float(logit < 0))
    exact = logits.double().requires_grad_()
    functional.binary_cross_entropy_with_logits(exact, target.double()).backward()
    found = gradient(BinaryCrossEntropy(), logits, target, "Sigmoid").double()
    torch.testing.assert_close(found, exact.grad, rtol=2e-3 if dtype == torch.float32 else 1e-2, atol=0)
    assert found.abs() > 0.99

    # of probabilities, as they come out of a network in this type, it is not so: they are 0 or 1 there
    rounded = logits.clone().requires_grad_()
    BinaryCrossEntropy()(rounded.sigmoid(), target, torch.ones_like(target)).backward()
    saturated = bool(logits.sigmoid() == float(logit > 0))
    assert (rounded.grad == 0) == (saturated and logit > 0)


@pytest.mark.parametrize("logit", [8.0, 20.0])
def test_what_bfloat16_makes_of_probabilities_has_no_gradient(logit: float) -> None:
    """The reason for logits: beyond a logit of about 6, the probability is 1 in bfloat16, and its slope is 0."""
    logits = torch.full((1, 1, 1, 1), logit, dtype=torch.bfloat16).requires_grad_()
    mask = torch.ones_like(logits)
    BinaryCrossEntropy()(logits.sigmoid(), torch.zeros_like(mask), mask).backward()
    assert logits.grad.item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("logit", [8.0, 20.0])
def test_a_confidently_wrong_class_gets_the_gradient_of_float64(logit: float, dtype: torch.dtype) -> None:
    logits = torch.zeros((1, 3, 1, 1), dtype=dtype)
    logits[:, 0] = logit
    target = torch.zeros_like(logits)
    target[:, 2] = 1
    exact = logits.double().requires_grad_()
    functional.cross_entropy(exact, target.double()).backward()
    torch.testing.assert_close(
        gradient(CrossEntropy(), logits, target, "Softmax").double(), exact.grad, rtol=1e-2, atol=1e-9
    )


@pytest.mark.parametrize("loss", SIGMOID_LOSSES.values(), ids=SIGMOID_LOSSES)
def test_of_moderate_logits_it_is_the_loss_of_their_probabilities(loss) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn((2, 3, 4, 5, 6), generator=generator, dtype=torch.float64)
    target = (torch.rand(logits.shape, generator=generator) < 0.3).double()
    mask = (torch.rand(logits.shape, generator=generator) < 0.8).double()
    weights = torch.tensor([1.0, 0.0, 3.0])
    for activation in ("Sigmoid", "Softmax"):
        gradients, losses = [], []
        for from_logits in (True, False):
            x = logits.clone().requires_grad_()
            given = (x, activation) if from_logits else (apply_activation(x, activation), None)
            value = loss(given[0], target, mask, weights, given[1])
            value.backward()
            losses.append(value.detach())
            gradients.append(x.grad)
        torch.testing.assert_close(*losses)
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("activation", ["Sigmoid", "Softmax"])
@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), CrossEntropyDice(), Focal()], ids=str)
def test_logits_that_are_not_annotated_never_count(loss, activation: str) -> None:
    logits = torch.randn((1, 2, 4, 4), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(logits)
    mask[..., :2] = 0
    target = torch.zeros_like(logits)
    spoiled = logits.masked_fill(mask == 0, float("nan")).requires_grad_()
    value = loss(spoiled, target, mask, None, activation)
    value.backward()
    assert value == loss(logits, target, mask, None, activation)
    assert torch.isfinite(spoiled.grad).all()
    assert not spoiled.grad[..., :2].any()


def test_annotated_logits_have_to_be_finite_and_the_activation_known() -> None:
    ones = torch.ones((1, 1, 2, 2))
    with pytest.raises(ValueError, match="annotated part of the logits has to be finite"):
        Dice()(ones * float("inf"), ones, ones, None, "Sigmoid")
    with pytest.raises(ValueError, match="activation is 'Tanh'; logits become probabilities by 'Sigmoid' or 'Softmax'"):
        Dice()(ones, ones, ones, None, "Tanh")


def test_a_softmax_of_one_class_has_a_finite_loss() -> None:
    logits, target = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    loss = BinaryCrossEntropy()(logits, target, torch.ones_like(target), activation="Softmax")
    assert 80 < loss.item() < 100


def test_a_loss_that_takes_no_logits_gets_probabilities() -> None:
    seen: list[Tensor] = []

    def loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        seen.append(prediction)
        return prediction.sum()

    zeros = torch.zeros((1, 1, 2, 2))
    assert call_loss(loss, zeros, zeros, zeros, activation="Sigmoid") == 2
    together = DeepSupervision({"a": BinaryCrossEntropy(), "b": Dice()}, {"a": 1, "b": 1})
    tensors = {"a": zeros, "b": zeros}
    by_logits = together(tensors, tensors, {"a": zeros + 1, "b": zeros + 1}, None, {"a": "Sigmoid", "b": "Sigmoid"})
    half = {name: tensor + 0.5 for name, tensor in tensors.items()}
    assert by_logits == together(half, tensors, {"a": zeros + 1, "b": zeros + 1})
