"""Results on fake tensors, against the real ones."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from scalenet_gp.kernels import fake_tensors
from scalenet_gp.kernels.fake_results import fake_result

aten = torch.ops.aten

TYPES = [(torch.float32, torch.float32), (torch.float64, torch.float64), (torch.bfloat16, torch.float32)]
"""Types of activations and of weights."""

LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "cropped": lambda x: x[:, :, 1:5, 2:],
}


def described(made: Any) -> list[Any]:
    made = [made] if isinstance(made, Tensor) else made
    return [None if t is None else (t.shape, t.stride(), t.dtype, t.device) for t in made]


def normalisation(layout: str, types: tuple[torch.dtype, torch.dtype], training: bool, run: Any) -> list[Any]:
    """Return the results of ``run(operation, arguments)`` for normalisation and its backward pass."""
    x = LAYOUTS[layout](torch.ones(2, 3, 6, 7, dtype=types[0]))
    made = []
    for weights, statistics in itertools.product((False, True), (False, True) if training else (True,)):
        weight = torch.ones(3, dtype=types[1]) if weights else None
        mean, variance = (torch.ones(3, dtype=types[1]) if statistics else None for _ in range(2))
        batch_norm = (x, weight, weight, mean, variance, training, 0.1, 1e-5)
        normalised, *found = run(aten.native_batch_norm.default, batch_norm)
        made += described([normalised, *found])
        for wanted in ([True, weights, weights], [False, False, weights]):
            backward = (normalised, x, weight, mean, variance, *found, training, 1e-5, wanted)
            made += described(run(aten.native_batch_norm_backward.default, backward))
    made += described(run(aten.threshold_backward.default, (normalised, x.clone(), 0)))
    return made


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("types", TYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_they_have_the_shapes_strides_and_types_of_the_real_ones(layout, types, training):
    def fake(func: Any, args: tuple[Any, ...]) -> Any:
        made = fake_result(func, args)
        assert made is not NotImplemented
        return made

    real = normalisation(layout, types, training, lambda func, args: func(*args))
    with fake_tensors():
        assert normalisation(layout, types, training, fake) == real


def test_the_rest_is_left_to_torch():
    x = torch.ones(2, 3, 4, 5)
    threshold, other = aten.threshold_backward.default, x.to(memory_format=torch.channels_last)
    assert fake_result(threshold, (x, x, 0)) is NotImplemented  # it has values
    with fake_tensors():
        fake, turned = torch.empty(x.shape), torch.empty(x.shape, memory_format=torch.channels_last)
        assert fake_result(threshold, (fake, turned, 0)) is NotImplemented  # two layouts
        assert fake_result(aten.relu.default, (fake,)) is NotImplemented
    assert threshold(x, other, 0).shape == x.shape
