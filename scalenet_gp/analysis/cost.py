"""Cost of a plan, known before anything is allocated: its pass runs on tensors that have shapes and no values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import Graph, Plan, SpecializedNet
from scalenet_gp.kernels import (
    MemoryTracker,
    WorkCounter,
    collect_garbage_by_hand,
    fake_copy,
    fake_tensors,
)

__all__ = ["Cost", "CostPredictor", "predict_cost"]


@dataclass(frozen=True)
class Cost:
    """Cost of one pass of a plan, in multiply-accumulates and bytes.

    A multiply-accumulate is one multiplication and one addition in a convolution or a matrix product; other work is
    not counted.

    Attributes:
        macs: multiply-accumulates of the forward pass per node, by identifier.
        backward_macs: multiply-accumulates of the backward pass; 0 for inference.
        weights: bytes of weights and running statistics.
        gradients: bytes of the gradients of the weights; 0 for inference.
        activations: bytes of everything else at the peak: inputs, tensors in between, tensors kept for the backward
            pass, and the workspace of convolutions.
        peak: bytes of everything at the moment when the most memory is in use. The gradients are made one after
            another, so not all need be there.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2)
        >>> cost = predict_cost(net.graph, net.smallest_plan, training=True)
        >>> cost.gradients < cost.weights, cost.peak > cost.weights + cost.activations
        (True, True)
    """

    macs: Mapping[str, int]
    backward_macs: int
    weights: int
    gradients: int
    activations: int
    peak: int

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of the whole pass."""
        return sum(self.macs.values()) + self.backward_macs


def predict_cost(
    graph: Graph,
    plan: Plan,
    *,
    batch: int = 1,
    training: bool = False,
    dtype: torch.dtype = torch.float32,
    activation_checkpointing: Collection[str] = (),
) -> Cost:
    """Predict the cost of a pass of ``plan`` on the device of the weights; nothing is allocated.

    Inference is a forward pass without gradients, with weights and inputs of ``dtype``. Training is a forward pass and
    the backward pass of a sum of the outputs; loss and optimizer come on top. With ``bfloat16`` or ``float16``, weights
    and inputs of training are ``float32`` under :class:`torch.autocast`.

    The workspace of the processor's convolutions is counted. It depends, as the choice of their implementation does, on
    the number of threads that torch uses now. The workspace on other devices is not counted, nor is freed memory that
    an allocator keeps: glibc keeps blocks of up to 32 MiB, which can be a third of the peak of a pass of many such
    tensors, unless ``MALLOC_MMAP_THRESHOLD_`` is set in the environment.

    Args:
        graph: the graph. Its nodes are left as they are: weights, statistics, gradients, mode and random state.
        plan: a plan of the graph.
        batch: samples per pass.
        training: True for a step of training, in training mode; False for inference, in evaluation mode.
        dtype: a floating point type.
        activation_checkpointing: identifiers of nodes whose activations are computed again in the backward pass, as
            for :meth:`.LeibNet.forward`; that work counts as the backward pass's.

    Raises:
        GraphError: the plan is another graph's.
        ArgumentError: ``batch`` is not positive, or ``dtype`` is not a floating point type.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2)
        >>> predict_cost(net.graph, net.smallest_plan).weights
        8404
    """
    return CostPredictor(
        graph, batch=batch, training=training, dtype=dtype, activation_checkpointing=activation_checkpointing
    ).predict(plan)


