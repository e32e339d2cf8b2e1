"""ScaleNet: U-Nets chained from coarse to fine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.unet import unet_nodes
from scalenet_gp.node import Node, TensorSpec

__all__ = ["build_scalenet"]


def build_scalenet(subnet_dict_list: Sequence[Mapping[str, Any]] | None = None) -> LeibNet:
    """U-Nets at several voxel sizes, each coarse one's features entering the next finer one's bottleneck.

    Subnet *i* reads ``"i_input"`` and makes ``"i_output"``. What enters the next bottleneck are the ``base_nc``
    channels before its output, so the voxel size of a subnet has to be that of the next one's bottleneck: its own
    voxel size times all its downsampling factors. After LeibNetz.

    Args:
        subnet_dict_list: the subnets from coarse to fine, each as a mapping with ``"top_resolution"`` (nm per axis) and
            any further argument of :func:`scalenet_gp.networks.unet.unet_nodes`; ``"subnet_id"`` names it otherwise
            than by its place. 32 and 8 nm unless given.

    Raises:
        ValueError: voxel sizes do not fit together, or an argument is out of its range.
    """
    subnets = subnet_dict_list or [{"top_resolution": (32, 32, 32)}, {"top_resolution": (8, 8, 8)}]
    nodes: list[Node] = []
    inputs: dict[str, TensorSpec] = {}
    outputs: list[str] = []
    features: list[tuple[str, int]] = []
    for index, subnet in enumerate(subnets):
        arguments = dict(subnet)
        if "top_resolution" not in arguments:
            raise ValueError(f"subnet {index} has no 'top_resolution', the voxel size (nm) of its input and output")
        voxel_size = tuple(arguments.pop("top_resolution"))
        prefix = f"{arguments.pop('subnet_id', index)}_"
        nodes += unet_nodes(prefix, len(voxel_size), features, **arguments)
        inputs[prefix + "input"] = TensorSpec(voxel_size, arguments.get("input_nc", 1))
        outputs.append(prefix + "output")
        features = [(prefix + "out_conv_0", arguments.get("base_nc", 12))]
    return LeibNet(nodes, inputs, outputs, name="ScaleNet")
