"""Every loss against what numpy, scipy, or torch on the annotated part alone make of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import (
    distance_transform_edt,
    gaussian_filter,
    generate_binary_structure,
    grey_dilation,
    grey_erosion,
)
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from scalenet_gp.losses import (
    BinaryCrossEntropy,
    Boundary,
    CenterlineDice,
    CrossEntropy,
    CrossEntropyDice,
    Dice,
    DistanceRegression,
    Focal,
    KullbackLeibler,
    SmoothedBoundaries,
    Tversky,
    balanced_class_weights,
)

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]

shapes = st.sampled_from([(1, 1, 4, 5), (2, 3, 4, 3), (2, 2, 2, 3, 4)])
seeds = st.integers(0, 2**32 - 1)
shares = st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0])


def example(seed: int, shape: tuple[int, ...], annotated: float, soft: bool = False) -> Arrays:
    generator = np.random.default_rng(seed)
    prediction, target = generator.uniform(0.01, 0.99, shape), generator.random(shape)
    return prediction, target if soft else (target < 0.4) * 1.0, (generator.random(shape) < annotated) * 1.0


def some_weights(seed: int, classes: int) -> np.ndarray | None:
    """Weights of classes, or None for some seeds."""
    generator = np.random.default_rng(seed)
    return generator.uniform(0.1, 3, classes) if generator.random() < 0.7 else None


def mean_by_hand(values: np.ndarray, mask: np.ndarray, weights: np.ndarray | None) -> float:
    """The weighted mean over voxels, one by one; the mask weighs them, too."""
    total = count = 0.0
    for (_, channel, *_), value, known in zip(np.ndindex(values.shape), values.flat, mask.flat, strict=True):
        if known:
            weight = known * (1 if weights is None else weights[channel])
            total, count = total + weight * value, count + weight
    return total / count if count else 0.0


def binary_cross_entropy(smoothing: float, p: np.ndarray, t: np.ndarray, m: np.ndarray, w: np.ndarray | None) -> float:
    t = (1 - smoothing) * t + smoothing / 2
    return mean_by_hand(-(t * np.log(p) + (1 - t) * np.log(1 - p)), m, w)


def overlap(
    index: Callable[[float, float, float], float], p: np.ndarray, t: np.ndarray, m: np.ndarray, w: np.ndarray | None
) -> float:
    """The mean over classes of an index of true positives, false positives and false negatives."""
    losses, weights = [], []
    for channel in range(p.shape[1]):
        known = m[:, channel] > 0
        if known.any():
            here, there = p[:, channel][known], t[:, channel][known]
            each = m[:, channel][known] / m[:, channel][known].mean()
            counts = here * there, here * (1 - there), (1 - here) * there
            losses.append(index(*((each * count).sum() for count in counts)))
            weights.append(1 if w is None else w[channel])
    return float(np.average(losses, weights=weights)) if losses else 0.0


def dice(smoothing: float, *arrays: np.ndarray) -> float:
    return overlap(lambda tp, fp, fn: 1 - (2 * tp + smoothing) / (2 * tp + fp + fn + smoothing), *arrays)


def tversky(alpha: float, beta: float, gamma: float, *arrays: np.ndarray) -> float:
    return overlap(lambda tp, fp, fn: (1 - (tp + 1) / (tp + 1 + alpha * fp + beta * fn)) ** (1 / gamma), *arrays)


def focal(gamma: float, alpha: float, p: np.ndarray, t: np.ndarray, m: np.ndarray, w: np.ndarray | None) -> float:
    present, absent = -alpha * (1 - p) ** gamma * np.log(p), -(1 - alpha) * p**gamma * np.log(1 - p)
    return mean_by_hand(t * present + (1 - t) * absent, m, w)


def smooth_l1(beta: float, p: np.ndarray, t: np.ndarray, m: np.ndarray, w: np.ndarray | None) -> float:
    d = np.abs(p - t)
    return mean_by_hand(np.where(d < beta, d**2 / (2 * beta), d - beta / 2), m, w)


BY_HAND: dict[str, tuple[nn.Module, Callable[..., float]]] = {
    "binary cross-entropy": (BinaryCrossEntropy(), partial(binary_cross_entropy, 0)),
    "smoothed": (BinaryCrossEntropy(0.3), partial(binary_cross_entropy, 0.3)),
    "dice": (Dice(), partial(dice, 1)),
    "dice, little smoothing": (Dice(0.1), partial(dice, 0.1)),
    "both": (CrossEntropyDice(), lambda *arrays: binary_cross_entropy(0, *arrays) + dice(1, *arrays)),
    "tversky": (Tversky(0.2, 0.9), partial(tversky, 0.2, 0.9, 1)),
    "focal tversky": (Tversky(gamma=4 / 3), partial(tversky, 0.3, 0.7, 4 / 3)),
    "focal": (Focal(), partial(focal, 2, 0.25)),
    "focal, other": (Focal(0.5, 0.9), partial(focal, 0.5, 0.9)),
    "smooth l1": (DistanceRegression(0.3), partial(smooth_l1, 0.3)),
    "squares": (DistanceRegression(None), lambda p, t, m, w: mean_by_hand((p - t) ** 2, m, w)),
}


@pytest.mark.parametrize("name", BY_HAND)
@given(seeds, shapes, shares, st.booleans(), st.booleans())
def test_losses_equal_sums_by_hand(
    name: str, seed: int, shape: tuple[int, ...], annotated: float, soft: bool, weighted: bool
) -> None:
    loss, by_hand = BY_HAND[name]
    arrays, weights = example(seed, shape, annotated, soft), some_weights(seed, shape[1])
    if weighted:
        arrays = (*arrays[:2], arrays[2] * np.random.default_rng(seed).uniform(0.1, 9, shape))
    found = loss(*map(torch.from_numpy, arrays), None if weights is None else torch.from_numpy(weights))
    assert found.item() == pytest.approx(by_hand(*arrays, weights), rel=1e-11, abs=1e-14)


@pytest.mark.parametrize(
    ("loss", "of_torch"),
    [
        (BinaryCrossEntropy(), functional.binary_cross_entropy),
        (DistanceRegression(), functional.smooth_l1_loss),
        (DistanceRegression(0), functional.l1_loss),
        (DistanceRegression(None), functional.mse_loss),
    ],
)
def test_losses_of_voxels_equal_those_of_torch_on_what_is_annotated(
    loss: nn.Module, of_torch: Callable[[Tensor, Tensor], Tensor]
) -> None:
    prediction, target, mask = map(torch.from_numpy, example(1, (2, 3, 5, 6), 0.3, soft=True))
    known = mask > 0
    expected = of_torch(prediction[known], target[known])
    torch.testing.assert_close(loss(prediction, target, mask), expected, rtol=1e-12, atol=0)


def probabilities(seed: int, soft: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores, target, mask and weights of three classes that exclude one another."""
    generator = torch.Generator().manual_seed(seed)
    scores, free = torch.randn((2, 2, 3, 4, 5), generator=generator, dtype=torch.float64)
    target = free.softmax(1) if soft else functional.one_hot(free.argmax(1), 3).movedim(-1, 1).double()
    mask = torch.rand((2, 3, 4, 5), generator=generator) < 0.8
    return scores, target, mask, torch.rand(3, generator=generator) + 0.1


