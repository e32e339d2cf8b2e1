"""All kinds of networks, and one of each, for those who want to look at them before they have data."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, get_args

from scalenet_gp.errors import UnknownNameError
from scalenet_gp.geometry import Length, exact_size
from scalenet_gp.networks.kinds import NetworkKind
from scalenet_gp.options import Options, suggest, to_yaml_length

__all__ = ["network_arguments", "network_kinds"]

_NEEDED: dict[str, dict[str, Any]] = {"autoencoder": {"latent_nc": 8}, "multimodal_unet": {"inputs": {"other": 1}}}
"""Arguments beside the voxel size without which a kind cannot be built."""


def network_kinds() -> dict[str, type[Options]]:
    """Return the options of every kind of network by the name of the kind, in the order of run files.

    Example:
        >>> list(network_kinds())[:3]
        ['unet', 'scalenet', 'attentive_scalenet']
    """
    return {model.model_fields["kind"].default: model for model in get_args(get_args(NetworkKind)[0])}


def network_arguments(kind: str, voxel_size: Sequence[Length] = (8, 8, 8), ratio: int = 4) -> dict[str, Any]:
    """Return the fewest arguments of a kind of network, as a run file holds them.

    Args:
        kind: name of the kind.
        voxel_size: voxel size (nm) of the finest output.
        ratio: a coarse voxel in fine ones along each axis, for networks of several scales, which get two.

    Raises:
        UnknownNameError: there is no such kind.

    Example:
        >>> network_arguments("hrnet", (8, 8))
        {'kind': 'hrnet', 'top_resolution': [8, 8]}
        >>> network_arguments("cascade", (8, 8))["subnets"]
        [{'top_resolution': [32, 32]}, {'top_resolution': [8, 8]}]
    """
    kinds = network_kinds()
    if kind not in kinds:
        raise UnknownNameError(f"there is no kind of network {kind!r}; {suggest(kind, list(kinds))}")
    size = exact_size(voxel_size)
    if "subnets" in kinds[kind].model_fields:
        return {"kind": kind, "subnets": [_top_resolution(size, ratio), _top_resolution(size, 1)]}
    return {"kind": kind, **_top_resolution(size, 1), **_NEEDED.get(kind, {})}


def _top_resolution(size: tuple[Fraction, ...], ratio: int) -> dict[str, Any]:
    return {"top_resolution": [to_yaml_length(length * ratio) for length in size]}
