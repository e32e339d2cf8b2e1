"""Checks that a network fits the data that it is to learn from."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from scalenet_gp.errors import ConfigError
from scalenet_gp.layers import Head
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.pipelines.config import TargetOptions
from scalenet_gp.volumes import MultiscaleImage

__all__ = ["check_channels", "check_output"]


def check_channels(raw: MultiscaleImage, net: LeibNet, beside: Collection[str] = ()) -> None:
    """Refuse raw data of other channels than the network's inputs have.

    Args:
        raw: the raw volume.
        net: the network.
        beside: the inputs that read something else.

    Raises:
        ConfigError: they have others.
    """
    for name in net.input_keys:
        if name not in beside and (wanted := net.specs[name].channels) != raw.channels:
            several = f"{raw.channels} channels" if raw.channels != 1 else "one channel"
            cure = "select one of them with `select: {c: 0}` of the source, or " if wanted == 1 else ""
            raise ConfigError(
                f"{raw.path} has {several}, and the network's input {name!r} has {wanted}: {cure}give the network "
                f"input_nc: {raw.channels}"
            )


def check_output(net: LeibNet, name: str, options: TargetOptions, channels: Sequence[str]) -> None:
    """Refuse an output that cannot learn its targets.

    Args:
        net: the network.
        name: the output.
        options: its targets.
        channels: the names of its channels.

    Raises:
        ConfigError: the output has other channels, classes or another activation than its targets, or voxels that do
            not fit them.
    """
    kind = f"training.targets of the kind {options.kind}"
    try:
        options.check_voxel_size(net.specs[name].voxel_size)
    except ConfigError as error:
        raise ConfigError(f"{kind}, for the network's output {name!r}: {error}") from None
    node = dict(net.nodes).get(name)
    if isinstance(node, Head) and node.classes != tuple(channels):
        raise ConfigError(
            f"the network's head {name!r} makes the classes {', '.join(node.classes)}, and {kind} has "
            f"{', '.join(channels)}: give network.heads the same, in their order"
        )
    if net.specs[name].channels != len(channels):
        raise ConfigError(
            f"the network's output {name!r} has {net.specs[name].channels} channels, and {kind} has {len(channels)}, "
            f"{', '.join(channels)}: leave out output_nc and heads of other classes"
        )
    softmax = options.final_activation == "Softmax"
    if softmax != (net.output_activation(name) == "Softmax"):
        raise ConfigError(
            f"the network's output {name!r} {'does not end' if softmax else 'ends'} in a Softmax, and {kind} has "
            f"{'' if softmax else 'no '}exclusive classes: leave out final_activation"
        )