@given(seeds, st.sampled_from([0.0, 0.3]))
def test_cross_entropy_is_that_of_torch_where_all_channels_are_annotated(seed: int, smoothing: float) -> None:
    scores, target, mask, weights = probabilities(seed, soft=False)
    whole = mask.all(dim=1)
    rows, classes = scores.movedim(1, -1)[whole], target.argmax(1)[whole]
    expected = functional.cross_entropy(rows, classes, label_smoothing=smoothing) if len(rows) else scores.new_zeros(())
    found = CrossEntropy(smoothing)(scores.softmax(1), target, mask)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    if not smoothing and len(rows):  # torch divides by weights of what is not smoothed
        expected = functional.cross_entropy(rows, classes, weights.double())
        found = CrossEntropy()(scores.softmax(1), target, mask, weights)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@given(seeds, st.sampled_from([0.0, 0.3]))
def test_cross_entropy_of_soft_targets_equals_sums_by_hand(seed: int, smoothing: float) -> None:
    scores, target, mask, weights = probabilities(seed, soft=True)
    prediction = scores.softmax(1)
    mask = mask * torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    total = count = 0.0
    for at in np.ndindex(2, 4, 5):
        p, t, m = (tensor[at[0], :, at[1], at[2]].numpy() for tensor in (prediction, target, mask))
        if m.all():
            t = weights.double().numpy() * ((1 - smoothing) * t + smoothing / 3) * m
            total, count = total - (t * np.log(p)).sum(), count + t.sum()
    found = CrossEntropy(smoothing)(prediction, target, mask, weights)
    assert found.item() == pytest.approx(total / count if count else 0, rel=1e-12)


