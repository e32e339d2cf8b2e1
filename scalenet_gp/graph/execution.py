"""The execution of a plan: each node in its turn on crops of earlier tensors; no geometry is done here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from scalenet_gp.errors import GraphError, UnknownNameError
from scalenet_gp.graph.graph import Graph
from scalenet_gp.graph.plan import InputCrop, Plan, PlannedTensor, Step
from scalenet_gp.kernels import UpsampledView, channels_last, crop_tensor, run_checkpointed

__all__ = ["SpecializedNet", "as_input", "execute", "run_step", "validate_inputs"]


def execute(
    plan: Plan,
    nodes: Mapping[str, nn.Module],
    tensors: dict[str, Tensor],
    activation_checkpointing: Collection[str] = (),
    logits: bool = False,
) -> dict[str, Tensor]:
    """Return the outputs of ``plan``, (B, C, Z, Y, X) each.

    A tensor in between is freed as soon as no node needs it.

    Args:
        plan: the plan to run.
        nodes: the network's nodes by identifier.
        tensors: the inputs of the plan. The dictionary is emptied.
        activation_checkpointing: identifiers of nodes whose activations are not kept for the backward pass, but
            computed again there.
        logits: return the logits of outputs whose nodes end in a Sigmoid or Softmax, see
            :attr:`.Node.output_activation`. Other nodes read the probabilities all the same.

    Raises:
        GraphError: the output of a node contradicts its ROI rules or its specs.
    """
    planned = {tensor.name: tensor for tensor in plan.tensors}
    for name in plan.inputs:
        tensors[name] = channels_last(tensors[name])
    made: dict[str, Tensor] = {}
    for step in plan.steps:
        reads = [as_input(read, crop_tensor(tensors[read.tensor], read.crop)) for read in step.reads]
        node = nodes[step.node]
        activation: Any = (
            node.output_activation if logits and any(name in plan.outputs for name, _ in step.keeps) else None
        )
        kept = run_step(
            step, node, reads, planned, step.node in activation_checkpointing, logits=activation is not None
        )
        if activation is not None:
            made |= kept
            kept = {name: _activate(tensor, activation) for name, tensor in kept.items() if _is_read(plan, name)}
        tensors.update(kept)
        del reads, kept
        for name in step.frees:
            del tensors[name]
    outputs = {key: made[key] if key in made else tensors[key] for key in plan.outputs}
    return {key: crop_tensor(outputs[key], planned[key].crop_to(roi)) for key, roi in plan.outputs.items()}


def _activate(logits: Tensor, activation: str) -> Tensor:
    return logits.sigmoid() if activation == "Sigmoid" else channels_last(logits.softmax(dim=1))


def _is_read(plan: Plan, name: str) -> bool:
    return any(read.tensor == name for step in plan.steps for read in step.reads)


def run_step(
    step: Step,
    node: nn.Module,
    reads: list[Tensor | UpsampledView],
    planned: Mapping[str, PlannedTensor],
    activation_checkpointing: bool = False,
    logits: bool = False,
) -> dict[str, Tensor]:
    """Run one node and return the tensors that are kept, by name, cropped. Consumes ``reads``: the list is emptied.

    Raises:
        GraphError: the output of the node contradicts its ROI rules or its specs.
    """
    options = {"logits": True} if logits else {}
    made = run_checkpointed(node, *reads, **options) if activation_checkpointing else node(*reads, **options)
    reads.clear()
    made = (made,) if isinstance(made, Tensor) else made
    if len(made) != len(step.keeps):
        raise GraphError(
            f"node {step.node!r} made {len(made)} tensors where its output_keys are "
            f"{', '.join(repr(name) for name, _ in step.keeps)}"
        )
    kept = {}
    for (name, crop), shape, tensor in zip(step.keeps, step.makes, made, strict=True):
        if tuple(tensor.shape[2:]) != shape:
            raise GraphError(
                f"node {step.node!r} made {tuple(tensor.shape[2:])} voxels of {name!r} where its output_roi says "
                f"{shape}"
            )
        if crop is not None:
            if tensor.shape[1] != planned[name].channels:
                raise GraphError(
                    f"node {step.node!r} made {tensor.shape[1]} channels of {name!r} where its output_specs says "
                    f"{planned[name].channels}"
                )
            kept[name] = crop_tensor(tensor, crop)
    return kept


class SpecializedNet(nn.Module):
    """A network for one plan, for :func:`torch.compile`, :func:`torch.export.export` and :func:`torch.onnx.export`.

    Takes the tensors of ``input_keys`` by position, (B, C, Z, Y, X) each and of exactly the planned shape, and returns
    those of ``output_keys`` as a tuple. It shares its nodes, and so its weights, with the network: setting the mode of
    one, training or evaluation, sets that of the other.

    Args:
        graph: the network's graph.
        plan: the plan to run.
        activation_checkpointing: identifiers of nodes whose activations are computed again in the backward pass.
        logits: return logits, as :meth:`.LeibNet.forward` does.

    Attributes:
        plan: the plan to run.
        input_keys: names of the inputs, in the order in which they are taken.
        output_keys: names of the outputs, in the order in which they are returned.

    Raises:
        GraphError: the plan is another network's.

    Example:
        >>> import torch
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2)
        >>> module = net.specialize(net.smallest_plan)
        >>> inputs = [torch.zeros(1, 1, *net.smallest_plan.tensor(key).shape) for key in module.input_keys]
        >>> [tuple(output.shape) for output in module(*inputs)]
        [(1, 1, 4, 4)]
    """

    def __init__(
        self, graph: Graph, plan: Plan, activation_checkpointing: Collection[str] = (), logits: bool = False
    ) -> None:
        super().__init__()
        graph.check_plan(plan)
        self.plan = plan
        self._activation_checkpointing = activation_checkpointing
        self._logits = logits
        self.input_keys = tuple(plan.inputs)
        self.output_keys = tuple(plan.outputs)
        self.nodes = nn.ModuleDict({step.node: graph.nodes[step.node] for step in plan.steps})
        self.training = self.nodes.training = any(node.training for node in self.nodes.values())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the planned outputs of the planned inputs.

        Raises:
            GraphError: there are more or fewer inputs than planned, or one has other channels or voxels.
        """
        if len(inputs) != len(self.input_keys):
            raise GraphError(f"the plan takes {', '.join(self.input_keys)}, in this order, not {len(inputs)} tensors")
        tensors = validate_inputs(dict(zip(self.input_keys, inputs, strict=True)), self.plan)
        made = execute(self.plan, self.nodes, tensors, self._activation_checkpointing, self._logits)  # type: ignore[arg-type]
        return tuple(made.values())


