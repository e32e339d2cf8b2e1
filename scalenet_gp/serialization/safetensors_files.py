"""Safetensors files, written tensor by tensor: https://huggingface.co/docs/safetensors.

The safetensors package itself copies all tensors to write them, and reports a full disk only in the text of an error.
"""

from __future__ import annotations

import json
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

__all__ = ["open_safetensors", "serialize_tensors", "stored_type"]


def serialize_tensors(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[int, Iterator[bytes | memoryview]]:
    """Return the content of a file.

    Args:
        tensors: dense tensors by name, from any device, with any strides, also some that share memory.
        metadata: texts by name.

    Returns:
        The length in bytes, and the parts, for ``writelines``: not more than one tensor is copied at a time.

    Raises:
        CheckpointError: a tensor has a type or a name that no file can hold.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
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


@contextmanager
def open_safetensors(path: Path, kind: str = "safetensors file") -> Iterator[safe_open]:
    """Open a file to read from, which is as long as its header says; ``kind`` names it in messages.

    Raises:
        CheckpointError: the file is damaged, cut short, or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read as a {kind} ({error}); it may be damaged or cut short") from error


def _content(tensor: Tensor) -> memoryview:
    """Return the values in the order of the axes, with pending conjugation and negation applied."""
    values = tensor.detach().resolve_conj().resolve_neg().cpu()
    # a clone in any case: of a single value, contiguous() may keep strides with which it cannot be seen as bytes
    return values.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8).numpy().data
