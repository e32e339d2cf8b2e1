"""Nested values with tensors in them as JSON and named tensors, and back: what a safetensors file can hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from scalenet_gp.errors import CheckpointError
from scalenet_gp.serialization.safetensors_files import stored_type

__all__ = ["flatten_state", "unflatten_state"]

_TAG = "!"
"""What begins the one key of a JSON object that stands for something which JSON has not."""

_Path = tuple[str | int, ...]


def flatten_state(tree: object) -> tuple[Any, dict[str, Tensor]]:
    """Take a tree apart into what ``json.dumps(…, allow_nan=False)`` can write and the tensors in it.

    Args:
        tree: None, bool, int, float (also infinite or no number), str, and dense tensors, in lists, tuples and dicts
            whose keys are strings or integers. What derives from one of them is taken as it: numpy's float64 as a
            float, an OrderedDict as a dict.

    Returns:
        The plain tree, and the tensors by the place that they have in it, ``"optimizer/state/0/exp_avg"``. They are
        those of the tree itself, on their devices.

    Raises:
        ValueError: there is something else in the tree; the message says where.
    """
    tensors: dict[str, Tensor] = {}
    return _packed(tree, (), tensors), tensors


def unflatten_state(plain: object, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that :func:`flatten_state` took apart, of the same types.

    Args:
        plain: what ``json.loads`` gives.
        tensors: the tensors by name, with any strides. They come back with those that they had, so that what is
            computed from them is computed in the same order.

    Raises:
        ValueError: this is nothing that :func:`flatten_state` makes, or a tensor is missing.
    """
    if isinstance(plain, list):
        return [unflatten_state(item, tensors) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if not any(key.startswith(_TAG) for key in plain):
        return {key: unflatten_state(value, tensors) for key, value in plain.items()}
    match list(plain.items()):
        case [("!float", str(text))]:
            return float(text)
        case [("!tuple", list(items))]:
            return tuple(unflatten_state(item, tensors) for item in items)
        case [("!dict", list(pairs))]:
            return dict(_unpacked_pair(pair, tensors) for pair in pairs)
        case [("!tensor", [str(name), *strides])] if name in tensors:
            return _laid_out(tensors[name], strides, name)
        case [("!tensor", [str(name), *_])]:
            raise CheckpointError(f"the tensor {name!r} is missing")
    raise CheckpointError(f"{plain} stands for no value")


def _unpacked_pair(pair: object, tensors: Mapping[str, Tensor]) -> tuple[str | int, Any]:
    match pair:
        case [str() | int() as key, value]:
            return key, unflatten_state(value, tensors)
    raise CheckpointError(f"{pair!r} is no key with its value")


def _packed(tree: object, path: _Path, tensors: dict[str, Tensor]) -> Any:
    match tree:
        case None | bool() | int() | str():
            return tree
        case float():
            return float(tree) if math.isfinite(tree) else {"!float": str(float(tree))}
        case list():
            return _all_packed(tree, path, tensors)
        case tuple():
            return {"!tuple": _all_packed(tree, path, tensors)}
        case dict():
            for key in tree:
                if not isinstance(key, str | int) or isinstance(key, bool):
                    raise CheckpointError(f"{_place(path)} has the key {key!r}; keys have to be strings or integers")
            if all(isinstance(key, str) and not key.startswith(_TAG) for key in tree):
                return {key: _packed(value, (*path, key), tensors) for key, value in tree.items()}
            return {"!dict": [[key, _packed(value, (*path, key), tensors)] for key, value in tree.items()]}
        case Tensor():
            _check_storable(tree, path)
            name = "/".join(map(str, path))
            while name in tensors:  # as of the keys 1 and "1"
                name += "'"
            tensors[name] = tree
            return {"!tensor": [name, *_copied_strides(tree)]}
    kind = f"{type(tree).__module__}.{type(tree).__qualname__}"
    raise CheckpointError(f"{_place(path)} is a {kind}; only plain values and tensors can be read without running code")


def _all_packed(items: Iterable[object], path: _Path, tensors: dict[str, Tensor]) -> list[Any]:
    return [_packed(item, (*path, index), tensors) for index, item in enumerate(items)]


def _place(path: _Path) -> str:
    """Where in a tree, as Python would be asked for it: ``optimizer.param_groups[0].lr``."""
    parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return "".join(parts).removeprefix(".") or "the whole"


def _check_storable(tensor: Tensor, path: _Path) -> None:
    if tensor.layout != torch.strided:
        raise CheckpointError(f"{_place(path)} is a tensor of {tensor.layout}; safetensors files hold dense ones")
    try:
        stored_type(tensor.dtype)
    except ValueError as error:
        raise CheckpointError(f"{_place(path)} is a tensor that cannot be stored: {error}") from error


def _copied_strides(tensor: Tensor) -> tuple[int, ...]:
    """The strides of a copy of a tensor; none for those that any tensor has at first."""
    copied = torch.empty_like(tensor, device="meta").stride()
    usual = torch.empty(tensor.shape, device="meta").stride()
    return () if copied == usual or not tensor.numel() else copied


def _laid_out(tensor: Tensor, strides: list[Any], name: str) -> Tensor:
    """The tensor with these strides, if there are any."""
    if not strides:
        return tensor
    if not _leave_no_gaps(strides, tensor.shape):
        raise CheckpointError(f"the tensor {name!r} of shape {tuple(tensor.shape)} cannot have the strides {strides}")
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)


def _leave_no_gaps(strides: list[Any], shape: torch.Size) -> bool:
    """Whether a tensor with such strides takes the memory that its shape takes, each place once."""
    if len(strides) != len(shape) or not all(type(stride) is int and stride >= 0 for stride in strides):
        return False
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(strides, shape, strict=True) if size > 1):
        if stride != expected:
            return False
        expected *= size
    return True
