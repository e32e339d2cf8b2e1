"""Running a node chain whose errors are those that its nodes raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gunpowder as gp
from gunpowder.nodes.batch_provider import BatchRequestError
from gunpowder.pipeline import PipelineRequestError, PipelineSetupError, PipelineTeardownError
from gunpowder.producer_pool import WorkersDied

from scalenet_gp.errors import ConfigError

__all__ = ["build_chain", "unwrap_errors"]

_WRAPPERS = (BatchRequestError, PipelineRequestError, PipelineSetupError, PipelineTeardownError)


@contextmanager
def build_chain(chain: gp.Pipeline | gp.BatchProvider) -> Iterator[gp.Pipeline]:
    """``gunpowder.build``, but what a node raises arrives as it was raised.

    gunpowder wraps an error once for every node that the request passed, and prints all of their tracebacks; the first
    one, which says what is wrong, gets lost among them.

    Raises:
        ValueError: also for what gunpowder itself refuses, which it asserts.
        ChildProcessError: a node failed in a worker process, from which only the text of its error arrives.
    """
    with unwrap_errors(), gp.build(chain) as pipeline:
        yield pipeline


@contextmanager
def unwrap_errors() -> Iterator[None]:
    """Let errors of a node chain out as :func:`build_chain` does, where something within that is to see them."""
    try:
        yield
    except _WRAPPERS as error:
        raise _first(error) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, _WRAPPERS) and (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, AssertionError):
        return ConfigError(f"gunpowder refuses the request: {error}")
    if isinstance(error, WorkersDied):
        return ChildProcessError("a worker process died; there may be too little memory for so many")
    if isinstance(error, BatchRequestError):
        lines = "".join(error.original_traceback or ["no reason was given"]).split("\n")
        return ChildProcessError(f"a worker process failed: {next(filter(None, reversed(lines)))}")
    return error
