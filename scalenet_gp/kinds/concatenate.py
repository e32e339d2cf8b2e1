"""Joining tensors by their channels."""

from __future__ import annotations

import torch
from funlib.geometry import Roi
from torch import Tensor

from scalenet_gp.node import Node, TensorSpec
from scalenet_gp.world import format_size

__all__ = ["Concatenate"]


class Concatenate(Node):
    """The channels of all inputs, (B, C₁, Z, Y, X) and so on, as one tensor (B, C₁ + C₂ + …, Z, Y, X).

    The inputs share one voxel size. The graph crops each of them to the ROI that the reader of the result needs.
    """

    def output_specs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        if len({spec.voxel_size for spec in inputs}) != 1:
            sizes = ", ".join(
                f"{key!r} {format_size(spec.voxel_size)} nm" for key, spec in zip(self.input_keys, inputs, strict=True)
            )
            raise ValueError(f"the tensors it joins have to share one voxel size: {sizes}")
        return (TensorSpec(inputs[0].voxel_size, sum(spec.channels for spec in inputs)),)

    def input_roi(self, output_roi: Roi) -> Roi:
        return output_roi

    def output_roi(self, input_roi: Roi) -> Roi:
        return input_roi

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, dim=1)
