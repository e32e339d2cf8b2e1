"""Options of computing a network in training, and the forward pass that follows them."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, model_validator
from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import Plan
from scalenet_gp.kernels import choose_device
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.options import Options, Precision, suggest
from scalenet_gp.training.distributed import ProcessGroup

__all__ = ["ComputeConfig", "Forward"]


def _device_name(device: Any) -> Any:
    return str(device) if isinstance(device, torch.device) else device


class ComputeConfig(Options):
    """Options of computing a network in training. The results stay the same, except for rounding.

    Weights and voxels are always in torch's ``channels_last_3d`` order: see :class:`.LeibNet`.

    Attributes:
        device: name of a torch device. By default it is the first GPU, or the processor where there is none.
        precision: the type that convolutions compute in, by torch's autocast; float16 comes with loss scaling
            (Micikevicius et al. 2018, arXiv 1710.03740).
        activation_checkpointing: patterns (as file names have them) of nodes whose insides are computed again in the
            backward pass instead of kept, to save memory (Chen et al. 2016, arXiv 1604.06174). ``("*",)`` is all nodes.
        compile: compile the network with ``torch.compile`` to one program, specialized to the plan that is trained.
            Activation checkpointing is not possible with it: the compiler itself chooses what it computes again.

    Example:
        >>> ComputeConfig(precision="bfloat16", activation_checkpointing=("*",)).precision
        'bfloat16'
    """

    device: Annotated[str | None, BeforeValidator(_device_name)] = None
    precision: Precision = "float32"
    activation_checkpointing: tuple[str, ...] = ()
    compile: bool = False

    @model_validator(mode="after")
    def _exclude(self) -> ComputeConfig:
        if self.compile and self.activation_checkpointing:
            raise ArgumentError(
                f"compile=True and activation_checkpointing={self.activation_checkpointing!r} exclude each other: "
                "the compiler itself chooses what it computes again"
            )
        return self

    def build_forward(self, net: LeibNet, process_group: ProcessGroup) -> Forward:
        """Return the forward pass of ``net``, which has to be moved to its device before the first call.

        Raises:
            ArgumentError: the device is not there, or a pattern of ``activation_checkpointing`` matches no node.
        """
        device = process_group.device or choose_device(self.device)
        return Forward(net, process_group, device, self, self.checkpointed_nodes(net))

    def checkpointed_nodes(self, net: LeibNet) -> frozenset[str]:
        """Return the identifiers of the nodes of ``net`` that match ``activation_checkpointing``.

        Raises:
            ArgumentError: a pattern matches no node.
        """
        names = list(net.nodes)
        for pattern in self.activation_checkpointing:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ArgumentError(f"activation_checkpointing={pattern!r} matches no node; {suggest(pattern, names)}")
        return frozenset(name for name in names if any(fnmatchcase(name, p) for p in self.activation_checkpointing))


class Forward:
    """Computes a network's outputs for training, see :class:`ComputeConfig`.

    Attributes:
        device: the device of the network and its inputs.
        scaled: True if the loss has to be scaled, so that small gradients do not vanish.
    """

    def __init__(
        self,
        net: LeibNet,
        process_group: ProcessGroup,
        device: torch.device,
        compute: ComputeConfig,
        checkpointed: frozenset[str],
    ) -> None:
        self.device = device
        self.scaled = compute.precision == "float16"
        self._net = net
        self._process_group = process_group
        self._dtype = None if compute.precision == "float32" else getattr(torch, compute.precision)
        self._checkpointed = checkpointed
        self._compiled = compute.compile
        self._programs: dict[tuple[Plan, bool] | bool, Any] = {}

    def __call__(self, inputs: Mapping[str, Tensor], plan: Plan, logits: bool = False) -> dict[str, Tensor]:
        """Return the outputs of ``plan``, float32, which a backward pass can start from.

        Args:
            inputs: (B, C, Z, Y, X) by name, on the device.
            plan: the plan.
            logits: leave out final activations, see :meth:`.LeibNet.forward`.
        """
        with torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype is not None):
            if self._compiled:
                made = self._compiled_for(plan, logits)(*(inputs[name] for name in plan.inputs))
                outputs = dict(zip(plan.outputs, made, strict=True))
            else:
                net = self._plain_for(plan)
                outputs = net(inputs, plan, activation_checkpointing=self._checkpointed, logits=logits)
        return {name: tensor.float() for name, tensor in outputs.items()}

    # made at their first use: then the network is on its device, and parameters are frozen

    def _compiled_for(self, plan: Plan, logits: bool) -> Any:
        key = plan, logits
        if key not in self._programs:
            module = self._net.specialize(plan, logits=logits)
            # fallback_random: with the random numbers that the network itself draws
            compiled: Any = torch.compile(module, options={"fallback_random": True})
            self._programs[key] = self._process_group.wrap_parallel(compiled)
        return self._programs[key]

    def _plain_for(self, plan: Plan) -> Any:
        """Return the network, wrapped for plans that use all of its parameters or for plans that leave some out."""
        run = {step.node for step in plan.steps}
        left_out = (node for name, node in self._net.nodes.items() if name not in run)
        partial = any(parameter.requires_grad for node in left_out for parameter in node.parameters())
        if partial not in self._programs:
            self._programs[partial] = self._process_group.wrap_parallel(self._net, partial)
        return self._programs[partial]
