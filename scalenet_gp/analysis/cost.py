"""What a plan costs, known before anything is allocated: its pass is run on tensors that have shapes and no values."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from scalenet_gp.errors import GraphError
from scalenet_gp.graph import Plan, Specialised
from scalenet_gp.kernels import are_handed_over, channels_last

if TYPE_CHECKING:
    from scalenet_gp.inference import IntensityWindow, SlabbedInference
    from scalenet_gp.leibnet import LeibNet

__all__ = ["Cost", "predict_cost", "predict_slabbed_memory"]

_aten = torch.ops.aten


@dataclass(frozen=True)
class Cost:
    """What one pass of a plan takes.

    A multiply-accumulate is one multiplication and one addition in a convolution or a matrix product; other work is
    not counted.

    Attributes:
        macs: multiply-accumulates of the forward pass per node, by identifier.
        backward_macs: those of the backward pass; 0 for inference.
        weights: bytes of weights and running statistics.
        gradients: bytes of the gradients of the weights; 0 for inference.
        activations: bytes of all else at the moment when the most memory is in use: inputs, tensors in between, what
            is kept for the backward pass, and what convolutions need while they run.
        peak: bytes of everything at that moment. The gradients come one after another, so not all need be there.
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
    net: LeibNet,
    plan: Plan,
    *,
    batch: int = 1,
    training: bool = False,
    dtype: torch.dtype = torch.float32,
    activation_checkpointing: Collection[str] = (),
) -> Cost:
    """What a pass of ``plan`` takes, without allocating it, on the device where the weights of ``net`` are.

    Inference is a forward pass without gradients, with weights and inputs of ``dtype``. Training is a forward pass and
    the backward pass of a sum of the outputs; what a loss and an optimiser need comes on top. With ``bfloat16`` or
    ``float16`` its weights and inputs are ``float32`` under :class:`torch.autocast`.

    What the CPU's convolutions allocate for a moment is part of it, and depends, as the choice of their
    implementation does, on the number of threads that torch uses now; what those of other devices allocate is not. Nor
    is what an allocator keeps of the memory that it gets back: glibc's keeps blocks of up to 32 MiB, which can be a
    third of the peak of a pass of many such tensors, unless ``MALLOC_MMAP_THRESHOLD_`` is set in the environment.

    Args:
        net: the network. It is left as it is: weights, statistics, gradients, mode and random state.
        plan: a plan of it.
        batch: samples per pass.
        training: predict a step of training, with the modules in training mode; else inference, in evaluation mode.
        dtype: a floating point type.
        activation_checkpointing: identifiers of nodes whose insides are computed again in the backward pass instead of
            kept, as for
            :meth:`.LeibNet.forward`; that work counts as the backward pass's.

    Raises:
        ValueError: the plan is another network's, ``batch`` is not positive, or ``dtype`` is no floating point type.
    """
    _check_arguments(batch, dtype)
    mixed = training and dtype.itemsize < torch.float32.itemsize
    stored = torch.float32 if mixed else dtype
    with FakeTensorMode(), ExitStack() as within:
        within.enter_context(_collection_by_hand())
        module, device = _without_values(net.specialise(plan, activation_checkpointing), stored)
        module.train(training)
        memory, flops = _Memory(), FlopCounterMode(display=False, custom_mapping=_ATTENTION)
        within.enter_context(flops)
        within.enter_context(memory)
        memory.follow([*module.parameters(), *module.buffers()])
        weights = memory.live
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(memory.hold_gradient)
        inputs = [
            torch.empty((batch, tensor.channels, *tensor.shape), dtype=stored, device=device)
            for tensor in plan.input_tensors.values()
        ]
        with torch.set_grad_enabled(training), torch.autocast(device.type, dtype, enabled=mixed):
            outputs = module(*inputs)
            loss = sum(output.sum() for output in outputs) if training else None
        macs = _macs_by_node(plan, flops)
        forward = flops.get_total_flops()
        if isinstance(loss, Tensor) and loss.requires_grad:
            loss.backward()
        return Cost(
            macs=macs,
            backward_macs=(flops.get_total_flops() - forward) // 2,
            weights=weights,
            gradients=memory.gradients,
            activations=memory.peak - weights - memory.gradients_at_peak,
            peak=memory.peak,
        )


