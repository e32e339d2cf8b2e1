"""The sides of `train.py`: gunpowder's node and ours behind the same chain, with the same network and clock."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any

import gunpowder as gp
import torch
from data_volume import augment
from funlib.geometry import Roi
from torch import Tensor, nn

from scalenet_gp import LeibNet, build_scalenet
from scalenet_gp.kernels import keep_freed_memory
from scalenet_gp.losses import CrossEntropyDice
from scalenet_gp.nodes import (
    GunpowderModel,
    MultiscaleSource,
    Prefetch,
    SampleLocation,
    Stack,
    Supervision,
    Train,
    UniformSampler,
)
from scalenet_gp.nodes.arrays import SampleArrays
from scalenet_gp.training import CheckpointOptions, ComputeConfig, Optimization, TensorBoardLog, Trainer
from scalenet_gp.volumes import ChunkCache, MultiscaleImage

__all__ = ["LENGTH", "NETWORKS", "Run", "Stopwatch", "threads", "training"]

LENGTH = 8192
REGION = Roi((3072,) * 3, (2048,) * 3)
LOSS = partial(CrossEntropyDice(), activation="Sigmoid")


@dataclass(frozen=True)
class Network:
    """A ScaleNet and the outputs that are trained.

    Attributes:
        outputs: voxels per axis of the output at each voxel size (nm), coarse ones first.
        channels: channels at the finest level.
        levels: number of times that each subnet halves the resolution.
    """

    outputs: Mapping[int, int]
    channels: int
    levels: int = 2

    def build(self) -> LeibNet:
        """Return the network, with the weights of seed 0. Its outputs are logits."""
        torch.manual_seed(0)
        common = {
            "base_nc": self.channels,
            "downsample_factors": [(2, 2, 2)] * self.levels,
            "final_activation": "Identity",
        }
        return build_scalenet([{"top_resolution": (size,) * 3, **common} for size in self.outputs])

    def rois(self, net: LeibNet) -> dict[str, Roi]:
        """Return the ROIs of the outputs, around the origin."""
        sizes = {
            name: net.voxel_size[name] * voxels
            for name, voxels in zip(net.output_keys, self.outputs.values(), strict=True)
        }
        return {name: Roi(size / -2, size) for name, size in sizes.items()}


NETWORKS = {
    "small": Network({32: 8, 8: 16}, 8),
    "tiny": Network({32: 4, 8: 4}, 2, levels=1),
    "large": Network({128: 12, 32: 24, 8: 64}, 12),
}


@dataclass(frozen=True)
class Run:
    """One measurement, in a process of its own.

    Attributes:
        volume: the volume to read.
        node: the node that trains: "gunpowder" or "ours".
        network: one of NETWORKS.
        workers: number of workers that make batches.
        batch: samples per batch.
        compute: arguments of :class:`ComputeConfig`.
        folder: folder for checkpoints and a log at its default intervals. By default neither is written.
        seconds: least duration.
        iterations: least number of iterations.
    """

    volume: str
    node: str = "ours"
    network: str = "small"
    workers: int = 1
    batch: int = 1
    compute: Mapping[str, Any] = field(default_factory=dict)
    folder: str | None = None
    seconds: float = 0
    iterations: int = 20


class Stopwatch:
    """Seconds of each call of the timed functions, by the part of a step."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its calls timed."""

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part].append(time.perf_counter() - begun)

        return run

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the default optimizer of a run, timed."""
        optimizer = Optimization().make_optimizer(parameters)
        for name in ("step", "zero_grad"):
            setattr(optimizer, name, self.timed("optimizer", getattr(optimizer, name)))
        return optimizer


@contextmanager
def training(run: Run, watch: Stopwatch) -> Iterator[tuple[Callable[[], gp.Batch], Trainer | None]]:
    """Build the chain; yield the function that does one step, and our trainer if it is ours.

    Options are those of the command line, as far as gunpowder's node has them.
    """
    torch.set_num_threads(threads(run))
    keep_freed_memory()
    network = NETWORKS[run.network]
    net = network.build()
    arrays = SampleArrays.of(net)
    voxel_sizes = {key: net.voxel_size[name] for keys in (arrays.inputs, arrays.targets) for name, key in keys.items()}
    volume = MultiscaleImage.open(Path(run.volume) / "raw", cache=ChunkCache(2**28))
    chain = MultiscaleSource(volume, voxel_sizes, padding="reflect")
    chain += augment(arrays.inputs.values())
    chain += SampleLocation(arrays.targets[net.output_keys[-1]], UniformSampler(REGION))
    prefetch = Prefetch(run.workers, seed=0)
    chain += Stack(run.batch) + prefetch
    make = ours if run.node == "ours" else theirs
    node, request = make(run, net, network.rois(net), arrays, watch)
    prefetch.provide = watch.timed("waiting", prefetch.provide)  # type: ignore[method-assign]
    plain, Tensor.backward = Tensor.backward, watch.timed("backward", Tensor.backward)  # type: ignore[method-assign]
    try:
        with gp.build(chain + node) as pipeline:
            trainer = node.trainer if isinstance(node, Train) else None
            if trainer is not None:
                for name in ("forward", "advance"):
                    setattr(trainer.state, name, watch.timed(name, getattr(trainer.state, name)))
            yield lambda: pipeline.request_batch(gp.BatchRequest(request)), trainer
    finally:
        Tensor.backward = plain  # type: ignore[method-assign]


def threads(run: Run) -> int:
    """Return the number of torch's threads: one for each core without a worker."""
    return max(1, len(os.sched_getaffinity(0)) - run.workers)


