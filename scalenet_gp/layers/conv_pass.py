"""A pass: convolutions one after another, with activations between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any, Literal

from funlib.geometry import Coordinate
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.kernels import UpsampledView, accepts_unfused_inputs, convolve_joined, join_parts
from scalenet_gp.layers.checks import check_channels, check_whole, is_whole
from scalenet_gp.layers.modules import (
    EfficientChannelAttention,
    SqueezeExcitation,
    activation_layer,
    activation_name,
    convolution,
    is_local,
    normalization_layer,
    separable_convolution,
)
from scalenet_gp.layers.same_lattice import SameLattice, without_margin

__all__ = ["ConvPass"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class ConvPass(SameLattice):
    """A pass of convolutions with activations between them; LeibNetz's ``ConvPassNode`` on one input.

    The order of the layers is that of LeibNetz, so that its weights fit: normalization and dropout come before each
    convolution, ``final_activation`` after the last. In a residual pass a 1³ projection of the input, cropped to the
    center, is added before the final activation, and no activation follows the first convolution.

    In a network, a pass that begins with a plain convolution takes the tensors that its input would be upsampled (by
    repetition) and joined from: see :mod:`scalenet_gp.graph.fusion`. Hooks of the pass see these parts.

    Args:
        input_keys: the one tensor read, (B, ``input_nc``, Z, Y, X).
        output_keys: the one tensor made, (B, ``output_nc``, Z, Y, X).
        input_nc: channels of the input.
        output_nc: channels of every convolution's output, or one number for each convolution.
        kernel_sizes: kernel of each convolution, in voxels per axis.
        activation: name of an activation in :mod:`torch.nn`, or ``None``.
        final_activation: the last one; ``activation`` unless given. ``"Identity"`` for none.
        padding: ``"valid"`` (the output is smaller) or ``"same"`` (``padding_mode`` makes up the voxels outside; tiles
            do not agree with the whole then).
        residual: add the projected input.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``, as in :class:`torch.nn.Conv3d`.
        norm_layer: ``"batch"``, ``"instance"``, ``"group"``, ``"calibrated_group"``, ``"layer"`` or ``None``, before
            each convolution; or one of these for each convolution.
        dropout_prob: probability of dropping a value before each convolution.
        squeeze_excitation: weight the channels after the convolution with the index
            ``len(kernel_sizes) // squeeze_ratio``, counted from zero. With a ``squeeze_ratio`` of 1 there is no such
            convolution, and nothing is weighted, as in LeibNetz.
        squeeze_ratio: channels per squeezed channel.
        dilations: distance of the voxels that each kernel reads, per axis (Yu and Koltun 2016, arXiv 1511.07122); 1
            unless given.
        groups: number of groups into which every convolution divides its channels (Xie et al. 2017, arXiv 1611.05431).
            It has to divide ``input_nc`` too, so a tensor of one channel needs an ungrouped pass first.
        separable: make each convolution depthwise, followed by a 1³ convolution across the channels (Chollet 2017,
            arXiv 1610.02357).
        eca: weight the channels by efficient channel attention (Wang et al. 2020, arXiv 1910.03151) instead of
            ``squeeze_excitation``.
        identifier: name in the graph.

    Raises:
        ArgumentError: an argument is out of its range, or the pass would shift its output by half a voxel.

    Example:
        >>> conv_pass = ConvPass(["raw"], ["features"], 1, 12, [(3, 3, 3), (3, 3, 3)])
        >>> conv_pass.margin, conv_pass.output_channels(1)
        ((2, 2, 2), (12,))
    """

    arity = 1

    @property
    def accepts_unfused_inputs(self) -> bool:
        # a derived class may compute otherwise
        return type(self) is ConvPass and self._begins_plain

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        output_nc: int | Sequence[int],
        kernel_sizes: Sequence[Sequence[int]],
        activation: str | None = "ReLU",
        final_activation: str | None = None,
        padding: Literal["valid", "same"] = "valid",
        residual: bool = False,
        padding_mode: str = "reflect",
        norm_layer: str | Sequence[str | None] | None = None,
        dropout_prob: float | None = None,
        squeeze_excitation: bool = False,
        squeeze_ratio: int = 2,
        dilations: Sequence[Sequence[int]] | None = None,
        groups: int = 1,
        separable: bool = False,
        eca: bool = False,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier)
        try:
            kernels, steps, lost = _reach(kernel_sizes, dilations, padding)
            ncs: list[int] = _for_each("output_nc", output_nc, kernels)
            norms: list[str | None] = _for_each("norm_layer", norm_layer, kernels)
            check_whole(input_nc=input_nc, squeeze_ratio=squeeze_ratio, groups=groups)
            for nc in ncs:
                check_whole(output_nc=nc)
        except ValueError as error:
            raise ArgumentError(f"{self.identifier}: {error}") from None
        if padding_mode not in _PADDING_MODES:
            raise ArgumentError(
                f"{self.identifier}: padding_mode is one of {sorted(_PADDING_MODES)}, not {padding_mode!r}"
            )
        if any(nc % groups for nc in (input_nc, *ncs)):
            listed = ", ".join(map(str, dict.fromkeys((input_nc, *ncs[:-1]))))
            raise ArgumentError(
                f"{self.identifier}: groups has to divide the channels of every convolution, {listed} and "
                f"{ncs[-1]}; {math.gcd(input_nc, *ncs)} is the largest that does, {groups} does not"
            )
        if separable and groups > 1:
            raise ArgumentError(f"{self.identifier}: a separable pass has its own groups; leave out groups={groups}")
        weighed = len(kernels) // squeeze_ratio
        if eca and squeeze_excitation:
            raise ArgumentError(f"{self.identifier}: choose either squeeze_excitation or eca")
        if eca and weighed == len(kernels):
            raise ArgumentError(
                f"{self.identifier}: with squeeze_ratio 1 there is no convolution for eca to follow; take 2 or more"
            )
        self.dims = len(lost)
        self.margin: Coordinate = Coordinate(voxels // 2 if padding == "valid" else 0 for voxels in lost)
        self._tileable = padding == "valid" or not any(lost)

        layers: list[nn.Module] = []
        channels = input_nc
        for index, (kernel, step, nc, norm) in enumerate(zip(kernels, steps, ncs, norms, strict=True)):
            if norm is not None:
                layers.append(normalization_layer(norm, channels, self.dims))
                self._tileable &= is_local(layers[-1])
            if dropout_prob:
                layers.append(nn.Dropout(dropout_prob))
            options: dict[str, Any] = {"padding": padding, "padding_mode": padding_mode, "dilation": step}
            if separable:
                layers.append(separable_convolution(channels, nc, kernel, **options))
            else:
                layers.append(convolution(channels, nc, kernel, groups=groups, **options))
            if index == weighed and (squeeze_excitation or eca):
                layers.append(
                    EfficientChannelAttention(nc)
                    if eca
                    else SqueezeExcitation(nc, max(1, nc // squeeze_ratio), self.dims)
                )
                self._tileable = False
            if index < len(kernels) - 1 and not (residual and index == 0):
                layers.append(activation_layer(activation))
            channels = nc
        self.layers = nn.Sequential(*layers)
        self.final_activation = activation_layer(activation if final_activation is None else final_activation)
        self.projection: nn.Module | None = None
        if residual:
            self.projection = convolution(
                input_nc, channels, (1,) * self.dims, bias=False, groups=_projection_groups(input_nc, channels)
            )
        self.input_nc = input_nc
        self.output_nc = channels
        self._begins_plain = self.projection is None and accepts_unfused_inputs(self.layers[0])

    @property
    def tileable(self) -> bool:
        return self._tileable

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        check_channels(self.input_nc, *input_channels)
        return (self.output_nc,)

    @property
    def output_activation(self) -> Literal["Sigmoid", "Softmax"] | None:
        # a class derived from this one may compute otherwise
        return activation_name(self.final_activation) if type(self) is ConvPass else None

    def forward(self, *tensors: Tensor | UpsampledView, logits: bool = False) -> Tensor:
        """Return the output of the input, or, if the pass :attr:`accepts_unfused_inputs`, of its parts."""
        in_parts = len(tensors) > 1 or isinstance(tensors[0], UpsampledView)
        if in_parts and accepts_unfused_inputs(self.layers[0]):  # which may have changed since the plan was made
            y = convolve_joined(self.layers[0], tensors)  # type: ignore[arg-type]
            for layer in islice(self.layers, 1, None):
                y = layer(y)
        else:
            x = join_parts(tensors)
            y = self.layers(x)
            if self.projection is not None:
                y += self.projection(without_margin(x, self.margin))  # in place: a convolution or a product made y
        return y if logits else self.final_activation(y)


def _for_each(name: str, given: Any, kernels: Sequence[Sequence[int]]) -> list[Any]:
    """Return the value of an argument for each convolution.

    Raises:
        ArgumentError: there is a list of another length.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        return [given] * len(kernels)
    if len(given) != len(kernels):
        raise ArgumentError(f"{name} has one value, or one for each of the {len(kernels)} convolutions, not {given}")
    return list(given)


