"""Predicts blocks on one device: an ensemble, each member of it in slabs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray
from torch import Tensor

from scalenet_gp.inference.ensemble import Ensemble
from scalenet_gp.inference.intensity_window import IntensityWindow
from scalenet_gp.inference.slab_thickness import choose_slab_thickness
from scalenet_gp.inference.slabbed_inference import SlabbedInference
from scalenet_gp.inference.slabs import AXIS
from scalenet_gp.kernels import OneDnnConvolutions, choose_device
from scalenet_gp.leibnet import LeibNet

__all__ = ["BlockPredictor", "block_thickness"]

_SWEEPS = 256
"""How many are kept: blocks within a volume share theirs, those at its borders have others."""

_Request = tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]


class BlockPredictor:
    """What an ensemble makes of one block after the other.

    Args:
        ensemble: the members; their networks are moved to ``device`` and ``dtype`` and predict in evaluation mode.
        thickness: of the slabs (world units), as :func:`block_thickness` chooses it; all of a block at once unless
            given. What is predicted depends on it by float rounding, so workers that share a volume share it.
        device: name of a torch device; the first GPU unless given, the processor where there is none.
        dtype: the type to compute in.
        intensities: what the networks are shown of the inputs; they themselves unless given.

    Raises:
        ValueError: the device is not there.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        thickness: int | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        intensities: IntensityWindow | None = None,
    ) -> None:
        self.ensemble = ensemble
        self.intensities = intensities
        self.thickness = thickness
        self.device = choose_device(device)
        networks = {net.fingerprint: net for net in ensemble.networks}
        for net in ensemble.networks:
            net.to(self.device, dtype).eval()
        self._sweep = lru_cache(_SWEEPS)(lambda network, request: self._planned(networks[network], request))

    def inputs(self, outputs: Mapping[str, Roi]) -> dict[str, Roi]:
        """The world ROI to fetch of each input: see :meth:`.Ensemble.inputs`."""
        return self.ensemble.inputs(outputs)

    def predict(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, Roi]) -> dict[str, NDArray[np.float32]]:
        """Everything that the ensemble makes of a block.

        Args:
            inputs: arrays (C, Z, Y, X) that cover exactly what :meth:`inputs` says. Slab by slab they become what the
                networks are shown, so that a block may be given, and sent to a GPU, as small as it is stored.
            outputs: world ROI of each output.

        Returns:
            Arrays (C, Z, Y, X), named as by :meth:`.Ensemble.produced`.

        Raises:
            ValueError, KeyError: see :meth:`.Ensemble.predict`.
        """
        with torch.inference_mode(), OneDnnConvolutions():
            tensors = {name: torch.from_numpy(array)[None].to(self.device) for name, array in inputs.items()}
            made = self.ensemble.predict(tensors, outputs, self._compute)
            return {name: tensor[0].float().cpu().numpy() for name, tensor in made.items()}

    def _compute(self, net: LeibNet, inputs: Mapping[str, Tensor], outputs: Mapping[str, Roi]) -> dict[str, Tensor]:
        # blocks apart by whole periods share a sweep: the period of the lattices and, along the axis, of the slabs
        period = [math.lcm(*sizes) for sizes in zip(*net.voxel_size.values(), strict=True)]
        period[AXIS] = math.lcm(period[AXIS], self.thickness or 1)
        begin = next(iter(outputs.values())).begin
        offset = Coordinate(b // p * p for b, p in zip(begin, period, strict=True))
        request = tuple((key, tuple(roi.begin - offset), tuple(roi.shape)) for key, roi in outputs.items())
        return self._sweep(net.fingerprint, request).run(net, inputs, self.intensities)

    def _planned(self, net: LeibNet, request: _Request) -> SlabbedInference:
        outputs = {key: Roi(begin, shape) for key, begin, shape in request}
        return SlabbedInference.of(net, outputs, self.thickness)


def block_thickness(
    ensemble: Ensemble,
    outputs: Mapping[str, Roi],
    memory_limit: int,
    dtype: torch.dtype = torch.float32,
    intensities: IntensityWindow | None = None,
) -> int:
    """The thickness (world units) of the slabs with which a block fits into memory, whichever member computes it.

    Args:
        ensemble: the members.
        outputs: world ROI of each output of the largest block.
        memory_limit: bytes for everything that :meth:`BlockPredictor.predict` holds, its arguments included, with the
            weights of all networks.
        dtype: the type to compute in.
        intensities: what the networks are shown of the inputs; they themselves unless given.

    Raises:
        ValueError: not even the thinnest slabs fit; the message says what they need.
        KeyError: there is no such output.
    """
    first = ensemble.networks[0]
    read = {key: (first.specs[key].channels, roi) for key, roi in ensemble.inputs(outputs).items()}
    raw = torch.float32 if intensities is None else intensities.dtype
    held = 2 * sum(_numbytes(channels, roi, first.voxel_size[key], raw) for key, (channels, roi) in read.items())
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
