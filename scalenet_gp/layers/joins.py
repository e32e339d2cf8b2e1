"""Nodes that join tensors of one voxel size: by their channels, or by weighted sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.modules import convolution
from scalenet_gp.layers.same_lattice import SameLattice

__all__ = ["Concatenate", "GatedSum", "Join", "Mean", "ScaleAttention", "Sum"]


class Concatenate(SameLattice):
    """The channels of all inputs, (B, C₁, Z, Y, X) and so on, as one tensor (B, C₁ + C₂ + …, Z, Y, X).

    The inputs share one voxel size. The graph crops each of them to the ROI that the reader of the result needs.

    Example:
        >>> Concatenate(["fine", "coarse"], ["both"]).output_channels(12, 24)
        (36,)
    """

    @property
    def concatenates(self) -> bool:
        return type(self) is Concatenate  # a derived class may do more

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        return (sum(input_channels),)

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, dim=1)


class Mean(SameLattice):
    """The mean of all inputs, (B, C, Z, Y, X) each and made, as of the predictions of an ensemble.

    The inputs share one voxel size and one number of channels. There are no weights.

    Raises:
        ArgumentError: the inputs differ in their channels.

    Example:
        >>> Mean(["one", "other"], ["both"]).output_channels(3, 3)
        (3,)
    """

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        if len(set(input_channels)) > 1:
            raise ArgumentError(f"it averages tensors of one number of channels, its inputs have {input_channels}")
        return input_channels[:1]

    def forward(self, *tensors: Tensor) -> Tensor:
        total, *others = tensors
        for other in others:
            total = total + other
        return total / len(tensors)


class Join(SameLattice):
    """Abstract: two or more tensors of one voxel size become one with the channels of the first.

    Inputs with other channels than the first go through a 1³ convolution without bias. A derived class adds its layers
    in :meth:`_add_layers`.

    Args:
        input_keys: the tensors read, (B, ``input_ncs[i]``, Z, Y, X) each.
        output_keys: the one tensor made, (B, ``input_ncs[0]``, Z, Y, X).
        input_ncs: channels of every input.
        dims: number of spatial axes.
        identifier: name in the graph.

    Raises:
        ArgumentError: there is only one input, or not one number of channels for each.

    Example:
        >>> class Product(Join):
        ...     def forward(self, *tensors):
        ...         first, *others = tensors
        ...         for other in self._projected(others):
        ...             first = first * other
        ...         return first
        >>> Product(["a", "b"], ["c"], [2, 4]).output_channels(2, 4)
        (2,)
    """

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        input_ncs: Sequence[int],
        dims: int = 3,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier)
        if len(self.input_keys) < 2 or len(input_ncs) != len(self.input_keys):
            raise ArgumentError(
                f"{self.identifier}: it joins two or more tensors and takes the channels of each, not "
                f"{list(input_keys)} with {list(input_ncs)}"
            )
        self.dims = dims
        self.input_ncs = tuple(input_ncs)
        first, *others = self.input_ncs
        point = (1,) * dims
        self.projections = nn.ModuleList(
            nn.Identity() if nc == first else convolution(nc, first, point, bias=False) for nc in others
        )
        self._add_layers(point)

    def _add_layers(self, point: tuple[int, ...]) -> None:
        """Add the layers of a derived class; ``point`` is the kernel of one voxel."""

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        if input_channels != self.input_ncs:
            raise ArgumentError(f"it joins tensors of {self.input_ncs} channels, its inputs have {input_channels}")
        return self.input_ncs[:1]

    def _projected(self, others: Sequence[Tensor]) -> list[Tensor]:
        """Return all inputs but the first, each with the channels of the first."""
        return [project(other) for project, other in zip(self.projections, others, strict=True)]


class Sum(Join):
    """The first tensor plus all others; arguments and errors: see :class:`Join`.

    (B, C₁, Z, Y, X), (B, C₂, Z, Y, X) and so on to (B, C₁, Z, Y, X).

    Example:
        >>> Sum(["fine", "coarse"], ["both"], [12, 24]).output_channels(12, 24)
        (12,)
    """

    def forward(self, *tensors: Tensor) -> Tensor:
        total, *others = tensors
        for other in self._projected(others):
            total = total + other
        return total


class GatedSum(Join):
    """The first tensor x plus each other cᵢ times its gate: x + Σᵢ sigmoid(Wᵢ [x, cᵢ]) · Pᵢ cᵢ.

    Wᵢ is a 1³ convolution of both tensors, so there is a gate for every voxel and channel. Pᵢ is the projection to the
    channels of x, if it needs one. Gates are those of Srivastava et al. 2015 (arXiv 1505.00387), except that x is added
    unchanged. Arguments and errors: see :class:`Join`.

    Example:
        >>> GatedSum(["fine", "coarse"], ["both"], [12, 24]).output_channels(12, 24)
        (12,)
    """

    def _add_layers(self, point: tuple[int, ...]) -> None:
        first, *others = self.input_ncs
        self.gates = nn.ModuleList(convolution(first + nc, first, point) for nc in others)

    def forward(self, *tensors: Tensor) -> Tensor:
        first, *others = tensors
        total = first
        for gate, other, projected in zip(self.gates, others, self._projected(others), strict=True):
            total = total + torch.sigmoid(gate(torch.cat((first, other), dim=1))) * projected
        return total


class ScaleAttention(Join):
    """The mean of all tensors, weighted in every voxel by attention over scales (Chen et al. 2016, arXiv 1511.03339).

    Two 1³ convolutions of all inputs, with a rectifier and the channels of the first between them, score each input. A
    softmax over the inputs makes the scores weights that sum to one. The inputs are weighted after their projection to
    the channels of the first. Arguments and errors: see :class:`Join`.

    Example:
        >>> ScaleAttention(["fine", "coarse"], ["both"], [12, 24]).output_channels(12, 24)
        (12,)
    """

    def _add_layers(self, point: tuple[int, ...]) -> None:
        hidden_nc = self.input_ncs[0]
        self.score = nn.Sequential(
            convolution(sum(self.input_ncs), hidden_nc, point),
            nn.ReLU(),
            convolution(hidden_nc, len(self.input_ncs), point),
        )

    def forward(self, *tensors: Tensor) -> Tensor:
        first, *others = tensors
        weights = torch.softmax(self.score(torch.cat(tensors, dim=1)), dim=1)
        total = first * weights[:, :1]
        for index, projected in enumerate(self._projected(others), start=1):
            total = total + projected * weights[:, index : index + 1]
        return total