def _reach(
    kernel_sizes: Sequence[Sequence[int]], dilations: Sequence[Sequence[int]] | None, padding: str
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[int]]:
    """Return the kernels, their dilations, and the voxels that the whole pass takes off each axis if it is valid.

    Raises:
        ArgumentError: they do not fit together, or would shift the output by half a voxel.
    """
    kernels = [tuple(kernel) for kernel in kernel_sizes]
    if not all(kernels) or len({len(kernel) for kernel in kernels}) != 1:
        raise ArgumentError(f"kernel_sizes needs kernels of one dimension, not {kernels}")
    if padding not in ("valid", "same"):  # a derived class may pass anything
        raise ArgumentError(f"padding is 'valid' or 'same', not {padding!r}")
    steps = [(1,) * len(kernel) for kernel in kernels] if dilations is None else [tuple(step) for step in dilations]
    if [len(step) for step in steps] != [len(kernel) for kernel in kernels] or not all(map(is_whole, chain(*steps))):
        raise ArgumentError(
            f"dilations needs whole numbers from 1 up, one per axis of each of the kernels {kernels}, not {steps}"
        )
    named = f"{kernels}" if dilations is None else f"{kernels} of dilations {steps}"
    reaches = [
        [d * (k - 1) for d, k in zip(step, kernel, strict=True)] for step, kernel in zip(steps, kernels, strict=True)
    ]
    lost = [sum(axis) for axis in zip(*reaches, strict=True)]
    if any(voxels % 2 for voxels in lost):
        raise ArgumentError(
            f"kernels {named} take {lost} voxels off the axes; an odd number would shift the output by half a voxel, "
            "so give each axis an even number of even kernels"
        )
    if padding == "same" and any(voxels % 2 for reach in reaches for voxels in reach):
        raise ArgumentError(
            f"with padding 'same', even kernels, here {named}, would shift the output, as they are padded on their "
            "upper side; make them odd"
        )
    return kernels, steps, lost


def _projection_groups(input_nc: int, output_nc: int) -> int:
    """Return the groups of the residual projection in LeibNetz: as many as evenly pair the channels."""
    if input_nc < output_nc and output_nc % input_nc == 0:
        return input_nc
    return output_nc if input_nc % output_nc == 0 else 1