def test_cross_entropy_refuses_what_does_not_sum_to_one() -> None:
    half, mask = torch.full((1, 3, 2, 2), 0.5), torch.ones(1, 3, 2, 2)
    third = half / 1.5
    with pytest.raises(ValueError, match=r"prediction has to sum to 1 .*, but sums lie between 1.5 and 1.5; .*Softmax"):
        CrossEntropy()(half, third, mask)
    with pytest.raises(ValueError, match=r"target has to sum to 1 .*, but sums lie between 0 and 1"):
        CrossEntropy()(
            third, torch.tensor([1.0, 0]).expand(1, 1, 2, 2) * torch.tensor([1.0, 0, 0])[:, None, None], mask
        )
    mask[:, 0] = 0
    assert CrossEntropy()(half, third, mask) == 0


def test_a_voxel_of_a_class_without_weight_does_not_count_in_cross_entropy() -> None:
    scores, _, _, _ = probabilities(0, soft=False)
    target = torch.zeros_like(scores)
    target[:, 1] = 1
    found = CrossEntropy()(scores.softmax(1), target, torch.ones_like(target), torch.tensor([1.0, 0, 1]))
    assert found == 0


def test_dice_averages_over_the_annotated_channels_only() -> None:
    prediction, target, mask = map(torch.from_numpy, example(3, (2, 3, 5, 5), 0.5))
    mask[:, 1] = 0
    for loss in (Dice(), Tversky(gamma=2)):
        alone = [loss(*(tensor[:, [channel]] for tensor in (prediction, target, mask))) for channel in (0, 2)]
        torch.testing.assert_close(loss(prediction, target, mask), (alone[0] + alone[1]) / 2)


def test_dice_of_a_class_that_is_absent_and_not_predicted_is_no_loss() -> None:
    zero, one = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    for loss in (Dice(), Tversky(), Tversky(gamma=3)):
        assert loss(zero, zero, one).item() == 0
    assert Dice(smoothing=0.5)(one, zero, one).item() == pytest.approx(1 - 0.5 / 16.5)


def test_tversky_of_even_weights_is_dice_and_focal_without_focus_is_half_a_cross_entropy() -> None:
    arrays = [torch.from_numpy(array) for array in example(4, (2, 3, 4, 5), 0.5)]
    torch.testing.assert_close(Tversky(0.5, 0.5, smoothing=0.5)(*arrays), Dice()(*arrays))
    torch.testing.assert_close(2 * Focal(gamma=0, alpha=0.5)(*arrays), BinaryCrossEntropy()(*arrays))


