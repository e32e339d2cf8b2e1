"""The picture of a network's nodes."""

from __future__ import annotations

from scalenet_gp import build_scalenet


def test_every_node_is_drawn_once_at_the_height_of_its_voxel_size():
    small = {"base_nc": 1, "downsample_factors": [(2, 2)]}
    net = build_scalenet([{"top_resolution": (nm, nm), **small} for nm in (16, 8)])
    (axes,) = net.diagram().axes
    points = [tuple(point) for drawn in axes.collections for point in drawn.get_offsets()]
    assert len(points) == len(set(points)) == len(net.graph.nodes) + len(net.graph.input_keys)
    rows = {-row: text for row, text in ((item.get_position()[1], item.get_text()) for item in axes.texts[-3:])}
    assert rows == {0: "8 × 8 nm", 1: "16 × 16 nm", 2: "32 × 32 nm"}
    of_size = {size: sum(spec.voxel_size[0] == size for spec in net.specs.values()) for size in (8, 16, 32)}
    assert {size: sum(round(-y - 0.4) == row for _, y in points) for row, size in enumerate((8, 16, 32))} == of_size
    names = {item.get_text(): item.xy[0] for item in axes.texts[:4]}
    assert names["0_input"] == names["1_input"] == 0
    assert names["1_output"] > names["0_output"] > 0
    edges = sum(len(node.input_keys) for node in net.graph.nodes.values())
    assert len(axes.lines) == edges
