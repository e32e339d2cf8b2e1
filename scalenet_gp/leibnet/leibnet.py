"""A graph as a torch module: it computes plans, and knows its sizes, costs and files."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor, nn

from scalenet_gp.analysis import (
    Summary,
    architecture_figure,
    fields_of_view_figure,
    largest_plan,
    receptive_field,
    smallest_plan,
    summarize,
    to_mermaid,
    valid_output_shapes,
)
from scalenet_gp.errors import CheckpointError, UnknownNameError
from scalenet_gp.graph import Graph, Node, Plan, SpecializedNet, TensorSpec, execute, validate_inputs
from scalenet_gp.kernels import channels_last
from scalenet_gp.leibnet.files import read_network_file, write_network_file
from scalenet_gp.leibnet.foreign_calls import no_such_attribute, refusing_tensors
from scalenet_gp.leibnet.spec import graph_spec, read_spec
from scalenet_gp.options import suggest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LeibNet"]


class LeibNet(nn.Module):
    """A network composed of nodes, after the package LeibNetz: a :class:`.Graph` as a torch module.

    Voxel sizes and channels of every tensor follow from those of the inputs. All voxel sizes are whole numbers of one
    world unit.

    Args:
        nodes: the nodes, in any order.
        inputs: voxel size (nm) and channels of every tensor that comes from outside.
        outputs: names of the tensors that can be requested.
        name: the name in tables and messages.

    Attributes:
        graph: the nodes, tensors and plans.
        nodes: the nodes by identifier, in the order in which they run, as torch's submodules.

    Raises:
        GraphError: the graph has a cycle, two nodes with one identifier, a tensor with two makers, a tensor that is
            read and neither made nor declared, or voxel sizes or channels that contradict each other.

    Example:
        >>> import torch
        >>> from funlib.geometry import Roi
        >>> from scalenet_gp import LeibNet, TensorSpec
        >>> from scalenet_gp.layers import ConvPass, Pool
        >>> nodes = [Pool(["raw"], ["small"], (2, 2)), ConvPass(["small"], ["out"], 1, 2, [(3, 3)])]
        >>> net = LeibNet(nodes, {"raw": TensorSpec((8, 8), 1)}, ["out"])
        >>> plan = net.plan({"out": Roi((0, 0), (16, 16))})
        >>> raw = torch.zeros(1, 1, *plan.input_tensors["raw"].shape)
        >>> raw.shape, net({"raw": raw}, plan)["out"].shape
        (torch.Size([1, 1, 6, 6]), torch.Size([1, 2, 1, 1]))
    """

    def __init__(
        self, nodes: Iterable[Node], inputs: Mapping[str, TensorSpec], outputs: Iterable[str], name: str = "LeibNet"
    ) -> None:
        super().__init__()
        self.graph = Graph(nodes, inputs, outputs, name)
        self.nodes = nn.ModuleDict(self.graph.nodes)
        for node in self.graph.nodes.values():
            node.share_weights(self.graph.nodes)
        for parameter in self.parameters():
            if parameter.dim() in (4, 5):
                parameter.data = channels_last(parameter.data)

    @property
    def name(self) -> str:
        """The name in tables and messages."""
        return self.graph.name

    @name.setter
    def name(self, name: str) -> None:
        self.graph.name = name

    @property
    def input_keys(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return self.graph.input_keys

    @property
    def output_keys(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self.graph.output_keys

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Exact voxel size (nm) and channels of every tensor."""
        return self.graph.specs

    @property
    def unit(self) -> Fraction:
        """Nanometers per world unit."""
        return self.graph.unit

    @property
    def voxel_size(self) -> dict[str, Coordinate]:
        """Voxel size of every tensor in world units."""
        return self.graph.voxel_size

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return self.graph.dims

    @property
    def tileable(self) -> bool:
        """True if tiles agree with the whole: no node's output depends on the extent of its input."""
        return self.graph.tileable

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that two networks share if and only if their specs are equal but for the names."""
        return self.graph.fingerprint

    def plan(self, outputs: Mapping[str, Roi]) -> Plan:
        """Return the plan for ``outputs``: any subset of the outputs, each with any ROI on its lattice.

        Args:
            outputs: world ROI (world units, voxel corners) of each requested output.

        Raises:
            GraphError: the request is empty, or a ROI is unbounded, empty or of another dimension.
            LatticeError: a ROI is off its tensor's lattice; the message proposes ROIs on it.
            UnknownNameError: the network has no such output.
        """
        return self.graph.plan(outputs)

    def __getattr__(self, name: str) -> Any:
        """Say why an output is not an attribute, where gunpowder's torch nodes look for it."""
        graph = self.__dict__.get("graph")
        if graph is not None and name in graph.output_keys and name not in self._modules:
            raise no_such_attribute(self.name, name)
        return super().__getattr__(name)

    @refusing_tensors
    def forward(
        self,
        inputs: Mapping[str, Tensor],
        plan: Plan,
        activation_checkpointing: Collection[str] = (),
        logits: bool = False,
    ) -> dict[str, Tensor]:
        """Compute the outputs of ``plan`` from inputs of exactly the planned size.

        A tensor in between is freed as soon as no node needs it.

        Args:
            inputs: for every key of ``plan.inputs`` a tensor (B, C, Z, Y, X) that covers that ROI.
            plan: a plan of :meth:`plan`; no geometry is done here.
            activation_checkpointing: identifiers of nodes whose activations are computed again in the backward pass
                instead of kept: less memory, more time, the same gradients.
            logits: return logits instead of probabilities for the outputs that have an :meth:`output_activation`, for
                losses that are computed of logits.

        Returns:
            For every key of ``plan.outputs`` a tensor (B, C, Z, Y, X) that covers that ROI.

        Raises:
            GraphError: the plan is another network's, an input has not the planned channels and voxels, the inputs
                differ in batch size, type or device, or a node's output contradicts its rules; or tensors are given
                without names, as gunpowder's own nodes do.
            UnknownNameError: an input is missing.
        """
        self.graph.check_plan(plan)
        return execute(plan, self.nodes, validate_inputs(inputs, plan), activation_checkpointing, logits)  # type: ignore[arg-type]

    def output_activation(self, output: str) -> Literal["Sigmoid", "Softmax"] | None:
        """Return the name of the activation that makes probabilities of an output's logits, if it has one.

        Raises:
            UnknownNameError: the network has no such output.
        """
        if output not in self.output_keys:
            raise UnknownNameError(f"{self.name} has no output {output!r}; {suggest(output, self.output_keys)}")
        nodes: list[Node] = list(self.nodes.values())  # type: ignore[arg-type]
        return next(node.output_activation for node in nodes if output in node.output_keys)

    def specialize(
        self, plan: Plan, activation_checkpointing: Collection[str] = (), logits: bool = False
    ) -> SpecializedNet:
        """Return the network for one plan: a plain module of positional tensors for torch.compile, export and ONNX.

        Args:
            plan: a plan of :meth:`plan`.
            activation_checkpointing: as for :meth:`forward`.
            logits: as for :meth:`forward`.

        Returns:
            A module that shares the weights of this network and computes the same outputs to the bit.

        Raises:
            GraphError: the plan is another network's.
        """
        return SpecializedNet(self.graph, plan, activation_checkpointing, logits)

    @cached_property
    def smallest_plan(self) -> Plan:
        """The plan of all outputs over the smallest box on which all lattices close, placed at the least cost."""
        return smallest_plan(self.graph)

    def valid_output_shapes(self, output: str, at_most: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Return the sizes (voxels) along each axis with which tiles of an output, side by side, share one plan.

        Args:
            output: name of the output.
            at_most: the largest size of interest along each axis, in voxels.

        Raises:
            UnknownNameError: the network has no such output.
            GraphError: ``at_most`` has another number of axes, or is smaller than the smallest such tile.
        """
        return valid_output_shapes(self.graph, output, at_most)

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
        """Return the plan with the most output voxels per unit of work of those that fit into memory.

        Args:
            memory_limit: bytes for everything: weights, inputs, tensors in between, outputs and, in training,
                gradients, as :func:`scalenet_gp.analysis.predict_cost` predicts them.
            training: True if a step of training has to fit, False for inference.
            dtype: the type to compute in.
            outputs: the outputs to compute; all unless given.
            batch: samples per pass.
            activation_checkpointing: as for :meth:`forward`.
            logits: as for :meth:`forward`.

        Raises:
            UnknownNameError: the network has no such output.
            GraphError: not even the smallest plan fits; the message says how much it needs.
        """
        return largest_plan(
            self.graph,
            memory_limit,
            training=training,
            dtype=dtype,
            outputs=outputs,
            batch=batch,
            activation_checkpointing=activation_checkpointing,
        )

    def receptive_field(self, output: str) -> dict[str, Coordinate]:
        """Return the size (world units) of the part of each input that one voxel of ``output`` can depend on.

        :func:`scalenet_gp.analysis.effective_receptive_field` measures the part that it depends on with the present
        weights.

        Raises:
            UnknownNameError: the network has no such output.
        """
        return receptive_field(self.graph, output)

    def summary(self, plan: Plan | None = None) -> Summary:
        """Return a table of every tensor of a plan, and its cost in multiply-accumulates and memory.

        Args:
            plan: a plan of :meth:`plan`; :attr:`smallest_plan` unless given.

        Raises:
            GraphError: the plan is another network's.
        """
        return summarize(self.graph, plan or self.smallest_plan)

    def figure(self, plan: Plan | None = None) -> Figure:
        """Draw the inputs and outputs of a plan at each voxel size: nested boxes, to scale.

        Args:
            plan: a plan of :meth:`plan`; :attr:`smallest_plan` unless given.

        Raises:
            GraphError: the plan is another network's.
        """
        return fields_of_view_figure(self.graph, plan or self.smallest_plan)

    @property
    def input_shapes(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """Shape (voxels) and scale (nm) of every input of :attr:`smallest_plan`, in the form of LeibNetz."""
        plan = self.smallest_plan
        return {key: self._shape(key, plan.tensor(key).shape) for key in plan.inputs}

    @property
    def output_shapes(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """Shape (voxels) and scale (nm) of every output of :attr:`smallest_plan`, in the form of LeibNetz."""
        return {
            key: self._shape(key, tuple(roi.shape / self.voxel_size[key]))
            for key, roi in self.smallest_plan.outputs.items()
        }

    def to_spec(self) -> dict[str, Any]:
        """Return the network without its weights, as JSON holds it; :meth:`from_spec` builds it again.

        Raises:
            GraphError: an argument of a node does not fit into JSON, such as a module.
        """
        return graph_spec(self.graph)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> LeibNet:
        """Build the network that :meth:`to_spec` described, with new weights. Nothing that it names is imported.

        Raises:
            GraphError: the spec is of another schema, lacks a field, has one too many or one of another type, or names
                a kind of node that has not been defined; the message says where.
        """
        return cls(**read_spec(spec))

    @classmethod
    def from_weights(cls, spec: Mapping[str, Any], weights: Mapping[str, Tensor], source: Path) -> LeibNet:
        """Build the network of ``spec`` with ``weights``, of the types that they have, in evaluation mode.

        Args:
            spec: the network without its weights, as :meth:`to_spec` describes it.
            weights: parameters and buffers by name.
            source: the file that both come from, for messages.

        Raises:
            CheckpointError: the spec is not one, or the weights are not those of its network.
        """
        try:
            net = cls.from_spec(spec)
            for name, tensor in net.state_dict(keep_vars=True).items():
                if name in weights:
                    tensor.data = tensor.data.to(weights[name].dtype)
            net.load_state_dict(dict(weights))
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{source} holds no network that can be built: {error}") from error
        return net.eval()

    def save(self, path: str | Path) -> Path:
        """Write the network, weights and spec, as one safetensors file, whole or not at all; :meth:`load` reads it.

        Raises:
            CheckpointError: the name does not end in ``.safetensors``.
            GraphError: no spec can hold the network.
            OSError: the file cannot be written.
        """
        return write_network_file(path, self.to_spec(), self.state_dict())

    @classmethod
    def load(cls, path: str | Path) -> LeibNet:
        """Read the network that :meth:`save` wrote, in evaluation mode. Nothing is unpickled.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: the file is damaged, or its spec and its weights do not fit each other.
        """
        return cls.from_weights(*read_network_file(path), source=Path(path))

    def diagram(self) -> Figure:
        """Draw the nodes from left to right, each at the height of its voxel size: a U-Net is a U."""
        return architecture_figure(self.graph)

    def to_mermaid(self) -> str:
        """Return the graph in mermaid's language, which most code hosts render."""
        return to_mermaid(self.graph)

    def _repr_html_(self) -> str:
        """Return the smallest plan as a table and as a picture, for notebooks."""
        picture = io.StringIO()
        self.figure().savefig(picture, format="svg")
        return f"{self.summary()._repr_html_()}{picture.getvalue()}"

    def extra_repr(self) -> str:
        return str(self.graph)

    def _shape(self, key: str, shape: tuple[int, ...]) -> dict[str, tuple[float, ...]]:
        scale = tuple(float(size) for size in self.specs[key].voxel_size)
        return {"shape": tuple(int(size) for size in shape), "scale": scale}
