"""Safetensors files: what the package itself writes and reads is the measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from scalenet_gp.errors import CheckpointError
from scalenet_gp.serialization.safetensors_files import (
    CHECKSUMS,
    open_safetensors,
    serialize_tensors,
    stored_type,
)


def written(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    length, parts = serialize_tensors(tensors, metadata or {})
    content = b"".join(parts)
    assert len(content) == length
    return content


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the bytes of the tensors."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.complex64, torch.uint16])
def test_a_file_is_the_one_that_the_package_writes(dtype: torch.dtype) -> None:
    shapes = {"b": (2, 3), "a": (), "ä": (0, 4), "c": (1, 2, 1, 5)}
    tensors = {name: torch.randint(0, 2, shape).to(dtype) for name, shape in shapes.items()}
    header, content = split(written(tensors))
    assert CHECKSUMS in header["__metadata__"]
    del header["__metadata__"][CHECKSUMS]
    assert (header, content) == split(save(tensors, {"format": "pt"}))


def test_tensors_of_all_sorts_are_read_by_the_package() -> None:
    whole = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        **{
            "turned": whole.permute(2, 0, 1),
            "part": whole[:, 1:, ::2],
            "alike": whole,
            "spread": whole[:1].expand(3, 3, 4),
        },
        **{"conjugate": torch.tensor([1 + 2j]).conj(), "negative": torch.tensor([1 + 2j]).conj().imag},
        **{"byte": torch.ones(3, dtype=torch.uint8), "double": torch.rand(3, dtype=torch.float64)},
        **{"learned": torch.nn.Parameter(torch.rand(5))},
    }
    content = written(tensors, {"a": 'ä "1"', "b": "2"})
    back = load(content)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items())
    header, _ = split(content)
    metadata = header.pop("__metadata__")
    assert metadata.pop(CHECKSUMS)
    assert metadata == {"format": "pt", "a": 'ä "1"', "b": "2"}
    assert int.from_bytes(content[:8], "little") % 8 == 0
    assert all(header[name]["data_offsets"][0] % tensor.itemsize == 0 for name, tensor in tensors.items())


def test_nothing_is_written_of_what_no_file_can_hold() -> None:
    with pytest.raises(ValueError, match=r"no tensors of torch\.complex128"):
        stored_type(torch.complex128)
    with pytest.raises(ValueError, match="surrogates not allowed"):
        serialize_tensors({"\ud800": torch.zeros(1)}, {})


def test_an_opened_file_is_whole(tmp_path: Path) -> None:
    path, content = tmp_path / "a.safetensors", written({"a": torch.arange(3)})
    path.write_bytes(content)
    with open_safetensors(path) as file:
        assert torch.equal(file.tensors()["a"], torch.arange(3))
    path.write_bytes(content[:-1])
    with (
        pytest.raises(ValueError, match=r"a\.safetensors cannot be read as a song .* cut short"),
        open_safetensors(path, "song"),
    ):
        pass


TENSORS = {
    "whole": torch.arange(60.0).reshape(3, 4, 5),
    "turned": torch.arange(6, dtype=torch.int16).reshape(2, 3).T,
    "one": torch.tensor(True),
    "empty": torch.zeros(0, 4),
}


def test_a_file_is_refused_if_any_byte_is_wrong(tmp_path: Path) -> None:
    path, content = tmp_path / "a.safetensors", written(TENSORS, {"spec": "[1, 2]"})
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            with open_safetensors(path) as file:
                tensors = file.tensors()
        except CheckpointError as error:
            assert str(error).startswith(f"{path} ")  # noqa: PT017 - of every byte
            refused += 1
        else:  # a space behind the header, or within it
            assert file.metadata["spec"] == "[1, 2]"
            assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert refused > 0.98 * len(content)


def test_the_damaged_part_is_named(tmp_path: Path) -> None:
    path, content = tmp_path / "a.safetensors", written(TENSORS, {"spec": "[1, 2]"})
    begin = len(content) - len(split(content)[1])
    damaged = bytearray(content)
    damaged[begin + 100] ^= 1
    for wrong, message in (
        (bytes(damaged), r"as a song \(the tensor 'whole' does not match its checksum\); it may be damaged"),
        (content.replace(b"[1, 2]", b"[1, 3]"), "its metadata do not match their checksum"),
        (content.replace(b'\\"metadata', b'\\"matadata'), "its checksums: KeyError"),
    ):
        assert wrong != content
        path.write_bytes(wrong)
        with pytest.raises(CheckpointError, match=message), open_safetensors(path, "song") as file:
            file.tensors()


def test_only_what_is_read_is_checked_and_a_file_without_checksums_is_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "a.safetensors", bytearray(written({"a/x": torch.ones(4), "b/y": torch.zeros(4)}))
    content[-1] ^= 1
    path.write_bytes(content)
    with open_safetensors(path) as file:
        assert file.tensors("a/").keys() == {"a/x"}
        with pytest.raises(CheckpointError, match="the tensor 'b/y'"):
            file.tensors()
    path.write_bytes(save({"a": torch.ones(4)}, {"format": "pt"}))
    with open_safetensors(path) as file, pytest.raises(CheckpointError, match="has no checksums: another version"):
        file.tensors()
