"""Networks on disk: one safetensors file each, weights and description together, from which nothing is run."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from scalenet_gp.spec import network_of, spec_of
from scalenet_gp.tensor_files import opened, serialized

if TYPE_CHECKING:
    from scalenet_gp.leibnet import LeibNet

__all__ = ["SPEC", "read_network", "rebuilt", "save_network", "spec_in", "whole_file"]

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
        raise ValueError(f"a network is written as {path.with_suffix('.safetensors').name}, not as {path.name}")
    _, content = serialized(net.state_dict(), {SPEC: json.dumps(spec_of(net))})
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as beside, beside.open("wb") as file:
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
    with opened(path) as file:
        spec = spec_in(file.metadata() or {}, path)
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    return rebuilt(spec, weights, path)


def rebuilt(spec: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> LeibNet:
    """The network of ``spec`` with ``weights``, of the type that they have; ``path`` is where both come from.

    Raises:
        ValueError: the spec is none, or the weights are not those of its network; the message names ``path``.
    """
    try:
        net = network_of(spec)
        for name, tensor in net.state_dict(keep_vars=True).items():
            if name in weights:
                tensor.data = tensor.data.to(weights[name].dtype)
        net.load_state_dict(dict(weights))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path} holds no network that can be built: {error}") from error
    return net.eval()


def spec_in(metadata: Mapping[str, str], path: Path) -> Mapping[str, Any]:
    """The spec of a network in the metadata of the file ``path``, as JSON has it.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    if SPEC not in metadata:
        raise ValueError(f"{path} has weights but no spec of a network: its metadata have {sorted(metadata)}")
    try:
        spec: Mapping[str, Any] = json.loads(metadata[SPEC])
    except ValueError as error:
        raise ValueError(f"{path}: the spec in its metadata is no JSON ({error}); the file may be damaged") from error
    return spec


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to, which takes its place once everything is on the disk, or vanishes.

    Once this has ended, the file is there under its name even if the machine loses its power.
    """
    beside = path.with_suffix(".partial")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    if os.name != "posix":
        return  # where folders cannot be opened
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that flush no folders
            raise
    finally:
        os.close(descriptor)
