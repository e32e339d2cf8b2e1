"""Plain trees: what went through JSON and a safetensors file is what it was, type for type and bit for bit."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from torch import Tensor, nn

from scalenet_gp.serialization.safetensors_files import serialize_tensors
from scalenet_gp.serialization.state_serialization import flatten_state, unflatten_state

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)


def through_a_file(tree: object) -> Any:
    """The tree as a file holds it, with numbers as JSON has them."""
    plain, tensors = flatten_state(tree)
    text = json.dumps(plain, allow_nan=False)
    length, parts = serialize_tensors({f"t{name}": tensor for name, tensor in tensors.items()}, {"plain": text})
    content = b"".join(parts)
    assert len(content) == length
    stored = load(content)
    return unflatten_state(json.loads(text), {name[1:]: tensor for name, tensor in stored.items()})


def same(one: Any, other: Any) -> bool:
    """Equality of types, values, bits and strides."""
    if isinstance(one, Tensor):
        bits = [
            t.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8)
            for t in (one, other)
        ]
        alike = one.dtype == other.dtype and one.shape == other.shape
        laid_out_alike = not one.numel() or one.clone().stride() == other.stride()
        return alike and laid_out_alike and torch.equal(*bits)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(
            type(a) is type(b) and same(one[a], other[b]) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or one.hex() == other.hex()
    return bool(one == other)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Tensors of any type and shape, whole or a part of a larger one, the axes in any order."""
    shape = draw(st.lists(st.integers(0, 3), max_size=5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    whole = torch.randint(0, 2**62, [2 * n for n in shape], generator=generator)
    part = whole.to(draw(st.sampled_from(DTYPES)))[tuple(slice(draw(st.integers(0, n)), None, 2) for n in shape)]
    part = part.permute(draw(st.permutations(range(part.ndim))))
    return part.clone() if draw(st.booleans()) else part


KEYS = st.text(max_size=3) | st.sampled_from(["!tuple", "!", "a/b", "__metadata__"]) | st.integers(-(2**70), 2**70)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | tensors()
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(st.text(max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(TREES)
@settings(max_examples=200, deadline=None)
def test_any_tree_comes_back(tree: Any) -> None:
    assert same(tree, through_a_file(tree))


TRICKY = {
    "one key that looks like a mark": {"!tuple": [1, 2]},
    "keys that give one name": {"a": {"b": torch.zeros(1)}, "a/b": torch.ones(1), "a/b'": torch.full((1,), 2)},
    "1 and '1'": {1: torch.zeros(2), "1": torch.ones(2)},
    "nothing": [{}, [], (), "", torch.zeros(0), torch.zeros(0, 3), torch.zeros(())],
    "numbers": [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan, 10**40, True, 1, 1.0],
    "text": ['ä \U0001f600 \ud800 \x00 " \\', "!float"],
    "shared memory": [torch.arange(6.0)[:4], torch.arange(6.0)[2:]],
    "channels last": nn.Conv3d(3, 4, 3).to(memory_format=torch.channels_last_3d).weight.detach(),
    "one channel last": torch.zeros(4, 1, 2, 2, 2).to(memory_format=torch.channels_last_3d),
    "conjugate": torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex64).conj(),
    "negative": torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex64).conj().imag,
}


@pytest.mark.parametrize("tree", TRICKY.values(), ids=TRICKY)
def test_what_could_be_mistaken_comes_back(tree: Any) -> None:
    assert same(tree, through_a_file(tree))


def test_memory_that_is_shared_comes_back_apart() -> None:
    whole = torch.arange(6.0)
    first, second = through_a_file([whole[:4], whole[2:]])
    first.zero_()
    assert torch.equal(second, whole[2:])


def test_what_derives_from_plain_values_is_taken_as_them() -> None:
    tree = {"lr": np.float64(0.1), "a": OrderedDict(x=1), "b": Counter([3, 3]), "c": torch.Size([1, 2])}
    expected = {"lr": 0.1, "a": {"x": 1}, "b": {3: 2}, "c": (1, 2)}
    assert same(expected, through_a_file(tree))
    parameter = nn.Parameter(torch.ones(2))
    back = through_a_file(parameter)
    assert type(back) is Tensor
    assert not back.requires_grad
    assert torch.equal(back, parameter)


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.RAdam, torch.optim.SGD, torch.optim.Adafactor])
def test_optimizers_and_schedules_go_on_from_it(make: Any) -> None:
    scheduler = torch.optim.lr_scheduler
    net = nn.Linear(3, 2)
    optimizer = make(net.parameters(), lr=torch.tensor(0.1) if make is torch.optim.Adam else 0.1)
    schedules = [scheduler.LinearLR(optimizer, 0.1), scheduler.MultiStepLR(optimizer, [2, 2, 5])]
    schedule = scheduler.SequentialLR(optimizer, schedules, milestones=[2])
    plateau = scheduler.ReduceLROnPlateau(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.rand(4, 3)).square().sum().backward()
        optimizer.step()
        schedule.step()
    state = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "plateau": plateau.state_dict()}
    back = through_a_file(state)
    assert repr(back) == repr(state).replace("Counter({2: 2, 5: 1})", "{2: 2, 5: 1}")
    optimizer.load_state_dict(back["optimizer"])
    schedule.load_state_dict(back["schedule"])
    plateau.load_state_dict(back["plateau"])
    assert repr(optimizer.state_dict()) == repr(state["optimizer"])


