"""Time and peak memory of forward passes and training steps, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from scalenet_gp import Plan

__all__ = [
    "Pass",
    "autocast",
    "bfloat16_is_native",
    "in_turn",
    "inference",
    "random_inputs",
    "ratio",
    "resident",
    "training",
]

Pass = Callable[[], dict[str, Tensor]]


def random_inputs(plan: Plan, device: torch.device) -> dict[str, Tensor]:
    """Return random inputs (1, C, Z, Y, X) of the plan's shapes."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.rand((1, tensor.channels, *tensor.shape), generator=generator).to(device)
        for key, tensor in plan.input_tensors.items()
    }


def bfloat16_is_native(device: torch.device) -> bool:
    """Return True if the device has instructions for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"))


def autocast(run: Pass, dtype: torch.dtype, device: torch.device) -> Pass:
    """Return a function that runs the pass in a precision."""

    def cast() -> dict[str, Tensor]:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return run()

    return cast


def inference(run: Pass) -> Callable[[], object]:
    """Return a function that runs the pass without gradients."""
    return torch.no_grad()(run)


def training(run: Pass, net: nn.Module) -> Callable[[], object]:
    """Return a training step without the optimizer, which is the same on both sides."""

    def step() -> None:
        net.zero_grad(set_to_none=True)
        torch.stack([output.float().mean() for output in run().values()]).sum().backward()

    return step


def in_turn(sides: list[Callable[[], object]], repeats: int, device: torch.device) -> list[float]:
    """Return the median seconds of each side. The sides take turns, so that other load slows both."""
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, seconds in zip(sides, taken, strict=True):
            started = time.perf_counter()
            side()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in taken]


def ratio(first: float, second: float) -> str:
    return f"{first / second:.3g} ×"


def resident(device: torch.device, peak: bool = False) -> int:
    """Return the bytes that the process holds, or held at its peak."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) if peak else torch.cuda.memory_allocated(device)
    name = "VmHWM:" if peak else "VmRSS:"
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))
