"""ScaleNet: U-Nets chained from coarse to fine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import Node, TensorSpec
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.injection import injection
from scalenet_gp.networks.options import UNetOptions
from scalenet_gp.networks.parts import Parts
from scalenet_gp.options import to_json_value

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
        ValueError: voxel sizes do not fit together (the message says which would), an argument is of another type or
            out of its range, or two of them contradict each other.
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
    return _chained(subnet_dict_list, "AttentiveScaleNet", attention_gates=True)


def _chained(subnets: Sequence[Mapping[str, Any]], name: str, **defaults: Any) -> LeibNet:
    listed = list(subnets) if isinstance(subnets, Iterable) else []
    if not listed or not all(isinstance(subnet, Mapping) for subnet in listed):
        raise ArgumentError(
            f"{name} takes a list of one or more subnets, each a mapping such as {_TWO_SCALES[0]}, not {subnets!r}"
        )
    nodes: list[Node] = []
    inputs: dict[str, TensorSpec] = {}
    outputs: list[str] = []
    coarse: Parts | None = None
    for index, subnet in enumerate(listed):
        arguments = {**defaults, **to_json_value(subnet)}
        if "top_resolution" not in arguments:
            raise ArgumentError(f"subnet {index} has no 'top_resolution', the voxel size (nm) of its input and output")
        if coarse is None and "bottleneck_join" in arguments:
            raise ArgumentError(
                f"subnet {index} is the coarsest: no features enter its bottleneck by a 'bottleneck_join'"
            )
        identifier = arguments.pop("subnet_id", index)
        if not isinstance(identifier, str | int):
            raise ArgumentError(f"subnet {index}: subnet_id is a name or a whole number, not {identifier!r}")
        join = arguments.pop("bottleneck_join", "concatenate")
        try:
            options = UNetOptions(**arguments)
        except (TypeError, ValueError) as error:
            raise type(error)(f"subnet {identifier!r}: {error}") from None
        parts = Parts(options, f"{identifier}_")
        made, its_outputs = parts.unet() if coarse is None else parts.unet(*injection(parts, coarse, join))
        nodes += made
        inputs[f"{parts.prefix}input"] = options.input_spec
        outputs += its_outputs
        coarse = parts
    return LeibNet(nodes, inputs, outputs, name=name)
