"""A small network of two scales in two dimensions, data for it, and the same computation without gunpowder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gunpowder import ArrayKey, Batch, BatchProvider, BatchRequest, Coordinate, Roi, build
from gunpowder.nodes.scan import ScanCallback
from gunpowder.pipeline import PipelineSetupError
from torch import Tensor

from scalenet_gp import LeibNet, Plan, build_scalenet
from scalenet_gp.nodes.testing import Content, Field, RampSource
from scalenet_gp.nodes.train.supervision import Supervision
from scalenet_gp.nodes.train.train import Train
from scalenet_gp.testing import voxel_centers
from scalenet_gp.training import Optimization
from scalenet_gp.training.optimization import OptimizerFactory

RAW, TARGET, MASK, PREDICTION = (
    {name: ArrayKey(f"{kind}_{size}") for name, size in (("0", "COARSE"), ("1", "FINE"))}
    for kind in ("RAW", "TARGET", "MASK", "PREDICTION")
)
INPUTS = {"0_input": RAW["0"], "1_input": RAW["1"]}
OUTPUTS = {"0_output": PREDICTION["0"], "1_output": PREDICTION["1"]}
SIZES = {"0": (16, 16), "1": (8, 8)}
CHANNELS = {"0": 1, "1": 2}
ROIS = {PREDICTION["0"]: Roi((-32, 16), (80, 64)), PREDICTION["1"]: Roi((8, -24), (56, 72))}

ADAM = partial(torch.optim.Adam, lr=1e-2)
Fields = Mapping[ArrayKey, Field]


def small_net(seed: int = 0, **arguments: Any) -> LeibNet:
    """16 and 8 nm; the fine output has two channels."""
    torch.manual_seed(seed)
    common = {"base_nc": 2, "downsample_factors": [(2, 2)], "norm_layer": None, **arguments}
    return build_scalenet([{"top_resolution": SIZES[name], "output_nc": CHANNELS[name], **common} for name in SIZES])


def texture(centres: np.ndarray) -> np.ndarray:
    """IntensityWindow in [0, 1] that depend on the world position alone, (1, ..., Y, X) float32."""
    waves = np.sin(centres[-1] / 7) * np.cos(centres[-2] / 11) + np.sin((centres[-1] + 2 * centres[-2]) / 23)
    return (0.5 + 0.25 * waves)[None].astype(np.float32)


def classes(channels: int) -> Content:
    """Targets: where the texture is above a threshold of each channel, uint8."""
    return lambda centres: np.concatenate([texture(centres) > 0.4 + 0.2 * c for c in range(channels)]).astype(np.uint8)


def annotated(channels: int) -> Content:
    """Masks: stripes, uint8."""
    return lambda centres: np.stack([(centres[-1] // 24 + c) % 2 for c in range(channels)]).astype(np.uint8)


def fields() -> dict[ArrayKey, Field]:
    """Raw data, targets and masks of both scales."""
    made = {}
    for name, size in SIZES.items():
        made[RAW[name]] = Field(size, texture, interpolatable=True)
        made[TARGET[name]] = Field(size, classes(CHANNELS[name]), interpolatable=False)
        made[MASK[name]] = Field(size, annotated(CHANNELS[name]), interpolatable=False)
    return made


def read(key: ArrayKey, roi: Roi) -> Tensor:
    """The values of a field in a ROI, as a batch of one, computed by hand."""
    field = fields()[key]
    return torch.from_numpy(field.content(voxel_centers(roi, field.voxel_size)))[None]


def inputs_of(plan: Plan) -> dict[str, Tensor]:
    """The inputs of a plan, read by hand."""
    return {name: read(INPUTS[name], roi) for name, roi in plan.inputs.items()}


def plan_for(net: LeibNet, rois: Mapping[ArrayKey, Roi]) -> Plan:
    """The plan for predictions."""
    return net.plan({name: rois[key] for name, key in OUTPUTS.items() if key in rois})


def fetch(pipeline: BatchProvider, rois: Mapping[ArrayKey, Roi], seed: int | None = 1) -> Batch:
    """One batch."""
    request = BatchRequest(random_seed=seed)
    for key, roi in rois.items():
        request[key] = roi
    return pipeline.request_batch(request)


def supervision(**changes: Mapping[str, Any]) -> dict[str, Supervision]:
    """Both outputs; ``_0`` and ``_1`` change what is said of the coarse and of the fine one."""
    made = {}
    for name in ("0", "1"):
        arguments = {"prediction": PREDICTION[name], "target": TARGET[name], "mask": MASK[name]}
        made[f"{name}_output"] = Supervision(**(arguments | dict(changes.get(f"_{name}", {}))))
    return made


def training(
    net: LeibNet,
    outputs: dict[str, Supervision] | None = None,
    optimizer: OptimizerFactory = ADAM,
    optimization: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> Train:
    """The node that trains ``net``, with Adam unless told otherwise."""
    chosen = Optimization(optimizer=optimizer, **(optimization or {}))
    return Train(net, INPUTS, outputs or supervision(), optimization=chosen, **arguments)


def trained(
    node: Train, rois: Mapping[ArrayKey, Roi] = ROIS, steps: int = 1, data: Fields | None = None
) -> list[Batch]:
    """A batch of each step, in a pipeline of its own."""
    with build(RampSource(data or fields()) + node) as pipeline:
        return [fetch(pipeline, shifted(rois, step)) for step in range(steps)]


def shifted(rois: Mapping[ArrayKey, Roi], step: int) -> dict[ArrayKey, Roi]:
    """The ROIs, moved to another place for each step."""
    return {key: roi.shift(Coordinate(32 * step, -64 * step)) for key, roi in rois.items()}


def same_state(one: LeibNet, other: LeibNet) -> bool:
    """True if two networks have the same weights and statistics, to the bit."""
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in one.state_dict().items())


@contextmanager
def setup_refusal(message: str) -> Iterator[None]:
    """Building a pipeline fails with a ValueError, which gunpowder gives as the cause of its own."""
    with pytest.raises(PipelineSetupError) as error:
        yield
    assert isinstance(error.value.__cause__, ValueError)
    assert re.search(message, str(error.value.__cause__)), error.value.__cause__


class Silent(ScanCallback):
    """Scan without a progress bar."""

    def start(self, num_steps: int) -> None: ...

    def update(self, step: int) -> None: ...

    def stop(self) -> None: ...