def validate_inputs(inputs: Mapping[str, Tensor], plan: Plan, *, one_type: bool = True) -> dict[str, Tensor]:
    """Return the inputs of a plan in a dictionary that can be emptied.

    Args:
        inputs: tensors (B, C, Z, Y, X) by name; others than those of the plan are left out.
        plan: the plan.
        one_type: False for inputs that are still to be converted to one type.

    Raises:
        GraphError: an input has other channels or voxels than planned, or they differ in batch size, type or device.
        UnknownNameError: an input is missing.
    """
    tensors: dict[str, Tensor] = {}
    for name, planned in plan.input_tensors.items():
        if name not in inputs:
            raise UnknownNameError(f"the plan needs {name!r}; there are only {sorted(inputs)}")
        tensor, expected = inputs[name], (planned.channels, *planned.shape)
        if tuple(tensor.shape[1:]) != expected:
            raise GraphError(
                f"{name!r} has shape {tuple(tensor.shape)}; the plan takes (batch, {', '.join(map(str, expected))}), "
                f"which is the ROI {planned.roi} of {planned.channels} channels"
            )
        tensors[name] = tensor
    if len({(len(tensor), one_type and tensor.dtype, tensor.device) for tensor in tensors.values()}) > 1:
        listed = "; ".join(f"{name!r}: {len(t)} of {t.dtype} on {t.device}" for name, t in tensors.items())
        raise GraphError(f"all inputs share one batch size, one type and one device, but here are {listed}")
    return tensors


def as_input(read: InputCrop, part: Tensor) -> Tensor | UpsampledView:
    """Return the part of a tensor as a node takes it: as it is, or as a view to upsample."""
    return part if read.factor is None else UpsampledView(part, read.factor, read.crop_repeated)
