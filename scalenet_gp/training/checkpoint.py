"""Checkpoints of training: one safetensors file each. Reading one runs no code from it."""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scalenet_gp.errors import CheckpointError
from scalenet_gp.leibnet import SPEC, LeibNet, spec_in
from scalenet_gp.serialization import (
    CHECKSUMS,
    atomic_write,
    flatten_state,
    open_safetensors,
    package_versions,
    serialize_tensors,
    unflatten_state,
)
from scalenet_gp.training.options import CheckpointOptions

if TYPE_CHECKING:
    from scalenet_gp.training.training_state import TrainingState

__all__ = [
    "Checkpoint",
    "latest_checkpoint",
    "load_checkpoint",
    "load_network",
    "load_weights",
    "save_checkpoint",
    "thin_checkpoints",
]

_logger = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint_(\d+)\.(safetensors|partial)")
_CONTENT = "scalenet_gp.checkpoint"
"""The entry of the file's metadata that holds everything except tensors and the spec."""
_FORMAT = 2
_PACKAGES = ("scalenet_gp", "torch", "numpy", "safetensors")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WEIGHTS, _AVERAGE = "weights/", "average/"
_AVERAGED = "module."
"""The prefix that torch's AveragedModel puts before the name of a weight."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The contents of a checkpoint: all that resuming needs, and all that prediction needs.

    Attributes:
        spec: the network's :meth:`LeibNet.to_spec`.
        weights: the network's ``state_dict``.
        state: the ``state_dict`` of :class:`.TrainingState`.
        iteration: number of batches that were learned from.
        metadata: further plain values and tensors of the writer.
        versions: versions of Python and of the packages that wrote it, by name.
    """

    spec: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    state: Mapping[str, Any]
    iteration: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def average(self) -> dict[str, Tensor] | None:
        """The averaged weights by the names that they have in the network, or None."""
        average = self.state.get("average")
        return None if average is None else _below(_AVERAGED, average)

    def restore(self, net: LeibNet, where: Path, state: TrainingState | None = None) -> None:
        """Load the weights into a network, and the state of training if one is given.

        Args:
            net: the network. With a ``state`` it gets the weights; without one it gets their average, if there is one.
            where: the file, for messages.
            state: the state of training ``net``.

        Raises:
            CheckpointError: the checkpoint is another network's, or was trained with another kind of optimizer or
                schedule. Network and state stay as they are.
        """
        own = net.to_spec()
        if dict(self.spec) != own:
            raise CheckpointError(f"{where} is a checkpoint of another network: {_difference(self.spec, own)}")
        for weights in filter(None, (self.weights, self.average)):
            if _shapes(weights) != _shapes(net.state_dict()):
                raise CheckpointError(f"{where} has the spec of this network, but not its weights; the file is damaged")
        if state is None:
            net.load_state_dict(self.average or dict(self.weights))
            return
        ours = state.state_dict()
        if self.state.keys() != ours.keys():
            unequal = ", ".join(sorted(self.state.keys() ^ ours.keys()))
            raise CheckpointError(
                f"{where} and this version have different entries in the state of training: {unequal}"
            )
        there, here = (_settings(part["optimizer"]["param_groups"]) for part in (self.state, ours))
        if there != here:
            raise CheckpointError(f"{where} is of an optimizer with other settings: {there} there and {here} here")
        own_statistics, average = self.state["own_statistics"], self.state["average"]
        weights = dict(self.weights)
        if average is None:
            weights |= own_statistics
        else:
            average = {**average, **{_AVERAGED + name: tensor for name, tensor in own_statistics.items()}}
        try:
            state.load_state_dict({**self.state, "average": average})
        except ValueError as error:
            raise CheckpointError(f"{where} does not fit how this network is trained: {error}") from error
        net.load_state_dict(weights)


