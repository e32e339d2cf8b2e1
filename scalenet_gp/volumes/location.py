"""Local paths and URLs of volumes, and the small JSON files there.

Local files are read as files. URLs (``s3://``, ``gs://``, ``http://``, ``https://``) are read through tensorstore,
whose threads do not survive a fork: a process that was forked after its parent had read through tensorstore must not
read. tensorstore would abort it. Here it gets an error instead, and :func:`bulk_reads_begun` tells in time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import tensorstore as ts

from scalenet_gp.errors import ArgumentError, VolumeFormatError

__all__ = [
    "StrPath",
    "begin_bulk_reads",
    "bulk_reads_begun",
    "join",
    "key_value_store",
    "local_path",
    "parent",
    "read_json",
    "tensorstore_context",
    "whole_path",
]

StrPath = str | os.PathLike[str]
"""A path or a URL."""

_METADATA_RETRIES, _BULK_RETRIES = 3, 8  # a wrong address is told in seconds, a run outlives a minute of bad network

_reading_process: int | None = None


def bulk_reads_begun() -> bool:
    """Return True if this process, or one that it was forked from, has read through tensorstore.

    From then on a forked child cannot read: start worker processes by "spawn". Opening local volumes does not count,
    reading voxels does, and so does opening a volume behind a URL.
    """
    return _reading_process is not None


def begin_bulk_reads(path: StrPath) -> None:
    """Note that tensorstore is about to be used for ``path``, and refuse it in a process that was forked after that.

    Raises:
        RuntimeError: this process was forked after tensorstore had been used.
    """
    global _reading_process
    if _reading_process not in (None, os.getpid()):
        raise RuntimeError(
            f"{path}: this process was forked after its parent had read volumes, and tensorstore cannot be used here; "
            'start worker processes by "spawn", or before anything is read'
        )
    _reading_process = os.getpid()


def local_path(path: StrPath) -> Path | None:
    """Return the local path, also that of a ``file://`` URL; None for any other URL."""
    name = os.fspath(path)
    if "://" not in name:
        return Path(name)
    parts = urlsplit(name)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def whole_path(path: StrPath) -> str:
    """Return an absolute path, or a URL as it is."""
    local = local_path(path)
    return str(path) if local is None else str(local.absolute())


def join(path: StrPath, child: str) -> str:
    """Return the path or URL of ``child`` below ``path``."""
    name = os.fspath(path)
    return f"{name.rstrip('/')}/{child}" if "://" in name else str(Path(name) / child)


def parent(path: StrPath) -> tuple[str, str] | None:
    """Return the folder of a path or URL, and its name there; None for a root: of a file system, server or bucket."""
    name = os.fspath(path)
    if "://" not in name:
        local = Path(name)
        local = local if local.name not in ("", "..") else local.resolve()
        return (str(local.parent), local.name) if local.name else None
    folder, _, child = name.rstrip("/").rpartition("/")
    return (folder, child) if urlsplit(folder).path.strip("/") else None


def key_value_store(path: StrPath) -> dict[str, Any]:
    """Tensorstore's specification of the folder ``path``: absolute, so that it holds in any working directory.

    ``s3://`` is read from the server that the environment variable ``AWS_ENDPOINT_URL`` names, if it is set, and
    without credentials where there are none.

    Raises:
        ValueError: a URL of a kind that is not known.
    """
    local = local_path(path)
    if local is not None:
        return {"driver": "file", "path": f"{local.resolve()}/"}
    try:
        specification: dict[str, Any] = ts.KvStore.Spec(join(path, "")).to_json()
    except ValueError as error:
        raise ArgumentError(f"{path}: not a URL that can be read: {error}") from error
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if specification["driver"] == "s3" and endpoint:
        specification["endpoint"] = endpoint
    return specification


def tensorstore_context(cache_bytes: int, retries: int = _BULK_RETRIES) -> ts.Context:
    """Return settings for reading, with ``cache_bytes`` for decoded chunks and ``retries`` for each request."""
    patience = {"max_retries": retries, "initial_delay": "200ms", "max_delay": "10s"}
    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": cache_bytes},
            "http_request_retries": patience,
            "s3_request_retries": patience,
            "gcs_request_retries": patience,
        }
    )


def read_json(path: StrPath, names: Iterable[str]) -> dict[str, Any]:
    """Return the contents of the JSON files of these ``names`` in the folder ``path``, without absent ones.

    Raises:
        VolumeFormatError: a file is not JSON.
        OSError: it cannot be read.
    """
    local = local_path(path)
    texts = _local_files(local, names) if local is not None else _remote_files(path, names)
    contents = {}
    for name, text in texts.items():
        try:
            contents[name] = json.loads(text)
        except ValueError as error:  # of the text or of its encoding
            raise VolumeFormatError(f"{join(path, name)}: not readable as JSON: {error}") from error
    return contents


def _local_files(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def _remote_files(path: StrPath, names: Iterable[str]) -> dict[str, bytes]:
    specification = key_value_store(path)
    begin_bulk_reads(path)
    found, denied = {}, None
    try:
        store = ts.KvStore.open(specification, context=_metadata_context()).result()
        for name, future in [(name, store.read(name)) for name in names]:
            try:
                answer = future.result()
            except ValueError as error:
                if "PERMISSION_DENIED" not in str(error):
                    raise
                denied = error  # what S3 says of an absent file in a bucket that must not be listed
            else:
                if answer.state == "value":
                    found[name] = bytes(answer.value)
        if denied and not found:
            raise denied
    except ValueError as error:
        raise OSError(f"{path}: cannot be read: {error}") from error
    return found


@cache
def _metadata_context() -> ts.Context:
    return tensorstore_context(0, _METADATA_RETRIES)
