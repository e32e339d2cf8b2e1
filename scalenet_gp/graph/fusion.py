"""Fusion: tensors that are upsampled by repetition, and joined, only to be convolved are never made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scalenet_gp.graph.node import Node, TensorSpec

__all__ = ["fused_inputs"]

_LARGEST_FACTOR = 4
"""Larger factors cost more, by coarse voxels that are needed in part, than they save."""


def fused_inputs(nodes: Sequence[Node], specs: Mapping[str, TensorSpec]) -> dict[str, list[tuple[str, str]]]:
    """Return the tensors that each node takes, by its identifier, each with the input that it is, or is a part of.

    They are the inputs themselves, or the tensors that those are upsampled and joined from. The choice depends on the
    network alone and not on the request, so the same voxel is computed alike in every plan. Classes derived from the
    kinds that fuse may compute otherwise, and are left alone.
    """
    maker = {key: node for node in nodes for key in node.output_keys}
    return {node.identifier: _parts(node, maker, specs) or [(key, key) for key in node.input_keys] for node in nodes}


def _parts(node: Node, maker: Mapping[str, Node], specs: Mapping[str, TensorSpec]) -> list[tuple[str, str]]:
    """Return the tensors that a node takes instead of its input, if a part of it is a coarser tensor repeated."""
    if not node.accepts_unfused_inputs:
        return []
    (joined,) = node.input_keys
    join = maker.get(joined)
    parts = join.input_keys if join is not None and join.concatenates else (joined,)
    coarse = {part: maker[part].input_keys[0] for part in parts if _repeats(maker.get(part))}
    # convolved at coarse voxels, each part makes all of the output's channels, so it must not have fewer itself
    made = specs[node.output_keys[0]].channels
    if not coarse or any(specs[key].channels < made for key in coarse.values()):
        return []
    return [(coarse.get(part, part), joined) for part in parts]


def _repeats(node: Node | None) -> bool:
    return node is not None and node.repeats is not None and 1 < max(node.repeats) <= _LARGEST_FACTOR
