"""Rules of all losses of masked predictions: the voxels that count, refused input, and the weights of classes."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isabstract, isclass, signature

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import scalenet_gp.losses
from scalenet_gp.losses import (
    BinaryCrossEntropy,
    Boundary,
    CenterlineDice,
    CrossEntropy,
    CrossEntropyDice,
    Dice,
    DistanceRegression,
    Focal,
    SmoothedBoundaries,
    Tversky,
    WeightedSum,
)
from scalenet_gp.losses.masked_loss import Annotated, MaskedLoss

LOSSES: dict[str, nn.Module] = {
    "binary cross-entropy": BinaryCrossEntropy(),
    "binary cross-entropy, smoothed": BinaryCrossEntropy(label_smoothing=0.1),
    "cross-entropy": CrossEntropy(),
    "cross-entropy, smoothed": CrossEntropy(label_smoothing=0.2),
    "dice": Dice(smoothing=0.5),
    "cross-entropy and dice": CrossEntropyDice(),
    "tversky": Tversky(),
    "focal tversky": Tversky(gamma=4 / 3),
    "focal": Focal(),
    "focal, less": Focal(gamma=0.5, alpha=0.6),
    "boundary": Boundary((1.5, 1)),
    "distances": DistanceRegression(beta=0.3),
    "squared distances": DistanceRegression(beta=None),
    "centerlines": CenterlineDice(iterations=2),
    "boundaries smoothed": SmoothedBoundaries(BinaryCrossEntropy(), 0.6, (2, 1)),
    "sum": WeightedSum({"overlap": Dice(), "boundary": Boundary((2, 3))}, {"overlap": 1, "boundary": 0.1}),
}
WITHIN = {"boundary", "centerlines", "boundaries smoothed", "sum"}  # where a voxel's loss depends on where it lies
BETWEEN = {"cross-entropy", "cross-entropy, smoothed"}  # where it depends on the other channels
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
Loss = Callable[..., Tensor]

names = st.sampled_from(sorted(LOSSES))
seeds = st.integers(0, 2**32 - 1)


def example(seed: int, shape: tuple[int, ...], annotated: float) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, target and mask as all losses take them: probabilities of classes that exclude one another."""
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(shape, generator=generator, dtype=torch.float64).softmax(dim=1)
    classes = torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)
    target = nn.functional.one_hot(classes, shape[1]).movedim(-1, 1).double()
    return prediction, target, (torch.rand(shape, generator=generator) < annotated).double()


