"""Running a node chain whose errors are those that its nodes raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gunpowder as gp
from gunpowder.nodes.batch_provider import BatchRequestError
from gunpowder.pipeline import PipelineRequestError, PipelineSetupError, PipelineTeardownError

__all__ = ["running"]

_WRAPPERS = (BatchRequestError, PipelineRequestError, PipelineSetupError, PipelineTeardownError)


@contextmanager
def running(chain: gp.Pipeline | gp.BatchProvider) -> Iterator[gp.Pipeline]:
    """``gunpowder.build``, but what a node raises arrives as it was raised.

    gunpowder wraps an error once for every node that the request passed, and prints all of their tracebacks; the first
    one, which says what is wrong, gets lost among them.
    """
    try:
        with gp.build(chain) as pipeline:
            yield pipeline
    except _WRAPPERS as error:
        raise _first(error) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, _WRAPPERS) and (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
