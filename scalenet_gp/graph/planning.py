"""From the ROIs of the outputs to a plan: a request travels up the graph, crops travel down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import GraphError, UnknownNameError
from scalenet_gp.graph.fusion import fused_inputs
from scalenet_gp.graph.node import Node, TensorSpec
from scalenet_gp.graph.plan import Crop, InputCrop, Plan, PlannedTensor, Step

__all__ = ["check_request", "plan_pass", "plan_request", "planned_tensor", "required_rois", "union"]


def check_request(outputs: Mapping[str, Roi], voxel_sizes: Mapping[str, Coordinate]) -> None:
    """Refuse a request that no plan can answer.

    Raises:
        ValueError: nothing is asked for, or a ROI is unbounded, empty, of another dimension or off the lattice; the
            message proposes the nearest ROIs on it.
        KeyError: there is no such output.
    """
    if not outputs:
        raise GraphError(f"ask for at least one output of {', '.join(voxel_sizes)}")
    for key, roi in outputs.items():
        if key not in voxel_sizes:
            raise UnknownNameError(f"there is no output {key!r}; there are {', '.join(voxel_sizes)}")
        voxel_size = voxel_sizes[key]
        if roi.dims != voxel_size.dims:
            raise GraphError(f"{key!r}: the ROI {roi} has {roi.dims} axes, the network has {voxel_size.dims}")
        if roi.unbounded or roi.empty:
            raise GraphError(f"{key!r}: the ROI {roi} is {'unbounded' if roi.unbounded else 'empty'}")
        grown = roi.snap_to_grid(voxel_size, mode="grow")
        if grown != roi:
            shrunk = roi.snap_to_grid(voxel_size, mode="shrink")
            nearest = f"{grown} around it" + ("" if shrunk.empty else f" or {shrunk} inside it")
            raise GraphError(
                f"{key!r}: the ROI {roi} is off the lattice, whose voxels are {tuple(voxel_size)} world units; "
                f"on it are {nearest}"
            )


def plan_request(
    nodes: Sequence[Node],
    outputs: Mapping[str, Roi],
    specs: Mapping[str, TensorSpec],
    voxel_sizes: Mapping[str, Coordinate],
    network: str,
) -> Plan:
    """The plan for ``outputs``; ``nodes`` in the order in which they run, ``specs`` with the inputs first.

    Every tensor gets the bounding box of what its readers need of it, and of what is requested of it. What is upsampled
    or joined only for a node that can do without is not made: see :mod:`scalenet_gp.graph.fusion`.

    Raises:
        ValueError: a node's two ROI rules contradict each other.
    """
    taken = fused_inputs(nodes, specs)
    needed, read = required_rois(nodes, outputs, taken, voxel_sizes)
    running = [node for node in nodes if node.identifier in read]
    tensors = {key: planned_tensor(key, needed[key], specs[key], voxel_sizes[key]) for key in specs if key in needed}
    last_reader = {key: node.identifier for node in running for key, _ in taken[node.identifier]}
    steps = tuple(
        Step(
            **plan_pass(node, read[node.identifier], tensors, tensors, taken, specs, voxel_sizes),
            frees=tuple(
                key
                for key in dict.fromkeys(key for key, _ in taken[node.identifier])
                if last_reader[key] == node.identifier and key not in outputs
            ),
        )
        for node in running
    )
    requests = tuple((key, tuple(outputs[key].begin), tuple(outputs[key].shape)) for key in specs if key in outputs)
    return Plan(network, tuple(tensors.values()), steps, requests)


def required_rois(
    nodes: Sequence[Node],
    outputs: Mapping[str, Roi],
    taken: Mapping[str, Sequence[tuple[str, str]]],
    voxel_sizes: Mapping[str, Coordinate],
) -> tuple[dict[str, Roi], dict[str, Roi]]:
    """What ``outputs`` depend on: of every tensor that is made, and of what every node that runs reads.

    Args:
        nodes: in the order in which they run.
        outputs: what is asked for.
        taken: the tensors that each node takes: see :func:`scalenet_gp.graph.fusion.fused_inputs`.
        voxel_sizes: of every tensor.
    """
    needed: dict[str, Roi] = dict(outputs)
    read: dict[str, Roi] = {}
    for node in reversed(nodes):
        wanted = [needed[key] for key in node.output_keys if key in needed]
        if not wanted:
            continue
        read[node.identifier] = node.input_roi(union(wanted))
        for key, _ in taken[node.identifier]:
            roi = read[node.identifier].snap_to_grid(voxel_sizes[key])
            needed[key] = needed[key].union(roi) if key in needed else roi
    return needed, read


def plan_pass(
    node: Node,
    read: Roi,
    whole: Mapping[str, PlannedTensor],
    kept: Mapping[str, PlannedTensor],
    taken: Mapping[str, Sequence[tuple[str, str]]],
    specs: Mapping[str, TensorSpec],
    voxel_sizes: Mapping[str, Coordinate],
) -> dict[str, Any]:
    """The fields of a :class:`Step`, but for what it frees, in which a node reads ``read``.

    Args:
        node: whose turn it is.
        read: what it reads of its inputs.
        whole: the tensors that crops of what it takes are counted in.
        kept: what is kept of each tensor that it makes; others are not kept.
        taken: see :func:`required_rois`.
        specs: of every tensor.
        voxel_sizes: of every tensor.
    """
    reads = tuple(_planned_read(whole[key], read, voxel_sizes[part_of]) for key, part_of in taken[node.identifier])
    return {"node": node.identifier, "reads": reads, **_made(node, read, kept, specs, voxel_sizes)}


def planned_tensor(key: str, roi: Roi, spec: TensorSpec, voxel_size: Coordinate) -> PlannedTensor:
    """The tensor that covers ``roi``, which is on its lattice."""
    return PlannedTensor(key, tuple(roi.begin), tuple(roi.shape / voxel_size), tuple(voxel_size), spec.channels)


def union(rois: Sequence[Roi]) -> Roi:
    """The bounding box of boxes."""
    return reduce(Roi.union, rois)


def _planned_read(tensor: PlannedTensor, required: Roi, voxel_size: Coordinate) -> InputCrop:
    """What a node gets of ``tensor``, and how, to cover ``required`` with voxels of ``voxel_size``."""
    covered = required.snap_to_grid(Coordinate(tensor.voxel_size))
    crop = tensor.crop_to(covered)
    if voxel_size == Coordinate(tensor.voxel_size):
        return InputCrop(tensor.name, crop)
    repeated = PlannedTensor(
        tensor.name, tuple(covered.begin), tuple(covered.shape / voxel_size), tuple(voxel_size), tensor.channels
    )
    factor = tuple(Coordinate(tensor.voxel_size) / voxel_size)
    return InputCrop(tensor.name, crop, factor, repeated.crop_to(required.snap_to_grid(voxel_size)))


def _made(
    node: Node,
    read: Roi,
    tensors: Mapping[str, PlannedTensor],
    specs: Mapping[str, TensorSpec],
    voxel_sizes: Mapping[str, Coordinate],
) -> dict[str, Any]:
    """What a step makes and keeps: it may make more than is needed, where the lattice of its input is coarser."""
    rois = [read.snap_to_grid(voxel_sizes[key]) for key in node.input_keys]
    covered = rois[0]
    for roi in rois[1:]:
        covered = covered.intersect(roi)
    computed = node.output_roi(covered)
    makes: list[tuple[int, ...]] = []
    keeps: list[tuple[str, Crop | None]] = []
    for key in node.output_keys:
        if computed != computed.snap_to_grid(voxel_sizes[key]):
            raise GraphError(
                f"node {node.identifier!r} makes {computed} of {covered}, which is no whole number of the "
                f"{tuple(voxel_sizes[key])} world units of {key!r}: its output_roi is wrong"
            )
        if key in tensors and not computed.contains(tensors[key].roi):
            raise GraphError(
                f"node {node.identifier!r} asks for {covered} to make {tensors[key].roi} of {key!r}, "
                f"and then makes {computed}: its input_roi and output_roi contradict each other"
            )
        made = planned_tensor(key, computed, specs[key], voxel_sizes[key])
        makes.append(made.shape)
        keeps.append((key, made.crop_to(tensors[key].roi) if key in tensors else None))
    return {"makes": tuple(makes), "keeps": tuple(keeps)}
