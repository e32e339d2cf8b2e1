"""Self-attention between all voxels of a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.checks import is_whole
from scalenet_gp.layers.same_lattice import SingleInput

__all__ = ["TransformerBlock"]


class TransformerBlock(SingleInput):
    """One pre-norm transformer layer whose tokens are the voxels of the tensor, (B, C, Z, Y, X) to the same shape.

    Fixed sinusoidal positions (Vaswani et al. 2017, arXiv 1706.03762) are added first: each axis has channels of its
    own, and positions are counted in voxels from the tensor's first one. Every voxel attends to every other, so time
    grows with the square of their number, and tiles do not agree with the whole. Use it for small tensors, such as a
    bottleneck's.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        input_nc: channels of input and output, a multiple of ``num_heads``.
        num_heads: attention heads.
        mlp_ratio: channels of the layer's inner convolution, as a multiple of ``input_nc``.
        dropout_prob: probability of dropping a value in training.
        dims: number of spatial axes.
        identifier: name in the graph.

    Raises:
        ArgumentError: an argument is out of its range.

    Example:
        >>> TransformerBlock(["a"], ["b"], 24).tileable
        False
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        dropout_prob: float = 0.0,
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier, input_nc=input_nc, output_ncs=[input_nc], dims=dims)
        if not is_whole(num_heads) or input_nc % num_heads or input_nc < 2 * dims:
            raise ArgumentError(
                f"{self.identifier}: input_nc has to be a multiple of num_heads, and at least {2 * dims} for a sine "
                f"and a cosine along each of {dims} axes; {input_nc} channels and {num_heads} heads are given"
            )
        if round(mlp_ratio * input_nc) < 1:
            raise ArgumentError(f"{self.identifier}: mlp_ratio {mlp_ratio} of {input_nc} channels leaves none")
        # with batch_first, torch takes another path in evaluation, whose results differ and which ONNX does not know
        self.layer = nn.TransformerEncoderLayer(
            input_nc,
            num_heads,
            round(mlp_ratio * input_nc),
            dropout_prob,
            activation="gelu",
            batch_first=False,
            norm_first=True,
        )

    @property
    def tileable(self) -> bool:
        return False

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        tokens = (x + _positions(x)).flatten(start_dim=2).permute(2, 0, 1)
        return self.layer(tokens).permute(1, 2, 0).unflatten(2, x.shape[2:])


def _positions(x: Tensor) -> Tensor:
    """Return the positions to add to ``x``, (C, Z, Y, X): channel ``c`` encodes the axis ``c`` modulo their number.

    The channels of an axis are sines and cosines in turn, of wavelengths from 2π voxels up to nearly 10000 times that.
    """
    channels, *sizes = x.shape[1:]
    dtype = torch.promote_types(x.dtype, torch.float32)
    channel = torch.arange(channels, device=x.device)[:, None]
    index = channel // len(sizes)
    frequency = 10000.0 ** -((index - index % 2).to(dtype) / -(-channels // len(sizes)))
    positions = x.new_zeros(())
    for axis, size in enumerate(sizes):
        angle = frequency * torch.arange(size, device=x.device, dtype=dtype)
        wave = torch.where(index % 2 == 0, angle.sin(), angle.cos()) * (channel % len(sizes) == axis)
        positions = positions + wave.to(x.dtype).reshape(
            channels, *(n if a == axis else 1 for a, n in enumerate(sizes))
        )
    return positions
