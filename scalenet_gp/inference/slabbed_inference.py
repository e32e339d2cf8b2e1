"""Inference of a box of outputs slab by slab: the last planes of every tensor are kept, and none is made twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from funlib.geometry import Roi
from torch import Tensor, nn

from scalenet_gp.errors import GraphError, LatticeError
from scalenet_gp.graph import Crop, Plan, as_input, run_step, validate_inputs
from scalenet_gp.inference.intensity_window import IntensityWindow
from scalenet_gp.inference.slabs import AXIS, Slab, slab_bounds, slabs_of
from scalenet_gp.kernels import channels_last, crop_tensor
from scalenet_gp.leibnet import LeibNet

__all__ = ["SlabbedInference"]


@dataclass(frozen=True, slots=True)
class SlabbedInference:
    """A schedule that computes a box of outputs slab by slab along the first spatial axis.

    Each slab of the outputs takes a slab of every tensor in between, and no plane of a tensor is made twice: planes
    that later slabs read are kept. So the halo along this axis is computed once for the whole box, and memory grows
    with the slab, not with the box. Values are those of one pass over the whole box, up to float rounding. (Within a
    node that convolves several times, its first convolutions make their margin again for each slab.)

    Made by :meth:`of`.

    Attributes:
        plan: the plan of one pass over the whole box; :meth:`run` takes its ``inputs``.
        slabs: the slabs in their order.

    Example:
        >>> import torch
        >>> from funlib.geometry import Roi
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8, 8), base_nc=2, downsample_factors=[(2, 2, 2)]).eval()
        >>> slabbed = SlabbedInference.of(net, {"output": Roi((0, 0, 0), (64, 32, 32))}, thickness=16)
        >>> inputs = {key: torch.zeros(1, 1, *tensor.shape) for key, tensor in slabbed.plan.input_tensors.items()}
        >>> with torch.inference_mode():
        ...     slabbed.run(net, inputs)["output"].shape
        torch.Size([1, 1, 8, 4, 4])
    """

    plan: Plan
    slabs: tuple[Slab, ...]

    @classmethod
    def of(cls, net: LeibNet, outputs: Mapping[str, Roi], thickness: int | None = None) -> SlabbedInference:
        """Schedule the slabs of ``outputs``.

        Args:
            net: the network.
            outputs: as for :meth:`.LeibNet.plan`.
            thickness: the thickness of a slab (world units), a multiple of the voxel sizes of all ``outputs``; the
                whole box unless given. Slabs are counted from the world's origin. A multiple of the plan's ``step``
                gives every tensor whole new planes in every slab. If it reaches the box's length there is one slab.

        Raises:
            LatticeError: ``thickness`` is not a positive multiple of the voxel sizes.
            GraphError: no plan can be made, or there are several slabs and the network's outputs depend on the extent
                of its inputs.
            UnknownNameError: the network has no such output.
        """
        plan = net.plan(outputs)
        for key in outputs:
            if thickness is not None and (thickness < 1 or thickness % net.voxel_size[key][AXIS]):
                raise LatticeError(
                    f"slabs of {thickness} world units are not whole voxels of {key!r}, which have "
                    f"{net.voxel_size[key][AXIS]}"
                )
        cuts = slab_bounds(outputs, thickness)
        if len(cuts) > 2 and not net.tileable:
            whole = [name for name, node in net.nodes.items() if not node.tileable]
            raise GraphError(
                f"the outputs of {', '.join(whole[:3])} of {net.name} depend on the whole input, so they cannot be "
                f"computed in slabs of {thickness} world units; {cuts[-1] - cuts[0]} make it one slab"
            )
        return cls(plan, slabs_of(net.graph, plan, cuts))

    def shifted(self, offset: Iterable[int]) -> SlabbedInference:
        """Return the same schedule at another position: see :meth:`.Plan.shifted`.

        Raises:
            LatticeError: ``offset`` leaves a lattice.
        """
        return replace(self, plan=self.plan.shifted(offset))

    def run(
        self, net: LeibNet, inputs: Mapping[str, Tensor], intensities: Mapping[str, IntensityWindow] | None = None
    ) -> dict[str, Tensor]:
        """Compute the outputs of the whole box.

        Args:
            net: the network that the schedule was made for, on any device, in any floating point type.
            inputs: for every key of ``plan.inputs`` a tensor (B, C, Z, Y, X) that covers that ROI, on any device and of
                any type; slab by slab they are moved to the network's device and type.
            intensities: the intensity window to apply to each input, by its name; none unless given.

        Returns:
            For every key of ``plan.outputs`` a tensor (B, C, Z, Y, X) that covers that ROI, of the network's device and
            type.

        Raises:
            GraphError: the schedule is for another network, an input has not the planned channels and voxels, the
                inputs differ in batch size or device, or a node's output contradicts its rules.
            ArgumentError: the type of an input is not that of its window.
            UnknownNameError: an input is missing.
        """
        net.graph.check_plan(self.plan)
        return self.execute(net.nodes, validate_inputs(inputs, self.plan, one_type=False), intensities)  # type: ignore[arg-type]

    def execute(
        self,
        nodes: Mapping[str, nn.Module],
        inputs: Mapping[str, Tensor],
        intensities: Mapping[str, IntensityWindow] | None = None,
    ) -> dict[str, Tensor]:
        """Run the network's nodes, by identifier, on ``inputs`` that are as planned: see :meth:`run`."""
        like = next((p for node in nodes.values() for p in node.parameters()), next(iter(inputs.values())))
        planned = {tensor.name: tensor for tensor in self.plan.tensors}
        planes = {name: _Planes() for name in planned}
        windows = intensities or {}
        results: dict[str, Tensor] = {}
        for slab in self.slabs:
            for name, first, past in slab.inputs:
                part = inputs[name][:, :, first:past].to(like.device, non_blocking=True)
                seen = windows[name].apply(part) if name in windows else part
                planes[name].append(first, channels_last(seen.to(like.dtype)))
            for turn in slab.steps:
                reads = [as_input(read, planes[read.tensor].part(read.crop)) for read in turn.step.reads]
                kept = run_step(turn.step, nodes[turn.step.node], reads, planned)
                for name, first in turn.appends:
                    planes[name].append(first, kept.pop(name))
                for name, first in turn.evicts:
                    planes[name].evict(first)
            for name, crop, first in slab.outputs:
                made = planes[name].part(crop)
                if name not in results:
                    voxels = (past - first for first, past in planned[name].crop_to(self.plan.outputs[name]))
                    results[name] = made.new_empty((*made.shape[:2], *voxels))
                results[name][:, :, first : first + made.shape[2]] = made
            for name, first in slab.evicts:
                planes[name].evict(first)
        return {name: results[name] for name in self.plan.outputs}


class _Planes:
    """The planes of a tensor that are in memory now, in the pieces in which they were made."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, Tensor]] = []

    def append(self, first: int, planes: Tensor) -> None:
        self._pieces.append((first, planes))

    def part(self, crop: Crop) -> Tensor:
        """Return a part of the tensor: copied only if it lies in several pieces, and then without its surroundings."""
        (first, past), *across = crop
        parts = []
        for begin, piece in self._pieces:
            low, high = max(first, begin), min(past, begin + piece.shape[2])
            if low < high:
                parts.append(crop_tensor(piece, ((low - begin, high - begin), *across)))
        return parts[0] if len(parts) == 1 else channels_last(torch.cat(parts, dim=2))

    def evict(self, first: int) -> None:
        """Free the pieces that end before ``first``."""
        self._pieces = [(begin, piece) for begin, piece in self._pieces if begin + piece.shape[2] > first]
