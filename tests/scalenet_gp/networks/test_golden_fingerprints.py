"""Fingerprints and initial weights of networks, as they were when the plans and runs that depend on them were made."""

from __future__ import annotations

import pytest
import torch

from scalenet_gp import LeibNet, TensorSpec, build_attentive_scalenet, build_autoencoder, build_scalenet, build_unet
from scalenet_gp.layers import (
    AtrousPyramid,
    AttentionGate,
    Concatenate,
    ConvPass,
    GatedSum,
    Head,
    Pool,
    ScaleAttention,
    StridedConv,
    Sum,
    TransformerBlock,
    TransposedConv,
    Upsample,
    VariationalBottleneck,
)

SUBNETS = [{"top_resolution": (r,) * 3, "base_nc": 3, "norm_layer": "group"} for r in (32, 8)]


def every_kind() -> LeibNet:
    """A network with a node of every kind."""
    nodes = [
        ConvPass(["a"], ["p"], 1, 4, [(3, 3), (1, 1)], residual=True, norm_layer="batch", eca=True),
        AtrousPyramid(["p"], ["q"], 4, 4, [1, 2], dims=2),
        Pool(["q"], ["r"], (2, 2), "mean"),
        StridedConv(["q"], ["s"], 4, 6, (2, 2)),
        Concatenate(["r", "s"], ["t"]),
        Sum(["r", "s"], ["u"], [4, 6], dims=2),
        GatedSum(["u", "t"], ["v"], [4, 10], dims=2),
        ScaleAttention(["v", "s"], ["w"], [4, 6], dims=2),
        TransformerBlock(["w"], ["x"], 4, 2, dims=2),
        VariationalBottleneck(["x"], ["y", "m", "l"], 4, 2, dims=2),
        TransposedConv(["y"], ["z"], 2, 4, (2, 2)),
        Upsample(["y"], ["up"], (2, 2), "linear"),
        AttentionGate(["q", "z"], ["g"], 4, 4, dims=2),
        Head(["g"], ["out"], 4, ["one", "two"], [3], dims=2),
    ]
    return LeibNet(nodes, {"a": TensorSpec((8, "4.6"), 1)}, ["out", "up", "m", "l"])


NETWORKS = {
    "every kind": every_kind,
    "unet": lambda: build_unet((8, 8, 8), base_nc=4, norm_layer=None),
    "unet by default": lambda: build_unet((8, 8, 8), base_nc=4),
    "unet with options": lambda: build_unet(
        (40, "4.6", "4.6"),
        base_nc=4,
        downsample_factors=[(1, 2, 2), (2, 2, 2)],
        attention_gates=True,
        deep_supervision=True,
        bottleneck="atrous",
        upsample_mode="transposed",
        downsample_mode="strided",
        heads={"cells": ["er", "mito"]},
        norm_layer=None,
    ),
    "scalenet": lambda: build_scalenet(SUBNETS),
    "attentive scalenet": lambda: build_attentive_scalenet(SUBNETS),
    "autoencoder": lambda: build_autoencoder((8, 8), latent_nc=2, base_nc=4, norm_layer=None),
}
GOLDEN = {
    "every kind": ("8921b934a19fd63c", 9782.633017),
    "unet": ("9bbd5ed32c9b0cfc", -224325.0788),
    "unet by default": ("0b5807058ba5c846", -132244.7607),
    "unet with options": ("39d492df4ba1d165", -83385.29762),
    "scalenet": ("4506adbfafa8c1f1", 349724.1757),
    "attentive scalenet": ("5bbdc83560f9d925", 1331698.528),
    "autoencoder": ("ffab4d79a8c576ab", -144450.6244),
}


def checksum(net: LeibNet) -> float:
    """A number that depends on the names, order and values of all weights; to rounding, which processors do alike."""
    total = 0.0
    for index, (name, tensor) in enumerate(net.state_dict().items(), start=1):
        values = tensor.double().flatten()
        total += index * len(name) * float((values * torch.arange(1, len(values) + 1).double().sqrt()).sum())
    return total


@pytest.mark.parametrize("name", NETWORKS)
def test_fingerprints_and_initial_weights_are_as_they_were(name):
    torch.manual_seed(0)
    net = NETWORKS[name]()
    fingerprint, weights = GOLDEN[name]
    assert net.fingerprint == fingerprint
    assert checksum(net) == pytest.approx(weights, rel=1e-5)
