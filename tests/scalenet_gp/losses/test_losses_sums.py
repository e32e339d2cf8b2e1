"""Sums of losses: of one prediction, and of the outputs of several scales."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from scalenet_gp.losses import BinaryCrossEntropy, Boundary, CrossEntropyDice, DeepSupervision, Dice, WeightedSum

SIZES = {"coarse": (8, 8, 8), "middle": (4, 4, 4), "fine": (2, 2, 2)}
CLASSES = torch.tensor([1.0, 3])


def example(*names: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Predictions, targets and masks, the coarser the smaller."""
    generator = torch.Generator().manual_seed(0)
    predictions, targets, masks = (
        {
            name: torch.rand((1, 2, *(16 // size for size in SIZES[name])), generator=generator, dtype=torch.float64)
            for name in SIZES
        }
        for _ in range(3)
    )
    return (
        {name: predictions[name].requires_grad_() for name in names or SIZES},
        {name: target.round() for name, target in targets.items()},
        {name: mask.round() for name, mask in masks.items()},
    )


def single(loss: nn.Module, name: str) -> Tensor:
    return loss(*(tensors[name] for tensors in example()), CLASSES)


def test_a_weighted_sum_adds_what_its_losses_are_times_their_weights() -> None:
    losses = {"overlap": Dice(), "boundary": Boundary(SIZES["fine"]), "voxels": BinaryCrossEntropy()}
    weights = {"overlap": 0.5, "voxels": 2.0, "boundary": 0.01}
    own = WeightedSum(losses, weights)
    arrays = [tensors["fine"] for tensors in example()]
    parts = own.parts(*arrays, CLASSES)
    assert {name: part.item() for name, part in parts.items()} == {
        name: single(loss, "fine").item() for name, loss in losses.items()
    }
    expected = sum(weights[name] * single(loss, "fine") for name, loss in losses.items())
    torch.testing.assert_close(own(*arrays, CLASSES), expected, rtol=1e-12, atol=0)
    assert own.total(parts) == own(*arrays, CLASSES)
    own.weights["boundary"] = 0.0
    expected = 0.5 * single(losses["overlap"], "fine") + 2 * single(losses["voxels"], "fine")
    torch.testing.assert_close(own(*arrays, CLASSES), expected, rtol=1e-12, atol=0)


def test_losses_weigh_one_unless_told_otherwise() -> None:
    arrays = [tensors["middle"] for tensors in example()]
    own = WeightedSum({"cross-entropy": BinaryCrossEntropy(), "dice": Dice()})
    assert own(*arrays) == CrossEntropyDice()(*arrays)
    assert "weights={'cross-entropy': 1.0, 'dice': 1.0}" in repr(own)


@pytest.mark.parametrize("names", [("coarse", "middle", "fine"), ("fine",), ("fine", "coarse")])
def test_deep_supervision_adds_the_losses_of_what_is_predicted(names: tuple[str, ...]) -> None:
    weights = {"coarse": 0.25, "middle": 0.5, "fine": 1.0}
    for loss in (CrossEntropyDice(), {name: Boundary(size) for name, size in SIZES.items()}):
        own = DeepSupervision(loss, weights)
        predictions, targets, masks = example(*names)
        found = own(predictions, targets, masks, CLASSES)
        losses = loss if isinstance(loss, dict) else dict.fromkeys(SIZES, loss)
        torch.testing.assert_close(found, sum(weights[name] * single(losses[name], name) for name in names))
        parts = own.parts(predictions, targets, masks, CLASSES)
        assert {name: part.item() for name, part in parts.items()} == {
            name: single(losses[name], name).item() for name in names
        }
        assert own.total(parts) == found


def test_every_output_learns_by_its_weight_and_not_where_nothing_is_annotated() -> None:
    predictions, targets, masks = example()
    masks["middle"] = torch.zeros_like(masks["middle"])
    DeepSupervision(Dice(), {"coarse": 3, "middle": 2, "fine": 0})(predictions, targets, masks).backward()
    alone, *others = (tensors["coarse"] for tensors in example())
    Dice()(alone, *others).backward()
    slopes = {name: prediction.grad for name, prediction in predictions.items()}
    torch.testing.assert_close(slopes["coarse"], 3 * alone.grad)
    for name in ("middle", "fine"):
        assert slopes[name] is not None
        assert (slopes[name] == 0).all()


def test_what_is_missing_is_named() -> None:
    predictions, targets, masks = example()
    with pytest.raises(KeyError, match="no loss for fine, but for coarse, middle"):
        DeepSupervision(Dice(), {"coarse": 1, "middle": 1})(predictions, targets, masks)
    own = DeepSupervision(Dice(), dict.fromkeys(SIZES, 1))
    with pytest.raises(KeyError, match="no target for coarse, but for middle, fine"):
        own(predictions, {name: targets[name] for name in ("middle", "fine")}, masks)
    with pytest.raises(KeyError, match="no mask for middle, fine, but for coarse"):
        own(predictions, targets, {"coarse": masks["coarse"]})
    with pytest.raises(ValueError, match="no loss to add up; there could be coarse, middle, fine"):
        own({}, targets, masks)


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_weights_are_not_negative(weight: float) -> None:
    with pytest.raises(ValueError, match=f"the weight of 'a' has to be from 0 up, not {weight}"):
        WeightedSum({"a": Dice()}, {"a": weight})
    with pytest.raises(ValueError, match="the weight of 'a'"):
        DeepSupervision(Dice(), {"a": weight})


def test_losses_and_weights_have_the_same_names() -> None:
    with pytest.raises(ValueError, match="losses for a, b, but weights for a, c"):
        WeightedSum({"a": Dice(), "b": Dice()}, {"a": 1, "c": 1})
    with pytest.raises(ValueError, match="at least one loss"):
        WeightedSum({})
    with pytest.raises(ValueError, match=re.escape("at least one loss")):
        DeepSupervision(Dice(), {})
