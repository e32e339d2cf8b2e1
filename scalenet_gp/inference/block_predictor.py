"""Prediction of blocks on one device: an ensemble, each member of it in slabs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray
from torch import Tensor

from scalenet_gp.graph import PhaseCache
from scalenet_gp.inference.ensemble import Ensemble
from scalenet_gp.inference.intensity_window import IntensityWindow
from scalenet_gp.inference.slab_thickness import choose_slab_thickness
from scalenet_gp.inference.slabbed_inference import SlabbedInference
from scalenet_gp.inference.slabs import AXIS
from scalenet_gp.kernels import OneDnnConvolutions, choose_device
from scalenet_gp.leibnet import LeibNet

__all__ = ["BlockPredictor", "block_thickness"]

_SCHEDULES = 256
"""Schedules that are kept per network. Blocks within a volume share theirs; blocks at its borders have others."""


class BlockPredictor:
    """Predicts one block after the other with an ensemble.

    Args:
        ensemble: the members; their networks are moved to ``device`` and ``dtype`` and predict in evaluation mode.
        thickness: thickness of the slabs (world units), as :func:`block_thickness` chooses it; the whole block unless
            given. Predictions depend on it by float rounding, so workers that share a volume share it.
        device: name of a torch device; the first GPU unless given, or the processor if there is no GPU.
        dtype: the type to compute in.
        intensities: the intensity window to apply to each input, by its name; none unless given.

    Raises:
        ArgumentError: there is no such device.

    Example:
        >>> import numpy as np
        >>> from funlib.geometry import Roi
        >>> from scalenet_gp import build_unet
        >>> from scalenet_gp.inference import BlockPredictor, Ensemble
        >>> predictor = BlockPredictor(Ensemble([build_unet((8, 8), base_nc=2)]), device="cpu")
        >>> block = {"output": Roi((0, 0), (64, 64))}
        >>> raw = {key: np.zeros((1, *(roi.shape / 8)), np.float32) for key, roi in predictor.inputs(block).items()}
        >>> predictor.predict(raw, block)["output"].shape
        (1, 8, 8)
    """

    def __init__(
        self,
        ensemble: Ensemble,
        thickness: int | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        intensities: Mapping[str, IntensityWindow] | None = None,
    ) -> None:
        self.ensemble = ensemble
        self.intensities = intensities
        self.thickness = thickness
        self.device = choose_device(device)
        self._schedules: dict[str, PhaseCache[SlabbedInference]] = {
            net.fingerprint: PhaseCache(_SCHEDULES) for net in ensemble.networks
        }
        for net in ensemble.networks:
            net.to(self.device, dtype).eval()

    def inputs(self, outputs: Mapping[str, Roi]) -> dict[str, Roi]:
        """Return the world ROI to fetch of each input: see :meth:`.Ensemble.inputs`."""
        return self.ensemble.inputs(outputs)

    def predict(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, Roi]) -> dict[str, NDArray[np.float32]]:
        """Predict all products of a block.

        Args:
            inputs: arrays (C, Z, Y, X) that cover exactly the ROIs of :meth:`inputs`. They are converted slab by slab,
                so a block may be given, and sent to a GPU, in the type in which it is stored.
            outputs: world ROI of each output.

        Returns:
            Arrays (C, Z, Y, X), named as by :meth:`.Ensemble.produced`.

        Raises:
            ArgumentError, GraphError, LatticeError, UnknownNameError: see :meth:`.Ensemble.predict`.
        """
        with torch.inference_mode(), OneDnnConvolutions():
            tensors = {name: torch.from_numpy(array)[None].to(self.device) for name, array in inputs.items()}
            made = self.ensemble.predict(tensors, outputs, self._compute)
            return {name: tensor[0].float().cpu().numpy() for name, tensor in made.items()}

    def _compute(self, net: LeibNet, inputs: Mapping[str, Tensor], outputs: Mapping[str, Roi]) -> dict[str, Tensor]:
        # blocks that lie whole periods, of the lattices and of the slabs, apart share a schedule
        period = list(net.graph.period)
        period[AXIS] = math.lcm(period[AXIS], self.thickness or 1)
        slabbed, _ = self._schedules[net.fingerprint].get(
            outputs, Coordinate(period), lambda phase: SlabbedInference.of(net, phase, self.thickness)
        )
        return slabbed.run(net, inputs, self.intensities)


def block_thickness(
    ensemble: Ensemble,
    outputs: Mapping[str, Roi],
    memory_limit: int,
    dtype: torch.dtype = torch.float32,
    intensities: Mapping[str, IntensityWindow] | None = None,
) -> int:
    """Choose the thickness (world units) of slabs with which a block fits into memory, for every member.

    Args:
        ensemble: the members.
        outputs: world ROI of each output of the largest block.
        memory_limit: bytes for everything that :meth:`BlockPredictor.predict` holds, its arguments included, with the
            weights of all networks.
        dtype: the type to compute in.
        intensities: the intensity window to apply to each input, by its name; none unless given.

    Raises:
        ArgumentError: not even the thinnest slabs fit; the message says how much they need.
        UnknownNameError: there is no such output.
    """
    first = ensemble.networks[0]
    read = {key: (first.specs[key].channels, roi) for key, roi in ensemble.inputs(outputs).items()}
    types = {key: window.dtype for key, window in (intensities or {}).items()}
    held = 2 * sum(
        _numbytes(channels, roi, first.voxel_size[key], types.get(key, torch.float32))
        for key, (channels, roi) in read.items()
    )
    if len(ensemble.networks) * len(ensemble.symmetries) > 1:
        for name, channels in ensemble.produced(outputs).items():
            key = name.partition("/")[0]
            held += 2 * _numbytes(channels, outputs[key], first.voxel_size[key], torch.float32)
    weights = [sum(p.numel() * dtype.itemsize for p in net.parameters()) for net in ensemble.networks]
    chosen = []
    for net, own in zip(ensemble.networks, weights, strict=True):
        turned = {
            tuple((key, tuple(roi.shape)) for key, roi in boxes.items()): boxes
            for boxes in ({key: s.roi(roi) for key, roi in outputs.items()} for s in ensemble.symmetries)
        }
        limit = max(0, memory_limit - held - (sum(weights) - own))
        chosen += [choose_slab_thickness(net, boxes, limit, dtype, intensities) for boxes in turned.values()]
    return min(chosen)


def _numbytes(channels: int, roi: Roi, voxel_size: Coordinate, dtype: torch.dtype) -> int:
    return channels * math.prod(roi.shape / voxel_size) * dtype.itemsize
