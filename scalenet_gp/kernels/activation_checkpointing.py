"""Activation checkpointing: activations are computed again in the backward pass (arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["run_checkpointed"]


def run_checkpointed(node: nn.Module, *tensors: Any, **options: Any) -> Tensor | tuple[Tensor, ...]:
    """Return ``node(*tensors)``; its activations are computed again in the backward pass, with the same random numbers.

    torch would update running statistics twice, once in each pass. Here they are updated once.
    """
    result: Tensor | tuple[Tensor, ...] = checkpoint(
        node, *tensors, use_reentrant=False, context_fn=lambda: (nullcontext(), _unchanged_statistics(node)), **options
    )
    return result


@contextmanager
def _unchanged_statistics(node: nn.Module) -> Iterator[None]:
    """Let layers update copies of their buffers."""
    own = [(module, dict(module.named_buffers(recurse=False))) for module in node.modules()]
    for module, buffers in own:
        for name, buffer in buffers.items():
            setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, buffers in own:
            for name, buffer in buffers.items():
                setattr(module, name, buffer)
