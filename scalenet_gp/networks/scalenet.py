"""ScaleNet: U-Nets chained from coarse to fine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.injection import injection
from scalenet_gp.networks.options import UNetOptions
from scalenet_gp.networks.parts import Parts
from scalenet_gp.node import Node, TensorSpec

__all__ = ["build_attentive_scalenet", "build_scalenet"]

_TWO_SCALES = ({"top_resolution": (32, 32, 32)}, {"top_resolution": (8, 8, 8)})


def build_scalenet(subnet_dict_list: Sequence[Mapping[str, Any]] = _TWO_SCALES) -> LeibNet:
    """U-Nets at any number of voxel sizes, each coarse one's features entering the next finer one's bottleneck.

    Subnet *i* reads ``"i_input"`` and makes ``"i_output"``. What enters the next bottleneck are the ``base_nc``
    channels before its output. Their voxel size, that of the subnet, need not be that of the bottleneck: per axis they
    are upsampled (nearest neighbour) or pooled (mean), as long as one of the two is a whole multiple of the other.
    After LeibNetz, in which they are the same.

    Args:
        subnet_dict_list: the subnets from coarse to fine, each as a mapping with ``"top_resolution"`` (nm per axis) and
            any further argument of :class:`scalenet_gp.networks.UNetOptions`; ``"subnet_id"`` names it otherwise than
            by its place; ``"bottleneck_join"`` says how the features of the subnet before it enter its bottleneck:
            ``"concatenate"`` (unless given), ``"sum"``, ``"gated_sum"`` or ``"attention"``. 32 and 8 nm unless given.

    Raises:
        ValueError: voxel sizes do not fit together (the message says which would), or an argument is out of its range.
        TypeError: there is no such argument.
    """
    return _chained(subnet_dict_list, "ScaleNet")


def build_attentive_scalenet(subnet_dict_list: Sequence[Mapping[str, Any]] = _TWO_SCALES) -> LeibNet:
    """:func:`build_scalenet` with attention gates (Oktay et al. 2018) on the skip connections of every subnet.

    Args:
        subnet_dict_list: as for :func:`build_scalenet`; a subnet with ``"attention_gates": False`` has none.

    Raises:
        ValueError: as :func:`build_scalenet`.
        TypeError: there is no such argument.
    """
    return _chained([{"attention_gates": True, **subnet} for subnet in subnet_dict_list], "AttentiveScaleNet")


def _chained(subnets: Sequence[Mapping[str, Any]], name: str) -> LeibNet:
    if not subnets:
        raise ValueError(f"a {name} has at least one subnet")
    nodes: list[Node] = []
    inputs: dict[str, TensorSpec] = {}
    outputs: list[str] = []
    coarse: tuple[str, TensorSpec] | None = None
    for index, subnet in enumerate(subnets):
        arguments = dict(subnet)
        if "top_resolution" not in arguments:
            raise ValueError(f"subnet {index} has no 'top_resolution', the voxel size (nm) of its input and output")
        if coarse is None and "bottleneck_join" in arguments:
            raise ValueError(f"subnet {index} is the coarsest: no features enter its bottleneck by a 'bottleneck_join'")
        prefix = f"{arguments.pop('subnet_id', index)}_"
        join = arguments.pop("bottleneck_join", "concatenate")
        options = UNetOptions(**arguments)
        parts = Parts(options, prefix)
        nodes += parts.encoder()
        read, nc = f"downsample_{options.levels - 1}", options.bottleneck_spec.channels
        if coarse is not None:
            entering, nc = injection(prefix, prefix + read, options.bottleneck_spec, *coarse, join)
            nodes += entering
            read = "bottleneck_join"
        bottleneck, coarsest = parts.bottleneck(read, nc)
        decoder = parts.decoder(coarsest, options.channels(options.levels))
        made = parts.outputs()
        nodes += [*bottleneck, *decoder, *made]
        inputs[prefix + "input"] = options.input_spec
        outputs += [node.output_keys[0] for node in made]
        coarse = prefix + "out_conv_0", TensorSpec(options.input_spec.voxel_size, options.base_nc)
    return LeibNet(nodes, inputs, outputs, name=name)
