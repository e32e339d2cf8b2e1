"""Networks by the names of their kinds, without data: one of each built, and its figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pydantic import TypeAdapter, ValidationError
from rich.box import SIMPLE_HEAD
from rich.table import Table

from scalenet_gp.analysis import predict_cost
from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import World, format_size
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks import NetworkKind, network_arguments, network_kinds
from scalenet_gp.options import describe_problems
from scalenet_gp.pipelines.config import apply_overrides
from scalenet_gp.pipelines.inspection.plan_table import plan_of_shape

__all__ = ["NetworkFigures", "build_kind", "network_table", "survey_network"]


@dataclass(frozen=True, slots=True)
class NetworkFigures:
    """Figures of a network.

    Attributes:
        kind: name of its kind in run files.
        parameters: number of its weights.
        field_of_view: extent (nm per axis) of the input that one voxel of the finest output can depend on; of the
            input with the largest.
        tiles: True if tiles equal the whole.
        macs: multiply-accumulates of a forward pass per voxel of the finest output.
        memory: predicted bytes of a training step, without optimizer.

    Example:
        >>> figures = survey_network("unet", build_kind("unet", ("8", "8")), 16)
        >>> figures.parameters, figures.tiles
        (67009, True)
    """

    kind: str
    parameters: int
    field_of_view: tuple[Fraction, ...]
    tiles: bool
    macs: float
    memory: int


def build_kind(kind: str, voxel_size: Sequence[str] = ("8", "8", "8"), overrides: Iterable[str] = ()) -> LeibNet:
    """Return a network of a kind, with random weights.

    Args:
        kind: name of the kind in run files.
        voxel_size: voxel size (nm per axis) of its finest output.
        overrides: values as ``--set`` gives them, as ``network.base_nc=24``.

    Raises:
        UnknownNameError: there is no such kind.
        ConfigError: a value is wrong, or is not one of the network.
    """
    overrides = list(overrides)
    foreign = [override for override in overrides if not override.strip().startswith("network.")]
    if foreign:
        raise ConfigError(
            f"--set {foreign[0]}: without a run file there is the part `network` alone, as in --set network.base_nc=24"
        )
    data = apply_overrides({"network": network_arguments(kind, voxel_size)}, overrides)["network"]
    model = network_kinds()[kind]
    if data["kind"] != kind:
        raise ConfigError(f"--set network.kind={data['kind']}: the kind is that of --network, {kind}")
    try:
        return TypeAdapter(NetworkKind).validate_python(data).build()
    except ValidationError as error:
        problems = "; ".join(describe_problems(error, model, data, "it"))
        raise ConfigError(f"the part `network` of kind {kind}: {problems}") from error


def survey_network(kind: str, net: LeibNet, voxels: int) -> NetworkFigures:
    """Return the figures of a network for a cube of ``voxels`` along each axis of its finest output.

    Raises:
        ConfigError: that is not a whole number of voxels of a coarser output; the message proposes one that is.
    """
    finest = min(net.output_keys, key=lambda key: tuple(net.voxel_size[key]))
    plan = plan_of_shape(net, [voxels] * net.dims)
    cost = predict_cost(net.graph, plan, training=True)
    fields = net.receptive_field(finest).values()
    widest = max(fields, key=math.prod)
    return NetworkFigures(
        kind,
        sum(parameter.numel() for parameter in net.parameters()),
        tuple(World(net.unit).size_in_nm(widest)),
        net.tileable,
        sum(cost.macs.values()) / voxels**net.dims,
        cost.peak,
    )


def network_table(figures: Iterable[NetworkFigures], voxels: int) -> Table:
    """Return the figures of networks as a table."""
    table = Table(title=f"networks, for {voxels} voxels along each axis", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("kind")
    for column in ("parameters", "kMAC per voxel", "field of view (nm)", "training step (GiB)", "tiles"):
        table.add_column(column, justify="right")
    for each in figures:
        table.add_row(
            each.kind,
            f"{each.parameters:,}",
            f"{each.macs / 1e3:,.1f}",
            format_size(each.field_of_view),
            f"{each.memory / 2**30:.2f}",
            "yes" if each.tiles else "no",
        )
    return table
