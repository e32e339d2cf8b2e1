"""Several processes that train one network together, as torchrun starts them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scalenet_gp.errors import ArgumentError
from scalenet_gp.kernels import choose_device
from scalenet_gp.training.liveness import watchdog

__all__ = ["ProcessGroup", "distributed_context"]

Net = TypeVar("Net", bound=nn.Module)

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_LOST = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused")
"""What the transports beneath torch write when a process at the other end has gone."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among those that train together; by default there is no other.

    Each has the same network, in which each computes samples of its own. The loss is of all of them: every rank
    :meth:`gathers <gathered>` predictions and targets and computes it alike, so that means and ratios over a batch are
    what one process with all the samples would get, and so is the gradient. All methods but the properties are for
    every rank to call, in the same order; a process that is alone gets back what it gave.

    Attributes:
        rank: which one this is, from 0.
        size: how many there are.
        local_rank: which one it is on this machine.
        device: where this one computes.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device | None = None

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes checkpoints and logs, and tells of progress."""
        return self.rank == 0

    def synchronised(self, net: Net) -> Net:
        """``net`` itself, with batch normalisation over the samples of all ranks, by torch's ``SyncBatchNorm``.

        Parameters and statistics stay the same tensors under the same names; ``net`` has to be on its device.

        Raises:
            ValueError: it is on the processor, for which torch has no such layer.
        """
        if self.alone:
            return net
        normalising = [name for name, module in net.named_modules() if isinstance(module, _BATCH_NORMS)]
        on_processor = any(tensor.device.type == "cpu" for tensor in net.state_dict().values())
        if normalising and on_processor:
            raise ArgumentError(
                f"{normalising[0]!r} normalises over the batch, whose samples lie in {self.size} processes; torch does "
                "so on GPUs only. Train in one process, on GPUs, or with norm_layer='group'"
            )
        return nn.SyncBatchNorm.convert_sync_batchnorm(net) if normalising else net

    def parallel(self, module: nn.Module, partial: bool = False) -> nn.Module:
        """``module``, such that a backward pass leaves the mean of all ranks' gradients on every rank.

        All ranks begin with the weights and statistics of rank 0. It has to be on its device, and what is frozen to be
        so already. Every backward pass makes the gradients equal, those of a step of several batches too: what has
        been accumulated is the same everywhere at any time, so that any checkpoint holds all of it.

        Args:
            module: what computes.
            partial: whether a pass may leave out parameters, as one for some of the outputs does. torch waits for their
                gradients otherwise.

        Raises:
            RuntimeError: the ranks' modules differ in their parameters.
        """
        if self.alone:
            return module
        return DistributedDataParallel(module, find_unused_parameters=partial)

    def gathered(self, tensor: Tensor) -> Tensor:
        """The samples of all ranks, in their order, (ranks * B, ...).

        Gradients flow back to the samples of this rank, times the number of ranks, since the mean over the ranks
        follows: a loss that every rank computes alike from gathered tensors gets the gradient that it would have in one
        process.

        Args:
            tensor: (B, ...), floats, of the same shape on every rank.
        """
        if self.alone:
            return tensor
        joint: Tensor = _Gathered.apply(tensor, self.rank, self.size)
        return joint

    def all_gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """:meth:`gathered`, of each."""
        return {name: self.gathered(tensor) for name, tensor in tensors.items()}

    def any_rank(self, here: bool) -> bool:
        """Whether it is so on any rank. Decisions that ranks must not part by take this; it waits for all of them."""
        if self.alone:
            return here
        flag = torch.tensor(int(here))  # on the processor, where no queue of a GPU has to run empty first
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def broadcast(self, value: float) -> float:
        """The number that rank 0 gives, whatever the others give."""
        if self.alone:
            return value
        number = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(number, src=0)
        return number.item()

    def check_same(self, what: str, number: int) -> None:
        """Refuse to go on with ranks that differ in a number.

        Raises:
            ValueError: they do; on every rank.
        """
        if self.alone:
            return
        numbers = [torch.zeros((), dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(numbers, torch.tensor(number, dtype=torch.int64))
        if len({int(each) for each in numbers}) > 1:
            raise ArgumentError(f"{what} differs among the ranks: {', '.join(str(int(each)) for each in numbers)}")


@contextmanager
def distributed_context(
    device: str | torch.device | None = None, *, longest_wait: float = 3600.0
) -> Iterator[ProcessGroup]:
    """Meet the other processes that torchrun started; outside of torchrun there are none.

    On GPUs every process takes the one of its number on its machine. If a process dies, the others end within a minute,
    with a message, however long they may wait for one that is alive; see :func:`.watchdog`. If one fails, they do so
    too: they are not to be used after an error.

    Args:
        device: name of a torch device; GPUs unless given, the processor where there are none.
        longest_wait: for how many seconds one may wait for the others, say while rank 0 writes or judges.

    Raises:
        ValueError: the device is not there or one for all, or a variable that torchrun sets is missing.
        ConnectionError: another process has gone.
    """
    chosen = choose_device(device)
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield ProcessGroup(device=chosen)
        return
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise ArgumentError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} are not in the environment; start "
            "several processes with torchrun, or unset it"
        )
    rank, size, local_rank = (int(os.environ[name]) for name in _VARIABLES[:3])
    ranks = ProcessGroup(rank, size, local_rank, _own(chosen, local_rank))
    backend = "gloo" if chosen.type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, rank=rank, world_size=size, timeout=timedelta(seconds=longest_wait))
    try:
        with watchdog(rank, size), warnings.catch_warnings():
            # with one channel, channels first and last are the same, but for how torch writes it down
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield ranks
            ranks.any_rank(False)  # none leaves while another is still to be served
    except RuntimeError as error:
        if any(text in str(error) for text in _LOST):
            raise ConnectionError(
                f"rank {rank} of {size} has lost another one, which was killed or failed; what that one wrote last, or "
                f"torchrun below, says which and why ({error})"
            ) from error
        raise
    dist.destroy_process_group()  # not after an error: it would wait for the others


def _own(device: torch.device, local_rank: int) -> torch.device:
    if device.type != "cuda":
        return device
    if device.index is not None:
        raise ArgumentError(f"device {str(device)!r} is one for all processes; write 'cuda', and each takes its own")
    if local_rank >= torch.cuda.device_count():
        raise ArgumentError(
            f"this is process {local_rank} on its machine, counted from 0, which has {torch.cuda.device_count()} GPUs; "
            "--nproc-per-node can be that at most"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


class _Gathered(torch.autograd.Function):
    """torch's own autograd-aware all_gather is deprecated, and sends gradients around that are equal everywhere."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.size, ctx.samples = rank, size, len(tensor)
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].narrow(0, ctx.rank * ctx.samples, ctx.samples) * ctx.size, None, None