def predict_slabbed_memory(
    net: LeibNet,
    sweep: SlabbedInference,
    *,
    dtype: torch.dtype = torch.float32,
    intensities: IntensityWindow | None = None,
    limit: int | None = None,
) -> int:
    """Bytes that a sweep takes at most, weights included, on the device where those of ``net`` are: inference.

    Nothing is allocated. Convolutions are taken to run within :class:`.OneDnnConvolutions`. Of the inputs, which may be
    elsewhere and are float32 without ``intensities``, only the slabs that are taken in count, and they only where
    ``intensities`` or ``dtype`` make something else of them. All else is as for :func:`predict_cost`.

    Args:
        net: the network that the sweep is for.
        sweep: what :meth:`.SlabbedInference.of` gave.
        dtype: a floating point type, of weights and all that is computed.
        intensities: as for :meth:`.SlabbedInference.run`.
        limit: the first sum beyond it is returned, as soon as it is reached.

    Raises:
        ValueError: the sweep is another network's, or ``dtype`` is no floating point type.
    """
    _check_arguments(1, dtype)
    memory = _Memory(limit, handing_over=True)
    with FakeTensorMode(), torch.no_grad(), suppress(_BeyondLimitError):
        module, device = _without_values(net.specialise(sweep.plan), dtype)
        module.eval()
        raw = torch.float32 if intensities is None else intensities.dtype
        inputs = {
            name: torch.empty((1, tensor.channels, *tensor.shape), dtype=raw, device=device)
            for name, tensor in sweep.plan.input_tensors.items()
        }
        memory.leave_out(inputs.values())  # they are the caller's
        with memory:
            memory.follow([*module.parameters(), *module.buffers()])
            sweep.execute(module.nodes, inputs, intensities)  # type: ignore[arg-type]
    return memory.peak


def _check_arguments(batch: int, dtype: torch.dtype) -> None:
    if batch < 1:
        raise GraphError(f"a batch has at least one sample, not {batch}")
    if not dtype.is_floating_point:
        raise GraphError(f"a network computes in a floating point type, not in {dtype}")