def test_alpha_of_tversky_weighs_false_positives_and_beta_false_negatives() -> None:
    zero, one = torch.zeros(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    only_positives, only_negatives = Tversky(1, 0), Tversky(0, 1)
    assert only_positives(one, zero, one) > 0
    assert only_positives(zero, one, one) == 0
    assert only_negatives(one, zero, one) == 0
    assert only_negatives(zero, one, one) > 0


def signed_distances(
    target: np.ndarray, mask: np.ndarray, voxel_size: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The distance of every voxel to all of the other side, one by one, and the voxels that count."""
    distances, counts = np.zeros(target.shape), np.zeros(target.shape)
    for at in np.ndindex(target.shape[:2]):
        known, inside = mask[at] > 0, target[at] >= 0.5
        if (known & inside).any() and (known & ~inside).any():
            for voxel in np.argwhere(known):
                others = np.argwhere(known & (inside != inside[tuple(voxel)]))
                nearest = np.sqrt((((others - voxel) * voxel_size) ** 2).sum(axis=1)).min()
                distances[(*at, *voxel)] = -nearest if inside[tuple(voxel)] else nearest
                counts[(*at, *voxel)] = 1
    return distances, counts


@given(
    seeds,
    st.sampled_from([((2, 2, 4, 5), (3, 1.5)), ((1, 3, 3, 4, 3), (5.24, 4, 4)), ((2, 1, 2, 3, 5), (1, 1, 1))]),
    st.sampled_from([0.0, 0.05, 0.3, 0.8, 1.0]),
    st.booleans(),
)
def test_boundary_equals_distances_by_hand(
    seed: int, sizes: tuple[tuple[int, ...], tuple[float, ...]], annotated: float, soft: bool
) -> None:
    shape, voxel_size = sizes
    prediction, target, mask = example(seed, shape, annotated, soft)
    if seed % 2:
        mask *= np.random.default_rng(seed).uniform(0.1, 9, shape)
    weights = some_weights(seed, shape[1])
    distances, counts = signed_distances(target, mask, voxel_size)
    counts *= mask
    found = Boundary(voxel_size)(
        *map(torch.from_numpy, (prediction, target, mask)), None if weights is None else torch.from_numpy(weights)
    )
    assert found.item() == pytest.approx(mean_by_hand(prediction * distances, counts, weights), rel=1e-5, abs=1e-6)


def test_boundary_of_a_ball_has_the_distances_of_scipy() -> None:
    voxel_size = (8.0, 4.0, 4.0)
    z, y, x = np.ogrid[:12, :20, :20]
    inside = ((z - 6) * 8) ** 2 + ((y - 9) * 4) ** 2 + ((x - 11) * 4) ** 2 < 24**2
    expected = distance_transform_edt(~inside, voxel_size) - distance_transform_edt(inside, voxel_size)
    prediction = torch.rand(1, 1, *inside.shape, requires_grad=True)
    target = torch.from_numpy(inside)[None, None]
    loss = Boundary(voxel_size)(prediction, target, torch.ones_like(target))
    loss.backward()
    assert prediction.grad is not None
    np.testing.assert_allclose(prediction.grad[0, 0] * inside.size, expected, rtol=1e-5)
    assert Boundary(voxel_size)(target.float(), target, torch.ones_like(target)) < 0 < loss


def test_where_there_is_no_boundary_nothing_counts() -> None:
    prediction, target, mask = map(torch.from_numpy, example(5, (2, 3, 4, 4), 0.8))
    target[0, 0], target[0, 1] = 0, 1
    mask[0, 2] *= target[0, 2]  # what is annotated is all inside
    alone = (tensor[1:] for tensor in (prediction, target, mask))
    loss = Boundary((1, 1))
    torch.testing.assert_close(loss(prediction, target, mask), loss(*alone))
    assert loss(*(tensor[:1] for tensor in (prediction, target, mask))) == 0


def test_boundary_refuses_other_numbers_of_axes() -> None:
    flat = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"voxel_size=\(1.0, 1.0, 1.0\) has 3 axes, a prediction .* has 2"):
        Boundary((1, 1, 1))(flat, flat, flat)


def skeleton_by_scipy(volume: np.ndarray, iterations: int) -> np.ndarray:
    """The paper's algorithm 1 with scipy's grey morphology; outside of the volume nothing takes part."""
    cross, cube = generate_binary_structure(volume.ndim, 1), generate_binary_structure(volume.ndim, volume.ndim)

    def erode(values: np.ndarray) -> np.ndarray:
        return grey_erosion(values, footprint=cross, mode="constant", cval=np.inf)

    def fringe(values: np.ndarray) -> np.ndarray:
        opened = grey_dilation(erode(values), footprint=cube, mode="constant", cval=-np.inf)
        return np.maximum(values - opened, 0)

    skeleton = fringe(volume)
    for _ in range(iterations):
        volume = erode(volume)
        skeleton = skeleton + (1 - skeleton) * fringe(volume)
    return skeleton


@pytest.mark.parametrize("shape", [(9, 8), (6, 7, 5)])
def test_centerline_dice_has_the_skeletons_of_scipy(shape: tuple[int, ...]) -> None:
    prediction, target, mask = example(0, (1, 2, *shape), 1)
    mask[0, 0, :2] = 0  # as if the volume began behind these rows
    expected = []
    for channel, first in enumerate((2, 0)):
        p, t = prediction[0, channel, first:], target[0, channel, first:]
        of_p, of_t = skeleton_by_scipy(p, 3), skeleton_by_scipy(t, 3)
        precision, sensitivity = (
            ((of_p * t).sum() + 0.5) / (of_p.sum() + 0.5),
            ((of_t * p).sum() + 0.5) / (of_t.sum() + 0.5),
        )
        expected.append(1 - 2 * precision * sensitivity / (precision + sensitivity))
    found = CenterlineDice(iterations=3, smoothing=0.5)(*map(torch.from_numpy, (prediction, target, mask)))
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-12)


def test_a_gap_costs_a_thin_process_more_than_a_notch_costs_a_thick_one() -> None:
    target = torch.zeros(1, 1, 15, 20)
    target[..., 1, :] = target[..., 5:12, :] = 1
    gap, notch = target.clone(), target.clone()
    gap[..., 1, 8:12] = 0
    notch[..., 5, 8:12] = 0
    everywhere = torch.ones_like(target)
    assert Dice()(gap, target, everywhere) == Dice()(notch, target, everywhere)
    assert CenterlineDice()(gap, target, everywhere) > 2 * CenterlineDice()(notch, target, everywhere)


@pytest.mark.parametrize("shape", [(9, 8), (6, 7, 5)])
def test_boundaries_are_smoothed_as_by_scipy(shape: tuple[int, ...]) -> None:
    _, target, mask = example(1, (2, 2, *shape), 0.7)
    size = (3.0, 2.0, 4.0)[: len(shape)]
    loss = SmoothedBoundaries(Dice(), 4, size)
    told = {"mode": "constant", "radius": [min(int(np.ceil(12 / v)), n - 1) for v, n in zip(size, shape, strict=True)]}
    for at in np.ndindex(2, 2):
        total, count = (gaussian_filter(x, [4 / v for v in size], **told) for x in (target[at] * mask[at], mask[at]))
        found = loss.smoothed(*map(torch.from_numpy, (target, mask)))[at].numpy()
        np.testing.assert_allclose(found, np.where(mask[at] > 0, total / count, 0), rtol=1e-10)


def test_distances_may_be_any_finite_number() -> None:
    prediction, target = torch.tensor([[[[-300.0, 7, 0]]]]), torch.tensor([[[[200.0, 7.5, float("nan")]]]])
    mask = torch.tensor([[[[1, 1, 0]]]])
    assert DistanceRegression()(prediction, target, mask).item() == (499.5 + 0.125) / 2
    assert DistanceRegression(None)(prediction, target, mask).item() == (500**2 + 0.25) / 2
    with pytest.raises(ValueError, match="target has to be finite, it has values from nan to nan"):
        DistanceRegression()(prediction, target, torch.ones_like(mask))
    with pytest.raises(ValueError, match=r"prediction has to be finite, it has values from -inf to 0$"):
        DistanceRegression()(prediction * float("inf"), target * 0, torch.tensor([[[[1, 0, 0]]]]))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: BinaryCrossEntropy(1), "label_smoothing has to be from 0 to below 1, not 1"),
        (lambda: CrossEntropy(-0.1), "label_smoothing has to be from 0 to below 1, not -0.1"),
        (lambda: Dice(0), "smoothing has to be positive, not 0"),
        (lambda: Dice(-1), "smoothing has to be positive, not -1"),
        (lambda: Tversky(smoothing=0), "smoothing has to be positive, not 0"),
        (lambda: Tversky(-1), "alpha=-1 and beta=0.7 may not be negative"),
        (lambda: Tversky(gamma=0.75), "gamma has to be from 1 up, not 0.75"),
        (lambda: Focal(-1), "gamma has to be from 0 up, not -1"),
        (lambda: Focal(alpha=2), "alpha has to lie in [0, 1], not 2"),
        (lambda: Boundary((1, 0, 1)), "two or three positive numbers, not (1.0, 0.0, 1.0)"),
        (lambda: Boundary((1,)), "two or three positive numbers, not (1.0,)"),
        (lambda: CenterlineDice(0), "iterations has to be a whole number from 1 up, not 0"),
        (lambda: CenterlineDice(smoothing=0), "smoothing has to be positive, not 0"),
        (lambda: SmoothedBoundaries(Dice(), 0, (1, 1)), "sigma has to be positive, not 0"),
        (lambda: SmoothedBoundaries(Dice(), 1, (1,)), "two or three positive numbers, not (1.0,)"),
        (
            lambda: SmoothedBoundaries(Dice(), 1, (1, 1))(*[torch.ones(1, 1, 2, 2, 2)] * 3),
            "voxel_size=(1.0, 1.0) has 2 axes, a target of shape (1, 1, 2, 2, 2) has 3",
        ),
        (lambda: DistanceRegression(-1), "beta has to be from 0 up, or None for squared errors, not -1"),
        (lambda: balanced_class_weights([0.1, 1.1]), "shares=(0.1, 1.1) have to be numbers between 0 and 1"),
        (lambda: balanced_class_weights([]), "one for each class"),
        (lambda: balanced_class_weights([0.5], least=0), "least=0 has to lie above 0 and at most at 1"),
    ],
)
def test_arguments_out_of_range_are_refused(made: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        made()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_balanced_weights_give_every_class_the_same_part(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    weights = balanced_class_weights([count / len(labels) for count in counts], least=1e-6)
    assert weights.dtype == torch.float32
    parts = np.bincount(labels, weights[labels].numpy())
    np.testing.assert_allclose(parts, len(labels) / len(counts), rtol=1e-6)


def test_rarer_classes_than_the_least_weigh_like_it() -> None:
    torch.testing.assert_close(balanced_class_weights([0, 0.001, 0.01, 0.5]), torch.tensor([25.0, 25, 25, 0.5]))


@given(seeds, shapes)
def test_the_divergence_is_that_of_torch_distributions(seed: int, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    own = Normal(mean, torch.exp(log_variance / 2))
    expected = kl_divergence(own, Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(dim=1).mean()
    torch.testing.assert_close(KullbackLeibler()(mean, log_variance), expected, rtol=1e-12, atol=0)
    prior = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    expected = kl_divergence(own, Normal(prior[0], torch.exp(prior[1] / 2))).sum(dim=1).mean()
    torch.testing.assert_close(KullbackLeibler()(mean, log_variance, *prior), expected, rtol=1e-12, atol=0)


def test_the_divergence_of_the_standard_normal_distribution_is_none_and_the_least() -> None:
    zero = torch.zeros(2, 3, 4, 4, requires_grad=True)
    found = KullbackLeibler()(zero, zero)
    found.backward()
    assert found.item() == 0
    assert zero.grad is not None
    assert (zero.grad == 0).all()


def test_the_divergence_of_halves_is_reckoned_as_float32() -> None:
    mean, log_variance = torch.full((1, 2, 4, 4), 300.0), torch.ones(1, 2, 4, 4)
    with torch.autocast("cpu", dtype=torch.float16):
        found = KullbackLeibler()(mean.half(), log_variance.half())
    assert found == KullbackLeibler()(mean, log_variance)


def test_a_mean_and_a_variance_of_other_shapes_are_refused() -> None:
    mean = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"one shape .*are \(1, 2, 4, 4\), \(1, 1, 4, 4\)"):
        KullbackLeibler()(mean, mean[:, :1])
    with pytest.raises(ValueError, match="both of a prior"):
        KullbackLeibler()(mean, mean, mean)