def save_checkpoint(
    directory: Path,
    net: LeibNet,
    state: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
) -> Path:
    """Write ``checkpoint_<iteration>.safetensors`` into ``directory``: whole and on the disk, or not at all.

    Tensors are named ``weights/…``, ``average/…`` and ``state/…`` in the file. The spec and all plain values are JSON
    in its metadata. The file is written under another name, tensor by tensor, and then renamed. Partial files that
    killed writers have left in the folder are removed. If an error is raised, older checkpoints stay as they are.

    Args:
        directory: the folder; it is made if it is missing.
        net: the network.
        state: the state of its training, :meth:`.TrainingState.state_dict`, or a part of it with ``"iteration"``.
        metadata: further plain values and tensors to keep.
        versions: versions of further packages, by name.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written. If the disk is full, the message says how much room it takes.
        CheckpointError: a weight is not finite, or ``metadata`` or ``state`` hold something that could not be read
            again without running code.
    """
    iteration = state["iteration"]
    weights = net.state_dict()
    broken = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"no checkpoint of iteration {iteration} is written: {', '.join(broken)} are not finite")
    average = state.get("average")
    if average is not None:  # its weights have names of their own in the file
        state = {
            **state,
            "average": {name: tensor for name, tensor in average.items() if not name.startswith(_AVERAGED)},
        }
    try:
        plain, tensors = flatten_state({"state": state, "metadata": dict(metadata or {})})
    except ValueError as error:
        raise CheckpointError(f"no checkpoint of iteration {iteration} is written: {error}") from error
    tensors |= {_WEIGHTS + name: tensor for name, tensor in weights.items()}
    tensors |= {_AVERAGE + name: tensor for name, tensor in _below(_AVERAGED, average or {}).items()}
    content = {
        "format": _FORMAT,
        "iteration": iteration,
        "versions": package_versions(_PACKAGES) | dict(versions or {}),
        **plain,
    }
    entries = {SPEC: json.dumps(net.to_spec()), _CONTENT: json.dumps(content, allow_nan=False)}

    directory.mkdir(parents=True, exist_ok=True)
    for left in _named(directory, "partial"):
        left.unlink(missing_ok=True)
    path = directory / f"checkpoint_{iteration}.safetensors"
    _write(path, *serialize_tensors(tensors, entries))
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; tensors go to the processor.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is not a checkpoint of this project, is cut short or damaged, or has another format
            version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    with open_safetensors(path, "checkpoint") as file:
        entries = file.metadata
        content = _content(entries, path)
        # copies: the opened tensors lie in the file, which may be replaced or removed
        tensors = {name: tensor.clone() for name, tensor in file.tensors().items()}
    try:
        state = unflatten_state(content["state"], tensors)
        if state.get("average") is not None:
            state["average"] |= {_AVERAGED + name: tensor for name, tensor in _below(_AVERAGE, tensors).items()}
        metadata = unflatten_state(content["metadata"], tensors)
        iteration, versions = content["iteration"], content["versions"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({error!r}); it may be damaged") from error
    return Checkpoint(spec_in(entries, path), _below(_WEIGHTS, tensors), state, iteration, metadata, versions)


def load_network(path: str | Path) -> LeibNet:
    """Return the network of a checkpoint, or of a file that :meth:`.LeibNet.save` wrote, ready to predict.

    The network of a checkpoint has the averaged weights if training kept an average, and otherwise the weights.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, or holds neither of the two.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with open_safetensors(path) as file:
        if _CONTENT not in file.metadata:
            return LeibNet.load(path)
        _content(file.metadata, path)
        prefix = _AVERAGE if any(name.startswith(_AVERAGE) for name in file.names) else _WEIGHTS
        return LeibNet.from_weights(spec_in(file.metadata, path), _below(prefix, file.tensors(prefix)), path)


def load_weights(net: LeibNet, path: Path) -> None:
    """Load the weights of a checkpoint or of a saved network into a network, which may have another spec.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file has weights of other names or shapes.
    """
    theirs, ours = load_network(path).state_dict(), net.state_dict()
    differing = [n for n in {**ours, **theirs} if n not in ours or n not in theirs or ours[n].shape != theirs[n].shape]
    if differing:
        raise CheckpointError(f"{path} has weights of another network: {', '.join(differing)} are not alike in the two")
    net.load_state_dict(theirs)


def latest_checkpoint(directory: Path) -> Path | None:
    """Return the newest whole checkpoint in ``directory``, or None. A warning is logged of each newer, damaged one."""
    return next((path for path in reversed(_named(directory)) if _is_whole(path, to_the_byte=True)), None)


def thin_checkpoints(directory: Path, options: CheckpointOptions) -> None:
    """Remove the checkpoints that ``options`` do not keep, also damaged ones.

    Nothing is removed as long as there are fewer whole ones than ``options.keep_newest``.

    Args:
        directory: the folder of checkpoints.
        options: the options that say which are kept.
    """
    paths = _named(directory)
    whole = [path for path in paths if _is_whole(path)]
    if len(whole) < options.keep_newest:
        return
    kept = set(whole[-options.keep_newest :])
    if options.keep_every is not None:
        kept |= {path for path in whole if _iteration(path) % options.keep_every == 0}
    for path in paths:
        if path not in kept:
            path.unlink(missing_ok=True)


def _write(path: Path, length: int, content: Iterable[bytes | memoryview]) -> None:
    try:
        with atomic_write(path) as beside, beside.open("wb") as file:
            file.writelines(content)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        newest = latest_checkpoint(path.parent)
        raise OSError(
            error.errno,
            f"{path} is not written, as there is no room ({error.strerror}): it takes {length:,} bytes, "
            f"{shutil.disk_usage(path.parent).free:,} are free on the disk; "
            + ("no older one exists" if newest is None else f"older ones are untouched, up to {newest.name}"),
        ) from error


def _named(directory: Path, ending: str = "safetensors") -> list[Path]:
    """Return the files that have names of checkpoints, the oldest first."""
    return sorted((p for p in directory.glob(f"*.{ending}") if _NAME.fullmatch(p.name) and p.is_file()), key=_iteration)


def _iteration(path: Path) -> int:
    return int(path.stem.removeprefix("checkpoint_"))


def _is_whole(path: Path, to_the_byte: bool = False) -> bool:
    """Return whether a file is a checkpoint of the length that its header says; log a warning if not.

    ``to_the_byte`` compares it with its checksums as well, which reads all of it. A file of another format may have
    none. It counts as whole, so that reading it says so.
    """
    try:
        with open_safetensors(path, "checkpoint") as file:
            if _CONTENT not in file.metadata:
                raise CheckpointError(f"{path} holds no state of training")
            if to_the_byte and CHECKSUMS in file.metadata:
                file.tensors()
    except ValueError as error:
        _logger.warning("passed over: %s", error)
        return False
    return True


def _content(entries: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Return everything in a checkpoint except spec and tensors."""
    if _CONTENT not in entries:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: its metadata have {sorted(entries)}")
    try:
        content: dict[str, Any] = json.loads(entries[_CONTENT])
        written = content["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({error!r}); it may be damaged") from error
    if written != _FORMAT:
        raise CheckpointError(f"{path} is a checkpoint of format {written}; this version reads format {_FORMAT}")
    return content


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def _settings(groups: Iterable[Mapping[str, Any]]) -> list[tuple[int, list[str]]]:
    """Return size and setting names of each group of parameters, which tell kinds of optimizers apart."""
    return [
        (len(group["params"]), sorted(key for key in group if key not in ("params", "initial_lr"))) for group in groups
    ]


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Return the first difference of two specs, in words."""
    for key in ours:
        if key != "nodes" and theirs.get(key) != ours[key]:
            return f"{key}: {theirs.get(key)} there and {ours[key]} here"
    pairs = zip(theirs.get("nodes", []), ours["nodes"], strict=False)
    for their_node, our_node in pairs:
        if their_node != our_node:
            differing = [key for key in our_node if their_node.get(key) != our_node[key]]
            name = our_node.get("output_keys", ["?"])[0]
            values = "; ".join(f"{key} is {their_node.get(key)} there and {our_node[key]} here" for key in differing)
            return f"in the node that makes {name!r}, {values}"
    return f"it has {len(theirs.get('nodes', []))} nodes, this network has {len(ours['nodes'])}"
