"""ScaleNet: U-Nets chained from coarse to fine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, TypeVar

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Node, TensorSpec
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.injection import Features, injection
from scalenet_gp.networks.parts import Parts
from scalenet_gp.networks.unet_options import ScaleOptions, SubnetOptions

__all__ = [
    "add_gates",
    "add_inputs",
    "assemble_scalenet",
    "build_attentive_scalenet",
    "build_scalenet",
    "check_order",
    "read_subnets",
    "subnet_prefix",
    "volumes_of",
]

_O = TypeVar("_O", bound=ScaleOptions)
_TWO_SCALES = ({"top_resolution": (32, 32, 32)}, {"top_resolution": (8, 8, 8)})


def build_scalenet(
    subnet_dict_list: Sequence[Mapping[str, Any]] = _TWO_SCALES, coarse_supervision: bool = True
) -> LeibNet:
    """Return U-Nets at any number of voxel sizes, each coarse one's features entering the next finer one's bottleneck.

    Subnet *i* reads ``"i_input"``, and whatever its ``inputs`` name, and makes ``"i_output"``. The features that enter
    the next bottleneck are the ``base_nc`` channels before its output. Their voxel size, that of the subnet, need not
    be that of the bottleneck: per axis they are upsampled (nearest neighbor) or pooled (mean), as long as one of the
    two is a whole multiple of the other. After LeibNetz, where the two are the same.

    Args:
        subnet_dict_list: the subnets from coarse to fine, each as a mapping with ``"top_resolution"`` (nm per axis) and
            any further option of :class:`scalenet_gp.networks.SubnetOptions`: those of a U-Net; ``"subnet_id"``, a name
            other than its place; ``"bottleneck_join"``, how coarse features join its own: ``"concatenate"`` (unless
            given), ``"sum"``, ``"gated_sum"`` or ``"attention"``; ``"inject"``, where they enter: the ``"bottleneck"``
            (unless given), ``"every_level"`` or the ``"output"`` alone; and ``"inject_from"``, those of the
            ``"previous"`` subnet (unless given) or of ``"all"`` coarser ones. 32 and 8 nm unless given.
        coarse_supervision: all subnets make outputs; otherwise only the finest does.

    Raises:
        ArgumentError: the subnets are not in order, voxel sizes do not fit together (the message says which would), an
            argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_scalenet([{"top_resolution": (nm,) * 3, "base_nc": 2} for nm in (128, 32, 8)])
        >>> net.output_keys
        ('0_output', '1_output', '2_output')
    """
    return assemble_scalenet(read_subnets(subnet_dict_list, "ScaleNet", SubnetOptions), "ScaleNet", coarse_supervision)


def build_attentive_scalenet(
    subnet_dict_list: Sequence[Mapping[str, Any]] = _TWO_SCALES, coarse_supervision: bool = True
) -> LeibNet:
    """Return :func:`build_scalenet` with attention gates (Oktay et al. 2018) on the skip connections of every subnet.

    Args:
        subnet_dict_list: as for :func:`build_scalenet`; a subnet with ``"attention_gates": False`` has none.
        coarse_supervision: as for :func:`build_scalenet`.

    Raises:
        ArgumentError, TypeError: as :func:`build_scalenet`.

    Example:
        >>> net = build_attentive_scalenet([{"top_resolution": (8, 8, 8), "base_nc": 2}])
        >>> [name for name in net.nodes if "gate" in name]
        ['0_attention_gate_1', '0_attention_gate_0']
    """
    subnets = read_subnets(subnet_dict_list, "AttentiveScaleNet", SubnetOptions)
    return assemble_scalenet(add_gates(subnets), "AttentiveScaleNet", coarse_supervision)


def assemble_scalenet(subnets: Sequence[SubnetOptions], name: str, coarse_supervision: bool = True) -> LeibNet:
    """Return the ScaleNet of these subnets, from coarse to fine; all of them make outputs, or only the finest."""
    check_order(subnets)
    nodes: list[Node] = []
    inputs: dict[str, TensorSpec] = {}
    outputs: list[str] = []
    coarser: list[Features] = []
    for index, options in enumerate(subnets):
        parts = Parts(options, subnet_prefix(options, index))
        entering = coarser if options.inject_from == "all" else coarser[-1:]
        enter = partial(injection, parts.prefix, coarse=tuple(entering), join=options.bottleneck_join or "concatenate")
        made = parts.unet(enter if entering else None, options.inject or "bottleneck")
        nodes += made.nodes
        add_inputs(inputs, parts)
        if coarse_supervision or index == len(subnets) - 1:
            nodes += made.outputs
            outputs += made.output_keys
        features = TensorSpec(options.features_spec.voxel_size, made.features_nc)
        coarser.append(Features(parts.prefix, made.features, features))
    return LeibNet(nodes, inputs, outputs, name=name)


def subnet_prefix(options: ScaleOptions, index: int) -> str:
    """Return the text before the names of a subnet's tensors: ``"2_"`` for the third subnet, if it has no name."""
    return f"{index if options.subnet_id is None else options.subnet_id}_"


