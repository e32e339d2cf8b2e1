"""Which tensors a pass never makes: those upsampled by repetition, and joined, only to be convolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scalenet_gp.kinds.concatenate import Concatenate
from scalenet_gp.kinds.conv_pass import ConvPass
from scalenet_gp.kinds.upsample import Upsample
from scalenet_gp.node import Node

__all__ = ["sources"]


def sources(nodes: Sequence[Node]) -> dict[str, tuple[str, ...]]:
    """The tensors that each node takes, by its identifier: its inputs, or what they are upsampled and joined from.

    This follows from the network alone and not from what is asked of it, so that the same voxel is computed alike in
    every plan.
    """
    maker = {key: node for node in nodes for key in node.output_keys}
    return {node.identifier: _parts(node, maker) or node.input_keys for node in nodes}


def _parts(node: Node, maker: Mapping[str, Node]) -> tuple[str, ...]:
    """What a pass of convolutions takes instead of its input, where something of it is a coarser tensor repeated."""
    if not isinstance(node, ConvPass) or not node.takes_parts:
        return ()
    (joined,) = node.input_keys
    join = maker.get(joined)
    parts = join.input_keys if isinstance(join, Concatenate) else (joined,)
    upsampled = {part: maker[part] for part in parts if _repeats(maker.get(part))}
    return tuple(upsampled[part].input_keys[0] if part in upsampled else part for part in parts) if upsampled else ()


def _repeats(node: Node | None) -> bool:
    return isinstance(node, Upsample) and node.mode == "nearest" and max(node.factor) > 1
