"""Safetensors files, written tensor by tensor, with checksums: https://huggingface.co/docs/safetensors.

The safetensors package itself copies all tensors to write them, and reports a full disk only in the text of an error.
Files of that format have no checksums. Ours are in the metadata, where other programs pass over them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from scalenet_gp.errors import CheckpointError

__all__ = ["CHECKSUMS", "TensorFile", "open_safetensors", "serialize_tensors", "stored_type"]

CHECKSUMS = "scalenet_gp.checksums"
"""The entry of the metadata that holds the checksum of every tensor, and that of all other entries."""


def serialize_tensors(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[int, Iterator[bytes | memoryview]]:
    """Return the content of a file, with checksums in its metadata.

    The tensors are read twice, as their checksums stand before them.

    Args:
        tensors: dense tensors by name, from any device, with any strides, also some that share memory.
        metadata: texts by name.

    Returns:
        The length in bytes, and the parts, for ``writelines``: not more than one tensor is copied at a time.

    Raises:
        CheckpointError: a tensor has a type or a name that no file can hold.
    """
    entries = {"format": "pt", **metadata}
    sums = {name: _checksum(tensor.dtype, tensor.shape, _content(tensor)) for name, tensor in tensors.items()}
    header: dict[str, Any] = {
        "__metadata__": {**entries, CHECKSUMS: json.dumps({"metadata": _checksum_of_entries(entries), "tensors": sums})}
    }
    # the widest types first, so that every value lies at a multiple of its width
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    begin = 0
    for name in names:
        tensor = tensors[name]
        end = begin + tensor.nbytes
        header[name] = {
            "dtype": stored_type(tensor.dtype),
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def parts() -> Iterator[bytes | memoryview]:
        yield len(text).to_bytes(8, "little")
        yield text
        for name in names:
            yield _content(tensors[name])

    return 8 + len(text) + begin, parts()


@cache
def stored_type(dtype: torch.dtype) -> str:
    """Return the name of a type in safetensors files.

    Raises:
        CheckpointError: they have no such type.
    """
    try:
        content = save({"": torch.empty(0, dtype=dtype)})
    except (KeyError, SafetensorError) as error:
        raise CheckpointError(f"safetensors files hold no tensors of {dtype}") from error
    name: str = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])[""]["dtype"]
    return name


class TensorFile:
    """An open file.

    Attributes:
        metadata: the texts by name, not compared with their checksum yet.
        names: the names of the tensors.
    """

    def __init__(self, path: Path, kind: str, file: safe_open) -> None:
        self.metadata: dict[str, str] = file.metadata() or {}
        self.names: list[str] = list(file.keys())
        self._path, self._kind, self._file = path, kind, file

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """Return the tensors whose names begin with ``prefix``; they lie in the file.

        Raises:
            CheckpointError: one of them, or the metadata, does not match its checksum, or there are no checksums.
        """
        if CHECKSUMS not in self.metadata:
            raise CheckpointError(
                f"{self._path} has no checksums: another version of scalenet_gp wrote it, or another program; write it "
                "again with this version"
            )
        entries = {name: text for name, text in self.metadata.items() if name != CHECKSUMS}
        try:
            sums = json.loads(self.metadata[CHECKSUMS])
            right, expected = sums["metadata"] == _checksum_of_entries(entries), dict(sums["tensors"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"its checksums: {error!r}") from error
        if not right:
            raise self._damaged("its metadata do not match their checksum")
        found = {}
        for name in filter(lambda name: name.startswith(prefix), self.names):
            found[name] = tensor = self._file.get_tensor(name)
            values = tensor.flatten().view(torch.uint8).numpy().data
            if expected.get(name) != _checksum(tensor.dtype, tensor.shape, values):
                raise self._damaged(f"the tensor {name!r} does not match its checksum")
        return found

    def _damaged(self, reason: str) -> CheckpointError:
        return CheckpointError(_damage(self._path, self._kind, reason))


@contextmanager
def open_safetensors(path: Path, kind: str = "safetensors file") -> Iterator[TensorFile]:
    """Open a file to read from, which is as long as its header says; ``kind`` names it in messages.

    Raises:
        CheckpointError: the file is damaged, cut short, or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield TensorFile(path, kind, file)
    except SafetensorError as error:
        raise CheckpointError(_damage(path, kind, str(error))) from error


def _damage(path: Path, kind: str, reason: str) -> str:
    return f"{path} cannot be read as a {kind} ({reason}); it may be damaged or cut short"


def _checksum(dtype: torch.dtype, shape: torch.Size, values: memoryview) -> int:
    """Return the CRC-32 of a tensor: of type and shape, and of the values in the order of the axes."""
    return zlib.crc32(values, zlib.crc32(f"{stored_type(dtype)} {tuple(shape)}".encode()))


def _checksum_of_entries(entries: Mapping[str, str]) -> int:
    return zlib.crc32(json.dumps(sorted(entries.items())).encode())


def _content(tensor: Tensor) -> memoryview:
    """Return the values in the order of the axes, with pending conjugation and negation applied."""
    values = tensor.detach().resolve_conj().resolve_neg().cpu()
    # a clone in any case: of a single value, contiguous() may keep strides with which it cannot be seen as bytes
    return values.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8).numpy().data
