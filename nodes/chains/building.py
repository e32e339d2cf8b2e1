"""Building a chain of gunpowder nodes, with errors as the nodes raise them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gunpowder as gp
from gunpowder.nodes.batch_provider import BatchRequestError
from gunpowder.pipeline import PipelineRequestError, PipelineSetupError, PipelineTeardownError
from gunpowder.producer_pool import WorkersDied

from scalenet_gp.errors import PipelineError

__all__ = ["build_chain", "unwrap_errors"]

_WRAPPERS = (BatchRequestError, PipelineRequestError, PipelineSetupError, PipelineTeardownError)


@contextmanager
def build_chain(chain: gp.Pipeline | gp.BatchProvider) -> Iterator[gp.Pipeline]:
    """Build a chain as ``gunpowder.build`` does, with errors that arrive as nodes raise them.

    gunpowder wraps an error once for every node that the request passed, and prints all tracebacks. The first error,
    which says what is wrong, gets lost among them.

    Raises:
        PipelineError: gunpowder refuses the request, by an assertion.
        ChildProcessError: a node failed in a worker process, which passes on only the text of its error.
    """
    with unwrap_errors(), gp.build(chain) as pipeline:
        yield pipeline


@contextmanager
def unwrap_errors() -> Iterator[None]:
    """Unwrap the errors of requests as :func:`build_chain` does, for code inside of it that handles them."""
    try:
        yield
    except _WRAPPERS as error:
        raise _innermost(error) from None


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, _WRAPPERS) and (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    if isinstance(error, AssertionError):
        return PipelineError(f"gunpowder refuses the request: {error}")
    if isinstance(error, WorkersDied):
        return ChildProcessError("a worker process died; there may be too little memory for so many workers")
    if isinstance(error, BatchRequestError):
        lines = "".join(error.original_traceback or ["no reason was given"]).split("\n")
        return ChildProcessError(f"a worker process failed: {next(filter(None, reversed(lines)))}")
    return error
