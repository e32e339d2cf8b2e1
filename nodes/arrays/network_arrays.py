"""Requests and batches for a network: a request for its outputs becomes a request for its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import gunpowder as gp
import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor

from scalenet_gp.errors import PipelineError
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet

__all__ = ["NetworkArrays", "as_tensor", "extend_request"]


class NetworkArrays:
    """Maps the tensors of a network to gunpowder's arrays.

    Args:
        net: the network.
        inputs: the array of every input.
        outputs: the array of every output that can be requested.

    Attributes:
        net: the network.
        inputs: the array of every input.
        outputs: the array of every output that can be requested.

    Raises:
        PipelineError: an input has no array, a name is unknown, or two outputs have one array.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)])
        >>> raw, prediction = gp.ArrayKey("RAW"), gp.ArrayKey("PREDICTION")
        >>> arrays = NetworkArrays(net, {"input": raw}, {"output": prediction})
        >>> request = gp.BatchRequest({prediction: gp.ArraySpec(roi=net.smallest_plan.outputs["output"])})
        >>> arrays.input_request(arrays.plan(request))[raw].roi == net.smallest_plan.inputs["input"]
        True
    """

    def __init__(self, net: LeibNet, inputs: Mapping[str, gp.ArrayKey], outputs: Mapping[str, gp.ArrayKey]) -> None:
        for kind, given, known in (("input", inputs, net.input_keys), ("output", outputs, net.output_keys)):
            unknown = [name for name in given if name not in known]
            if unknown:
                raise PipelineError(f"{net.name} has no {kind} {unknown}; it has {', '.join(known)}")
        missing = [name for name in net.input_keys if name not in inputs]
        if missing:
            raise PipelineError(f"{net.name} reads {', '.join(net.input_keys)}; no array is given for {missing}")
        if not outputs:
            raise PipelineError(f"give an array for at least one output of {', '.join(net.output_keys)}")
        if len(set(outputs.values())) < len(outputs):
            listed = ", ".join(f"{name!r}: {key}" for name, key in outputs.items())
            raise PipelineError(f"every output of {net.name} needs an array of its own, not {listed}")
        self.net = net
        self.inputs = dict(inputs)
        self.outputs = dict(outputs)

    def check_upstream(self, spec: gp.ProviderSpec | None) -> None:
        """Check that the arrays of a pipeline fit the network, before any data is read.

        Raises:
            PipelineError: upstream lacks an input, or has it with another voxel size or another number of axes.
        """
        for name, key in self.inputs.items():
            expected = self.net.voxel_size[name]
            if spec is None or key not in spec:
                raise PipelineError(f"{self.net.name} reads {name!r} from {key}, which no node upstream provides")
            offered = spec[key].voxel_size
            if offered is None or len(offered) != len(expected):
                axes = "none" if offered is None else len(offered)
                raise PipelineError(
                    f"{name!r} of {self.net.name} has {len(expected)} spatial axes, array {key} upstream has {axes}"
                )
            if offered != expected:
                raise PipelineError(
                    f"{name!r} of {self.net.name} has voxels of {tuple(expected)} world units (of {self.net.unit} nm), "
                    f"array {key} upstream has {tuple(offered)}"
                )

    def largest_output(self, name: str, spec: gp.ProviderSpec) -> Roi | None:
        """Return the largest ROI of an output whose inputs all lie in the arrays of a pipeline.

        A ROI of the output can be computed if and only if it lies in that one. None: the inputs have no bounds.

        Raises:
            PipelineError: not a voxel of the output can be computed.
        """
        voxel_size, dims = self.net.voxel_size[name], self.net.dims
        one = self.net.plan({name: Roi((0,) * dims, voxel_size)})
        offered = {read: spec[self.inputs[read]].roi for read in one.inputs}
        bounded = {read: roi for read, roi in offered.items() if roi is not None and not roi.unbounded}
        if not bounded:
            return None
        roi: Roi = reduce(Roi.intersect, bounded.values()).snap_to_grid(voxel_size, mode="shrink")
        while not roi.empty:
            plan = self.net.plan({name: roi})
            missing = [
                (bounded[read].begin - asked.begin, asked.end - bounded[read].end)
                for read, asked in plan.inputs.items()
                if read in bounded
            ]
            below, above = (
                Coordinate(
                    # further in by a step of the lattices, all that is asked for is further in by just that
                    max(size, (most - step) // size * size) if (most := max(along)) > 0 else 0
                    for *along, size, step in zip(*side, voxel_size, plan.step, strict=True)
                )
                for side in zip(*missing, strict=True)
            )
            if not any(below) and not any(above):
                return roi
            roi = roi.grow(-below, -above)
        context = {read: tuple(asked.shape) for read, asked in one.inputs.items() if read in bounded}
        raise PipelineError(
            f"no voxel of {name!r} can be computed: {self.net.name} reads {context} world units for one, and "
            f"{', '.join(f'{self.inputs[read]} upstream has {roi}' for read, roi in bounded.items())}; a source with "
            "padding would do"
        )

    def plan(self, request: gp.BatchRequest) -> Plan:
        """Return the plan for the outputs in ``request``.

        Raises:
            LatticeError: a ROI is off its tensor's lattice.
            GraphError: no output is requested.
        """
        asked = {name: request[key] for name, key in self.outputs.items() if key in request}
        rois = {name: spec.roi.copy() for name, spec in asked.items() if not spec.placeholder}
        return self.net.plan(rois)

    def input_request(self, plan: Plan) -> gp.BatchRequest:
        """Return the request for exactly the inputs of ``plan``."""
        request = gp.BatchRequest()
        for name, roi in plan.inputs.items():
            extend_request(request, self.inputs[name], roi)
        return request

    def tensors(self, batch: gp.Batch, plan: Plan, device: torch.device | None = None) -> dict[str, Tensor]:
        """Return the inputs of ``plan`` from a batch, each (B, C, Z, Y, X), float32; on the processor by default.

        Raises:
            PipelineError: an array holds integers, which have to be normalized first, or it has too few or many axes.
        """
        tensors = {}
        for name in plan.inputs:
            array = batch[self.inputs[name]]
            if not np.issubdtype(array.data.dtype, np.floating):
                raise PipelineError(
                    f"array {self.inputs[name]} for {name!r} is {array.data.dtype}; a network takes floats, "
                    "so put gunpowder's Normalize before it"
                )
            tensors[name] = as_tensor(array, plan.inputs[name], self.inputs[name], device).float()
        return tensors

    def add_outputs(self, batch: gp.Batch, outputs: Mapping[str, Tensor], plan: Plan, batched: bool) -> None:
        """Put a network's outputs into a batch: (B, C, Z, Y, X), or (C, Z, Y, X) if the batch holds one sample."""
        for name, tensor in outputs.items():
            data = tensor.detach().float().cpu().numpy()
            spec = gp.ArraySpec(
                roi=plan.outputs[name], voxel_size=self.net.voxel_size[name], interpolatable=True, dtype=data.dtype
            )
            batch[self.outputs[name]] = gp.Array(data if batched else data[0], spec)

    def samples(self, batch: gp.Batch, plan: Plan) -> int:
        """Return the number of samples in a batch."""
        return len(batch[self.inputs[next(iter(plan.inputs))]].data) if self.batched(batch, plan) else 1

    def batched(self, batch: gp.Batch, plan: Plan) -> bool:
        """Return whether the arrays of ``batch`` have a batch axis."""
        return batch[self.inputs[next(iter(plan.inputs))]].data.ndim == self.net.dims + 2


