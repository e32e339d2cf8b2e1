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
"""Messages of the transports beneath torch when the process at the other end has gone."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among the processes that train one network together. By default it is alone.

    Each process has the same network and samples of its own. The loss is computed from the samples of all: every rank
    :meth:`gathers <gather>` predictions and targets and computes the same loss. So means and ratios over a batch, and
    gradients, are those of one process with all the samples.

    Every rank has to call the methods, in the same order. A process that is alone gets its own values back.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its machine, from 0.
        device: device of this process.

    Example:
        >>> group = ProcessGroup()
        >>> group.alone, group.is_main, group.gather(torch.ones(2, 3)).shape
        (True, True, torch.Size([2, 3]))
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device | None = None

    @property
    def alone(self) -> bool:
        """True if there is no other process."""
        return self.size == 1

    @property
    def is_main(self) -> bool:
        """True for the process that writes checkpoints and logs, and reports progress: rank 0."""
        return self.rank == 0

    def synchronize_norms(self, net: Net) -> Net:
        """Make batch normalization use the samples of all ranks, by torch's ``SyncBatchNorm``.

        Parameters and statistics stay the same tensors under the same names. The network has to be on its device.

        Returns:
            ``net`` itself, changed in place.

        Raises:
            ArgumentError: the network normalizes over the batch and is on the processor, for which torch has no such
                layer.
        """
        if self.alone:
            return net
        normalizing = [name for name, module in net.named_modules() if isinstance(module, _BATCH_NORMS)]
        on_processor = any(tensor.device.type == "cpu" for tensor in net.state_dict().values())
        if normalizing and on_processor:
            raise ArgumentError(
                f"{normalizing[0]!r} normalizes over the batch, whose samples lie in {self.size} processes; torch does "
                "so on GPUs only. Train in one process, on GPUs, or with norm_layer='calibrated_group'"
            )
        return nn.SyncBatchNorm.convert_sync_batchnorm(net) if normalizing else net

    def wrap_parallel(self, module: nn.Module, partial: bool = False) -> nn.Module:
        """Return ``module``, wrapped so that a backward pass leaves the mean of all ranks' gradients on every rank.

        All ranks begin with the weights and statistics of rank 0. Before the call, the module has to be on its device,
        and parameters have to be frozen. Every backward pass makes the gradients equal, also within a step of several
        batches. So accumulated gradients are the same on all ranks at any time, and a checkpoint holds all of them.

        Args:
            module: the module that computes outputs.
            partial: True if a pass may leave out parameters, as one for some of the outputs does. Otherwise torch waits
                for the gradients of all.

        Raises:
            RuntimeError: the ranks' modules differ in their parameters.
        """
        if self.alone:
            return module
        return DistributedDataParallel(module, find_unused_parameters=partial)

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the samples of all ranks, in the order of the ranks, (ranks * B, ...).

        Gradients flow back to the samples of this rank. They are multiplied by the number of ranks, because the mean
        over the ranks follows. So a loss that every rank computes from gathered tensors has the gradient that it would
        have in one process.

        Args:
            tensor: (B, ...), floats, of the same shape on every rank.
        """
        if self.alone:
            return tensor
        joint: Tensor = _Gathered.apply(tensor, self.rank, self.size)
        return joint

    def gather_all(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return :meth:`gather` of each tensor, by name."""
        return {name: self.gather(tensor) for name, tensor in tensors.items()}

    def any_rank(self, here: bool) -> bool:
        """Return True on all ranks if ``here`` is True on any: for decisions that all ranks have to take alike."""
        if self.alone:
            return here
        flag = torch.tensor(int(here))  # on the processor: no GPU has to finish its queue first
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def broadcast(self, value: float) -> float:
        """Return the number that rank 0 gives, on all ranks."""
        if self.alone:
            return value
        number = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(number, src=0)
        return number.item()

    def check_same(self, what: str, number: int) -> None:
        """Check that a number is the same on all ranks.

        Raises:
            ArgumentError: it differs. The error is raised on every rank.
        """
        if self.alone:
            return
        numbers = [torch.zeros((), dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(numbers, torch.tensor(number, dtype=torch.int64))
        if len({int(each) for each in numbers}) > 1:
            raise ArgumentError(f"{what} differs among the ranks: {', '.join(str(int(each)) for each in numbers)}")


_ended_groups: list[object] = []
"""Groups of processes that have ended, kept until this process ends."""


@contextmanager
def distributed_context(
    device: str | torch.device | None = None, *, longest_wait: float = 3600.0
) -> Iterator[ProcessGroup]:
    """Join the other processes that torchrun started. Without torchrun this process is alone.

    On GPUs, process i of a machine uses GPU i. If a process dies, the others end within a minute with a message, see
    :func:`.watchdog`; they wait longer for one that is alive. If a process fails, the others fail too: none can be used
    after an error.

    Args:
        device: name of a torch device. By default it is a GPU, or the processor where there is none.
        longest_wait: seconds that a process may wait for the others, for example while rank 0 writes or validates.

    Raises:
        ArgumentError: the device is not there, or is one GPU for all processes, or a variable that torchrun sets is
            missing.
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
            # with one channel, channels first and last are the same order with different strides
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
            yield ranks
            ranks.any_rank(False)  # no process leaves before all are done
    except RuntimeError as error:
        if any(text in str(error) for text in _LOST):
            raise ConnectionError(
                f"rank {rank} of {size} has lost another one, which was killed or failed; see the last messages of the "
                f"other ranks or of torchrun ({error})"
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
            f"this is process {local_rank} on its machine, counted from 0, but the machine has "
            f"{torch.cuda.device_count()} GPUs; --nproc-per-node can be at most that number"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


class _Gathered(torch.autograd.Function):
    """Gathers samples; torch's own function for it is deprecated and sends gradients that all ranks have already."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rank: int, size: int) -> Tensor:
        ctx.rank, ctx.size, ctx.samples = rank, size, len(tensor)
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].narrow(0, ctx.rank * ctx.samples, ctx.samples) * ctx.size, None, None
