"""From the ROIs of the outputs to a plan: a request travels up the graph, crops travel down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, reduce

from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import GraphError, LatticeError, UnknownNameError
from scalenet_gp.geometry import snap_to_lattice
from scalenet_gp.graph.fusion import fused_inputs
from scalenet_gp.graph.node import Node, TensorSpec
from scalenet_gp.graph.plan import Crop, InputCrop, Plan, PlannedTensor, Step
from scalenet_gp.options import suggest

__all__ = ["Planner", "check_request"]


def check_request(outputs: Mapping[str, Roi], voxel_sizes: Mapping[str, Coordinate]) -> None:
    """Refuse a request that no plan can answer.

    Raises:
        GraphError: the request is empty, or a ROI is unbounded, empty or of another dimension.
        LatticeError: a ROI is off the lattice; the message proposes the nearest ROIs on it.
        UnknownNameError: there is no such output.
    """
    if not outputs:
        raise GraphError(f"ask for at least one output of {', '.join(voxel_sizes)}")
    for key, roi in outputs.items():
        if key not in voxel_sizes:
            raise UnknownNameError(f"there is no output {key!r}; {suggest(key, voxel_sizes)}")
        voxel_size = voxel_sizes[key]
        if roi.dims != voxel_size.dims:
            raise GraphError(f"{key!r}: the ROI {roi} has {roi.dims} axes, the network has {voxel_size.dims}")
        if roi.unbounded or roi.empty:
            raise GraphError(f"{key!r}: the ROI {roi} is {'unbounded' if roi.unbounded else 'empty'}")
        grown = snap_to_lattice(roi, voxel_size)
        if grown != roi:
            shrunk = roi.snap_to_grid(voxel_size, mode="shrink")
            nearest = f"{grown} around it" + ("" if shrunk.empty else f" or {shrunk} inside it")
            raise LatticeError(
                f"{key!r}: the ROI {roi} is off the lattice, whose voxels are {tuple(voxel_size)} world units; "
                f"on it are {nearest}"
            )


class Planner:
    """Works out plans for the nodes of one graph.

    Args:
        nodes: the nodes, in the order in which they run.
        specs: voxel size and channels of every tensor, the inputs first.
        voxel_sizes: voxel size of every tensor in world units.
    """

    def __init__(
        self, nodes: Sequence[Node], specs: Mapping[str, TensorSpec], voxel_sizes: Mapping[str, Coordinate]
    ) -> None:
        self._nodes = nodes
        self._specs = specs
        self._voxel_sizes = voxel_sizes

    @cached_property
    def fused(self) -> dict[str, list[tuple[str, str]]]:
        """The tensors that each node takes: see :func:`scalenet_gp.graph.fusion.fused_inputs`."""
        return fused_inputs(self._nodes, self._specs)

    def plan(self, outputs: Mapping[str, Roi], network: str) -> Plan:
        """Return the plan for ``outputs`` of the network with the fingerprint ``network``.

        Every tensor gets the bounding box of what its readers need of it and of what is requested of it. A tensor that
        is upsampled or joined only for nodes that take its parts is not made: see :mod:`scalenet_gp.graph.fusion`.

        Raises:
            GraphError: the two ROI rules of a node contradict each other.
        """
        needed, read = self.required_rois(outputs)
        running = [node for node in self._nodes if node.identifier in read]
        tensors = {key: self.tensor(key, needed[key]) for key in self._specs if key in needed}
        last_reader = {key: node.identifier for node in running for key, _ in self.fused[node.identifier]}
        steps = tuple(
            self.step(
                node,
                read[node.identifier],
                tensors,
                tensors,
                frees=tuple(
                    key
                    for key in dict.fromkeys(key for key, _ in self.fused[node.identifier])
                    if last_reader[key] == node.identifier and key not in outputs
                ),
            )
            for node in running
        )
        requests = tuple(
            (key, tuple(outputs[key].begin), tuple(outputs[key].shape)) for key in self._specs if key in outputs
        )
        return Plan(network, tuple(tensors.values()), steps, requests)

    def required_rois(self, outputs: Mapping[str, Roi]) -> tuple[dict[str, Roi], dict[str, Roi]]:
        """Return the ROI of every tensor that ``outputs`` depend on, and the ROI that every running node reads."""
        needed: dict[str, Roi] = dict(outputs)
        read: dict[str, Roi] = {}
        for node in reversed(self._nodes):
            wanted = [needed[key] for key in node.output_keys if key in needed]
            if not wanted:
                continue
            read[node.identifier] = node.input_roi(reduce(Roi.union, wanted))
            for key, _ in self.fused[node.identifier]:
                roi = snap_to_lattice(read[node.identifier], self._voxel_sizes[key])
                needed[key] = needed[key].union(roi) if key in needed else roi
        return needed, read

    def step(
        self,
        node: Node,
        read: Roi,
        whole: Mapping[str, PlannedTensor],
        kept: Mapping[str, PlannedTensor],
        frees: tuple[str, ...] = (),
    ) -> Step:
        """Return the step in which ``node`` reads ``read``.

        Args:
            node: the node that runs.
            read: the ROI that it reads of its inputs.
            whole: the tensors that the crops of its inputs are counted in.
            kept: the part that is kept of each tensor that it makes; others are not kept.
            frees: the tensors that no node needs after the step.
        """
        reads = tuple(
            _input_crop(whole[key], read, self._voxel_sizes[part_of]) for key, part_of in self.fused[node.identifier]
        )
        makes, keeps = self._made(node, read, kept)
        return Step(node.identifier, reads, makes, keeps, frees)

    def tensor(self, key: str, roi: Roi) -> PlannedTensor:
        """Return the part of a tensor that covers ``roi``, which is on its lattice."""
        voxel_size = self._voxel_sizes[key]
        shape = tuple(roi.shape / voxel_size)
        return PlannedTensor(key, tuple(roi.begin), shape, tuple(voxel_size), self._specs[key].channels)

    def _made(
        self, node: Node, read: Roi, kept: Mapping[str, PlannedTensor]
    ) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[str, Crop | None], ...]]:
        """Return ``makes`` and ``keeps`` of a step. It may make more than is needed if the input's lattice is coarser.

        Raises:
            GraphError: the two ROI rules of the node contradict each other.
        """
        covered = reduce(Roi.intersect, (snap_to_lattice(read, self._voxel_sizes[key]) for key in node.input_keys))
        computed = node.output_roi(covered)
        makes: list[tuple[int, ...]] = []
        keeps: list[tuple[str, Crop | None]] = []
        for key in node.output_keys:
            voxel_size = self._voxel_sizes[key]
            if computed != snap_to_lattice(computed, voxel_size):
                raise GraphError(
                    f"node {node.identifier!r} makes {computed} of {covered}, which is not a whole number of the "
                    f"{tuple(voxel_size)} world units of {key!r}: its output_roi is wrong"
                )
            wanted = kept[key].roi if key in kept else None
            if wanted is not None and not computed.contains(wanted):
                raise GraphError(
                    f"node {node.identifier!r} asks for {covered} to make {wanted} of {key!r}, "
                    f"and then makes {computed}: its input_roi and output_roi contradict each other"
                )
            made = self.tensor(key, computed)
            makes.append(made.shape)
            keeps.append((key, None if wanted is None else made.crop_to(wanted)))
        return tuple(makes), tuple(keeps)


def _input_crop(tensor: PlannedTensor, required: Roi, voxel_size: Coordinate) -> InputCrop:
    """Return the crop of ``tensor``, and its upsampling, that covers ``required`` with voxels of ``voxel_size``."""
    tensor_size = Coordinate(tensor.voxel_size)
    covered = snap_to_lattice(required, tensor_size)
    crop = tensor.crop_to(covered)
    if voxel_size == tensor_size:
        return InputCrop(tensor.name, crop)
    repeated = PlannedTensor(
        tensor.name, tuple(covered.begin), tuple(covered.shape / voxel_size), tuple(voxel_size), tensor.channels
    )
    factor = tuple(tensor_size / voxel_size)
    return InputCrop(tensor.name, crop, factor, repeated.crop_to(snap_to_lattice(required, voxel_size)))
