"""A server of folders over HTTP, from which a viewer on this machine reads zarr."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import IO, Any, final

__all__ = ["HOST", "serve_files"]

HOST = "127.0.0.1"
"""The server answers this machine only. From elsewhere: ``ssh -L PORT:127.0.0.1:PORT``."""


_RANGE = re.compile(r"bytes=(?P<first>\d*)-(?P<last>\d*)")
_PART = 2**20  # bytes that are read at a time


@contextmanager
def serve_files(folders: Mapping[str, Path], port: int) -> Iterator[str]:
    """Serve folders for reading to pages of any origin, until the context ends.

    Args:
        folders: folders by the names below which they are served.
        port: port; 0 for a free one.

    Yields:
        The address. The folder "raw" is at ``address/raw/``.

    Raises:
        OSError: the port is taken, or may not be used.
    """
    handler = partial(_Handler, {name: folder.resolve() for name, folder in folders.items()})
    try:
        server = _Server((HOST, port), handler)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"port {port} of {HOST} cannot be served on: {reason}; choose another one with --port"
        ) from error
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@final
class _Server(ThreadingHTTPServer):
    """Serves each connection in a thread. It prints nothing when a browser ends one, which happens with every page."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@final
class _Handler(SimpleHTTPRequestHandler):
    """Answers with files of some folders, and the headers that let a browser give them to a page of another origin."""

    protocol_version = "HTTP/1.1"  # a viewer asks for thousands of small files: connections are kept

    def __init__(self, folders: Mapping[str, Path], *args: Any) -> None:
        self._folders = folders
        self._left: int | None = None  # bytes of the part of a file that is being sent
        super().__init__(*args)

    def send_head(self) -> IO[bytes] | None:  # type: ignore[override]
        name = self.path.lstrip("/").partition("/")[0]
        if name not in self._folders or os.path.isdir(self.translate_path(self.path)):
            self.send_error(404)  # no listing of folders either
            return None
        asked = self.headers.get("Range")
        return super().send_head() if asked is None else self._send_part(asked)

    def _send_part(self, asked: str) -> IO[bytes] | None:
        """Answer a request for a part of a file, by which a viewer reads chunks out of the shards of zarr 3.

        A range that cannot be read counts as none, as HTTP has it; so do several ranges at once.
        """
        found = _RANGE.fullmatch(asked.strip())
        if found is None or not (found["first"] or found["last"]):
            return super().send_head()
        try:
            file = open(self.translate_path(self.path), "rb")  # noqa: SIM115, which the caller closes
        except OSError:
            self.send_error(404)
            return None
        length = os.fstat(file.fileno()).st_size
        if found["first"]:
            first, last = int(found["first"]), min(int(found["last"] or length), length - 1)
        else:  # the last bytes: the index of a shard
            first, last = max(length - int(found["last"]), 0), length - 1
        if first >= length or (found["last"] and not found["first"] and not int(found["last"])):
            file.close()
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{length}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        if first > last:
            file.close()
            return super().send_head()
        self.send_response(206)
        self.send_header("Content-Type", self.guess_type(self.path))
        self.send_header("Content-Range", f"bytes {first}-{last}/{length}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        file.seek(first)
        self._left = last - first + 1
        return file

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send a file, or the part that was asked for."""
        left, self._left = self._left, None
        if left is None:
            super().copyfile(source, outputfile)
            return
        while left > 0 and (part := source.read(min(left, _PART))):
            outputfile.write(part)
            left -= len(part)

    def translate_path(self, path: str) -> str:
        name, _, rest = path.lstrip("/").partition("/")
        self.directory = str(self._folders.get(name, ""))
        return super().translate_path(f"/{rest}")

    def do_OPTIONS(self) -> None:
        """Answer what a browser asks before it asks for a file."""
        self.send_response(204)
        self.send_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        self.send_header("Access-Control-Allow-Headers", "*")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Expose-Headers", "Content-Range, Content-Length, Accept-Ranges")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Access-Control-Allow-Private-Network", "true")
        self.send_header("Cache-Control", "no-cache")  # a volume may still be written
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Print nothing: absent chunks are not faults."""
