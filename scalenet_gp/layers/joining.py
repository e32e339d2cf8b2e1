"""What all nodes share that add tensors to a first one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.layers.layers import convolution
from scalenet_gp.layers.same_lattice import SameLattice

__all__ = ["Join"]


class Join(SameLattice):
    """Abstract: two or more tensors of one voxel size become one with the channels of the first.

    Those that have other channels than the first go through a 1³ convolution without bias.

    Args:
        input_keys: the tensors read, (B, ``input_ncs[i]``, Z, Y, X) each; the first is the one that flows on.
        output_keys: the one tensor made, (B, ``input_ncs[0]``, Z, Y, X).
        input_ncs: channels of every input.
        dims: number of spatial axes.
        identifier: name in the graph.

    Raises:
        ValueError: there is but one input, or not one number of channels for each.
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
        self.projections = nn.ModuleList(
            nn.Identity() if nc == first else convolution(nc, first, (1,) * dims, bias=False) for nc in others
        )

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        if input_channels != self.input_ncs:
            raise ArgumentError(f"it joins tensors of {self.input_ncs} channels, its inputs have {input_channels}")
        return self.input_ncs[:1]

    def _projected(self, others: Sequence[Tensor]) -> list[Tensor]:
        """All inputs but the first, each with the channels of the first."""
        return [project(other) for project, other in zip(self.projections, others, strict=True)]
