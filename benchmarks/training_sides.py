"""What `train.py` compares: gunpowder's node and ours, behind one chain, with one network, timed alike."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import gunpowder as gp
import torch
from data_volume import varied
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
from scalenet_gp.training import CheckpointOptions, ComputeConfig, Optimization, TensorBoardLog
from scalenet_gp.volumes import ChunkCache, MultiscaleImage

__all__ = ["LENGTH", "NETWORKS", "Run", "Stopwatch", "threads", "training"]

LENGTH = 8192
REGION = Roi((3072,) * 3, (2048,) * 3)


@dataclass(frozen=True)
class Network:
    """A ScaleNet and what is trained of it.

    Attributes:
        outputs: voxels per axis of the output at each voxel size (nm), coarse ones first.
        channels: at the finest level.
        levels: how often each subnet halves the resolution.
    """

    outputs: Mapping[int, int]
    channels: int
    levels: int = 2

    def build(self) -> LeibNet:
        torch.manual_seed(0)
        factors = [(2, 2, 2)] * self.levels
        return build_scalenet(
            [
                {"top_resolution": (size,) * 3, "base_nc": self.channels, "downsample_factors": factors}
                for size in self.outputs
            ]
        )

    def rois(self, net: LeibNet) -> dict[str, Roi]:
        """Of the outputs, around the origin."""
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
    """What a process of its own measures.

    Attributes:
        volume: to read.
        node: that trains: "gunpowder" or "ours".
        network: one of NETWORKS.
        workers: that make batches.
        batch: samples in each.
        compute: arguments of :class:`ComputeConfig`.
        folder: for a log at its default intervals and checkpoints; neither is written without.
        seconds: how long it takes at least.
        iterations: how many it does at least.
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
    """How long each call of the functions took that are timed, by the part of a step that they are."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part].append(time.perf_counter() - begun)

        return run

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The one that a run has by default, timed."""
        optimizer = Optimization().make_optimizer(parameters)
        for name in ("step", "zero_grad"):
            setattr(optimizer, name, self.timed("optimizer", getattr(optimizer, name)))
        return optimizer


@contextmanager
def training(run: Run, watch: Stopwatch) -> Iterator[tuple[Callable[[], gp.Batch], gp.BatchFilter]]:
    """What does one step, and the node that trains; as the command line has it, but for what gunpowder's cannot do."""
    torch.set_num_threads(threads(run))
    keep_freed_memory()
    network = NETWORKS[run.network]
    net = network.build()
    raw, targets, predictions = (
        {name: gp.ArrayKey(f"{kind}_{name}") for name in names}
        for kind, names in (("RAW", net.input_keys), ("TARGET", net.output_keys), ("PREDICTION", net.output_keys))
    )
    voxel_sizes = {key: net.voxel_size[name] for keys in (raw, targets) for name, key in keys.items()}
    volume = MultiscaleImage.open(Path(run.volume) / "raw", cache=ChunkCache(2**28))
    chain = MultiscaleSource(volume, voxel_sizes, padding="reflect")
    chain += varied(raw.values())
    chain += SampleLocation(targets[net.output_keys[-1]], UniformSampler(REGION))
    prefetch = Prefetch(run.workers, seed=0)
    chain += Stack(run.batch) + prefetch
    make = ours if run.node == "ours" else theirs
    trainer, request = make(run, net, network.rois(net), (raw, targets, predictions), watch)
    prefetch.provide = watch.timed("waiting", prefetch.provide)  # type: ignore[method-assign]
    plain, Tensor.backward = Tensor.backward, watch.timed("backward", Tensor.backward)  # type: ignore[method-assign]
    try:
        with gp.build(chain + trainer) as pipeline:
            if isinstance(trainer, Train):
                for name in ("forward", "advance"):
                    setattr(trainer.trainer.state, name, watch.timed(name, getattr(trainer.trainer.state, name)))
            yield lambda: pipeline.request_batch(gp.BatchRequest(request)), trainer
    finally:
        Tensor.backward = plain  # type: ignore[method-assign]


def threads(run: Run) -> int:
    """Of torch: one for each core that the workers leave."""
    return max(1, len(os.sched_getaffinity(0)) - run.workers)


Keys = tuple[dict[str, gp.ArrayKey], dict[str, gp.ArrayKey], dict[str, gp.ArrayKey]]


def ours(
    run: Run, net: LeibNet, rois: Mapping[str, Roi], keys: Keys, watch: Stopwatch
) -> tuple[gp.BatchFilter, gp.BatchRequest]:
    raw, targets, predictions = keys
    loss = watch.timed("loss", CrossEntropyDice())
    log = checkpoints = None
    if run.folder is not None:
        log, checkpoints = TensorBoardLog(Path(run.folder) / "log"), Path(run.folder) / "checkpoints"
        log.write = watch.timed("log", log.write)  # type: ignore[method-assign]
    trainer = Train(
        net,
        raw,
        {name: Supervision(predictions[name], targets[name], loss=loss) for name in rois},
        optimization=Optimization(optimizer=watch.optimizer),
        compute=ComputeConfig(**run.compute),
        checkpoints=checkpoints,
        checkpoint_options=CheckpointOptions(every=250),
        log=log,
    )
    request = gp.BatchRequest()
    for name, roi in rois.items():
        request[predictions[name]] = gp.ArraySpec(roi=roi)
    return trainer, request


def theirs(
    run: Run, net: LeibNet, rois: Mapping[str, Roi], keys: Keys, watch: Stopwatch
) -> tuple[gp.BatchFilter, gp.BatchRequest]:
    raw, targets, predictions = keys
    model = GunpowderModel(net, net.plan(rois))
    model.forward = watch.timed("forward", model.forward)  # type: ignore[method-assign]
    loss = watch.timed("loss", CrossEntropyDice())

    def summed(*made: Tensor) -> Tensor:
        """Of each prediction and its target in turn; all of them are annotated."""
        pairs = zip(made[::2], made[1::2], strict=True)
        return torch.stack([loss(p, target, torch.ones_like(p)) for p, target in pairs]).sum()

    trainer = gp.torch.Train(
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
    return trainer, request