REFUSED = {
    "path": ({"a": [0, {"b": Path("/x")}]}, r"a\[1\]\.b is a pathlib\.\w*Path"),
    "parameters": (
        {"optimizer": {"param_groups": [{"foo": object()}]}},
        r"optimizer\.param_groups\[0\]\.foo is a builtins\.obj",
    ),
    "the root": ({1, 2}, r"the whole is a builtins\.set"),
    "array": ({3: np.zeros(2)}, r"\[3\] is a numpy\.ndarray"),
    "mapping": ((MappingProxyType({}),), r"\[0\] is a builtins\.mappingproxy"),
    "function": ({"f": len}, r"f is a builtins\.builtin_function_or_method"),
    "numpy's integer": ({"n": np.int64(3)}, r"n is a numpy\.int64"),
    "key": ({"a": {(1, 2): 3}}, r"a has the key \(1, 2\); keys have to be strings or integers"),
    "true as a key": ({True: 3}, r"the whole has the key True"),
    "sparse": ({"g": torch.eye(2).to_sparse()}, r"g is a tensor of torch\.sparse_coo; .* hold dense ones"),
    "type": (
        [torch.zeros(1, dtype=torch.complex128)],
        r"\[0\] is a tensor that cannot be .* no tensors of torch\.complex128",
    ),
}


@pytest.mark.parametrize(("tree", "message"), REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused_and_its_place_named(tree: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flatten_state(tree)


NO_TREES: dict[str, Any] = {
    "unknown mark": {"!set": []},
    "mark among keys": {"!tuple": [], "a": 1},
    "no number": {"!float": "zero"},
    "no pairs": {"!dict": [[1, 2, 3]]},
    "key": {"!dict": [[[], 2]]},
    "items": {"!tuple": 3},
    "missing": [{"!tensor": ["other"]}],
    "no name": {"!tensor": []},
    **{f"strides {s}": {"!tensor": ["t", *s]} for s in ([3], [3, 1, 1], [1, 3], [2, 0], [-3, 1], [9, 1], ["3", 1])},
}


@pytest.mark.parametrize("plain", NO_TREES.values(), ids=NO_TREES)
def test_what_was_never_packed_is_refused(plain: Any) -> None:
    with pytest.raises(
        ValueError, match=r"does not stand for a value|not a key with|is missing|cannot have the strides|float"
    ):
        unflatten_state(plain, {"t": torch.zeros(2, 3)})