def extend_request(request: gp.BatchRequest, key: gp.ArrayKey, roi: Roi) -> None:
    """Add an array to a request, or enlarge its ROI to the union: one array may be the input of several tensors."""
    request[key] = gp.ArraySpec(roi=request[key].roi.union(roi) if key in request else roi)


def as_tensor(array: gp.Array, roi: Roi, key: gp.ArrayKey, device: torch.device | None = None) -> Tensor:
    """Return an array's data in ``roi`` as a tensor (B, C, Z, Y, X). Without a batch axis, it is a batch of one.

    Args:
        array: the array, (batch, channel, Z, Y, X) or (channel, Z, Y, X).
        roi: the part to return.
        key: the array's key, for messages.
        device: the device of the tensor. By default it is the processor, and memory is shared if possible.

    Raises:
        PipelineError: the array has another number of axes.
    """
    dims = roi.dims
    if array.data.ndim not in (dims + 1, dims + 2):
        raise PipelineError(
            f"array {key} has shape {array.data.shape}, but has to be (batch, channel, {dims} spatial axes) or "
            f"(channel, {dims} spatial axes): gunpowder's Unsqueeze adds an axis, Stack makes batches"
        )
    # torch shares numpy's memory, but not if it is read-only
    tensor = torch.from_numpy(np.require(array.crop(roi, copy=False).data, requirements=["C", "W"])).to(device)
    return tensor if array.data.ndim == dims + 2 else tensor[None]