def gradient(loss: Loss, prediction: Tensor, *others: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss and its gradient at the prediction."""
    prediction = prediction.detach().clone().requires_grad_()
    found = loss(prediction, *others)
    found.backward()
    assert prediction.grad is not None
    return found.detach(), prediction.grad


def test_every_loss_is_tested_here() -> None:
    takes = ["self", "prediction", "target", "mask", "class_weights", "activation"]
    public = [getattr(scalenet_gp.losses, name) for name in scalenet_gp.losses.__all__]
    losses = [kind for kind in public if isclass(kind) and issubclass(kind, nn.Module) and not isabstract(kind)]
    kinds = {kind for kind in losses if list(signature(kind.forward).parameters) == takes}
    assert len(kinds) == 11
    assert kinds == {type(loss) for loss in LOSSES.values()}


@each_loss
def test_a_loss_is_one_number_of_the_type_of_the_prediction(loss: Loss) -> None:
    arrays = example(0, (2, 3, 4, 5), 0.7)
    for dtype in (torch.float32, torch.float64):
        found = loss(*(tensor.to(dtype) for tensor in arrays))
        assert found.shape == ()
        assert found.dtype == dtype
        assert found != 0


@given(names, seeds, st.integers(1, 3))
def test_ten_percent_annotated_counts_like_these_ten_percent_alone(name: str, seed: int, channels: int) -> None:
    prediction, target, _ = example(seed, (2, channels, 10, 6), 1)
    mask = torch.zeros_like(prediction)
    row = seed % 10
    mask[:, :, row] = 1
    whole = LOSSES[name](prediction, target, mask)
    part = [tensor[:, :, row : row + 1] for tensor in (prediction, target, mask)]
    torch.testing.assert_close(whole, LOSSES[name](*part), rtol=1e-12, atol=1e-15)


@given(names.filter(lambda name: name not in WITHIN), seeds)
def test_scattered_voxels_count_like_these_voxels_alone(name: str, seed: int) -> None:
    prediction, target, mask = example(seed, (2, 3, 10, 6), 0.1)
    mask[0, 0, 0, 0] = 1
    mask = mask[:, :1].expand_as(prediction)
    here = mask[:, 0] > 0
    part = [tensor.movedim(1, -1)[here].T[None, :, :, None] for tensor in (prediction, target, mask)]
    weights = torch.tensor([1.0, 0.3, 4.0])
    for classes in (None, weights):
        whole = LOSSES[name](prediction, target, mask, classes)
        torch.testing.assert_close(whole, LOSSES[name](*part, classes), rtol=1e-12, atol=0)


@given(names.filter(lambda name: name not in WITHIN), seeds)
def test_which_voxel_lies_where_does_not_matter(name: str, seed: int) -> None:
    shape = (2, 3, 4, 3, 2)
    arrays = example(seed, shape, 0.6)
    order = torch.randperm(2 * 4 * 3 * 2, generator=torch.Generator().manual_seed(seed))
    mixed = [tensor.movedim(1, 0).flatten(1)[:, order].view(3, 2, 4, 3, 2).movedim(0, 1) for tensor in arrays]
    torch.testing.assert_close(LOSSES[name](*arrays), LOSSES[name](*mixed), rtol=1e-12, atol=0)


@each_loss
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0, 2])])
@pytest.mark.parametrize("value", [-3.0, 1.5, float("nan"), float("inf")])
def test_what_is_not_annotated_never_matters(loss: Loss, weights: Tensor | None, value: float) -> None:
    prediction, target, mask = example(1, (2, 3, 5, 6), 0.5)
    expected, slope = gradient(loss, prediction, target, mask, weights)
    assert (slope[mask == 0] == 0).all()
    assert slope.isfinite().all()
    assert slope.any()
    for spoil_prediction, spoil_target in ((True, False), (False, True), (True, True)):
        spoilt = prediction.where(mask > 0, value) if spoil_prediction else prediction
        wrong = target.where(mask > 0, value) if spoil_target else target
        found, spoilt_slope = gradient(loss, spoilt, wrong, mask, weights)
        assert found == expected
        torch.testing.assert_close(spoilt_slope, slope, rtol=0, atol=0)


@each_loss
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 0, 2])])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.25, float("nan")])
def test_nothing_annotated_is_no_loss_and_no_gradient(loss: Loss, weights: Tensor | None, value: float) -> None:
    prediction = torch.full((2, 3, 4, 4), value)
    for target in (torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4), prediction):
        found, slope = gradient(loss, prediction, target, torch.zeros(2, 3, 4, 4), weights)
        assert found == 0
        assert (slope == 0).all()


@each_loss
def test_only_classes_without_weight_annotated_is_no_loss_and_no_gradient(loss: Loss) -> None:
    prediction, target, mask = example(2, (2, 3, 4, 4), 1)
    mask[:, 1:] = 0
    found, slope = gradient(loss, prediction, target, mask, torch.tensor([0.0, 1, 2]))
    assert found == 0
    assert (slope == 0).all()


@each_loss
@pytest.mark.parametrize("annotated", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.25])])
def test_gradients_are_those_of_the_values(loss: Loss, annotated: float, weights: Tensor | None) -> None:
    prediction, target, mask = example(3, (2, 2, 3, 3), annotated)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, target, mask, weights), (prediction,))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
def test_right_and_wrong_to_the_limit_have_finite_losses_and_gradients(name: str, masked: bool) -> None:
    _, target, mask = example(4, (2, 2, 4, 4), 0.8)
    target, mask = target.float(), mask.float() if masked else torch.ones(2, 2, 4, 4)
    right, slope = gradient(LOSSES[name], target, target, mask)
    assert slope.isfinite().all()
    wrong, slope = gradient(LOSSES[name], 1 - target, target, mask)
    assert slope.isfinite().all()
    assert right + 0.5 < wrong < 101
    if name not in WITHIN and "smoothed" not in name:
        assert right == pytest.approx(0, abs=1e-7)


@given(names, seeds, st.floats(0.001, 1000), st.sampled_from([0.3, 1.0]))
def test_equal_weights_change_nothing_and_neither_does_their_scale(
    name: str, seed: int, factor: float, annotated: float
) -> None:
    arrays = example(seed, (2, 3, 4, 3), annotated)
    close = {"rtol": 1e-10, "atol": 1e-14}
    equal = torch.full((3,), factor, dtype=torch.float64)
    torch.testing.assert_close(LOSSES[name](*arrays, equal), LOSSES[name](*arrays), **close)
    weights = torch.tensor([0.2, 1, 3], dtype=torch.float64)
    torch.testing.assert_close(LOSSES[name](*arrays, weights * factor), LOSSES[name](*arrays, weights), **close)


@given(names.filter(lambda name: name not in BETWEEN), seeds, st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_a_class_of_weight_n_counts_like_n_such_channels(name: str, seed: int, counts: list[int]) -> None:
    if not any(counts):
        counts = [0, 0, 1]
    arrays = example(seed, (2, 3, 4, 3), 0.7)
    found = LOSSES[name](*arrays, torch.tensor(counts))
    repeated = [tensor.repeat_interleave(torch.tensor(counts), dim=1) for tensor in arrays]
    torch.testing.assert_close(found, LOSSES[name](*repeated), rtol=1e-12, atol=1e-14)


@each_loss
@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_reckoned_with_as_float32_also_under_autocast(loss: Loss, device: str, dtype: torch.dtype) -> None:
    prediction, target, mask = (tensor.to(device) for tensor in example(5, (2, 3, 6, 7), 0.7))
    weights = torch.tensor([1.0, 2, 3])
    half = prediction.to(dtype)
    with torch.autocast(device, dtype=dtype):
        found, slope = gradient(loss, half, target.to(dtype), mask.to(torch.uint8), weights)
    expected, exact = gradient(loss, half.float(), target.float(), mask.float(), weights)
    assert found.dtype == torch.float32
    assert found == expected
    assert slope.dtype == dtype
    # where losses are added up, each hands back halves
    torch.testing.assert_close(slope.float(), exact, rtol=3 * torch.finfo(dtype).eps, atol=1e-7)


class Products(MaskedLoss):
    """A loss of products that autocast would compute in half precision on every device."""

    def compute(self, known: Annotated) -> Tensor:
        return (known.prediction @ known.target.mT).mean()


def test_a_new_loss_computes_from_what_is_annotated_without_autocast() -> None:
    prediction, target, mask = example(8, (1, 2, 5, 6), 0.6)
    prediction = prediction.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Products()(prediction, target, mask)
    assert found.dtype == torch.float32
    assert found == ((prediction * mask).float() @ (target * mask).float().mT).mean()
    assert repr(Products()) == "Products()"


@each_loss
def test_targets_and_masks_of_whole_numbers_are_taken(loss: Loss) -> None:
    prediction, target, mask = example(6, (1, 2, 4, 4), 0.8)
    expected = loss(prediction, target, mask)
    assert loss(prediction, target.to(torch.uint8), mask.bool()) == expected
    assert loss(prediction, target.bool(), mask * 255) == expected


@each_loss
def test_the_mask_weighs_voxels_and_its_scale_does_not_matter(loss: Loss) -> None:
    prediction, target, mask = example(9, (2, 3, 4, 4), 0.8)
    weights = mask * torch.rand(mask.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, slope = gradient(loss, prediction, target, weights)
    assert found != loss(prediction, target, mask)
    assert (slope[mask == 0] == 0).all()
    torch.testing.assert_close(loss(prediction, target, weights * 7), found)
    with pytest.raises(ValueError, match="mask has to be finite, it has values from 0 to inf"):
        loss(prediction, target, weights.where(weights < weights.max(), float("inf")))


@each_loss
def test_shapes_that_differ_are_refused(loss: Loss) -> None:
    tensor = torch.full((2, 3, 4, 4), 0.5)
    with pytest.raises(ValueError, match=r"one shape .*, not \(2, 3, 4, 4\), \(2, 1, 4, 4\), \(2, 3, 4, 4\)"):
        loss(tensor, tensor[:, :1], tensor)
    with pytest.raises(ValueError, match="one shape"):
        loss(tensor, tensor, tensor[:1])
    with pytest.raises(ValueError, match=r"or \(B, C, Y, X\), not \(3, 4, 4\)"):
        loss(*[tensor[0]] * 3)


@each_loss
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2], r"one weight for each of the 3 channels, shape \(3,\), not \(2,\)"),
        ([[1.0, 2, 3]], r"not \(1, 3\)"),
        ([1.0, -2, 3], r"from 0 up and not all 0, not \[1.0, -2.0, 3.0\]"),
        ([1.0, float("nan"), 3], "have to be finite"),
        ([1.0, float("inf"), 3], "have to be finite"),
        ([0.0, 0, 0], "not all 0"),
    ],
)
def test_weights_that_are_none_are_refused(loss: Loss, weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss(*example(7, (1, 3, 4, 4), 1), torch.tensor(weights))


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"distances", "squared distances"}))
def test_annotated_values_outside_zero_and_one_are_refused(name: str) -> None:
    loss, half = LOSSES[name], torch.full((1, 2, 2, 2), 0.5)
    with pytest.raises(ValueError, match=r"target has to lie in \[0, 1\], it has values from 2 to 2"):
        loss(half, half * 4, torch.ones_like(half))
    with pytest.raises(
        ValueError, match=r"prediction has to lie in \[0, 1\], it has values from -0.5 to -0.5; .*Sigmoid"
    ):
        loss(-half, half, torch.ones_like(half))
    with pytest.raises(ValueError, match="nan"):
        loss(half * float("nan"), half, torch.ones_like(half))


@each_loss
def test_a_loss_shows_its_arguments_and_has_no_state(loss: nn.Module) -> None:
    assert loss.state_dict() == {}
    for module in loss.modules():
        for argument in {"alpha", "beta", "gamma", "label_smoothing", "smoothing", "sigma", "voxel_size"} & vars(
            module
        ).keys():
            assert f"{argument}={getattr(module, argument)!r}" in repr(loss)
