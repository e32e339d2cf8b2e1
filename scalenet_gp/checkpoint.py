"""Training on disk: written beside and renamed into place, read without running anything that the file says."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from scalenet_gp.files import read_network, rebuilt, whole_file

if TYPE_CHECKING:
    from scalenet_gp.leibnet import LeibNet

__all__ = ["Checkpoint", "latest_checkpoint", "load_checkpoint", "load_network", "save_checkpoint"]

_NAME = re.compile(r"checkpoint_(\d+)\.pt")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What training needs to go on, and prediction to begin.

    Attributes:
        spec: the network's :meth:`LeibNet.to_spec`.
        weights: its ``state_dict``.
        optimizer: the optimizer's ``state_dict``.
        iteration: training steps done.
        metadata: whatever else the writer wants to keep with it: plain values.
    """

    spec: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    iteration: int
    metadata: Mapping[str, Any]

    def restore(self, net: LeibNet, where: Path, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Give ``net`` the weights, and ``optimizer``, if any, its state and its settings.

        Raises:
            ValueError: the checkpoint is another network's, or another kind of optimizer's; neither is changed.
        """
        own = net.to_spec()
        if dict(self.spec) != own:
            raise ValueError(f"{where} is a checkpoint of another network: {_difference(self.spec, own)}")
        shapes = [{name: w.shape for name, w in weights.items()} for weights in (self.weights, net.state_dict())]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{where} has the spec of this network, but not its weights; the file is damaged")
        if optimizer is not None:
            theirs, ours = _settings(self.optimizer["param_groups"]), _settings(optimizer.param_groups)
            if theirs != ours:
                raise ValueError(f"{where} is of an optimizer with other settings: {theirs} there and {ours} here")
            optimizer.load_state_dict(dict(self.optimizer))
        net.load_state_dict(dict(self.weights))


def save_checkpoint(
    directory: Path,
    net: LeibNet,
    optimizer: torch.optim.Optimizer,
    iteration: int,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``checkpoint_<iteration>.pt`` into ``directory``: whole and readable, or not at all.

    Raises:
        OSError: it cannot be written.
        ValueError: a weight is not finite, or ``metadata`` or the optimizer hold more than tensors and plain values, so
            that it could not be read again. In either case what was there before is untouched.
    """
    broken = [name for name, tensor in net.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ValueError(f"no checkpoint of iteration {iteration} is written: {', '.join(broken)} are not finite")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"checkpoint_{iteration}.pt"
    content = {
        "spec": net.to_spec(),
        "weights": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "iteration": iteration,
        "metadata": dict(metadata or {}),
    }
    with whole_file(path) as beside:
        with beside.open("wb") as file:
            torch.save(content, file)
        load_checkpoint(beside)
    return path


def latest_checkpoint(directory: Path) -> Path | None:
    """The checkpoint of the highest iteration in ``directory``, if there is any."""
    found = {path: _NAME.fullmatch(path.name) for path in directory.glob("checkpoint_*.pt")}
    return max((path for path in found if found[path]), key=lambda path: int(found[path][1]), default=None)  # type: ignore[index]


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; tensors go to the processor.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no checkpoint of this project, it is cut short, or it holds something that only running
            code could read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it holds more than tensors and plain values, and code is not run"
        ) from error
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a checkpoint ({error}); it may be cut short") from error


def load_network(path: str | Path) -> LeibNet:
    """The network of a checkpoint, or of a file that :func:`scalenet_gp.files.save_network` wrote, ready to predict.

    Args:
        path: the file; what its name ends in, ``.pt`` or ``.safetensors``, tells which of them it is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read as one.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_network(path)
    checkpoint = load_checkpoint(path)
    return rebuilt(checkpoint.spec, checkpoint.weights, path)


def _settings(groups: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """What can be set in each group of parameters: it tells kinds of optimizers apart, schedules aside."""
    return [sorted(key for key in group if key not in ("params", "initial_lr")) for group in groups]


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first thing in which two specs differ, in words."""
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
