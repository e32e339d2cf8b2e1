"""Activation checkpointing: what a node keeps for the backward pass is computed again there (arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["run_checkpointed"]


def run_checkpointed(node: nn.Module, *tensors: Any) -> Tensor | tuple[Tensor, ...]:
    """``node(*tensors)``, whose insides are computed again in the backward pass, with the same random numbers.

    torch would take the batch into running statistics twice, once in each pass. Here it is once.
    """
    result: Tensor | tuple[Tensor, ...] = checkpoint(
        node, *tensors, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_kept(node))
    )
    return result


@contextmanager
def _statistics_kept(node: nn.Module) -> Iterator[None]:
    """Have layers count and average in copies of their buffers."""
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
