"""A graph as a mermaid flow chart."""

from __future__ import annotations

from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Graph

__all__ = ["to_mermaid"]


def to_mermaid(graph: Graph) -> str:
    """Return a graph in mermaid's language: nodes by kind, grouped by voxel size, channels on the edges.

    Markdown on most code hosts renders it, in a block marked ``mermaid``.

    Example:
        >>> from scalenet_gp import build_unet
        >>> print(to_mermaid(build_unet((8, 8), base_nc=2).graph).splitlines()[2].strip())
        n0[/"input"/]
    """
    nodes = list(graph.nodes.values())
    maker = {key: f"n{index}" for index, key in enumerate(graph.input_keys)}
    maker |= {key: f"n{index}" for index, node in enumerate(nodes, len(maker)) for key in node.output_keys}
    groups: dict[str, list[str]] = {}
    for key in graph.input_keys:
        groups.setdefault(_size(graph, key), []).append(f'{maker[key]}[/"{key}"/]')
    for node in nodes:
        label = f"{type(node).__name__}<br/>{node.identifier}"
        groups.setdefault(_size(graph, node.output_keys[0]), []).append(f'{maker[node.output_keys[0]]}["{label}"]')
    lines = ["flowchart TD"]
    for index, (size, members) in enumerate(groups.items()):
        lines += [f'  subgraph s{index}["{size} nm"]', *(f"    {member}" for member in members), "  end"]
    for node in nodes:
        for key in node.input_keys:
            channels = graph.specs[key].channels
            lines.append(f"  {maker[key]} -- {channels} --> {maker[node.output_keys[0]]}")
    for index, key in enumerate(graph.output_keys):
        lines += [f'  o{index}[/"{key}"/]', f"  {maker[key]} -- {graph.specs[key].channels} --> o{index}"]
    return "\n".join(lines)


def _size(graph: Graph, key: str) -> str:
    return format_size(graph.specs[key].voxel_size)