def add_inputs(inputs: dict[str, TensorSpec], parts: Parts) -> None:
    """Add the inputs of a subnet to those of a network.

    Raises:
        ArgumentError: another subnet has an input of the same name.
    """
    its = parts.inputs()
    if twice := sorted(inputs.keys() & its.keys()):
        raise ArgumentError(
            f"two subnets have an input called {twice[0]!r}: give one of them another subnet_id, or its inputs other "
            "names"
        )
    inputs |= its


def volumes_of(subnets: Sequence[ScaleOptions]) -> dict[str, str]:
    """Return the names of volumes beside the raw data, by the inputs of the network that read them."""
    found: dict[str, str] = {}
    for index, subnet in enumerate(subnets):
        prefix = subnet_prefix(subnet, index)
        found |= {prefix + key: name for key, name in subnet.volumes.items()}
    return found


def check_order(subnets: Sequence[ScaleOptions]) -> None:
    """Check that subnets go from coarse to fine, and that no coarser features are to enter the first.

    Neighbors may have voxels of one size, or larger ones along one axis and smaller ones along another.

    Raises:
        ArgumentError: a subnet has larger voxels than the one before it, or features are to enter the first.
    """
    sizes = [subnet.level_size(0) for subnet in subnets]
    for index, (before, after) in enumerate(pairwise(sizes)):
        if len(before) == len(after) and prod(after) > prod(before):
            right = sorted(sizes, key=prod, reverse=True)
            raise ArgumentError(
                f"subnets go from coarse to fine, but subnet {index + 1} has voxels of {format_size(after)} nm and "
                f"subnet {index} before it {format_size(before)} nm; their order has to be "
                f"{', '.join(map(format_size, right))} nm"
            )
    for name in ("bottleneck_join", "inject", "inject_from"):
        if getattr(subnets[0], name, None) is not None:
            raise ArgumentError(f"subnet 0 is the coarsest: no features enter its bottleneck by a {name!r}")


def add_gates(subnets: Iterable[SubnetOptions]) -> tuple[SubnetOptions, ...]:
    """Return the subnets with attention gates, except those that say otherwise."""
    return tuple(
        subnet.model_copy(update={"attention_gates": True}) if subnet.attention_gates is None else subnet
        for subnet in subnets
    )


def read_subnets(given: Sequence[Mapping[str, Any]], name: str, kind: type[_O]) -> list[_O]:
    """Return the options of subnets that are given as mappings to the builder of the network ``name``.

    Raises:
        ArgumentError, TypeError: as :func:`build_scalenet`; the message names the subnet.
    """
    listed = list(given) if isinstance(given, Iterable) else []
    if not listed or not all(isinstance(subnet, Mapping) for subnet in listed):
        raise ArgumentError(
            f"{name} takes a list of one or more subnets, each a mapping such as {_TWO_SCALES[0]}, not {given!r}"
        )
    subnets = []
    for index, arguments in enumerate(listed):
        if "top_resolution" not in arguments:
            raise ArgumentError(f"subnet {index} has no 'top_resolution', the voxel size (nm) of its input and output")
        try:
            subnets.append(kind.create(**arguments))
        except (TypeError, ArgumentError) as error:
            raise type(error)(f"subnet {arguments.get('subnet_id', index)!r}: {error}") from None
    return subnets
