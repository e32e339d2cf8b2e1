"""Reads in a process of their own, after which this one can still be forked."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

from scalenet_gp.volumes.location import bulk_reads_begun

__all__ = ["read_separately"]

_ResultT = TypeVar("_ResultT")


def read_separately(read: Callable[[], _ResultT]) -> _ResultT:
    """Return the result of a function that reads voxels, and let worker processes be forked afterwards.

    The function runs in a forked process, as tensorstore cannot be used on both sides of a fork: see
    :func:`.bulk_reads_begun`. Where that is too late, or processes cannot be forked, it runs in this one.

    Args:
        read: the function; its result, and what it raises, can be pickled.

    Raises:
        ChildProcessError: the process died.
        Exception: whatever ``read`` raises.

    Example:
        >>> read_separately(lambda: 2**8)
        256
    """
    if bulk_reads_begun() or "fork" not in multiprocessing.get_all_start_methods():
        return read()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(read, sender), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of this process: the child uses none of them
        process.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(
            f"a process that read a volume died with exit code {process.exitcode}; where it is negative, by a signal: "
            "-9 is often a lack of memory"
        ) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if error is not None:
        raise error
    return result


def _answer(read: Callable[[], object], sender: Connection) -> None:
    try:
        answer = (read(), None)
    except Exception as error:
        sender.send((None, error))
    else:
        sender.send(answer)