def _without_values(module: Specialised, dtype: torch.dtype) -> tuple[nn.Module, torch.device]:
    """A copy whose tensors are the current fake mode's, of ``dtype`` where they are of a floating point type."""
    device = torch.device("cpu")
    replaced: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        device = tensor.device
        kept = dtype if tensor.is_floating_point() else tensor.dtype
        fake: Tensor = torch.empty_strided(tensor.shape, tensor.stride(), dtype=kept, device=device)
        replaced[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake
    return copy.deepcopy(module, replaced), device


def _macs_by_node(plan: Plan, flops: FlopCounterMode) -> dict[str, int]:
    counts = flops.get_flop_counts()
    return {
        step.node: sum(counts.get(f"{Specialised.__name__}.nodes.{step.node}", {}).values()) // 2 for step in plan.steps
    }


@contextmanager
def _collection_by_hand() -> Iterator[None]:
    """Have garbage collected where memory is looked at, and nowhere else.

    torch's counter of operations leaves tensors in garbage that refers to itself, and when Python finds that is a
    matter of chance.
    """
    automatic = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if automatic:
            gc.enable()


class _BeyondLimitError(Exception):
    """More memory is in use than there may be."""


class _Memory(TorchDispatchMode):
    """Follows the storages that operations make until they are let go of.

    Args:
        limit: when :attr:`peak` gets beyond it, :class:`_BeyondLimitError` is raised.
        handing_over: whether convolutions run within :class:`.OneDnnConvolutions`.

    Attributes:
        live: bytes in use now.
        peak: the most bytes that were in use at one moment.
        gradients: bytes of those that hold gradients of weights.
        gradients_at_peak: the same at the moment of the peak.
    """

    def __init__(self, limit: int | None = None, handing_over: bool = False) -> None:
        super().__init__()
        self._limit = limit
        self._handing_over = handing_over
        self.live = self.peak = self.gradients = self.gradients_at_peak = 0
        self._followed: set[int] = set()

    def follow(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in self._followed:
                self._followed.add(key)
                self.live += size
                weakref.finalize(storage, self._let_go, key, size)
        self._look(0)

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """Count no storage of ``tensors``, which live as long as this is used."""
        self._followed.update(tensor.untyped_storage()._cdata for tensor in tensors)

    def hold_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.gradients += parameter.grad.untyped_storage().nbytes()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        handed_over = self._handing_over and func is _aten.convolution.default and _is_handed_over(args)
        if handed_over:
            made = channels_last(made)  # as oneDNN makes it
        tensors = [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.follow(tensors)
        self._look(_workspace(func, args, tensors, handed_over))
        return made

    def _look(self, workspace: int) -> None:
        if self.live + workspace > self.peak:
            gc.collect(1)
        if self.live + workspace > self.peak:
            self.peak, self.gradients_at_peak = self.live + workspace, self.gradients
            if self._limit is not None and self.peak > self._limit:
                raise _BeyondLimitError

    def _let_go(self, key: int, size: int) -> None:
        self._followed.remove(key)
        self.live -= size


def _workspace(func: Any, args: tuple[Any, ...], made: list[Tensor], handed_over: bool) -> int:
    """Bytes that an operation on the CPU allocates within and frees again, where they are many: convolutions.

    They copy what does not lie in memory as they want it. oneDNN's reorder the weights besides. torch's own, which take
    its place for small tensors and for types that the processor lacks, unfold the input into columns, for the whole
    batch or for a sample at a time; in the backward pass of half precision they multiply into columns of float32. Of
    several groups, Slow3d takes the columns together; the others take one after another and join the results. Those
    that are handed over to oneDNN have their kernel copied, and set down twice, and one voxel longer, if it is paired.
    """
    if func is _aten.convolution.default:
        x, weight, bias, *options = args
        grads, bias_sizes, small = [], None if bias is None else bias.shape, made[0]
    elif func is _aten.convolution_backward.default:
        grad, x, weight, bias_sizes, *options, _ = args
        grads, small = [grad], grad
    else:
        return 0
    if x.device.type != "cpu":
        return 0
    *_, transposed, _, groups = options
    if handed_over:
        copied = 0 if x.is_contiguous(memory_format=_layout(x)) else _numbytes(x)
        return copied + _KERNEL_COPIES * _numbytes(weight)
    backend = torch._C._select_conv_backend(x, weight, None, *options, bias_sizes)
    layout = torch._C._conv_determine_backend_memory_format(x, weight, backend)
    copied = sum(_numbytes(t) for t in (x, *grads) if not t.is_contiguous(memory_format=layout))
    if backend.name.startswith("Mkldnn"):
        return copied + _numbytes(weight)
    if not backend.name.startswith("Slow"):
        return copied
    together = backend.name == "Slow3d"
    unfolded = math.prod(weight.shape[2:]) > 1 or (together and groups > 1)
    column = math.prod(weight.shape[1:]) * math.prod((x if transposed else small).shape[2:]) if unfolded else 0
    samples = x.shape[0] if backend.name in ("Slow2d", "Slow3d") else 1
    columns = samples * (groups if together else 1) * column * x.element_size()
    if grads and x.element_size() < torch.float32.itemsize:
        columns += column * torch.float32.itemsize
    return copied + (columns if together or groups == 1 else max(columns, _numbytes(made[0])))


def _is_handed_over(args: tuple[Any, ...]) -> bool:
    """Whether oneDNN computes the convolution with these arguments within :class:`.OneDnnConvolutions`."""
    x, weight, bias, _, padding, _, transposed, *_ = args
    return not transposed and are_handed_over(x, weight, bias, padding, x.dim() - 2)


def _layout(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d


_KERNEL_COPIES = 12
"""Kernels in memory at most while two of one and a half times the voxels are joined, turned round and reordered."""


def _numbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(gradient: torch.Size, query: torch.Size, key: torch.Size, *args: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, args[0])


_ATTENTION: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""The implementation of attention of which torch's counter does not know, counted as those are of which it does."""
