"""The U-Net of valid convolutions, alone or as one scale of a larger network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scalenet_gp.geometry import Length
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.parts import Parts
from scalenet_gp.networks.unet_options import UNetOptions

__all__ = ["assemble_unet", "build_unet"]


def build_unet(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a U-Net (Ronneberger et al. 2015, arXiv 1505.04597) of valid convolutions, as LeibNetz builds it.

    One input ``"input"`` (B, ``input_nc``, Z, Y, X) and one output ``"output"`` (B, ``output_nc``, Z, Y, X), both with
    voxels of ``top_resolution``; with ``inputs`` further inputs, with ``heads`` and ``deep_supervision`` further
    outputs. ``attention_gates`` make it the Attention U-Net of Oktay et al. 2018 (arXiv 1804.03999).

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.UNetOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_unet((50, 4.6, 4.6), base_nc=4, downsample_factors=[(1, 2, 2)])
        >>> net.input_shapes["input"]["scale"]
        (50.0, 4.6, 4.6)
    """
    return assemble_unet(UNetOptions.create(top_resolution=top_resolution, **arguments))


def assemble_unet(options: UNetOptions, name: str = "UNet") -> LeibNet:
    """Return the U-Net of these options."""
    parts = Parts(options)
    made = parts.unet()
    return LeibNet([*made.nodes, *made.outputs], parts.inputs(), made.output_keys, name=name)
