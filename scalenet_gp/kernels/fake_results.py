"""Results of operations on fake tensors that torch finds slowly: operation by operation, in Python.

The normalisation of a batch, and its backward pass, take torch more than half of the time of a network's pass on fake
tensors. Their results have the shape of an argument. Every operation asks for the devices of its arguments, some
several times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scalenet_gp.kernels.private_torch import is_fake

__all__ = ["fake_result"]

_aten = torch.ops.aten
_DEVICE = torch.ops.prim.device.default


def fake_result(func: Any, args: tuple[Any, ...]) -> Any:
    """Return the result of an operation on fake tensors of the processor, or ``NotImplemented`` if torch has to.

    The result has the shapes, strides and types of the real one.

    Args:
        func: the operation.
        args: its arguments, by position.

    Example:
        >>> from scalenet_gp.kernels import fake_tensors
        >>> with fake_tensors():
        ...     x = torch.empty(2, 3)
        ...     fake_result(torch.ops.aten.threshold_backward.default, (x, x, 0)).shape
        torch.Size([2, 3])
    """
    if func is _DEVICE:
        return getattr(args[0], "fake_device", NotImplemented)
    make = _RESULTS.get(func)
    if make is None or not is_fake(args[0]) or args[0].device.type != "cpu":
        return NotImplemented
    return make(*args)


def _batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, *rest: Any) -> Any:
    _, training, *_ = rest
    like = next((tensor for tensor in (weight, bias, mean) if tensor is not None), x)
    return (torch.empty_like(x), *(like.new_empty(x.shape[1] if training else 0) for _ in range(2)))


def _batch_norm_backward(gradient: Tensor, x: Tensor, weight: Tensor | None, *rest: Any) -> Any:
    *_, (of_x, of_weight, of_bias) = rest
    like = x if weight is None else weight
    return (
        torch.empty_like(x) if of_x else None,
        *(like.new_empty(x.shape[1]) if wanted else None for wanted in (of_weight, of_bias)),
    )


def _threshold_backward(gradient: Tensor, x: Tensor, threshold: float) -> Any:
    return torch.empty_like(x) if gradient.stride() == x.stride() and gradient.dtype == x.dtype else NotImplemented


_RESULTS: dict[Any, Callable[..., Any]] = {
    _aten.native_batch_norm.default: _batch_norm,
    _aten.native_batch_norm_backward.default: _batch_norm_backward,
    _aten.threshold_backward.default: _threshold_backward,
}
