"""The sides of `predict.py`: a region predicted by our engine, by gunpowder, by LeibNetz, and as one box in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from typing import Any

import gunpowder as gp
import numpy as np
import torch
from data_volume import LEVELS
from funlib.geometry import Coordinate, Roi
from leibnetz_peer import build_leibnetz_scalenet
from measuring import random_inputs

from scalenet_gp import LeibNet
from scalenet_gp.inference import BlockPredictor, Ensemble
from scalenet_gp.interop import load_leibnetz_weights
from scalenet_gp.kernels import keep_freed_memory
from scalenet_gp.nodes import GunpowderModel
from scalenet_gp.pipelines.config import Config, Region
from scalenet_gp.pipelines.prediction import Workers, predict
from scalenet_gp.training import load_checkpoint, save_checkpoint
from scalenet_gp.volumes import open_array

__all__ = ["SIDES", "Run", "agreement", "make_run", "our_network"]

SUBNETS = [{"top_resolution": (size,) * 3, "base_nc": 12, "norm_layer": None} for size in (128, 32, 8)]
LEIBNETZ_INPUTS = {"0_input": 76, "1_input": 156, "2_input": 332}
LEIBNETZ_TILE = 128
MEMORY = 14 * 2**30
"""Bytes that one of our workers may take for blocks."""
BEGIN = 4608
"""Begin of the region, nm per axis. The context of up to 1,024 planes and LeibNetz's inputs for its first tile, which
are larger, lie within the volume, so that no side pads."""


@dataclass(frozen=True)
class Run:
    """One measurement.

    Attributes:
        folder: the folder with ``volume``, ``scalenet`` and ``unet`` (checkpoints).
        voxels: width of the region, along all axes but the first.
        planes: length of the region along the first axis, voxels.
        device: name of a torch device.
        side: one of :data:`SIDES`.
        network: ``"scalenet"`` or ``"unet"``.
        precision: the type to compute in.
        workers: processes of our engine.
        tile: voxels per axis that are computed at a time; the whole region if 0.
        thickness: thickness of the slabs, nm; no slabs if 0.
        keeps: the C library keeps freed memory.
    """

    folder: str
    voxels: int
    planes: int
    device: str
    side: str = "ours"
    network: str = "scalenet"
    precision: str = "float32"
    workers: int = 0
    tile: int = 0
    thickness: int = 0
    keeps: bool = True

    @property
    def label(self) -> str:
        """The side, the network and the options that differ from the defaults."""
        told = {"tiles": self.tile, "slabs": self.thickness, "workers": self.workers, "memory kept": self.keeps}
        return " ".join([self.side, self.network, *(f"{name} {value}" for name, value in told.items() if value)])

    @property
    def roi(self) -> Roi:
        """The region, nm."""
        return Roi((BEGIN,) * 3, (8 * self.planes, 8 * self.voxels, 8 * self.voxels))

    @property
    def size(self) -> int:
        """The number of voxels in the region."""
        return self.planes * self.voxels**2


def config(network: str, block: Sequence[int]) -> Config:
    """Return the config of a run that would train the network on the volume, and predict in blocks of ``block``."""
    region = {"begin": [0] * 3, "end": [LEIBNETZ_TILE * 8] * 3}
    return Config.model_validate(
        {
            "version": 1,
            "data": {
                "sources": [{"raw": "raw", "labels": "labels"}],
                "classes": ["tissue"],
                "padding": "constant",
                "cache": 0,
            },
            "network": {"kind": "scalenet", "subnets": SUBNETS if network == "scalenet" else SUBNETS[-1:]},
            "training": {"iterations": 1, "output_shape": [LEIBNETZ_TILE * 8] * 3, "region": region},
            "evaluation": {"region": region},
            "prediction": {"block_shape": [8 * voxels for voxels in block]},
        }
    )


def our_network(network: str = "scalenet") -> LeibNet:
    """Return the network to predict with; a ScaleNet has LeibNetz's weights."""
    net = config(network, (64, 64, 64)).build_network()
    if network == "scalenet":
        load_leibnetz_weights(net, build_leibnetz_scalenet(SUBNETS, LEIBNETZ_INPUTS).state_dict())
    return net.eval()