class CostPredictor:
    """Predicts the costs of many plans of one graph, as :func:`predict_cost` does, from one copy without values.

    The copy is made for the first plan. Later changes of the graph's nodes are not seen.

    Args:
        graph: as for :func:`predict_cost`, as are all others.

    Raises:
        ArgumentError: ``batch`` is not positive, or ``dtype`` is not a floating point type.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2)
        >>> predictor = CostPredictor(net.graph, training=True)
        >>> predictor.predict(net.smallest_plan) == predict_cost(net.graph, net.smallest_plan, training=True)
        True
    """

    def __init__(
        self,
        graph: Graph,
        *,
        batch: int = 1,
        training: bool = False,
        dtype: torch.dtype = torch.float32,
        activation_checkpointing: Collection[str] = (),
    ) -> None:
        if batch < 1:
            raise ArgumentError(f"a batch has at least one sample, not {batch}")
        if not dtype.is_floating_point:
            raise ArgumentError(f"a network computes in a floating point type, not in {dtype}")
        self._graph, self._batch, self._training, self._dtype = graph, batch, training, dtype
        self._activation_checkpointing = activation_checkpointing
        self._mixed = training and dtype.itemsize < torch.float32.itemsize
        self._stored = torch.float32 if self._mixed else dtype
        self._copied: tuple[AbstractContextManager[Any], nn.ModuleDict, torch.device] | None = None

    def predict(self, plan: Plan) -> Cost:
        """Return the cost of a plan of the graph.

        Raises:
            GraphError: the plan is another graph's.
        """
        net = SpecializedNet(self._graph, plan, self._activation_checkpointing)
        fake, nodes, device = self._copy()
        device_type = next((tensor.device.type for tensor in reversed([*net.parameters(), *net.buffers()])), "cpu")
        with fake, ExitStack() as within:
            within.enter_context(collect_garbage_by_hand())
            net.nodes = nn.ModuleDict({name: nodes[name] for name in net.nodes})
            memory = MemoryTracker(checkpoints=bool(self._activation_checkpointing))
            work = WorkCounter()
            within.enter_context(work.watch_modules())
            within.enter_context(memory.watch(work))
            memory.follow([*net.parameters(), *net.buffers()])
            weights = memory.live
            for parameter in net.parameters():
                if parameter.requires_grad:
                    hook = parameter.register_post_accumulate_grad_hook(memory.hold_gradient)
                    within.callback(hook.remove)
            within.callback(net.zero_grad)
            macs: dict[str, int] = {}
            for name, node in net.nodes.items():
                within.callback(node.register_forward_hook(_tell(name, work, macs)).remove)
            inputs = [
                torch.empty((self._batch, tensor.channels, *tensor.shape), dtype=self._stored, device=device)
                for tensor in plan.input_tensors.values()
            ]
            with (
                torch.set_grad_enabled(self._training),
                torch.autocast(device_type, self._dtype, enabled=self._mixed),
            ):
                outputs = net(*inputs)
                loss = sum(output.sum() for output in outputs) if self._training else None
            forward = work.macs
            if isinstance(loss, Tensor) and loss.requires_grad:
                loss.backward()
            return Cost(
                macs=macs,
                backward_macs=work.macs - forward,
                weights=weights,
                gradients=memory.gradients,
                activations=memory.peak - weights - memory.gradients_at_peak,
                peak=memory.peak,
            )

    def _copy(self) -> tuple[AbstractContextManager[Any], nn.ModuleDict, torch.device]:
        """Return the context of the copy, the copies of the nodes by identifier, and the device for inputs."""
        if self._copied is None:
            fake = fake_tensors()
            with fake, collect_garbage_by_hand():
                module, device = fake_copy(nn.ModuleDict(self._graph.nodes), self._stored)
                module.train(self._training)
                for layer in module.modules():
                    if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
                        layer.eval()  # takes as much; in training mode torch refuses a plan of one voxel
            self._copied = fake, cast(nn.ModuleDict, module), device
        return self._copied


def _tell(name: str, work: WorkCounter, macs: dict[str, int]) -> Callable[..., None]:
    """Return a hook to call after a node's pass: nodes run one after another, and no work is done between them."""

    def tell(*_: Any) -> None:
        if name not in macs:  # it is, if the backward pass computes the node again
            macs[name] = work.macs - sum(macs.values())

    return tell
