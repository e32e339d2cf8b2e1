"""The model graph: nodes joined by named tensors, in which a request travels up and data travels down."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cached_property
from typing import Any

from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import GraphError, UnknownNameError
from scalenet_gp.geometry import common_unit
from scalenet_gp.graph.node import Node, TensorSpec
from scalenet_gp.graph.phases import PhaseCache
from scalenet_gp.graph.plan import Plan, PlannedTensor, Step
from scalenet_gp.graph.planning import Planner, check_request
from scalenet_gp.graph.topology import resolve_specs, topological_order
from scalenet_gp.options import suggest

__all__ = ["Graph"]

_PLANS = 1024
"""Plans that are kept. Blocks within a volume share theirs; blocks at its borders, and symmetries, have others."""


class Graph:
    """Nodes joined by named tensors: their order, voxel sizes and channels, and the plans for requests.

    Voxel sizes and channels of every tensor follow from those of the inputs. All voxel sizes are whole numbers of one
    world unit.

    Args:
        nodes: the nodes, in any order.
        inputs: voxel size (nm) and channels of every tensor that comes from outside.
        outputs: names of the tensors that can be requested.
        name: the name in tables and messages.

    Attributes:
        nodes: the nodes by identifier, each after those that it reads from.
        name: the name in tables and messages.
        input_keys: names of the inputs.
        output_keys: names of the outputs.
        specs: exact voxel size (nm) and channels of every tensor, the inputs first.
        unit: nanometers per world unit.
        voxel_size: voxel size of every tensor in world units.

    Raises:
        GraphError: the graph has a cycle, two nodes with one identifier, a tensor with two makers, a tensor that is
            read and neither made nor declared, or voxel sizes or channels that contradict each other.

    Example:
        >>> from funlib.geometry import Roi
        >>> from scalenet_gp import TensorSpec
        >>> from scalenet_gp.graph import Graph
        >>> from scalenet_gp.layers import ConvPass
        >>> graph = Graph([ConvPass(["raw"], ["out"], 1, 2, [(3, 3)])], {"raw": TensorSpec((8, 8), 1)}, ["out"])
        >>> graph.plan({"out": Roi((0, 0), (16, 16))}).inputs["raw"]
        [-8:24, -8:24] (32, 32)
    """

    def __init__(
        self, nodes: Iterable[Node], inputs: Mapping[str, TensorSpec], outputs: Iterable[str], name: str = "LeibNet"
    ) -> None:
        self.name = name
        self.input_keys = tuple(inputs)
        self.output_keys = tuple(outputs)
        in_order = topological_order(list(nodes), self.input_keys, self.output_keys)
        self.nodes: dict[str, Node] = {node.identifier: node for node in in_order}
        self.specs: dict[str, TensorSpec] = resolve_specs(in_order, inputs)
        self.unit: Fraction = common_unit(spec.voxel_size for spec in self.specs.values())
        self.voxel_size: dict[str, Coordinate] = {
            key: Coordinate(int(size / self.unit) for size in spec.voxel_size) for key, spec in self.specs.items()
        }
        for node in in_order:  # before any is told, so that a graph that is refused leaves all as they were
            node.check_resolvable(self.voxel_size)
        for node in in_order:
            node.resolve(self.voxel_size)
        self._planner = Planner(in_order, self.specs, self.voxel_size)
        self._plans: PhaseCache[Plan] = PhaseCache(_PLANS)

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return next(iter(self.voxel_size.values())).dims

    @cached_property
    def period(self) -> Coordinate:
        """The distances (world units) by which every plan can be shifted: the common multiple of all lattices."""
        return Coordinate(math.lcm(*sizes) for sizes in zip(*self.voxel_size.values(), strict=True))

    @property
    def tileable(self) -> bool:
        """True if tiles agree with the whole: no node's output depends on the extent of its input."""
        return all(node.tileable for node in self.nodes.values())

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that two graphs share if their nodes, inputs and outputs are described alike.

        Weights do not count, nor does the name: plans of one graph fit the other. An argument that JSON cannot hold
        counts by its ``repr``, without memory addresses.
        """
        text = json.dumps(
            self.description(), sort_keys=True, default=lambda value: re.sub(r" at 0x\w+", "", repr(value))
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def description(self) -> dict[str, Any]:
        """Return what the graph computes: ``inputs``, ``outputs`` and ``nodes`` with their constructors' arguments."""
        return {
            "inputs": {
                key: {
                    "voxel_size": [str(size) for size in self.specs[key].voxel_size],
                    "channels": self.specs[key].channels,
                }
                for key in self.input_keys
            },
            "outputs": list(self.output_keys),
            "nodes": [{"kind": type(node).__name__, **node.arguments} for node in self.nodes.values()],
        }

    def plan(self, outputs: Mapping[str, Roi]) -> Plan:
        """Return the plan for ``outputs``: any subset of the outputs, each with any ROI on its lattice.

        Plans are kept: requests that lie whole periods apart share one, shifted.

        Args:
            outputs: world ROI (world units, voxel corners) of each requested output.

        Raises:
            GraphError: the request is empty, or a ROI is unbounded, empty or of another dimension.
            LatticeError: a ROI is off its tensor's lattice; the message proposes ROIs on it.
            UnknownNameError: there is no such output.
        """
        self.check_request(outputs)
        request = {key: outputs[key] for key in self.specs if key in outputs}
        plan, offset = self._plans.get(request, self.period, lambda rois: self._planner.plan(rois, self.fingerprint))
        return plan.shifted(offset) if any(offset) else plan

    def check_request(self, outputs: Mapping[str, Roi]) -> None:
        """Refuse a request that no plan can answer; raises as :meth:`plan` does."""
        check_request(outputs, {key: self.voxel_size[key] for key in self.output_keys})

    def check_plan(self, plan: Plan) -> None:
        """Refuse the plan of another graph.

        Raises:
            GraphError: the plan is for another graph.
        """
        if plan.network != self.fingerprint:
            raise GraphError(f"the plan is for network {plan.network}, this is {self.name} {self.fingerprint}")

    def check_output(self, *names: str) -> None:
        """Refuse names that are not outputs.

        Raises:
            UnknownNameError: there is no output of one of the names; the message lists the outputs.
        """
        for name in names:
            if name not in self.output_keys:
                raise UnknownNameError(f"there is no output {name!r}; {suggest(name, self.output_keys)}")

    def required_rois(self, outputs: Mapping[str, Roi]) -> dict[str, Roi]:
        """Return the ROI of every tensor that ``outputs`` depend on, the outputs included."""
        return self._planner.required_rois(outputs)[0]

    def steps(self, made: Mapping[str, Roi], whole: Mapping[str, PlannedTensor]) -> list[Step]:
        """Return the steps that make the ROIs ``made`` of some tensors, no more; they free nothing.

        Args:
            made: the ROI to make of each tensor; tensors without one are not made.
            whole: the tensors that the crops of the nodes' inputs are counted in.
        """
        kept = {key: self._planner.tensor(key, roi) for key, roi in made.items()}
        steps = []
        for node in self.nodes.values():
            wanted = [made[key] for key in node.output_keys if key in made]
            if wanted:
                box = wanted[0]
                for roi in wanted[1:]:
                    box = box.union(roi)
                steps.append(self._planner.step(node, node.input_roi(box), whole, kept))
        return steps

    def __str__(self) -> str:
        return f"{self.name}, {', '.join(self.input_keys)} -> {', '.join(self.output_keys)}"
