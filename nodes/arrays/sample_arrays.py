"""The arrays of a sample: keys of raw data, targets, masks and predictions for one network."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

import gunpowder as gp

from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet

__all__ = ["SampleArrays"]


@dataclass(frozen=True, slots=True)
class SampleArrays:
    """The array keys of samples for one network, by the names of its inputs and outputs.

    Attributes:
        inputs: the data of every input, ``RAW_...``.
        targets: true values of every output that learns from annotation, ``TARGET_...``.
        masks: annotated voxels of these outputs, ``MASK_...``.
        predictions: predictions of every output, ``PREDICTION_...``.
        raw_of_outputs: raw data at the voxel size of every output, ``RAW_...``.

    Example:
        >>> from scalenet_gp import build_unet
        >>> arrays = SampleArrays.of(build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)]))
        >>> arrays.inputs["input"], arrays.targets["output"]
        (RAW_INPUT, TARGET_OUTPUT)
    """

    inputs: Mapping[str, gp.ArrayKey]
    targets: Mapping[str, gp.ArrayKey]
    masks: Mapping[str, gp.ArrayKey]
    predictions: Mapping[str, gp.ArrayKey]
    raw_of_outputs: Mapping[str, gp.ArrayKey]

    @classmethod
    def of(cls, net: LeibNet, taught: Collection[str] | None = None) -> Self:
        """Return the arrays of samples for a network; those of networks with the same names are equal.

        Args:
            net: the network.
            taught: the outputs that learn from annotation; all of them unless given.
        """
        names = net.output_keys if taught is None else tuple(name for name in net.output_keys if name in taught)
        true = (_keys(kind, names) for kind in ("TARGET", "MASK"))
        made = (_keys(kind, net.output_keys) for kind in ("PREDICTION", "RAW"))
        return cls(_keys("RAW", net.input_keys), *true, *made)

    def request(self, plan: Plan) -> gp.BatchRequest:
        """Return the request for inputs, targets and masks of exactly what ``plan`` reads and makes."""
        request = gp.BatchRequest({self.inputs[name]: gp.ArraySpec(roi=roi) for name, roi in plan.inputs.items()})
        for name, roi in plan.outputs.items():
            if name not in self.targets:
                continue
            request[self.targets[name]] = request[self.masks[name]] = gp.ArraySpec(roi=roi)
        return request


def _keys(prefix: str, names: tuple[str, ...]) -> dict[str, gp.ArrayKey]:
    """Return one array key for each tensor: ``RAW_0_INPUT`` for ``"0_input"``."""
    return {name: gp.ArrayKey(f"{prefix}_{name}".upper()) for name in names}
