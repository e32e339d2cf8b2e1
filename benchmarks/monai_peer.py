"""MONAI's networks as nodes of ours, so that our trainer teaches a network that others wrote. MONAI is no dependency.

pip install --no-deps monai
python benchmarks/learning.py --side U-Net 'DynUNet={kind: monai}' 'BasicUNet={kind: monai, network: BasicUNet}'
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from scalenet_gp.kernels import channels_last
from scalenet_gp.layers import SameLattice

__all__ = ["MonaiNetwork"]

_FEWEST = 16
"""Voxels along an axis that a BasicUNet halves four times."""


class MonaiNetwork(SameLattice):
    """A network of MONAI as one node, (B, 1, Z, Y, X) to (B, ``output_nc``, Z, Y, X); its tiles do not equal the whole.

    Its convolutions pad with zeros, and it normalizes by samples.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        network: ``DynUNet``, the shape of nnU-Net's plain networks, or ``BasicUNet``.
        output_nc: channels of the output, which end in a Sigmoid.
        base_nc: channels of the first level, which are doubled at each of the next up to 320, in two dimensions 512. A
            BasicUNet has as many at its first two levels, and doubles them then.
        factors: the voxels per coarser voxel of each level, per axis, from the finest.
        kernel: of all convolutions, per axis.
        identifier: name in the graph.

    Raises:
        SystemExit: MONAI is not installed, or a BasicUNet is to have other than four factors of two.
    """

    arity = 1

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        network: Literal["DynUNet", "BasicUNet"],
        output_nc: int,
        base_nc: int,
        factors: Sequence[Sequence[int]],
        kernel: Sequence[int],
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier)
        try:
            from monai.networks.nets import BasicUNet, DynUNet
        except ImportError as error:
            raise SystemExit(f"the side needs MONAI: pip install --no-deps monai ({error})") from error
        self.dims, self.output_nc = len(kernel), output_nc
        if network == "BasicUNet":
            if len(factors) != 4 or any(step != 2 for factor in factors for step in factor) or set(kernel) != {3}:
                raise SystemExit(
                    f"MONAI's BasicUNet halves the voxels four times, with kernels of 3 along each axis, not by "
                    f"{[list(factor) for factor in factors]} with kernels of {list(kernel)}: it needs a patch of "
                    f"multiples of {_FEWEST} voxels"
                )
            features = (base_nc, base_nc, 2 * base_nc, 4 * base_nc, 8 * base_nc, base_nc)
            self.module: nn.Module = BasicUNet(self.dims, 1, output_nc, features)
        else:
            strides = [(1,) * self.dims, *map(tuple, factors)]
            filters = [min(base_nc * 2**level, {2: 512, 3: 320}[self.dims]) for level in range(len(strides))]
            kernels = [tuple(kernel)] * len(strides)
            self.module = DynUNet(self.dims, 1, output_nc, kernels, strides, strides[1:], filters)

    @property
    def tileable(self) -> bool:
        return False

    @property
    def output_activation(self) -> Literal["Sigmoid", "Softmax"] | None:
        return "Sigmoid"

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        if input_channels != (1,):
            raise ValueError(f"it takes one channel, its input has {input_channels}")
        return (self.output_nc,)

    def forward(self, *tensors: Tensor, logits: bool = False) -> Tensor:
        made = self.module(*tensors)
        return channels_last(made if logits else torch.sigmoid(made))