def make_run(folder: Path, voxels: int, planes: int, device: str) -> Run:
    """Write checkpoints of both networks into ``folder``, and return the run that all others are copies of."""
    torch.manual_seed(0)
    for network in ("scalenet", "unet"):
        save_checkpoint(folder / network, our_network(network), {"iteration": 1})
    return Run(str(folder), voxels, planes, device)


# ----------------------------------------------------------------------------------------------------------- the sides


def ours(run: Run) -> dict[str, Any]:
    """Predict by our engine, in this process or with workers, whose start is timed too."""
    return _timed(run, _by_engine, f"{_finest(run)}/s0")


def _by_engine(run: Run, output: Path) -> None:
    begin, end = run.roi.begin, run.roi.end
    whole = config(run.network, (run.planes, run.voxels, run.voxels))
    chosen = {"outputs": (_finest(run),), "stored": "float32", "precision": run.precision}
    predict(
        whole.model_copy(update={"prediction": whole.prediction.model_copy(update=chosen)}),
        Path(run.folder) / "volume",
        _checkpoint(run),
        output,
        Region(begin=tuple(begin), end=tuple(end)),
        workers=Workers(count=run.workers, devices=(run.device,), memory=MEMORY),
    )


def gunpowder(run: Run) -> dict[str, Any]:
    """Predict by Scan and torch.Predict, in tiles of ``run.tile`` voxels."""
    return _timed(run, _by_scan, "prediction")


def _by_scan(run: Run, output: Path) -> None:
    net = _network(run)
    plan = net.plan({_finest(run): Roi(run.roi.begin, (8 * run.tile,) * 3)})
    model = GunpowderModel(net.to(getattr(torch, run.precision)), plan)
    raw = {name: gp.ArrayKey(f"RAW_{name}".upper()) for name in net.input_keys}
    prediction = gp.ArrayKey("PREDICTION")
    outputs, keys = {_finest(run): prediction}, list(raw.values())
    levels = {size: level for level, size in LEVELS.items()}
    chain = tuple(
        gp.ZarrSource(
            str(Path(run.folder) / "volume" / "raw"),
            {key: levels[net.voxel_size[name][0]]},
            {key: gp.ArraySpec(interpolatable=True, voxel_size=net.voxel_size[name])},
        )
        for name, key in raw.items()
    )
    chain = chain + gp.MergeProvider() if len(chain) > 1 else chain[0]
    for key in keys:
        chain += gp.Normalize(key) + gp.IntensityScaleShift(key, 2, -1)
    specs = model.array_specs(outputs)
    specs[prediction].roi = run.roi  # ZarrWrite takes the size of its array from it
    chain += gp.Unsqueeze(keys) + gp.torch.Predict(model.eval(), raw, outputs, specs, device=run.device)
    chain += gp.ZarrWrite({prediction: "prediction"}, str(output.parent), output.name)
    chain += gp.Scan(model.request({**raw, **outputs}), num_workers=0)
    with gp.build(chain):
        chain.request_batch(gp.BatchRequest({prediction: gp.ArraySpec(roi=run.roi)}))


def leibnetz(run: Run) -> dict[str, Any]:
    """Time LeibNetz's forward pass on the first tile of the region, and multiply by the number of tiles."""
    if run.keeps:
        keep_freed_memory()
    net, dtype = build_leibnetz_scalenet(SUBNETS, LEIBNETZ_INPUTS).to(run.device).eval(), getattr(torch, run.precision)
    tile = Roi(run.roi.begin, (8 * LEIBNETZ_TILE,) * 3)
    inputs = {}
    for index, (name, voxels) in enumerate(LEIBNETZ_INPUTS.items()):
        level, size = list(LEVELS)[::-1][index], list(LEVELS.values())[::-1][index]
        first = (tile.begin + tile.shape / 2) / size - voxels // 2
        array = open_array(Path(run.folder) / "volume" / "raw" / level)
        data = array[tuple(slice(f, f + voxels) for f in first)].astype(np.float32) / 255 * 2 - 1
        inputs[name] = torch.from_numpy(data)[None, None].to(run.device)
    with torch.inference_mode(), torch.autocast(torch.device(run.device).type, dtype, enabled=dtype != torch.float32):
        begun = time.perf_counter()
        made = net(dict(inputs))["2_output"].float().cpu().numpy()
        seconds = time.perf_counter() - begun
    return {"seconds": seconds * run.size / LEIBNETZ_TILE**3, "sample": _sample(made[0]), "peak": _peak()}


