"""PyPI's LeibNetz, installed without its dependencies, for the benchmarks to measure against."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import torch
from torch import nn

__all__ = ["build_leibnetz_scalenet"]


def build_leibnetz_scalenet(
    subnets: list[dict[str, Any]], input_voxels: dict[str, int] | None = None, tries: int = 200, seed: int = 0
) -> Any:
    """Return LeibNetz's ScaleNet of these subnets, with the weights of a seed.

    LeibNetz iterates over sets of objects while it computes its shapes. So the same network reads 76, 156 and 332
    voxels in one build and 72, 140 and 332 in the next. Those shapes need not lie on one lattice.

    Args:
        subnets: the arguments of each subnet, coarse to fine.
        input_voxels: voxels per axis of every input. Builds are repeated until one has them. By default any will do.
        tries: builds after which to give up.
        seed: seed of the weights.

    Raises:
        SystemExit: LeibNetz is not installed, or no build has inputs of that size.
    """
    _provide_torchvision()
    try:
        from leibnetz.nets import build_scalenet
    except ImportError as error:
        raise SystemExit(
            f"the benchmark needs LeibNetz without its dependencies: pip install --no-deps leibnetz ({error})"
        ) from error
    for _ in range(tries):
        torch.manual_seed(seed)  # every build has the same weights
        net = build_scalenet([dict(subnet) for subnet in subnets])
        voxels = {key: int(shape["shape"][0]) for key, shape in net.input_shapes.items()}
        if input_voxels in (None, voxels):
            return net
    raise SystemExit(f"none of {tries} builds of LeibNetz has inputs of {input_voxels} voxels")


def _provide_torchvision() -> None:
    """Provide the two names that LeibNetz imports from torchvision. Its ScaleNet uses them only on request."""
    names = {"ops": {"SqueezeExcitation": nn.Identity}, "utils": {"_log_api_usage_once": lambda module: None}}
    for name, members in {"": {}, **names}.items():
        module = ModuleType(f"torchvision.{name}".rstrip("."))
        for member, value in members.items():
            setattr(module, member, value)
        sys.modules.setdefault(module.__name__, module)
