"""A box of outputs, computed slab by slab: the last planes of every tensor are kept, and none is made twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from funlib.geometry import Roi
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import Crop, Plan, as_input, run_step, validate_inputs
from scalenet_gp.inference.intensity_window import IntensityWindow
from scalenet_gp.inference.slabs import AXIS, Slab, slab_bounds, slabs_of
from scalenet_gp.kernels import channels_last, crop_tensor

if TYPE_CHECKING:
    from scalenet_gp.leibnet import LeibNet

__all__ = ["SlabbedInference"]


@dataclass(frozen=True, slots=True)
class SlabbedInference:
    """How boxes of outputs are computed slab by slab along the first spatial axis.

    Each slab of the outputs takes a slab of every tensor in between, and no tensor's planes are made twice: those that
    later slabs read again are kept. So the halo along this axis is computed once for the whole box, and memory goes
    with the slab and not with the box. Values are those of one pass over the whole box, to float rounding. (Within a
    node that convolves several times, its first convolutions make their margin again for each slab.)

    Made by :meth:`of`.

    Attributes:
        plan: of one pass over the whole box; its ``inputs`` are what :meth:`run` takes.
        slabs: the moves.
    """

    plan: Plan
    slabs: tuple[Slab, ...]

    @classmethod
    def of(cls, net: LeibNet, outputs: Mapping[str, Roi], thickness: int | None = None) -> SlabbedInference:
        """The sweep over ``outputs``.

        Args:
            net: the network.
            outputs: as for :meth:`.LeibNet.plan`.
            thickness: of a slab, world units: a multiple of the voxel sizes of all ``outputs``. Slabs are counted from
                the world's origin. One that is a multiple of the plan's ``step`` gives every tensor whole new planes in
                every slab. There is one slab, a pass over the whole box, if it reaches the box's length, or without it.

        Raises:
            ValueError: no plan can be made, ``thickness`` is not positive or no multiple of a voxel size, or there are
                several slabs and the network's outputs depend on the extent of what it sees.
            KeyError: the network has no such output.
        """
        plan = net.plan(outputs)
        for key in outputs:
            if thickness is not None and (thickness < 1 or thickness % net.voxel_size[key][AXIS]):
                raise ArgumentError(
                    f"slabs of {thickness} world units are no whole voxels of {key!r}, which have "
                    f"{net.voxel_size[key][AXIS]}"
                )
        cuts = slab_bounds(outputs, thickness)
        if len(cuts) > 2 and not net.tileable:
            whole = [name for name, node in net.nodes.items() if not node.tileable]
            raise ArgumentError(
                f"what {', '.join(whole[:3])} of {net.name} make depends on the whole of what they see, so it cannot "
                f"be computed in slabs of {thickness}; {cuts[-1] - cuts[0]} world units make it one"
            )
        return cls(plan, slabs_of(net, plan, cuts))

    def shifted(self, offset: Iterable[int]) -> SlabbedInference:
        """The same sweep elsewhere: see :meth:`.Plan.shifted`.

        Raises:
            ValueError: ``offset`` leaves a lattice.
        """
        return replace(self, plan=self.plan.shifted(offset))

    def run(
        self, net: LeibNet, inputs: Mapping[str, Tensor], intensities: IntensityWindow | None = None
    ) -> dict[str, Tensor]:
        """The outputs of the whole box.

        Args:
            net: the network that the sweep was made for, on any device, in any floating point type.
            inputs: for every key of ``plan.inputs`` a tensor (B, C, Z, Y, X) that covers that ROI, on any device; slab
                by slab they are moved to the network's device and type.
            intensities: what the network is shown of the inputs; they themselves unless given.

        Returns:
            For every key of ``plan.outputs`` a tensor (B, C, Z, Y, X) that covers that ROI, of the network's device and
            type.

        Raises:
            ValueError: the sweep is another network's, an input has not the planned channels and voxels, the inputs
                differ in batch size, type or device or from ``intensities``, or a node makes other than its rules say.
            KeyError: an input is missing.
        """
        if self.plan.network != net.fingerprint:
            raise ArgumentError(f"the sweep is for network {self.plan.network}, this is {net.name} {net.fingerprint}")
        return self.execute(net.nodes, validate_inputs(inputs, self.plan), intensities)  # type: ignore[arg-type]

    def execute(
        self, nodes: Mapping[str, nn.Module], inputs: Mapping[str, Tensor], intensities: IntensityWindow | None = None
    ) -> dict[str, Tensor]:
        """:meth:`run` of the network's nodes alone, by identifier, on ``inputs`` that are as planned."""
        like = next((p for node in nodes.values() for p in node.parameters()), next(iter(inputs.values())))
        planned = {tensor.name: tensor for tensor in self.plan.tensors}
        planes = {name: _Planes() for name in planned}
        results: dict[str, Tensor] = {}
        for slab in self.slabs:
            for name, first, past in slab.inputs:
                part = inputs[name][:, :, first:past].to(like.device, non_blocking=True)
                shown = part if intensities is None else intensities.apply(part)
                planes[name].append(first, channels_last(shown.to(like.dtype)))
            for turn in slab.passes:
                reads = [as_input(read, planes[read.tensor].part(read.crop)) for read in turn.step.reads]
                kept = run_step(turn.step, nodes[turn.step.node], reads, planned)
                for name, first in turn.appends:
                    planes[name].append(first, kept.pop(name))
                for name, first in turn.evicts:
                    planes[name].forget(first)
            for name, crop, first in slab.outputs:
                made = planes[name].part(crop)
                if name not in results:
                    voxels = (past - first for first, past in planned[name].crop_to(self.plan.outputs[name]))
                    results[name] = made.new_empty((*made.shape[:2], *voxels))
                results[name][:, :, first : first + made.shape[2]] = made
            for name, first in slab.evicts:
                planes[name].forget(first)
        return {name: results[name] for name in self.plan.outputs}


class _Planes:
    """The planes of a tensor that are there now, in the pieces in which they were made."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, Tensor]] = []

    def append(self, first: int, planes: Tensor) -> None:
        self._pieces.append((first, planes))

    def part(self, crop: Crop) -> Tensor:
        """A part of the tensor: copied only where it is in several pieces, and then without what is around it."""
        (first, past), *across = crop
        parts = []
        for begin, piece in self._pieces:
            low, high = max(first, begin), min(past, begin + piece.shape[2])
            if low < high:
                parts.append(crop_tensor(piece, ((low - begin, high - begin), *across)))
        return parts[0] if len(parts) == 1 else channels_last(torch.cat(parts, dim=2))

    def forget(self, first: int) -> None:
        """Let go of the pieces that end before ``first``."""
        self._pieces = [(begin, piece) for begin, piece in self._pieces if begin + piece.shape[2] > first]
