"""Losses against sums written out in numpy, and what the mask takes away from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from scalenet_gp.losses import BinaryCrossEntropy, CrossEntropyDice, Dice, KullbackLeibler

LOSSES = {"cross-entropy": BinaryCrossEntropy(), "dice": Dice(), "both": CrossEntropyDice()}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def cross_entropy_by_hand(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray) -> float:
    known = mask > 0
    if not known.any():
        return 0.0
    p, t = prediction[known], target[known]
    return float(-(t * np.log(p) + (1 - t) * np.log(1 - p)).mean())


def dice_by_hand(prediction: np.ndarray, target: np.ndarray, mask: np.ndarray, smoothing: float = 1.0) -> float:
    losses = []
    for channel in range(prediction.shape[1]):
        known = mask[:, channel] > 0
        if known.any():
            p, t = prediction[:, channel][known], target[:, channel][known]
            losses.append(1 - (2 * (p * t).sum() + smoothing) / (p.sum() + t.sum() + smoothing))
    return float(np.mean(losses)) if losses else 0.0


BY_HAND = {
    "cross-entropy": cross_entropy_by_hand,
    "dice": dice_by_hand,
    "both": lambda *arrays: cross_entropy_by_hand(*arrays) + dice_by_hand(*arrays),
}


def example(seed: int, shape: tuple[int, ...], annotated: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    prediction = generator.uniform(0.01, 0.99, shape)
    return (
        prediction,
        (generator.random(shape) < 0.4).astype(float),
        (generator.random(shape) < annotated).astype(float),
    )


shapes = st.sampled_from([(1, 1, 4, 5), (2, 3, 4, 3), (2, 2, 2, 3, 4)])
seeds = st.integers(0, 2**32 - 1)
shares = st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0])


@given(st.sampled_from(sorted(LOSSES)), seeds, shapes, shares)
def test_losses_equal_sums_by_hand(name: str, seed: int, shape: tuple[int, ...], annotated: float) -> None:
    arrays = example(seed, shape, annotated)
    found = LOSSES[name](*map(torch.from_numpy, arrays))
    assert found.shape == ()
    assert found.item() == pytest.approx(BY_HAND[name](*arrays), rel=1e-12, abs=1e-14)


@given(st.sampled_from(sorted(LOSSES)), seeds, st.integers(1, 3))
def test_ten_percent_annotated_counts_like_these_ten_percent_alone(name: str, seed: int, channels: int) -> None:
    prediction, target, _ = map(torch.from_numpy, example(seed, (2, channels, 10, 6), 1))
    mask = torch.zeros_like(prediction)
    row = seed % 10
    mask[:, :, row] = 1
    whole = LOSSES[name](prediction, target, mask)
    part = [tensor[:, :, row : row + 1] for tensor in (prediction, target, mask)]
    torch.testing.assert_close(whole, LOSSES[name](*part), rtol=1e-12, atol=0)


garbage = pytest.mark.parametrize("value", [-3.0, 1.5, float("nan"), float("inf")])


@each_loss
@garbage
def test_what_is_not_annotated_never_matters(loss: Callable[..., Tensor], value: float) -> None:
    prediction, target, mask = map(torch.from_numpy, example(1, (2, 3, 5, 6), 0.3))
    clean = prediction.clone().requires_grad_()
    loss(clean, target, mask).backward()
    for spoil_prediction, spoil_target in ((True, False), (False, True), (True, True)):
        spoilt = prediction.clone()
        spoilt[mask == 0] = value if spoil_prediction else 0.5
        spoilt.requires_grad_()
        wrong = target.where(mask > 0, value) if spoil_target else target
        found = loss(spoilt, wrong, mask)
        found.backward()
        assert found.item() == loss(prediction, target, mask).item()
        assert clean.grad is not None
        assert spoilt.grad is not None
        torch.testing.assert_close(spoilt.grad, clean.grad, rtol=0, atol=0)
        assert (spoilt.grad[mask == 0] == 0).all()


@each_loss
def test_nothing_annotated_is_no_loss_and_no_gradient(loss: Callable[..., Tensor]) -> None:
    logits = torch.randn((2, 3, 4, 4), requires_grad=True)
    found = loss(torch.sigmoid(logits), torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
    found.backward()
    assert found.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@each_loss
@pytest.mark.parametrize("annotated", [0.0, 0.4, 1.0])
def test_gradients_are_those_of_the_values(loss: Callable[..., Tensor], annotated: float) -> None:
    prediction, target, mask = map(torch.from_numpy, example(2, (2, 2, 3, 3), annotated))
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, target, mask), (prediction,))


@each_loss
def test_a_perfect_prediction_has_no_loss_and_a_wrong_one_a_finite_one(loss: Callable[..., Tensor]) -> None:
    target = (torch.arange(24).reshape(1, 2, 3, 4) % 2).float()
    assert loss(target, target, torch.ones_like(target)).item() == pytest.approx(0, abs=1e-7)
    wrong = (1 - target).requires_grad_()
    found = loss(wrong, target, torch.ones_like(target))
    found.backward()
    assert found.item() > 0.9
    assert wrong.grad is not None
    assert torch.isfinite(wrong.grad).all()


def test_dice_averages_over_the_annotated_channels_only() -> None:
    prediction, target, mask = map(torch.from_numpy, example(3, (2, 3, 5, 5), 0.5))
    mask[:, 1] = 0
    alone = [Dice()(*(tensor[:, [channel]] for tensor in (prediction, target, mask))) for channel in (0, 2)]
    torch.testing.assert_close(Dice()(prediction, target, mask), (alone[0] + alone[1]) / 2)


def test_dice_counts_the_samples_of_a_batch_together() -> None:
    prediction, target, mask = map(torch.from_numpy, example(4, (3, 2, 4, 5), 0.5))
    joined = [torch.cat(tuple(tensor), dim=-1)[None] for tensor in (prediction, target, mask)]
    torch.testing.assert_close(Dice()(prediction, target, mask), Dice()(*joined))


def test_dice_of_a_class_that_is_absent_and_not_predicted_is_no_loss() -> None:
    zero, one = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert Dice()(zero, zero, one).item() == 0
    assert Dice(smoothing=0.5)(one, zero, one).item() == pytest.approx(1 - 0.5 / 16.5)


@each_loss
def test_targets_and_masks_of_whole_numbers_are_taken(loss: Callable[..., Tensor]) -> None:
    prediction, target, mask = map(torch.from_numpy, example(5, (1, 2, 4, 4), 0.5))
    expected = loss(prediction, target, mask)
    assert loss(prediction, target.to(torch.uint8), mask.bool()).item() == expected.item()
    assert loss(prediction, target, mask * 255).item() == expected.item()


@each_loss
def test_annotated_values_outside_zero_and_one_are_refused(loss: Callable[..., Tensor]) -> None:
    half = torch.full((1, 1, 2, 2), 0.5)
    with pytest.raises(ValueError, match=r"target has to lie in \[0, 1\], it has values from 2 to 2"):
        loss(half, half * 4, torch.ones_like(half))
    with pytest.raises(
        ValueError, match=r"prediction has to lie in \[0, 1\], it has values from -0.5 to -0.5; .*Sigmoid"
    ):
        loss(-half, half, torch.ones_like(half))
    with pytest.raises(ValueError, match="nan"):
        loss(half * float("nan"), half, torch.ones_like(half))


@each_loss
def test_shapes_that_differ_are_refused(loss: Callable[..., Tensor]) -> None:
    tensor = torch.full((2, 3, 4, 4), 0.5)
    with pytest.raises(ValueError, match=r"one shape .*, not \(2, 3, 4, 4\), \(2, 1, 4, 4\), \(2, 3, 4, 4\)"):
        loss(tensor, tensor[:, :1], tensor)
    with pytest.raises(ValueError, match="one shape"):
        loss(tensor, tensor, tensor[:1])


@pytest.mark.parametrize("smoothing", [0, -1])
def test_dice_needs_smoothing(smoothing: float) -> None:
    with pytest.raises(ValueError, match=f"has to be positive, not {smoothing}"):
        Dice(smoothing)


@given(seeds, shapes)
def test_the_divergence_is_that_of_torch_distributions(seed: int, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    own = Normal(mean, torch.exp(log_variance / 2))
    expected = kl_divergence(own, Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(dim=1).mean()
    torch.testing.assert_close(KullbackLeibler()(mean, log_variance), expected, rtol=1e-12, atol=0)


def test_the_divergence_of_the_standard_normal_distribution_is_none_and_the_least() -> None:
    zero = torch.zeros(2, 3, 4, 4, requires_grad=True)
    found = KullbackLeibler()(zero, zero)
    found.backward()
    assert found.item() == 0
    assert zero.grad is not None
    assert (zero.grad == 0).all()


def test_a_mean_and_a_variance_of_other_shapes_are_refused() -> None:
    mean = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"one shape .*, not \(1, 2, 4, 4\) and \(1, 1, 4, 4\)"):
        KullbackLeibler()(mean, mean[:, :1])
