"""Weights under the names of another package."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scalenet_gp import build_unet
from scalenet_gp.interop.weights import load_renamed


def read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "form",
    [torch.from_numpy, np.copy, read_only, lambda array: array.astype(">f4"), lambda array: array[::-1].copy()[::-1]],
    ids=["tensor", "array", "read-only", "big-endian", "reversed"],
)
def test_arrays_of_any_kind_do_as_well_as_tensors(form):
    net, other = (build_unet((8, 8), base_nc=2, norm_layer=None) for _ in range(2))
    names = {name: f"theirs.{name}" for name in net.state_dict()}
    load_renamed(net, {names[name]: form(w.numpy().copy()) for name, w in other.state_dict().items()}, names)
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in net.state_dict().items())
