"""A network as a mermaid flow chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Node

if TYPE_CHECKING:
    from scalenet_gp.leibnet import LeibNet

__all__ = ["to_mermaid"]


def to_mermaid(net: LeibNet) -> str:
    """The graph of ``net`` in mermaid's language: nodes by kind, grouped by voxel size, tensors on the edges.

    Markdown on most code hosts renders it, in a block marked ``mermaid``.
    """
    nodes: list[Node] = list(net.nodes.values())  # type: ignore[arg-type]
    maker = {key: f"n{index}" for index, key in enumerate(net.input_keys)}
    maker |= {key: f"n{index}" for index, node in enumerate(nodes, len(maker)) for key in node.output_keys}
    groups: dict[str, list[str]] = {}
    for key in net.input_keys:
        groups.setdefault(_size(net, key), []).append(f'{maker[key]}[/"{key}"/]')
    for node in nodes:
        label = f"{type(node).__name__}<br/>{node.identifier}"
        groups.setdefault(_size(net, node.output_keys[0]), []).append(f'{maker[node.output_keys[0]]}["{label}"]')
    lines = ["flowchart TD"]
    for index, (size, members) in enumerate(groups.items()):
        lines += [f'  subgraph s{index}["{size} nm"]', *(f"    {member}" for member in members), "  end"]
    for node in nodes:
        for key in node.input_keys:
            channels = net.specs[key].channels
            lines.append(f"  {maker[key]} -- {channels} --> {maker[node.output_keys[0]]}")
    for index, key in enumerate(net.output_keys):
        lines += [f'  o{index}[/"{key}"/]', f"  {maker[key]} -- {net.specs[key].channels} --> o{index}"]
    return "\n".join(lines)


def _size(net: LeibNet, key: str) -> str:
    return format_size(net.specs[key].voxel_size)
