"""The slabs of a box: their planes of every tensor, and the step of each node for each slab."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from funlib.geometry import Coordinate, Roi

from scalenet_gp.graph import Crop, Graph, Plan, Step

__all__ = ["AXIS", "Slab", "SlabStep", "slab_bounds", "slabs_of"]

AXIS = 0
"""The spatial axis along which slabs follow one another: a plane across it lies side by side in memory."""

_END = 2**62
"""A plane past the last one of any tensor."""


@dataclass(frozen=True, slots=True)
class SlabStep:
    """A node's turn in one slab. Planes are counted from the first one of the tensor that covers the whole box.

    Attributes:
        step: the node's reads and results.
        appends: the tensors that get new planes, with the first new plane.
        evicts: the tensors that no node reads again in this slab, with the first plane that a later slab reads.
    """

    step: Step
    appends: tuple[tuple[str, int], ...]
    evicts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Slab:
    """One slab of a box.

    Attributes:
        inputs: the inputs that get new planes, with the first new plane and the one past the last.
        steps: the nodes that run, in their order.
        outputs: the outputs that get requested planes, with their crop in the whole tensor, and the first of them,
            counted in the requested ROI.
        evicts: the requested outputs, with the first plane of each that a later slab reads.
    """

    inputs: tuple[tuple[str, int, int], ...]
    steps: tuple[SlabStep, ...]
    outputs: tuple[tuple[str, Crop, int], ...]
    evicts: tuple[tuple[str, int], ...]


def slab_bounds(outputs: Mapping[str, Roi], thickness: int | None) -> list[int]:
    """Return the begins of the slabs of a box and the end of the last: its ends and the multiples of ``thickness``."""
    begin = min(roi.begin[AXIS] for roi in outputs.values())
    end = max(roi.end[AXIS] for roi in outputs.values())
    if thickness is None or end - begin <= thickness:
        return [begin, end]
    return [begin, *range((begin // thickness + 1) * thickness, end, thickness), end]


def slabs_of(graph: Graph, plan: Plan, cuts: list[int]) -> tuple[Slab, ...]:
    """Return the slabs of the box that ``plan`` computes in one pass.

    The ROIs that a slab's outputs depend on are found as for a plan of their own. Of these, earlier slabs have made the
    planes of each tensor up to some plane. Each node makes the rest, from planes old and new.
    """
    whole = {tensor.name: tensor for tensor in plan.tensors}
    requested = plan.outputs

    def first_plane(name: str, roi: Roi) -> int:
        return whole[name].crop_to(roi)[AXIS][0]

    new = list(_new_planes(graph, plan, cuts))
    slabs: list[Slab] = []
    read_later: dict[str, int] = {}
    for rois in reversed(new):  # from the last on, as only then is it known what is read later
        steps = graph.steps(rois, whole)
        last_reader = {read.tensor: step.node for step in steps for read in step.reads}
        slab_steps = tuple(
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
                first = (part.begin[AXIS] - roi.begin[AXIS]) // graph.voxel_size[key][AXIS]
                outputs.append((key, whole[key].crop_to(part), first))
        evicts = tuple((name, read_later.get(name, _END)) for name in requested)
        slabs.append(Slab(inputs, slab_steps, tuple(outputs), evicts))
        for read in (read for step in steps for read in step.reads):
            first = read.crop[AXIS][0]
            read_later[read.tensor] = min(first, read_later.get(read.tensor, first))
    return tuple(reversed(slabs))


def _new_planes(graph: Graph, plan: Plan, cuts: list[int]) -> Iterator[dict[str, Roi]]:
    """Yield, for each slab, the new part of every tensor that has one.

    If there are several slabs, one without outputs comes first. It makes the planes that a slab before the box would
    have left for the next one. Otherwise the first slab would make these too, and take more memory than the others.
    """
    whole = plan.rois
    done: dict[str, int] = {}
    slabs = [{key: _between(roi, *between) for key, roi in plan.outputs.items()} for between in pairwise(cuts)]
    if len(slabs) > 1:
        lattice = math.lcm(*(graph.voxel_size[key][AXIS] for key in plan.outputs))
        ahead = Coordinate((cuts[0] - cuts[1]) // lattice * lattice, *(0,) * (graph.dims - 1))
        slabs.insert(0, {key: roi.shift(ahead) for key, roi in slabs[0].items()})
    for slab in slabs:
        needed = graph.required_rois({key: roi for key, roi in slab.items() if not roi.empty})
        new = {}
        for key, roi in needed.items():
            first = done.get(key, whole[key].begin[AXIS])
            part = _between(whole[key], first, roi.end[AXIS])
            if not part.empty:
                new[key] = part
                done[key] = part.end[AXIS]
        yield new


def _between(roi: Roi, begin: int, end: int) -> Roi:
    """Return the planes of ``roi`` from ``begin`` to ``end``."""
    low, high = max(begin, roi.begin[AXIS]), min(end, roi.end[AXIS])
    return Roi((low, *roi.begin[1:]), (max(0, high - low), *roi.shape[1:]))
