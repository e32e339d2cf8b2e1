"""ScaleNet here against PyPI's LeibNetz, and against the single U-Net of its finest scale.

    pip install --no-deps leibnetz
    python benchmarks/forward.py                  # all of it, about a quarter of an hour on two cores
    python benchmarks/forward.py --only unet      # one part

Both sides run in one process, in turn, with the same weights and the same outputs; times are medians. LeibNetz is
measured twice: with the C library's allocator as it is, and as `scalenet_gp.kernels.keep_freed_memory` sets it, which
helps LeibNetz too. Each peak memory is that of a process of its own, without the memory that it held before the inputs
were made.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from arithmetic_limit import random_tensor, record_convolutions
from funlib.geometry import Roi
from leibnetz_peer import build_leibnetz_scalenet
from measuring import (
    Pass,
    autocast,
    bfloat16_is_native,
    in_turn,
    inference,
    random_inputs,
    ratio,
    resident,
    training,
)
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scalenet_gp import LeibNet, Plan, build_scalenet, build_unet
from scalenet_gp.interop import load_leibnetz_weights
from scalenet_gp.kernels import channels_last, choose_device, keep_freed_memory

SUBNETS = [{"top_resolution": (size,) * 3, "base_nc": 12, "norm_layer": None} for size in (128, 32, 8)]
LEIBNETZ_INPUTS = {"0_input": 76, "1_input": 156, "2_input": 332}
LEIBNETZ_OUTPUTS = {"0_output": 36, "1_output": 96, "2_output": 128}
PARTS = ("leibnetz", "unet", "rate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="measure one part")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (3)")
    parser.add_argument("--device", help="torch device; the first GPU if there is one")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    if arguments.peak_of:
        print(json.dumps(peak_memory(json.loads(arguments.peak_of), device)))
        return
    console = Console()
    threads = f"{torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    console.print(f"torch {torch.__version__}, {device}, {threads}, median of {arguments.repeats}")
    if not bfloat16_is_native(device):
        console.print("bfloat16 is left out: this processor has no instructions for it, and torch would emulate it")
    for part in PARTS:
        if arguments.only in (None, part):
            console.print(globals()[f"against_{part}"](arguments.repeats, device))


# ------------------------------------------------------------------------------------------------ against LeibNetz


def against_leibnetz(repeats: int, device: torch.device) -> Table:
    """Return the table of LeibNetz's ScaleNet and ours."""
    theirs, ours, plan = same_networks(device)
    their_inputs, our_inputs = same_inputs(ours, plan, device)
    table = Table("128/32/8 nm ScaleNet", "allocator", "LeibNetz", "scalenet_gp", "ratio", title="Time, s")
    with torch.no_grad():
        table.caption = agreement(theirs, ours, plan)
    # first, as memory that this process keeps later is not free for the processes that are measured
    for work in ("forward", "training step"):
        peaks = [peak_of(side=side, work=work, device=str(device)) for side in ("leibnetz", "ours")]
        record(
            table, f"{work}, fp32: peak memory, GiB", "as it is", *(f"{p / 2**30:.2f}" for p in peaks), ratio(*peaks)
        )
    smallest = smallest_step(ours, device)
    for allocator in ("as it is", "keeps memory") if device.type == "cpu" else ("torch's",):
        if allocator == "keeps memory" and not keep_freed_memory():
            continue
        for dtype in [torch.float32] + [torch.bfloat16] * bfloat16_is_native(device):
            sides = (
                autocast(lambda: theirs(dict(their_inputs)), dtype, device),
                autocast(lambda: ours(our_inputs, plan), dtype, device),
            )
            name = {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
            forward = in_turn([inference(side) for side in sides], repeats, device)
            step = in_turn(
                [training(side, net) for side, net in zip(sides, (theirs, ours), strict=True)], repeats, device
            )
            small = in_turn([training(autocast(smallest, dtype, device), ours)], 5 * repeats, device)
            record(table, f"forward, {name}", allocator, *times(*forward))
            record(table, f"training step, {name}", allocator, *times(*step))
            record(table, f"smallest training step, {name}", allocator, *times(step[0], small[0]))
    return table


def same_networks(device: torch.device) -> tuple[Any, LeibNet, Plan]:
    """Return LeibNetz's ScaleNet, ours with its weights, and our plan for LeibNetz's default outputs."""
    theirs = build_leibnetz_scalenet(SUBNETS, LEIBNETZ_INPUTS).to(device)
    ours = build_scalenet(SUBNETS)
    load_leibnetz_weights(ours, theirs.state_dict())
    return theirs, ours.to(device), ours.plan(centered(ours, LEIBNETZ_OUTPUTS))


def same_inputs(ours: LeibNet, plan: Plan, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return random inputs of LeibNetz's size, and the crops of them that ours needs. All tensors have one center."""
    generator = torch.Generator().manual_seed(0)
    theirs = {key: torch.rand((1, 1, *(n,) * 3), generator=generator) for key, n in LEIBNETZ_INPUTS.items()}
    parts = {}
    for key, roi in centered(ours, LEIBNETZ_INPUTS).items():
        first = (plan.inputs[key].begin - roi.begin) / ours.voxel_size[key]
        size = plan.inputs[key].shape / ours.voxel_size[key]
        parts[key] = theirs[key][(..., *(slice(f, f + s) for f, s in zip(first, size, strict=True)))].clone()
    return tuple({key: tensor.to(device) for key, tensor in side.items()} for side in (theirs, parts))  # type: ignore[return-value]


def centered(net: LeibNet, voxels: Mapping[str, int]) -> dict[str, Roi]:
    """Return ROIs of that many voxels per axis, around the origin."""
    sizes = {key: net.voxel_size[key] * n for key, n in voxels.items()}
    return {key: Roi(size / -2, size) for key, size in sizes.items()}


def agreement(theirs: nn.Module, ours: LeibNet, plan: Plan) -> str:
    """Return the largest difference between the fp32 outputs, and of each from float64, which is the rounding error.

    Raises:
        SystemExit: the outputs differ by more than rounding explains.
    """
    their_inputs, our_inputs = same_inputs(ours, plan, next(ours.parameters()).device)
    expected, outputs = theirs(dict(their_inputs)), ours(our_inputs, plan)
    exact = copy.deepcopy(ours).double()({key: tensor.double() for key, tensor in our_inputs.items()}, plan)

    def largest(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
        return max((first[key] - second[key]).abs().max().item() for key in outputs)

    apart = largest(outputs, expected)
    if apart > 1e-4:
        raise SystemExit(f"the outputs differ by {apart}: the two sides cannot be compared")
    return (
        f"largest difference between the fp32 outputs: {apart:.1e}; from float64: LeibNetz "
        f"{largest(expected, exact):.1e}, scalenet_gp {largest(outputs, exact):.1e}"
    )


def smallest_step(net: LeibNet, device: torch.device) -> Pass:
    """Return a pass of 4³ output voxels of 8 nm and the coarser ones around them; its inputs are 52³, 52³ and 44³."""
    rois = {"0_output": Roi((0,) * 3, (128,) * 3), "1_output": Roi((0,) * 3, (64,) * 3)}
    plan = net.plan({**rois, "2_output": Roi((16,) * 3, (32,) * 3)})
    inputs = random_inputs(plan, device)
    return lambda: net(inputs, plan)


# ------------------------------------------------------------------------------------------- against a single U-Net


def against_unet(repeats: int, device: torch.device) -> Table:
    """Return the table of a single U-Net and the ScaleNet."""
    table = Table(
        "output", "", "U-Net, 8 nm", "ScaleNet, 128/32/8 nm", "ratio", title="The cost of context, memory kept"
    )
    scalenet, unet = build_scalenet(SUBNETS).to(device), build_unet((8, 8, 8), norm_layer=None).to(device)
    if device.type == "cpu":
        keep_freed_memory()
    for voxels in (64, 128):
        plans = [unet.plan(centered(unet, {"output": voxels})), scalenet.plan(centered(scalenet, {"2_output": voxels}))]
        sides = []
        for net, plan in zip((unet, scalenet), plans, strict=True):
            inputs = random_inputs(plan, device)
            sides.append(lambda net=net, plan=plan, inputs=inputs: net(inputs, plan))
        for work, wrapped in {
            "forward": [inference(side) for side in sides],
            "training step": [training(side, net) for side, net in zip(sides, (unet, scalenet), strict=True)],
        }.items():
            per_voxel = [t / voxels**3 * 1e6 for t in in_turn(wrapped, 3 * repeats, device)]
            record(
                table, f"{voxels}³", f"{work}, µs per voxel", *(f"{t:.3f}" for t in per_voxel), ratio(*per_voxel[::-1])
            )
            peaks = [peak_of(side=s, work=work, device=str(device), voxels=voxels) for s in ("unet", "scalenet")]
            row = (f"{peak / voxels**3 / 1024:.2f}" for peak in peaks)
            record(table, f"{voxels}³", f"{work}, KiB per voxel at the peak", *row, ratio(*peaks[::-1]))
    seen = [
        max(net.receptive_field(key).values(), key=lambda size: size[0])
        for net, key in ((unet, "output"), (scalenet, "2_output"))
    ]
    record(table, "1³", "receptive field, nm", *(str(size[0]) for size in seen), ratio(seen[1][0], seen[0][0]))
    return table


# ------------------------------------------------------------------------------------share of the convolution rate


def against_rate(repeats: int, device: torch.device) -> Table:
    """Return the table of the network's rate, its convolutions' alone, and the fastest convolution's."""
    net = build_scalenet(SUBNETS).to(device)
    plan = net.plan(centered(net, LEIBNETZ_OUTPUTS))
    inputs = random_inputs(plan, device)
    if device.type == "cpu":
        keep_freed_memory()
    with torch.no_grad(), FlopCounterMode(display=False) as counter, record_convolutions() as convolutions:
        net(inputs, plan)
    operations = counter.get_total_flops()
    alone = 0.0
    for shapes, options in convolutions:
        tensors = [None if shape is None else random_tensor(shape, device) for shape in shapes]
        computed = partial(torch.ops.aten.convolution, *tensors, *options)
        alone += in_turn([inference(lambda computed=computed: {"": computed()})], repeats, device)[0]
    x, best = channels_last(torch.rand((1, 48, 64, 64, 64), device=device)), nn.Conv3d(48, 48, 3).to(device)
    best.weight.data = channels_last(best.weight.data)
    fastest = in_turn([inference(lambda: {"": best(x)})], 3 * repeats, device)[0]
    fastest_rate = 2 * 48 * 48 * 27 * 62**3 / fastest
    whole = in_turn([inference(lambda: net(inputs, plan))], repeats, device)[0]
    table = Table("forward, fp32, memory kept", "Gflop/s", "share", title="Share of the convolution rate")
    record(table, "48 to 48 channels, 3³, 64³ voxels", f"{fastest_rate / 1e9:.0f}", "100 %")
    record(table, "the network's convolutions, one by one", *rate(operations, alone, fastest_rate))
    record(table, "the whole network", *rate(operations, whole, fastest_rate))
    return table


def record(table: Table, *cells: str) -> None:
    """Add a row to the table, and print it at once, as the others take minutes."""
    table.add_row(*cells)
    Console(stderr=True).print("  ".join(cells), highlight=False)


def rate(operations: int, seconds: float, of: float) -> tuple[str, str]:
    """Return Gflop/s, and the share of the rate ``of``, in words."""
    return f"{operations / seconds / 1e9:.0f}", f"{100 * operations / seconds / of:.0f} %"


# -------------------------------------------------------------------------------------------------------- measuring


def times(theirs: float, ours: float) -> tuple[str, str, str]:
    """Return both times and their ratio in words."""
    return f"{theirs:.3g}", f"{ours:.3g}", ratio(theirs, ours)


def peak_of(**what: Any) -> int:
    """Return :func:`peak_memory`, measured in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", json.dumps(what), "--device", what["device"]]
    return int(
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    )


def peak_memory(what: Mapping[str, Any], device: torch.device) -> int:
    """Return the peak memory of one pass in bytes, with inputs and without weights."""
    run: Pass
    net: nn.Module
    if what["side"] in ("leibnetz", "ours"):
        theirs, ours, plan = same_networks(device)
        before = resident(device)
        if what["side"] == "leibnetz":
            net, inputs = theirs, random_leibnetz_inputs(device)
            run = lambda: theirs(inputs)  # noqa: E731
        else:
            net, inputs = ours, random_inputs(plan, device)
            run = lambda: ours(inputs, plan)  # noqa: E731
    else:
        built = build_unet((8, 8, 8), norm_layer=None) if what["side"] == "unet" else build_scalenet(SUBNETS)
        built = built.to(device)
        plan = built.plan(centered(built, {built.output_keys[-1]: what["voxels"]}))
        before = resident(device)
        net, inputs = built, random_inputs(plan, device)
        run = lambda: built(inputs, plan)  # noqa: E731
    (inference(run) if what["work"] == "forward" else training(run, net))()
    return resident(device, peak=True) - before


def random_leibnetz_inputs(device: torch.device) -> dict[str, Tensor]:
    return {key: torch.rand((1, 1, *(n,) * 3), device=device) for key, n in LEIBNETZ_INPUTS.items()}


if __name__ == "__main__":
    main()
