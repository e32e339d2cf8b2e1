"""Serialization of nested values with tensors as JSON and named tensors, which a safetensors file can hold."""

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
"""The first character of the only key of a JSON object that stands for a value that JSON lacks."""

_Path = tuple[str | int, ...]


def flatten_state(tree: object) -> tuple[Any, dict[str, Tensor]]:
    """Split a tree into a plain one, which ``json.dumps(…, allow_nan=False)`` can write, and the tensors in it.

    Args:
        tree: None, bool, int, float (also infinite or NaN), str, and dense tensors, in lists, tuples and dicts whose
            keys are strings or integers. Derived types count as their base: numpy's float64 as a float, an OrderedDict
            as a dict.

    Returns:
        The plain tree, and the tensors by their path in it, as in ``"optimizer/state/0/exp_avg"``. They are the tensors
        of the tree itself, on their devices.

    Raises:
        CheckpointError: the tree holds something else; the message says where.

    Example:
        >>> import torch
        >>> plain, tensors = flatten_state({"step": (3, torch.zeros(2))})
        >>> plain, list(tensors)
        ({'step': {'!tuple': [3, {'!tensor': ['step/1']}]}}, ['step/1'])
        >>> unflatten_state(plain, tensors)
        {'step': (3, tensor([0., 0.]))}
    """
    tensors: dict[str, Tensor] = {}
    return _flatten(tree, (), tensors), tensors


def unflatten_state(plain: object, tensors: Mapping[str, Tensor]) -> Any:
    """Return the tree that :func:`flatten_state` split, of the same types.

    Args:
        plain: the plain tree, as ``json.loads`` returns it.
        tensors: the tensors by name, with any strides. They get the strides back that they had, so that sums over them
            have the same order.

    Raises:
        CheckpointError: this is not a result of :func:`flatten_state`, or a tensor is missing.
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
            return dict(_unflatten_pair(pair, tensors) for pair in pairs)
        case [("!tensor", [str(name), *strides])] if name in tensors:
            return _with_strides(tensors[name], strides, name)
        case [("!tensor", [str(name), *_])]:
            raise CheckpointError(f"the tensor {name!r} is missing")
    raise CheckpointError(f"{plain} does not stand for a value")


def _unflatten_pair(pair: object, tensors: Mapping[str, Tensor]) -> tuple[str | int, Any]:
    match pair:
        case [str() | int() as key, value]:
            return key, unflatten_state(value, tensors)
    raise CheckpointError(f"{pair!r} is not a key with its value")


def _flatten(tree: object, path: _Path, tensors: dict[str, Tensor]) -> Any:
    match tree:
        case None | bool() | int() | str():
            return tree
        case float():
            return float(tree) if math.isfinite(tree) else {"!float": str(float(tree))}
        case list():
            return _flatten_all(tree, path, tensors)
        case tuple():
            return {"!tuple": _flatten_all(tree, path, tensors)}
        case dict():
            for key in tree:
                if not isinstance(key, str | int) or isinstance(key, bool):
                    raise CheckpointError(f"{_place(path)} has the key {key!r}; keys have to be strings or integers")
            if all(isinstance(key, str) and not key.startswith(_TAG) for key in tree):
                return {key: _flatten(value, (*path, key), tensors) for key, value in tree.items()}
            return {"!dict": [[key, _flatten(value, (*path, key), tensors)] for key, value in tree.items()]}
        case Tensor():
            _check_storable(tree, path)
            name = "/".join(map(str, path))
            while name in tensors:  # as of the keys 1 and "1"
                name += "'"
            tensors[name] = tree
            return {"!tensor": [name, *_copied_strides(tree)]}
    kind = f"{type(tree).__module__}.{type(tree).__qualname__}"
    raise CheckpointError(f"{_place(path)} is a {kind}; only plain values and tensors can be read without running code")


def _flatten_all(items: Iterable[object], path: _Path, tensors: dict[str, Tensor]) -> list[Any]:
    return [_flatten(item, (*path, index), tensors) for index, item in enumerate(items)]


def _place(path: _Path) -> str:
    """Return the position in a tree, as an expression of Python: ``optimizer.param_groups[0].lr``."""
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
    """Return the strides of a copy of a tensor; empty if they are those of a new tensor."""
    copied = torch.empty_like(tensor, device="meta").stride()
    usual = torch.empty(tensor.shape, device="meta").stride()
    return () if copied == usual or not tensor.numel() else copied


def _with_strides(tensor: Tensor, strides: list[Any], name: str) -> Tensor:
    """Return the tensor with these strides, if there are any."""
    if not strides:
        return tensor
    if not _leave_no_gaps(strides, tensor.shape):
        raise CheckpointError(f"the tensor {name!r} of shape {tuple(tensor.shape)} cannot have the strides {strides}")
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)


def _leave_no_gaps(strides: list[Any], shape: torch.Size) -> bool:
    """Return True if a tensor with such strides takes the memory of its shape, each address once."""
    if len(strides) != len(shape) or not all(type(stride) is int and stride >= 0 for stride in strides):
        return False
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(strides, shape, strict=True) if size > 1):
        if stride != expected:
            return False
        expected *= size
    return True
