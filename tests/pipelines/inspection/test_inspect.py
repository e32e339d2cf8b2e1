"""The inspection of a network: the table against the plan, the chart against the graph."""

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from scalenet_gp import LeibNet, TensorSpec, build_unet
from scalenet_gp.analysis import predict_cost
from scalenet_gp.analysis.mermaid import to_mermaid
from scalenet_gp.layers import ConvPass, Upsample
from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.inspection.plan_table import plan_of_shape, plan_table
from tests.pipelines.conftest import tiny_config

VNC = Path(__file__).parents[3] / "pipelines" / "configs" / "vnc.yaml"


def printed(table):
    console = Console(file=StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()


def rows_of(text):
    """The cells of every row, which at least two spaces part."""
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def test_the_plan_is_for_so_many_voxels_of_the_finest_output():
    net = tiny_config().build_network()
    plan = plan_of_shape(net, (8, 12, 16))
    assert plan.tensor("1_output").shape == (8, 12, 16)
    assert plan.tensor("0_output").roi.contains(plan.outputs["1_output"])
    assert plan.outputs["0_output"] == plan.outputs["1_output"]
    assert tuple(plan.outputs["1_output"].begin) == (0, 0, 0)


@pytest.mark.parametrize("voxels", [(8, 8), (8, 8, 0), (8, 8, 8, 8), (-8, 8, 8)])
def test_a_size_that_is_none_is_refused(voxels):
    with pytest.raises(ValueError, match=re.escape(f"needs 3 positive numbers of voxels, not {voxels}")):
        plan_of_shape(tiny_config().build_network(), voxels)


def test_a_size_that_a_coarser_output_cannot_have_is_refused():
    with pytest.raises(ValueError, match=r"\(7, 8, 8\) voxels .* multiples of \(2, 2, 2\) are, \(8, 8, 8\) for one"):
        plan_of_shape(tiny_config().build_network(), (7, 8, 8))


@pytest.mark.parametrize("config", [tiny_config(), Config.read(VNC)], ids=["tiny", "vnc"])
def test_the_table_holds_every_tensor_as_planned(config):
    net = config.build_network()
    plan = plan_of_shape(net, (4, 32, 32))
    text = printed(plan_table(net, plan))
    found = {row[0]: row[1:] for row in rows_of(text)}
    assert {*net.input_keys, *net.output_keys} < {tensor.name for tensor in plan.tensors} <= found.keys()
    cost = predict_cost(net.graph, plan)
    total = 0
    for name, roi in plan.rois.items():
        size, begin, end, shape, channels, memory, *macs = found[name]
        voxels = [n // s for n, s in zip(roi.shape, net.voxel_size[name], strict=True)]
        assert shape == " × ".join(map(str, voxels))
        assert [float(length) for length in size.split(" × ")] == [float(s) for s in net.specs[name].voxel_size]
        for cell, corner in ((begin, roi.begin), (end, roi.end)):
            assert [float(x) for x in cell.split(", ")] == pytest.approx([float(c * net.unit) for c in corner])
        assert int(channels) == net.specs[name].channels
        mebibytes = 4 * net.specs[name].channels * voxels[0] * voxels[1] * voxels[2] / 2**20
        assert float(memory) == pytest.approx(mebibytes, abs=0.0051)
        total += mebibytes
        node = net.graph.nodes.get(name)
        assert [cell.replace(",", "") for cell in macs] == (
            [f"{cost.macs[name] / 1e6:.1f}"] if isinstance(node, ConvPass) else []
        )
    assert float(found["all tensors"][0]) == pytest.approx(total, abs=0.0051)
    weights = sum(parameter.numel() for parameter in net.parameters())
    assert f"ScaleNet: {weights:,} weights" in text


def test_the_chart_of_a_small_graph():
    """Two scales: a pass at 8 nm, its result upsampled to 4 nm, an output of each."""
    net = LeibNet(
        [ConvPass(["raw"], ["coarse"], 1, 3, [(3, 3)]), Upsample(["coarse"], ["fine"], (2, 2))],
        {"raw": TensorSpec((8, 8), 1)},
        ["coarse", "fine"],
    )
    assert to_mermaid(net.graph) == "\n".join(
        [
            "flowchart TD",
            '  subgraph s0["8 × 8 nm"]',
            '    n0[/"raw"/]',
            '    n1["ConvPass<br/>coarse"]',
            "  end",
            '  subgraph s1["4 × 4 nm"]',
            '    n2["Upsample<br/>fine"]',
            "  end",
            "  n0 -- 1 --> n1",
            "  n1 -- 3 --> n2",
            '  o0[/"coarse"/]',
            "  n1 -- 3 --> o0",
            '  o1[/"fine"/]',
            "  n2 -- 3 --> o1",
        ]
    )


def test_a_node_may_bear_the_name_of_an_input():
    net = LeibNet(
        [ConvPass(["raw"], ["made"], 1, 3, [(3, 3)], identifier="raw")], {"raw": TensorSpec((8, 8), 1)}, ["made"]
    )
    chart = to_mermaid(net.graph).splitlines()
    assert '    n0[/"raw"/]' in chart
    assert '    n1["ConvPass<br/>raw"]' in chart
    assert "  n0 -- 1 --> n1" in chart


NETWORKS = {
    "tiny": lambda: tiny_config().build_network(),
    "vnc": lambda: Config.read(VNC).build_network(),
    "unet": lambda: build_unet((8, 8, 8), base_nc=2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_chart_has_every_node_and_every_edge(name):
    net = NETWORKS[name]()
    lines = to_mermaid(net.graph).splitlines()
    assert lines[0] == "flowchart TD"
    shown, edges, group, depth = {}, [], {}, None
    for line in lines[1:]:
        if opened := re.fullmatch(r'  subgraph \w+\["(.*) nm"\]', line):
            depth = opened[1]
        elif line == "  end":
            depth = None
        elif node := re.fullmatch(r' +(\w+)\[(/?)"(.*)"/?\]', line):
            assert node[1] not in shown  # an identifier names one thing
            shown[node[1]] = node[3]
            group[node[1]] = depth
        else:
            edge = re.fullmatch(r"  (\w+) -- (\d+) --> (\w+)", line)
            assert edge, line
            edges.append((edge[1], int(edge[2]), edge[3]))

    labels = [f"{type(node).__name__}<br/>{node.identifier}" for node in net.nodes.values()]
    assert sorted(shown.values()) == sorted([*net.input_keys, *labels, *net.output_keys])
    maker = {key: f"{type(n).__name__}<br/>{n.identifier}" for n in net.nodes.values() for key in n.output_keys}
    maker |= {key: key for key in net.input_keys}
    expected = [
        (maker[key], net.specs[key].channels, f"{type(node).__name__}<br/>{node.identifier}")
        for node in net.nodes.values()
        for key in node.input_keys
    ]
    expected += [(maker[key], net.specs[key].channels, key) for key in net.output_keys]
    assert sorted((shown[a], channels, shown[b]) for a, channels, b in edges) == sorted(expected)
    sizes = {label: " × ".join(f"{float(s):.12g}" for s in net.specs[key].voxel_size) for key, label in maker.items()}
    assert {shown[i]: g for i, g in group.items() if g} == sizes
