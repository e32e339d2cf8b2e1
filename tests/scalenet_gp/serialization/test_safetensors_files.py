"""Safetensors files: what the package itself writes and reads is the measure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from scalenet_gp.serialization.safetensors_files import open_safetensors, serialize_tensors, stored_type


def written(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    length, parts = serialize_tensors(tensors, metadata or {})
    content = b"".join(parts)
    assert len(content) == length
    return content


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.complex64, torch.uint16])
def test_a_file_is_the_one_that_the_package_writes(dtype: torch.dtype) -> None:
    shapes = {"b": (2, 3), "a": (), "ä": (0, 4), "c": (1, 2, 1, 5)}
    tensors = {name: torch.randint(0, 2, shape).to(dtype) for name, shape in shapes.items()}
    assert written(tensors) == save(tensors, {"format": "pt"})


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
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header.pop("__metadata__") == {"format": "pt", "a": 'ä "1"', "b": "2"}
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
        assert torch.equal(file.get_tensor("a"), torch.arange(3))
    path.write_bytes(content[:-1])
    with (
        pytest.raises(ValueError, match=r"a\.safetensors cannot be read as a song .* cut short"),
        open_safetensors(path, "song"),
    ):
        pass
