"""Memory of a pass, known before anything is allocated: the pass runs on tensors that have shapes and no values."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from scalenet_gp.kernels.fake_results import fake_result
from scalenet_gp.kernels.onednn_convolutions import is_handed_over
from scalenet_gp.kernels.private_torch import (
    fake_tensors,
    has_fake_tensors,
    select_convolution_backend,
    watch_operations,
)
from scalenet_gp.kernels.tensors import channels_last
from scalenet_gp.kernels.work_counter import WorkCounter

__all__ = ["BeyondLimitError", "MemoryTracker", "collect_garbage_by_hand", "fake_copy", "fake_tensors"]

_aten = torch.ops.aten

_KERNEL_COPIES = 12
"""Kernels in memory at most while two of one and a half times the voxels are joined, turned round and reordered."""


class BeyondLimitError(Exception):
    """More memory is in use than the limit of a :class:`MemoryTracker`."""


def fake_copy(module: nn.Module, dtype: torch.dtype) -> tuple[nn.Module, torch.device]:
    """Return a copy of a module without values, to call within :func:`fake_tensors`, and the device for its inputs.

    Args:
        module: the module to copy; it is left as it is.
        dtype: the type of the copy's tensors that are of a floating point type.
    """
    device = torch.device("cpu" if has_fake_tensors() else "meta")
    replaced: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        device = tensor.device if has_fake_tensors() else device
        kept = dtype if tensor.is_floating_point() else tensor.dtype
        fake: Tensor = torch.empty_strided(tensor.shape, tensor.stride(), dtype=kept, device=device)
        replaced[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake
    return copy.deepcopy(module, replaced), device


@contextmanager
def collect_garbage_by_hand() -> Iterator[None]:
    """Collect garbage only when a :class:`MemoryTracker` looks at memory.

    torch's checkpoints, and its own counter of operations, leave tensors in garbage that refers to itself. Python finds
    that at a random time. What was there before is set aside meanwhile, so that to look through all that is new is
    fast.
    """
    automatic, sets_aside = gc.isenabled(), not gc.get_freeze_count()  # unless the program has done so itself
    gc.disable()
    if sets_aside:
        gc.freeze()
    try:
        yield
    finally:
        if sets_aside:
            gc.unfreeze()
        if automatic:
            gc.enable()


class MemoryTracker:
    """Follows the storages that operations make within :meth:`watch` until they are freed.

    Args:
        limit: :class:`BeyondLimitError` is raised when :attr:`peak` gets beyond it.
        handing_over: True if convolutions run within :class:`.OneDnnConvolutions`.
        checkpoints: True if activations are computed again. The garbage that this leaves was in use at several
            collections, so that Python's young generations do not hold it: all of them are looked through.

    Attributes:
        live: bytes in use now.
        peak: the most bytes that were in use at one moment.
        gradients: bytes of those that hold gradients of weights.
        gradients_at_peak: the same at the moment of the peak.

    Example:
        >>> import torch
        >>> tracker = MemoryTracker()
        >>> with fake_tensors(), tracker.watch():
        ...     total = (torch.empty(256) + 1).sum()
        >>> tracker.peak, tracker.live
        (2048, 4)
    """

    def __init__(self, limit: int | None = None, handing_over: bool = False, checkpoints: bool = False) -> None:
        self._limit = limit
        self._generation = 2 if checkpoints else 1
        self._handing_over = handing_over
        self.live = self.peak = self.gradients = self.gradients_at_peak = 0
        self._followed: set[int] = set()

    def watch(self, work: WorkCounter | None = None) -> AbstractContextManager[None]:
        """Return the context within which operations are followed.

        Args:
            work: is told of every operation too.
        """

        count = _leave if work is None else work.add
        return watch_operations(lambda func, args, made: self._after(func, args, count(func, args, made)), fake_result)

    def follow(self, tensors: Iterable[Tensor]) -> None:
        """Count the storages of tensors that were made before, until they are freed."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = id(storage), storage.nbytes()
            if key not in self._followed:
                self._followed.add(key)
                self.live += size
                weakref.finalize(storage, self._let_go, key, size)
        self._look(0)

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """Do not count the storages of ``tensors``, which have to live as long as the tracker is used."""
        self._followed.update(id(tensor.untyped_storage()) for tensor in tensors)

    def hold_gradient(self, parameter: Tensor) -> None:
        """Count the gradient of a parameter: a hook to call after it was accumulated."""
        if parameter.grad is not None:
            self.gradients += parameter.grad.untyped_storage().nbytes()

    def _after(self, func: Any, args: tuple[Any, ...], made: Any) -> Any:
        handed_over = self._handing_over and func is _aten.convolution.default and _is_handed_over(args)
        if handed_over:
            made = channels_last(made)  # as oneDNN makes it
        tensors = [leaf for leaf in (made if isinstance(made, tuple | list) else [made]) if isinstance(leaf, Tensor)]
        self.follow(tensors)
        self._look(_workspace(func, args, tensors, handed_over))
        return made

    def _look(self, workspace: int) -> None:
        if self.live + workspace > self.peak:
            gc.collect(self._generation)
        if self.live + workspace > self.peak:
            self.peak, self.gradients_at_peak = self.live + workspace, self.gradients
            if self._limit is not None and self.peak > self._limit:
                raise BeyondLimitError

    def _let_go(self, key: int, size: int) -> None:
        self._followed.remove(key)
        self.live -= size


