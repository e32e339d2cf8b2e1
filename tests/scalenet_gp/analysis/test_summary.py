"""The table of a plan and of what it costs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from fractions import Fraction

import pytest
from funlib.geometry import Roi

from scalenet_gp import LeibNet, TensorSpec, build_scalenet, build_unet
from scalenet_gp.analysis.cost import predict_cost
from scalenet_gp.analysis.summary import summarize
from scalenet_gp.layers import ConvPass, Pool


def small() -> LeibNet:
    nodes = [ConvPass(["raw"], ["fine"], 2, 3, [(3, 3)]), Pool(["fine"], ["coarse"], (2, 2))]
    return LeibNet(nodes, {"raw": TensorSpec(("4.6", 4), 2)}, ["fine", "coarse"], name="Small")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_table_of_a_small_network():
    net = small()
    assert net.unit == Fraction(1, 5)
    plan = net.plan({"coarse": Roi((0, -40), (460, 400)), "fine": Roi((0, 0), (23, 20))})
    lines = str(summarize(net.graph, plan)).splitlines()
    assert lines[0] == "Small"
    header = ["tensor", "made by", "voxel size (nm)", "begin", "shape", "channels", "MAC", "memory"]
    assert cells(lines[1]) == header
    assert [cells(line) for line in lines[3:6]] == [
        ["raw", "(input)", "4.6 × 4", "-23, -60", "22 × 22", "2", "3.78 KiB"],
        ["fine", "ConvPass", "4.6 × 4", "0, -40", "20 × 20", "3", "21.6 k", "4.69 KiB"],
        ["coarse", "Pool", "9.2 × 8", "0, -40", "10 × 10", "3", "1.17 KiB"],
    ]
    assert lines[7] == "21.6 kMAC per sample, 216 MAC per voxel of 'coarse'"
    assert lines[8] == "57 parameters; 228 B of weights"
    assert lines[9].startswith("predicted peak with weights: ")
    assert len(lines) == 10


def test_it_tells_what_is_predicted():
    net = build_unet((8, 8), base_nc=4, norm_layer="batch")
    summary = summarize(net.graph, net.smallest_plan)
    assert summary.inference == predict_cost(net.graph, net.smallest_plan)
    assert summary.training == predict_cost(net.graph, net.smallest_plan, training=True)
    assert summary.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert not summary.whole_tensor


def test_it_lists_the_nodes_of_the_plan_alone():
    net = build_scalenet([{"top_resolution": (r, r), "base_nc": 2} for r in (32, 8)])
    summary = summarize(net.graph, net.plan({"0_output": Roi((0, 0), (32, 32))}))
    assert all(row[0].startswith("0_") for row in summary.rows)
    assert summary.parameters < sum(parameter.numel() for parameter in net.parameters()) / 2


def test_three_scales_fit_a_terminal():
    net = build_scalenet([{"top_resolution": (r,) * 3} for r in (128, 32, 8)])
    assert max(map(len, str(summarize(net.graph, net.smallest_plan)).splitlines())) <= 120


def test_it_says_which_nodes_keep_tiles_from_agreeing():
    net = build_unet((8, 8), base_nc=8, bottleneck="transformer")
    summary = summarize(net.graph, net.smallest_plan)
    assert summary.whole_tensor == (("bottleneck_transformer", "TransformerBlock"),)
    assert "tiles will not agree exactly" in str(summary)
    assert "bottleneck_transformer (TransformerBlock)" in " ".join(str(summary).split())


def test_notebooks_show_it_as_html():
    nodes = [ConvPass(["a<b"], ["b & c"], 1, 1, [(3, 3)])]
    net = LeibNet(nodes, {"a<b": TensorSpec((1, 1), 1)}, ["b & c"])
    summary = summarize(net.graph, net.smallest_plan)
    page = ET.fromstring(f"<div>{summary._repr_html_().replace('<br>', '<br/>')}</div>")
    shown = [[cell.text or "" for cell in row] for row in page.findall("table/tbody/tr")]
    assert shown == [list(row) for row in summary.rows]
    assert [row[0] for row in shown] == ["a<b", "b & c"]
    assert tuple(page.find("p").itertext()) == summary.notes


def test_a_plan_of_another_network():
    with pytest.raises(ValueError, match="the plan is for network"):
        summarize(small().graph, build_unet((8, 8), base_nc=1).smallest_plan)
