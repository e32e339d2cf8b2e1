"""A server of folders over HTTP, from which a viewer on this machine reads zarr."""

from __future__ import annotations

import os
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
        super().__init__(*args)

    def send_head(self) -> IO[bytes] | None:  # type: ignore[override]
        name = self.path.lstrip("/").partition("/")[0]
        if name not in self._folders or os.path.isdir(self.translate_path(self.path)):
            self.send_error(404)  # no listing of folders either
            return None
        return super().send_head()

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
        self.send_header("Access-Control-Allow-Private-Network", "true")
        self.send_header("Cache-Control", "no-cache")  # a volume may still be written
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Print nothing: absent chunks are not faults."""