def ours(
    run: Run, net: LeibNet, rois: Mapping[str, Roi], arrays: SampleArrays, watch: Stopwatch
) -> tuple[gp.BatchFilter, gp.BatchRequest]:
    loss = watch.timed("loss", LOSS)
    log = checkpoints = None
    if run.folder is not None:
        log, checkpoints = TensorBoardLog(Path(run.folder) / "log"), Path(run.folder) / "checkpoints"
        log.write = watch.timed("log", log.write)  # type: ignore[method-assign]
    node = Train(
        net,
        arrays.inputs,
        {name: Supervision(arrays.predictions[name], arrays.targets[name], loss=loss) for name in rois},
        optimization=Optimization(optimizer=watch.optimizer),
        compute=ComputeConfig(**run.compute),
        checkpoints=checkpoints,
        checkpoint_options=CheckpointOptions(every=250),
        log=log,
    )
    request = gp.BatchRequest()
    for name, roi in rois.items():
        request[arrays.predictions[name]] = gp.ArraySpec(roi=roi)
    return node, request


def theirs(
    run: Run, net: LeibNet, rois: Mapping[str, Roi], arrays: SampleArrays, watch: Stopwatch
) -> tuple[gp.BatchFilter, gp.BatchRequest]:
    raw, targets, predictions = arrays.inputs, arrays.targets, arrays.predictions
    model = GunpowderModel(net, net.plan(rois))
    model.forward = watch.timed("forward", model.forward)  # type: ignore[method-assign]
    loss = watch.timed("loss", LOSS)

    def summed(*made: Tensor) -> Tensor:
        """Return the sum over pairs of prediction and target, which are annotated everywhere."""
        pairs = zip(made[::2], made[1::2], strict=True)
        return torch.stack([loss(p, target, torch.ones_like(p)) for p, target in pairs]).sum()

    node = gp.torch.Train(
        model,
        summed,
        watch.optimizer(model.parameters()),
        inputs=raw,
        outputs={number: predictions[name] for number, name in enumerate(rois)},
        loss_inputs=dict(enumerate(key for name in rois for key in (predictions[name], targets[name]))),
        array_specs=model.array_specs(predictions),
        checkpoint_basename=f"{run.volume}_no_checkpoint",
        save_every=sys.maxsize,
    )
    request = model.request({**raw, **predictions})
    for name, roi in rois.items():
        request[targets[name]] = gp.ArraySpec(roi=roi)
    return node, request