def box(run: Run) -> dict[str, Any]:
    """Predict the region from arrays to an array: in one pass, in slabs, or in tiles."""
    if run.keeps:
        keep_freed_memory()
    predictor = BlockPredictor(Ensemble([_network(run)]), run.thickness or None, run.device)
    shape = Coordinate((8 * run.tile,) * 3) if run.tile else run.roi.shape
    if any(length % part for length, part in zip(run.roi.shape, shape, strict=True)):
        raise SystemExit(f"tiles of {run.tile}³ voxels do not fill {run.planes} × {run.voxels}² voxels")
    boxes = [
        Roi(run.roi.begin + shape * Coordinate(index), shape) for index in np.ndindex(*map(int, run.roi.shape / shape))
    ]
    seconds = 0.0
    for index, roi in enumerate([boxes[0], *boxes]):  # the first one twice: the first time is not counted
        outputs = {_finest(run): roi}
        plan = predictor.ensemble.networks[0].plan(outputs)
        inputs = {name: tensor[0].numpy() for name, tensor in random_inputs(plan, torch.device("cpu")).items()}
        begun = time.perf_counter()
        predictor.predict(inputs, outputs)
        seconds += (time.perf_counter() - begun) * bool(index)
    return {"seconds": seconds, "peak": _peak()}


SIDES: dict[str, Callable[[Run], dict[str, Any]]] = {
    "ours": ours,
    "gunpowder": gunpowder,
    "leibnetz": leibnetz,
    "box": box,
}


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Return the largest difference between two predictions, in words.

    Raises:
        SystemExit: it is larger than rounding explains.
    """
    apart = float(np.abs(np.subtract(ours["sample"], theirs["sample"])).max())
    if not apart < 1e-2:
        raise SystemExit(f"the predictions differ by {apart}: the two sides cannot be compared")
    return f"largest difference between the predictions: {apart:.1e}"


# ------------------------------------------------------------------------------------------------------------- helpers


def _timed(run: Run, make: Callable[[Run, Path], None], array: str) -> dict[str, Any]:
    if run.keeps:
        keep_freed_memory()
    with TemporaryDirectory(dir=run.folder) as folder:
        make(replace(run, voxels=64, planes=64, tile=min(run.tile, 64)), Path(folder) / "first.zarr")
        output = Path(folder) / "prediction.zarr"
        begun = time.perf_counter()
        make(run, output)
        seconds = time.perf_counter() - begun
        made = open_array(output / array)[(slice(None), *(slice(LEIBNETZ_TILE),) * 3)]
    net = config(run.network, (64, 64, 64)).build_network()
    field = max(int(size[0]) for size in net.receptive_field(_finest(run)).values())
    return {"seconds": seconds, "sample": _sample(made), "peak": _peak(), "receptive field": field}


def _sample(tile: np.ndarray) -> list[float]:
    """Return some voxels of the first tile of 128³, (C, Z, Y, X)."""
    return tile[0, ::16, ::16, ::16].ravel().astype(float).tolist()


def _peak() -> int:
    """Return the peak memory of this process or of the largest of its children, whichever is larger, in bytes."""
    return 1024 * max(getrusage(who).ru_maxrss for who in (RUSAGE_SELF, RUSAGE_CHILDREN))


def _network(run: Run) -> LeibNet:
    net = config(run.network, (64, 64, 64)).build_network()
    load_checkpoint(_checkpoint(run)).restore(net, _checkpoint(run))
    return net.eval()


def _checkpoint(run: Run) -> Path:
    return next((Path(run.folder) / run.network).glob("*.safetensors"))


def _finest(run: Run) -> str:
    return "2_output" if run.network == "scalenet" else "0_output"
