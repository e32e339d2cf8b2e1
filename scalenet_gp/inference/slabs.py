"""Where the slabs of a sweep lie in every tensor, and what each node does for each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from funlib.geometry import Coordinate, Roi

from scalenet_gp.graph import Crop, Node, Plan, Step, fused_inputs, plan_pass, planned_tensor, required_rois, union

if TYPE_CHECKING:
    from scalenet_gp.leibnet import LeibNet

__all__ = ["AXIS", "Slab", "SlabStep", "slab_bounds", "slabs_of"]

AXIS = 0
"""The spatial axis that is swept along: what lies in one plane across it lies side by side in memory."""

_END = 2**62
"""Past the last plane of any tensor."""


@dataclass(frozen=True, slots=True)
class SlabStep:
    """A node's turn in one slab. Planes are counted from the first of the tensor that covers the whole box.

    Attributes:
        step: what it reads and makes.
        appends: the tensors that it makes planes of, and the first of these.
        evicts: the tensors that nobody reads any more in this slab, and the first plane that a later one reads.
    """

    step: Step
    appends: tuple[tuple[str, int], ...]
    evicts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Slab:
    """One move of a sweep.

    Attributes:
        inputs: the inputs of which it takes in new planes, the first of these and the one past the last.
        passes: the nodes that run, in their order.
        outputs: the outputs of which it makes requested planes, where these lie in the whole tensor, and the first of
            them, counted in what is requested.
        evicts: the requested outputs, and the first plane of each that a later slab reads.
    """

    inputs: tuple[tuple[str, int, int], ...]
    passes: tuple[SlabStep, ...]
    outputs: tuple[tuple[str, Crop, int], ...]
    evicts: tuple[tuple[str, int], ...]


def slab_bounds(outputs: Mapping[str, Roi], thickness: int | None) -> list[int]:
    """Where slabs of boxes begin, and where the last one ends: multiples of ``thickness`` between the two ends."""
    begin = min(roi.begin[AXIS] for roi in outputs.values())
    end = max(roi.end[AXIS] for roi in outputs.values())
    if thickness is None or end - begin <= thickness:
        return [begin, end]
    return [begin, *range((begin // thickness + 1) * thickness, end, thickness), end]


def slabs_of(net: LeibNet, plan: Plan, cuts: list[int]) -> tuple[Slab, ...]:
    """The slabs of the boxes that ``plan`` computes in one pass.

    What a slab's outputs depend on is found as for a plan of their own. Of that, each tensor's planes before some plane
    are there from earlier slabs; each node makes the rest, reading what it needs for that from planes old and new.
    """
    nodes: list[Node] = list(net.nodes.values())  # type: ignore[arg-type]
    from_parts = fused_inputs(nodes, net.specs)
    whole = {tensor.name: tensor for tensor in plan.tensors}
    requested = plan.outputs

    def first_plane(name: str, roi: Roi) -> int:
        return whole[name].crop_to(roi)[AXIS][0]

    new = list(_new_planes(net, plan, cuts))
    slabs: list[Slab] = []
    read_later: dict[str, int] = {}
    for rois in reversed(new):  # from the last on, as only then is it known what is read later
        kept = {key: planned_tensor(key, roi, net.specs[key], net.voxel_size[key]) for key, roi in rois.items()}
        steps = []
        for node in nodes:
            if made := [rois[key] for key in node.output_keys if key in rois]:
                read = node.input_roi(union(made))
                fields = plan_pass(node, read, whole, kept, from_parts, net.specs, net.voxel_size)
                steps.append(Step(**fields, frees=()))
        last_reader = {read.tensor: step.node for step in steps for read in step.reads}
        passes = tuple(
            SlabStep(
                step,
                tuple((key, first_plane(key, rois[key])) for key, crop in step.keeps if crop is not None),
                tuple(
                    (name, read_later.get(name, _END))
                    for name in dict.fromkeys(read.tensor for read in step.reads)
                    if last_reader[name] == step.node and name not in requested
                ),
            )
            for step in steps
        )
        inputs = tuple((name, *whole[name].crop_to(rois[name])[AXIS]) for name in plan.inputs if name in rois)
        outputs = []
        for key, roi in requested.items():
            part = rois[key].intersect(roi) if key in rois else Roi(roi.begin, (0,) * roi.dims)
            if not part.empty:
                first = (part.begin[AXIS] - roi.begin[AXIS]) // net.voxel_size[key][AXIS]
                outputs.append((key, whole[key].crop_to(part), first))
        evicts = tuple((name, read_later.get(name, _END)) for name in requested)
        slabs.append(Slab(inputs, passes, tuple(outputs), evicts))
        for taken in (taken for step in steps for taken in step.reads):
            first = taken.crop[AXIS][0]
            read_later[taken.tensor] = min(first, read_later.get(taken.tensor, first))
    return tuple(reversed(slabs))


def _new_planes(net: LeibNet, plan: Plan, cuts: list[int]) -> Iterator[dict[str, Roi]]:
    """What of every tensor each slab makes or takes in, where that is anything.

    Of several slabs the first has no outputs. It makes what one before the boxes would have left for the next: else
    that would come on top of what the first outputs take, and so would its memory.
    """
    nodes: list[Node] = list(net.nodes.values())  # type: ignore[arg-type]
    from_parts = fused_inputs(nodes, net.specs)
    whole = plan.rois
    done: dict[str, int] = {}
    slabs = [{key: _between(roi, *between) for key, roi in plan.outputs.items()} for between in pairwise(cuts)]
    if len(slabs) > 1:
        lattice = math.lcm(*(net.voxel_size[key][AXIS] for key in plan.outputs))
        ahead = Coordinate((cuts[0] - cuts[1]) // lattice * lattice, *(0,) * (net.dims - 1))
        slabs.insert(0, {key: roi.shift(ahead) for key, roi in slabs[0].items()})
    for slab in slabs:
        asked = {key: roi for key, roi in slab.items() if not roi.empty}
        needed, _ = required_rois(nodes, asked, from_parts, net.voxel_size)
        new = {}
        for key, roi in needed.items():
            first = done.get(key, whole[key].begin[AXIS])
            part = _between(whole[key], first, roi.end[AXIS])
            if not part.empty:
                new[key] = part
                done[key] = part.end[AXIS]
        yield new


def _between(roi: Roi, begin: int, end: int) -> Roi:
    """The planes of ``roi`` from ``begin`` to ``end``."""
    low, high = max(begin, roi.begin[AXIS]), min(end, roi.end[AXIS])
    return Roi((low, *roi.begin[1:]), (max(0, high - low), *roi.shape[1:]))
