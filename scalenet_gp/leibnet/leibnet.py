"""The model graph: nodes joined by named tensors, in which a request travels up and data travels down."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor, nn

from scalenet_gp.analysis import (
    Summary,
    fields_of_view_figure,
    largest_plan,
    receptive_field,
    smallest_plan,
    summarize,
    to_mermaid,
    valid_output_shapes,
)
from scalenet_gp.errors import GraphError
from scalenet_gp.geometry import common_unit
from scalenet_gp.graph import (
    Node,
    Plan,
    Specialised,
    TensorSpec,
    check_request,
    execute,
    plan_request,
    resolve_specs,
    topological_order,
    validate_inputs,
)
from scalenet_gp.kernels import channels_last
from scalenet_gp.leibnet.files import read_network, save_network
from scalenet_gp.leibnet.spec import build_network, network_fingerprint, network_spec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LeibNet"]


class LeibNet(nn.Module):
    """A network composed of nodes, after the package LeibNetz.

    Voxel sizes and channels of every tensor follow from those of the inputs. All of them become whole numbers of one
    world unit.

    Args:
        nodes: the nodes, in any order.
        inputs: voxel size (nm) and channels of every tensor that comes from outside.
        outputs: the tensors that can be asked for.
        name: what the network is called in tables and messages.

    Attributes:
        input_keys: names of the inputs.
        output_keys: names of the outputs.
        specs: exact voxel size (nm) and channels of every tensor.
        unit: nanometres per world unit.
        voxel_size: voxel size of every tensor in world units.

    Raises:
        ValueError: the graph has a cycle, two nodes with one identifier, a tensor with two makers, a tensor that is
            read and neither made nor declared, or voxel sizes or channels that contradict each other.
    """

    def __init__(
        self, nodes: Iterable[Node], inputs: Mapping[str, TensorSpec], outputs: Iterable[str], name: str = "LeibNet"
    ) -> None:
        super().__init__()
        self.name = name
        self.input_keys = tuple(inputs)
        self.output_keys = tuple(outputs)
        in_order = topological_order(list(nodes), self.input_keys, self.output_keys)
        self.specs: dict[str, TensorSpec] = resolve_specs(in_order, inputs)
        self.unit: Fraction = common_unit(spec.voxel_size for spec in self.specs.values())
        self.voxel_size: dict[str, Coordinate] = {
            key: Coordinate(int(size / self.unit) for size in spec.voxel_size) for key, spec in self.specs.items()
        }
        for node in in_order:  # before any is told, so that a graph which is refused leaves all as they were
            node.check_resolvable(self.voxel_size)
        for node in in_order:
            node.resolve(self.voxel_size)
        self.nodes = nn.ModuleDict({node.identifier: node for node in in_order})
        for parameter in self.parameters():
            if parameter.dim() in (4, 5):
                parameter.data = channels_last(parameter.data)

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return next(iter(self.voxel_size.values())).dims

    @property
    def tileable(self) -> bool:
        """Whether tiles agree with the whole: no node's output depends on the extent of its input."""
        return all(node.tileable for node in self._nodes())

    def plan(self, outputs: Mapping[str, Roi]) -> Plan:
        """What it takes to compute ``outputs``: any subset of the outputs, each with any ROI on its lattice.

        Args:
            outputs: world ROI (world units, voxel corners) of each output that is wanted.

        Raises:
            ValueError: no output is asked for, or a ROI is empty, of another dimension or off its tensor's lattice.
            KeyError: the network has no such output.
        """
        check_request(outputs, {key: self.voxel_size[key] for key in self.output_keys})
        return plan_request(self._nodes(), outputs, self.specs, self.voxel_size, self.fingerprint)

    def forward(
        self, inputs: Mapping[str, Tensor], plan: Plan, activation_checkpointing: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Compute the outputs of ``plan`` from inputs of exactly the planned size.

        Args:
            inputs: for every key of ``plan.inputs`` a tensor (B, C, Z, Y, X) that covers that ROI.
            plan: what :meth:`plan` gave; no geometry is done here.
            activation_checkpointing: identifiers of nodes whose insides are computed again in the backward pass
                instead of kept
                (activation checkpointing): less memory, more time, the same gradients.

        Returns:
            For every key of ``plan.outputs`` a tensor (B, C, Z, Y, X) that covers that ROI. A tensor in between is let
            go of as soon as no node needs it any more.

        Raises:
            ValueError: the plan is another network's, an input has not the planned channels and voxels, the inputs
                differ in batch size, type or device, or a node makes other than its rules say.
            KeyError: an input is missing.
        """
        self._check_plan(plan)
        return execute(plan, self.nodes, validate_inputs(inputs, plan), activation_checkpointing)  # type: ignore[arg-type]

    def specialise(self, plan: Plan, activation_checkpointing: Collection[str] = ()) -> Specialised:
        """This network for one plan: a plain module of positional tensors, for torch.compile, torch.export and ONNX.

        Args:
            plan: what :meth:`plan` gave.
            activation_checkpointing: as for :meth:`forward`.

        Returns:
            A module that shares the weights of this network and gives the very same outputs.

        Raises:
            ValueError: the plan is another network's.
        """
        self._check_plan(plan)
        return Specialised(plan, self.nodes, activation_checkpointing)  # type: ignore[arg-type]

    @cached_property
    def smallest_plan(self) -> Plan:
        """All outputs over one box as small as every tensor's lattice closes on, where it takes the fewest voxels."""
        return smallest_plan(self)

    def valid_output_shapes(self, output: str, at_most: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The sizes (voxels) along each axis with which tiles of an output, side by side, all share one plan, shifted.

        Args:
            output: name of the output.
            at_most: the largest size of interest along each axis, in voxels.

        Raises:
            KeyError: the network has no such output.
            ValueError: ``at_most`` has another number of axes, or is smaller than the smallest such tile.
        """
        return valid_output_shapes(self, output, at_most)

    def largest_plan(
        self,
        memory_limit: int,
        *,
        training: bool = False,
        dtype: torch.dtype = torch.float32,
        outputs: Iterable[str] | None = None,
        batch: int = 1,
        activation_checkpointing: Collection[str] = (),
    ) -> Plan:
        """The plan with the most output voxels per unit of work of those that fit into memory.

        Args:
            memory_limit: bytes for everything: weights, inputs, what is in between, outputs and, in training,
                gradients, as :func:`scalenet_gp.analysis.cost.predict_cost` predicts them.
            training: whether a step of training has to fit, or inference.
            dtype: the type to compute in.
            outputs: the outputs that are wanted; all unless given.
            batch: samples per pass.
            activation_checkpointing: as for :meth:`forward`.

        Raises:
            KeyError: the network has no such output.
            ValueError: not even the smallest plan fits; the message says what that needs.
        """
        return largest_plan(
            self,
            memory_limit,
            training=training,
            dtype=dtype,
            outputs=outputs,
            batch=batch,
            activation_checkpointing=activation_checkpointing,
        )

    def receptive_field(self, output: str) -> dict[str, Coordinate]:
        """The size (world units) of what one voxel of ``output`` can depend on, for every input that it reaches.

        What it really looks at, with the weights as they are, is for
        :func:`scalenet_gp.analysis.field_of_view.effective_receptive_field`.

        Raises:
            KeyError: the network has no such output.
        """
        return receptive_field(self, output)

    def summary(self, plan: Plan | None = None) -> Summary:
        """A table of every tensor of a plan, and what computing it takes in multiply-accumulates and memory.

        Args:
            plan: what :meth:`plan` gave; :attr:`smallest_plan` unless given.

        Raises:
            ValueError: the plan is another network's.
        """
        return summarize(self, plan or self.smallest_plan)

    def figure(self, plan: Plan | None = None) -> Figure:
        """A picture of what a plan reads and makes at each voxel size: nested boxes, to scale.

        Args:
            plan: what :meth:`plan` gave; :attr:`smallest_plan` unless given.

        Raises:
            ValueError: the plan is another network's.
        """
        chosen = plan or self.smallest_plan
        self._check_plan(chosen)
        return fields_of_view_figure(self, chosen)

    @property
    def input_shapes(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """Shape (voxels) and scale (nm) of every input of :attr:`smallest_plan`, in the form that LeibNetz gives."""
        plan = self.smallest_plan
        return {key: self._shape(key, plan.tensor(key).shape) for key in plan.inputs}

    @property
    def output_shapes(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """Shape (voxels) and scale (nm) of every output of :attr:`smallest_plan`, in the form that LeibNetz gives."""
        return {
            key: self._shape(key, tuple(roi.shape / self.voxel_size[key]))
            for key, roi in self.smallest_plan.outputs.items()
        }

    def to_spec(self) -> dict[str, Any]:
        """The network without its weights, as JSON holds it; :meth:`from_spec` builds it again.

        Raises:
            ValueError: a node was given something that JSON cannot hold, such as a module.
        """
        return network_spec(self)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> LeibNet:
        """The network that :meth:`to_spec` described, with new weights. Nothing that the spec names is imported.

        Raises:
            ValueError: the spec is of another schema, lacks a field, has one too many or one of another type, or names
                a kind of node that has not been defined; the message says where.
        """
        return build_network(spec)

    def save(self, path: str | Path) -> Path:
        """Write the network, weights and spec, as one safetensors file, whole or not at all; :meth:`load` reads it.

        Raises:
            ValueError: the name does not end in ``.safetensors``, or no spec can hold the network.
            OSError: the file cannot be written.
        """
        return save_network(path, self)

    @classmethod
    def load(cls, path: str | Path) -> LeibNet:
        """The network that :meth:`save` wrote, with its weights as they were, ready to predict. Nothing is unpickled.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, or its spec and its weights are none or do not fit each other.
        """
        return read_network(path)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that two networks share if and only if their specs are, but for the names."""
        return network_fingerprint(self)

    def to_mermaid(self) -> str:
        """The graph in mermaid's language, which most code hosts render: see
        :func:`scalenet_gp.analysis.mermaid.to_mermaid`."""
        return to_mermaid(self)

    def _repr_html_(self) -> str:
        """For notebooks: the smallest plan as a table and as a picture."""
        picture = io.StringIO()
        self.figure().savefig(picture, format="svg")
        return f"{self.summary()._repr_html_()}{picture.getvalue()}"

    def extra_repr(self) -> str:
        return f"{self.name}, {', '.join(self.input_keys)} -> {', '.join(self.output_keys)}"

    def _check_plan(self, plan: Plan) -> None:
        if plan.network != self.fingerprint:
            raise GraphError(f"the plan is for network {plan.network}, this is {self.name} {self.fingerprint}")

    def _nodes(self) -> list[Node]:
        return list(self.nodes.values())  # type: ignore[arg-type]

    def _shape(self, key: str, shape: tuple[int, ...]) -> dict[str, tuple[float, ...]]:
        scale = tuple(float(size) for size in self.specs[key].voxel_size)
        return {"shape": tuple(int(size) for size in shape), "scale": scale}