def _leave(func: Any, args: tuple[Any, ...], made: Any) -> Any:
    return made


def _workspace(func: Any, args: tuple[Any, ...], made: list[Tensor], handed_over: bool) -> int:
    """Return the bytes that an operation on the processor allocates and frees again, for convolutions; else 0.

    Convolutions copy tensors that do not lie in memory as they want it. Those of oneDNN reorder the weights besides.
    torch's own, which take over small tensors and types that the processor lacks, unfold the input into columns, for
    the whole batch or for a sample at a time; in the backward pass of half precision they multiply into columns of
    float32. Of several groups, Slow3d holds the columns together; the others hold one after another and join the
    results. Convolutions that are handed over to oneDNN have their kernel copied; a paired one is also set down twice,
    one voxel longer.
    """
    if func is _aten.convolution.default:
        x, weight, bias, *options = args
        grads, bias_sizes, small = [], None if bias is None else bias.shape, made[0]
    elif func is _aten.convolution_backward.default:
        grad, x, weight, bias_sizes, *options, _ = args
        grads, small = [grad], grad
    else:
        return 0
    if x.device.type != "cpu":
        return 0
    *_, transposed, _, groups = options
    if handed_over:
        copied = 0 if x.is_contiguous(memory_format=_layout(x)) else _numbytes(x)
        return copied + _KERNEL_COPIES * _numbytes(weight)
    if (selected := select_convolution_backend(x, weight, options, bias_sizes)) is None:
        return 0
    backend, layout = selected
    copied = sum(_numbytes(t) for t in (x, *grads) if not t.is_contiguous(memory_format=layout))
    if backend.startswith("Mkldnn"):
        return copied + _numbytes(weight)
    if not backend.startswith("Slow"):
        return copied
    together = backend == "Slow3d"
    unfolded = math.prod(weight.shape[2:]) > 1 or (together and groups > 1)
    column = math.prod(weight.shape[1:]) * math.prod((x if transposed else small).shape[2:]) if unfolded else 0
    samples = x.shape[0] if backend in ("Slow2d", "Slow3d") else 1
    columns = samples * (groups if together else 1) * column * x.element_size()
    if grads and x.element_size() < torch.float32.itemsize:
        columns += column * torch.float32.itemsize
    return copied + (columns if together or groups == 1 else max(columns, _numbytes(made[0])))


def _is_handed_over(args: tuple[Any, ...]) -> bool:
    """Return True if oneDNN computes the convolution with these arguments within :class:`.OneDnnConvolutions`."""
    x, weight, bias, _, padding, _, transposed, *_ = args
    return not transposed and is_handed_over(x, weight, bias, padding, x.dim() - 2)


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d


def _numbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
