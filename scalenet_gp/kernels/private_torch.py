"""The names of torch that are not public. No other module uses one, and everything here works without them.

A private name can move or vanish with any version of torch. Each is looked up when it is used. A missing one costs
speed or the exactness of a prediction, never a right result; a warning is logged once.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "attention_flop_formulas",
    "convolve_onednn",
    "fake_tensors",
    "has_dispatch_modes",
    "has_fake_tensors",
    "has_hooks",
    "has_onednn",
    "is_fake",
    "select_convolution_backend",
    "watch_operations",
]

_logger = logging.getLogger(__name__)

_FAKE = "torch._subclasses.fake_tensor"

Callback = Callable[[Any, tuple[Any, ...], Any], Any]
"""Called after an operation with the operation, its arguments and its result; returns the result."""

Known = Callable[[Any, tuple[Any, ...]], Any]
"""Called before an operation with it and its arguments; returns its result, or ``NotImplemented`` if it has to run."""


def fake_tensors() -> AbstractContextManager[Any]:
    """Return a context in which new tensors have shapes and devices, but no values and no memory.

    Without torch's fake tensors the context does nothing; use the device ``"meta"`` then.
    """
    mode = _find(_FAKE, "FakeTensorMode")
    return nullcontext() if mode is None else mode()


def has_fake_tensors() -> bool:
    """Return True if :func:`fake_tensors` makes fake tensors."""
    return _find(_FAKE, "FakeTensorMode") is not None


def is_fake(tensor: Tensor) -> bool:
    """Return True if a tensor is one of :func:`fake_tensors`."""
    kind = _find(_FAKE, "FakeTensor")
    return kind is not None and isinstance(tensor, kind)


def has_dispatch_modes() -> bool:
    """Return True if :func:`watch_operations` sees single operations."""
    return _find_dispatch_mode() is not None


@contextmanager
def watch_operations(callback: Callback, known: Known = lambda func, args: NotImplemented) -> Iterator[None]:
    """Call ``callback`` after every operation of torch within the context.

    Without torch's dispatch modes, it is called after every module's forward pass, with ``None`` for the operation.

    Args:
        callback: is called after every operation.
        known: tells results of operations that need not run.
    """
    mode = _find_dispatch_mode()
    if mode is not None:
        with _watching(mode)(callback, known):
            yield
        return
    _warn("this torch has no dispatch modes: only the results of whole modules are seen, so less memory is predicted")
    hook = nn.modules.module.register_module_forward_hook(lambda module, args, made: callback(None, args, made))
    try:
        yield
    finally:
        hook.remove()


@cache
def _watching(mode: type[Any]) -> Callable[[Callback, Known], AbstractContextManager[Any]]:
    class Watching(mode):
        def __init__(self, callback: Callback, known: Known) -> None:
            super().__init__()
            self._callback, self._known = callback, known

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            made = self._known(func, args)
            if made is NotImplemented:
                made = func(*args, **(kwargs or {}))
            return self._callback(func, args, made)

    return Watching


def select_convolution_backend(
    x: Tensor, weight: Tensor, options: Sequence[Any], bias_sizes: Sequence[int] | None
) -> tuple[str, torch.memory_format] | None:
    """Return the name of the implementation that torch takes for a convolution, and the memory format that it wants.

    Args:
        x: the input.
        weight: the kernel.
        options: stride, padding, dilation, transposed, output padding and groups.
        bias_sizes: shape of the bias, if there is one.

    Returns:
        The name, as ``"Mkldnn"``, and the format; ``None`` if this torch does not tell.
    """
    select = _find("torch._C", "_select_conv_backend")
    memory_format = _find("torch._C", "_conv_determine_backend_memory_format")
    if select is None or memory_format is None:
        _warn("this torch does not tell how it convolves: the workspace of convolutions is left out of predictions")
        return None
    backend = select(x, weight, None, *options, bias_sizes)
    return backend.name, memory_format(x, weight, backend)


def has_onednn() -> bool:
    """Return True if :func:`convolve_onednn` works."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    return _find("torch", "mkldnn_convolution") is not None


def convolve_onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], dilation: Sequence[int], groups: int
) -> Tensor:
    """Convolve without padding by oneDNN, whichever implementation torch would take."""
    made: Tensor = torch.mkldnn_convolution(x, weight, bias, [0] * (x.dim() - 2), stride, dilation, groups)
    return made


def has_hooks(module: nn.Module) -> bool:
    """Return True if a module has forward or backward hooks, or if this torch does not tell."""
    names = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name, True) for name in names)


def attention_flop_formulas() -> dict[Any, Callable[..., int]]:
    """Return the formulas of attention that :class:`torch.utils.flop_counter.FlopCounterMode` lacks, by operation."""
    counter = "torch.utils.flop_counter"
    forward, backward = _find(counter, "sdpa_flop_count"), _find(counter, "sdpa_backward_flop_count")

    def attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
        return int(forward(query, key, value))

    def attention_backward(gradient: torch.Size, query: torch.Size, key: torch.Size, *args: Any, **__: Any) -> int:
        return int(backward(gradient, query, key, args[0]))

    name = "_scaled_dot_product_flash_attention_for_cpu"
    found = {name: (forward, attention), f"{name}_backward": (backward, attention_backward)}
    formulas = {}
    for operation, (count, formula) in found.items():
        if count is None or not hasattr(torch.ops.aten, operation):
            _warn("this torch hides how it computes attention: multiply-accumulates of attention are not counted")
        else:
            formulas[getattr(torch.ops.aten, operation)] = formula
    return formulas


def _find_dispatch_mode() -> Any:
    return _find("torch.utils._python_dispatch", "TorchDispatchMode")


def _find(module: str, name: str) -> Any:
    """Return a name of a module, or ``None`` if there is no such name or module."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


@cache
def _warn(message: str) -> None:
    _logger.warning("%s", message)
