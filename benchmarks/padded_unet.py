"""A U-Net of nnU-Net's shape in plain torch: what padding, instance normalization and deep supervision do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PaddedUNet"]


class PaddedUNet(nn.Module):
    """Two convolutions per stage, strided ones down and transposed ones up; an output at every level of the decoder."""

    def __init__(
        self, halvings: int, base_nc: int, classes: int, kernel: Sequence[int], factors: Sequence[int]
    ) -> None:
        super().__init__()
        dims = len(kernel)
        conv: Any = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        transposed: Any = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims]
        norm: Any = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
        once = (1,) * dims

        def convs(read: int, made: int, stride: Sequence[int]) -> nn.Sequential:
            layers: list[nn.Module] = []
            for nc, step in ((read, tuple(stride)), (made, once)):
                layers.append(conv(nc, made, tuple(kernel), step, [k // 2 for k in kernel]))
                layers += [norm(made, affine=True), nn.LeakyReLU(0.01, inplace=True)]
            return nn.Sequential(*layers)

        channels = [min(base_nc * 2**stage, {2: 512, 3: 320}[dims]) for stage in range(halvings + 1)]
        pairs = list(pairwise(channels))
        self.encoder = nn.ModuleList([convs(1, channels[0], once), *(convs(a, b, factors) for a, b in pairs)])
        self.up = nn.ModuleList(transposed(b, a, tuple(factors), tuple(factors)) for a, b in pairs)
        self.decoder = nn.ModuleList(convs(2 * a, a, once) for a, _ in pairs)
        self.heads = nn.ModuleList(conv(a, classes, once) for a, _ in pairs)
        for module in self.modules():
            if isinstance(module, conv | transposed):
                nn.init.kaiming_normal_(module.weight, a=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, outputs: int) -> list[Tensor]:
        """Return the logits of the finest levels."""
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        made: list[Tensor] = []
        for level in reversed(range(len(self.up))):
            x = self.decoder[level](torch.cat([self.up[level](x), skips[level]], dim=1))
            if level < outputs:
                made.insert(0, self.heads[level](x))
        return made
