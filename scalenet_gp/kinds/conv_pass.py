"""Convolutions one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from funlib.geometry import Coordinate
from torch import Tensor, nn

from scalenet_gp.kinds.layers import SqueezeExcitation, activation_layer, convolution, normalisation
from scalenet_gp.kinds.same_lattice import SameLattice, without_margin

__all__ = ["ConvPass"]


class ConvPass(SameLattice):
    """A pass of convolutions with activations between them; LeibNetz's ``ConvPassNode`` on one input.

    The layers stand where LeibNetz puts them, so that its weights fit: each convolution is preceded by its
    normalisation and dropout; the last is followed by ``final_activation``. In a residual pass a 1³ projection of the
    input, cropped to the centre, is added before the final activation, and no activation follows the first convolution.

    Args:
        input_keys: the one tensor read, (B, ``input_nc``, Z, Y, X).
        output_keys: the one tensor made, (B, ``output_nc``, Z, Y, X).
        input_nc: channels of the input.
        output_nc: channels of every convolution's output.
        kernel_sizes: kernel of each convolution, in voxels per axis.
        activation: name of an activation in :mod:`torch.nn`.
        final_activation: the last one; ``activation`` unless given. ``"Identity"`` for none.
        padding: ``"valid"`` (the output is smaller) or ``"same"`` (what lies outside is made up by ``padding_mode``:
            then tiles do not agree with the whole).
        residual: add the projected input.
        padding_mode: as in :class:`torch.nn.Conv3d`.
        norm_layer: ``"batch"``, ``"instance"``, ``"group"`` or none, before each convolution.
        dropout_prob: probability of dropping a value before each convolution.
        squeeze_excitation: weigh the channels after the convolution with the index
            ``len(kernel_sizes) // squeeze_ratio``, counted from zero.
        squeeze_ratio: channels per squeezed channel.
        identifier: name in the graph.

    Raises:
        ValueError: an argument is out of its range, or the pass would shift its output by half a voxel.
    """

    arity = 1

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        output_nc: int,
        kernel_sizes: Sequence[Sequence[int]],
        activation: str = "ReLU",
        final_activation: str | None = None,
        padding: Literal["valid", "same"] = "valid",
        residual: bool = False,
        padding_mode: str = "reflect",
        norm_layer: str | None = None,
        dropout_prob: float | None = None,
        squeeze_excitation: bool = False,
        squeeze_ratio: int = 2,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier)
        kernels = [tuple(kernel) for kernel in kernel_sizes]
        if not kernels or len({len(kernel) for kernel in kernels}) != 1:
            raise ValueError(f"{self.identifier}: kernel_sizes needs kernels of one dimension, not {kernels}")
        if padding not in ("valid", "same"):
            raise ValueError(f"{self.identifier}: padding is 'valid' or 'same', not {padding!r}")
        lost = [sum(k - 1 for k in axis) for axis in zip(*kernels, strict=True)]
        if any(voxels % 2 for voxels in lost):
            raise ValueError(
                f"{self.identifier}: kernels {kernels} take {lost} voxels off the axes; an odd number would shift the "
                "output by half a voxel, so give each axis an even number of even kernels"
            )
        if padding == "same" and any(k % 2 == 0 for kernel in kernels for k in kernel):
            raise ValueError(
                f"{self.identifier}: with padding 'same', even kernels, here {kernels}, would shift the output, "
                "as they are padded on their upper side; make them odd"
            )
        if squeeze_ratio < 1:
            raise ValueError(f"{self.identifier}: squeeze_ratio is a whole number from 1 up, not {squeeze_ratio}")
        self.dims = len(lost)
        self.padding = padding
        self.margin = Coordinate(voxels // 2 if padding == "valid" else 0 for voxels in lost)
        self._tileable = padding == "valid" or not any(lost)

        layers: list[nn.Module] = []
        channels = input_nc
        for index, kernel in enumerate(kernels):
            if norm_layer is not None:
                layers.append(normalisation(norm_layer, channels, self.dims))
                self._tileable &= isinstance(layers[-1], nn.BatchNorm2d | nn.BatchNorm3d)
            if dropout_prob:
                layers.append(nn.Dropout(dropout_prob))
            layers.append(convolution(channels, output_nc, kernel, padding=padding, padding_mode=padding_mode))
            if squeeze_excitation and index == len(kernels) // squeeze_ratio:
                layers.append(SqueezeExcitation(output_nc, max(1, output_nc // squeeze_ratio), self.dims))
                self._tileable = False
            if index < len(kernels) - 1 and not (residual and index == 0):
                layers.append(activation_layer(activation))
            channels = output_nc
        self.layers = nn.Sequential(*layers)
        self.final_activation = activation_layer(final_activation or activation)
        self.projection: nn.Module | None = None
        if residual:
            self.projection = convolution(
                input_nc, output_nc, (1,) * self.dims, bias=False, groups=_projection_groups(input_nc, output_nc)
            )
        self.input_nc = input_nc
        self.output_nc = output_nc

    @property
    def tileable(self) -> bool:
        return self._tileable

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        if input_channels != (self.input_nc,):
            raise ValueError(f"it takes {self.input_nc} channels, its input has {input_channels[0]}")
        return (self.output_nc,)

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        y = self.layers(x)
        if self.projection is not None:
            y = y + self.projection(without_margin(x, self.margin))
        return self.final_activation(y)


def _projection_groups(input_nc: int, output_nc: int) -> int:
    """How many groups the residual projection has in LeibNetz: as many as evenly pair the channels."""
    if input_nc < output_nc and output_nc % input_nc == 0:
        return input_nc
    return output_nc if input_nc % output_nc == 0 else 1
