"""Networks on disk: one safetensors file each, weights and description together, from which nothing is run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from scalenet_gp.errors import CheckpointError
from scalenet_gp.leibnet.spec import build_network, network_spec
from scalenet_gp.serialization import atomic_write, open_safetensors, serialize_tensors

if TYPE_CHECKING:
    from scalenet_gp.leibnet.leibnet import LeibNet

__all__ = ["SPEC", "read_network", "rebuild_network", "save_network", "spec_in"]

SPEC = "scalenet_gp.spec"
"""The entry of the file's metadata that holds the network's spec."""


def save_network(path: str | Path, net: LeibNet) -> Path:
    """Write ``net`` as one safetensors file: its weights, and its spec as JSON in the metadata.

    The file is whole and readable, or what was there before is untouched. Any program that reads safetensors finds the
    weights in it.

    Args:
        path: the file; its name ends in ``.safetensors``. Missing folders are made.
        net: the network, with weights of any floating type on any device.

    Returns:
        The path.

    Raises:
        ValueError: the name ends otherwise, or no spec can hold the network.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"a network is written as {path.with_suffix('.safetensors').name}, not as {path.name}")
    _, content = serialize_tensors(net.state_dict(), {SPEC: json.dumps(network_spec(net))})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as beside, beside.open("wb") as file:
        file.writelines(content)
    return path


def read_network(path: str | Path) -> LeibNet:
    """The network that :func:`save_network` wrote, with its weights as they were, ready to predict.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, it holds no spec of a network or one that does not fit its weights, or the spec
            names a kind of node that has not been defined.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with open_safetensors(path) as file:
        spec = spec_in(file.metadata() or {}, path)
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    return rebuild_network(spec, weights, path)


def rebuild_network(spec: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> LeibNet:
    """The network of ``spec`` with ``weights``, of the type that they have; ``path`` is where both come from.

    Raises:
        ValueError: the spec is none, or the weights are not those of its network; the message names ``path``.
    """
    try:
        net = build_network(spec)
        for name, tensor in net.state_dict(keep_vars=True).items():
            if name in weights:
                tensor.data = tensor.data.to(weights[name].dtype)
        net.load_state_dict(dict(weights))
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} holds no network that can be built: {error}") from error
    return net.eval()


def spec_in(metadata: Mapping[str, str], path: Path) -> Mapping[str, Any]:
    """The spec of a network in the metadata of the file ``path``, as JSON has it.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    if SPEC not in metadata:
        raise CheckpointError(f"{path} has weights but no spec of a network: its metadata have {sorted(metadata)}")
    try:
        spec: Mapping[str, Any] = json.loads(metadata[SPEC])
    except ValueError as error:
        raise CheckpointError(
            f"{path}: the spec in its metadata is no JSON ({error}); the file may be damaged"
        ) from error
    return spec
