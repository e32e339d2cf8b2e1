"""Networks on disk: one safetensors file each, weights and description together; nothing in it is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scalenet_gp.errors import CheckpointError
from scalenet_gp.serialization import atomic_write, open_safetensors, serialize_tensors

__all__ = ["SPEC", "read_network_file", "spec_in", "write_network_file"]

SPEC = "scalenet_gp.spec"
"""The entry of the file's metadata that holds the network's spec."""


def write_network_file(path: str | Path, spec: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Path:
    """Write a network as one safetensors file: its weights, and its spec as JSON in the metadata.

    The file is written whole, or the file that was there before is untouched. Any program that reads safetensors finds
    the weights in it.

    Args:
        path: the file; its name ends in ``.safetensors``. Missing folders are made.
        spec: the network without its weights, as :meth:`.LeibNet.to_spec` makes it.
        weights: the weights, of any floating type on any device.

    Returns:
        The path.

    Raises:
        CheckpointError: the name does not end in ``.safetensors``.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"a network is written as {path.with_suffix('.safetensors').name}, not as {path.name}")
    _, content = serialize_tensors(dict(weights), {SPEC: json.dumps(spec)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as beside, beside.open("wb") as file:
        file.writelines(content)
    return path


def read_network_file(path: str | Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Return the spec and the weights that :func:`write_network_file` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, also a single byte of it, or it holds no spec of a network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with open_safetensors(path) as file:
        spec = spec_in(file.metadata, path)
        return spec, file.tensors()


def spec_in(metadata: Mapping[str, str], path: Path) -> Mapping[str, Any]:
    """Return the spec of a network from the metadata of the file ``path``.

    Raises:
        CheckpointError: the metadata hold no spec, or it is damaged.
    """
    if SPEC not in metadata:
        raise CheckpointError(f"{path} has weights but no spec of a network: its metadata have {sorted(metadata)}")
    try:
        spec: Mapping[str, Any] = json.loads(metadata[SPEC])
    except ValueError as error:
        raise CheckpointError(
            f"{path}: the spec in its metadata is not JSON ({error}); the file may be damaged"
        ) from error
    return spec
