"""The head that makes the classes of one group from features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Literal

from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.kernels import channels_last
from scalenet_gp.layers.modules import activation_layer, activation_name, convolution
from scalenet_gp.layers.same_lattice import SingleInput

__all__ = ["Head"]


class Head(SingleInput):
    """1³ convolutions that make one channel per class, (B, ``input_nc``, Z, Y, X) to (B, classes, Z, Y, X).

    Several heads can read one tensor. A head whose output is not requested is not computed.

    Args:
        input_keys: the one tensor read.
        output_keys: the one tensor made.
        input_nc: channels of the input.
        classes: names of the classes, in the order of the output's channels.
        hidden_nc: channels of every convolution before the last.
        activation: name of an activation in :mod:`torch.nn`, or ``None``, after every convolution before the last.
        final_activation: the activation after the last: ``"Sigmoid"`` for classes that can overlap, ``"Softmax"`` for
            classes that exclude one another, ``"Identity"`` or ``None``.
        dims: number of spatial axes.
        identifier: name in the graph.

    Attributes:
        classes: the names, as a tuple.

    Raises:
        ArgumentError: there is no class, two have one name, or one string is given instead of a list.

    Example:
        >>> Head(["features"], ["organelles"], 12, ["er", "mito"]).output_channels(12)
        (2,)
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_nc: int,
        classes: Sequence[str],
        hidden_nc: Sequence[int] = (),
        activation: str | None = "ReLU",
        final_activation: str | None = "Sigmoid",
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier, input_nc=input_nc, output_ncs=[len(classes)], dims=dims)
        if isinstance(classes, str) or not classes or len(set(classes)) < len(classes):
            raise ArgumentError(f"{self.identifier}: classes is a list of one or more different names, not {classes!r}")
        self.classes = tuple(classes)
        layers: list[nn.Module] = []
        for nc, next_nc in pairwise((input_nc, *hidden_nc, len(self.classes))):
            layers += [convolution(nc, next_nc, (1,) * dims), activation_layer(activation)]
        self.layers = nn.Sequential(*layers[:-1], activation_layer(final_activation))

    @property
    def output_activation(self) -> Literal["Sigmoid", "Softmax"] | None:
        return activation_name(self.layers[-1]) if type(self) is Head else None

    def forward(self, *tensors: Tensor, logits: bool = False) -> Tensor:
        (y,) = tensors
        for layer in islice(self.layers, len(self.layers) - logits):
            y = layer(y)
        return channels_last(y)  # torch's softmax changes the memory format
