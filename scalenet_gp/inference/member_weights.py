"""The weight of each member of an ensemble in its mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scalenet_gp.errors import ArgumentError

__all__ = ["Weight", "member_shares"]

Weight = float | Mapping[str, Sequence[float]]
"""The weight of a network's predictions: one number, or by output one number per channel."""


def member_shares(
    weights: Sequence[Weight], channels: Mapping[str, int], *, networks: int, repeats: int, least: int
) -> dict[str, list[Tensor]]:
    """Return, by output, each member's weight over the sum of all up to it: one number, or one per channel; float64.

    Args:
        weights: the weight of each network.
        channels: the channels of each output.
        networks: number of networks.
        repeats: number of members of each network, one after the other.
        least: number of members that have to have a weight in every channel.

    Returns:
        The shares of the outputs for which every network has a weight.

    Raises:
        ArgumentError: there is not one weight per network, an output is unknown, there is not one number per channel, a
            number is negative or infinite, or too few members weigh anything in a channel.
    """
    if len(weights) != networks:
        raise ArgumentError(f"there are {len(weights)} weights for {networks} networks")
    for index, weight in enumerate(weights):
        _check(weight, index, channels)
    shares: dict[str, list[Tensor]] = {}
    for key, count in channels.items():
        own = [weight[key] if isinstance(weight, Mapping) else weight for weight in _naming(key, weights)]
        if len(own) < networks:
            continue
        by_channel = np.array([np.broadcast_to(np.asarray(numbers, float), count) for numbers in own])
        members = np.repeat(by_channel, repeats, axis=0)
        _check_enough(key, members, least)
        share = _shares(members)
        equal = not any(isinstance(weight, Mapping) for weight in weights)
        shares[key] = list(torch.from_numpy(share[:, :1] if equal else share))
    return shares


def _naming(key: str, weights: Sequence[Weight]) -> list[Weight]:
    return [weight for weight in weights if not isinstance(weight, Mapping) or key in weight]


def _shares(members: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.cumsum(members, axis=0)
    return np.divide(members, total, out=np.zeros_like(total), where=total > 0)


def _check(weight: Weight, index: int, channels: Mapping[str, int]) -> None:
    if not isinstance(weight, Mapping):
        if not (np.isfinite(weight) and weight > 0):
            raise ArgumentError(f"network {index} weighs {weight!r}; write a number above 0, or leave the network out")
        return
    for key, numbers in weight.items():
        if key not in channels:
            raise ArgumentError(f"network {index} has weights for {key!r}; the outputs are {', '.join(channels)}")
        given = np.asarray(numbers, float)
        if given.shape != (channels[key],) or not (np.isfinite(given).all() and (given >= 0).all()):
            raise ArgumentError(
                f"network {index} has weights {numbers!r} for {key!r}; write one number from 0 up for each of its "
                f"{channels[key]} channels"
            )


def _check_enough(key: str, members: NDArray[np.float64], least: int) -> None:
    having = (members > 0).sum(axis=0)
    channel = int(having.argmin())
    if having[channel] == 0:
        raise ArgumentError(f"no network has a weight above 0 for channel {channel} of {key!r}")
    if having[channel] < least:
        raise ArgumentError(
            f"a variance needs two or more members, but only one has a weight in channel {channel} of {key!r}: "
            "give more networks or symmetries, or leave the variance out of the products"
        )
