"""Skeletons that are written by hand, and by networkx' rules."""

import json

import numpy as np
import pytest

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.volumes.skeletons import read_skeletons

SWC = """# id type x y z radius parent
1 1 10 20 30 5.0 -1
2 3 11.5 20 30 1 1  # a branch
7 3 10 21 30 1 1

"""
GRAPH = {
    "directed": False,
    "nodes": [{"id": "a", "position": [1, 2, 3]}, {"id": "b", "position": [4, 5, 6.5], "radius": 3}],
    "edges": [{"source": "b", "target": "a"}],
}


def test_nodes_have_their_axes_in_the_order_of_arrays(tmp_path):
    (tmp_path / "one.swc").write_text(SWC)
    found = read_skeletons(tmp_path / "one.swc")
    np.testing.assert_array_equal(found.positions, [[30, 20, 10], [30, 20, 11.5], [30, 21, 10]])
    assert found.edges.tolist() == [[1, 0], [2, 0]]
    (tmp_path / "one.json").write_text(json.dumps(GRAPH))
    found = read_skeletons(tmp_path / "one.json")
    np.testing.assert_array_equal(found.positions, [[1, 2, 3], [4, 5, 6.5]])
    assert found.edges.tolist() == [[1, 0]]
    (tmp_path / "one.json").write_text(json.dumps({"nodes": GRAPH["nodes"], "links": GRAPH["edges"]}))
    assert read_skeletons(tmp_path / "one.json").edges.tolist() == [[1, 0]]


def test_a_folder_has_the_skeletons_of_all_its_files(tmp_path):
    for name in ("b.swc", "a.SWC"):
        (tmp_path / name).write_text(SWC)
    (tmp_path / "c.json").write_text(json.dumps(GRAPH))
    (tmp_path / "README").write_text("not a skeleton")
    found = read_skeletons(tmp_path)
    assert len(found.positions) == 8
    assert found.edges.tolist() == [[1, 0], [2, 0], [4, 3], [5, 3], [7, 6]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.swc", "1 1 10 20 30 5.0", r"a.swc, line 1: '1 1 10 20 30 5.0' is not a node of SWC, as in '2 3 "),
        ("a.swc", SWC + "8 3 x 0 0 1 1", r"line 6: '8 3 x 0 0 1 1' is not a node"),
        ("a.swc", SWC + "8 3 inf 0 0 1 1", r"line 6: .* is not a node"),
        ("a.swc", SWC + "8 3 0 0 0 1 9", "an edge or a parent names the node 9, and there is none"),
        ("a.swc", SWC + "7 3 0 0 0 1 1", "has two nodes of the same number"),
        ("a.json", "{", "is not a graph in node-link form"),
        ("a.json", '{"nodes": [{"id": 1}], "edges": []}', "is not a graph in node-link form .*position"),
        ("a.json", '{"nodes": [{"id": 1, "position": [1, 2]}], "edges": []}', "not a position of three finite numbers"),
        ("a.json", '{"nodes": [], "edges": [{"source": 1, "target": 2}]}', "names the node 1, and there is none"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(VolumeFormatError, match=message):
        read_skeletons(tmp_path / name)


def test_nothing_to_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no skeletons: no file in it ends in \.swc or \.json"):
        read_skeletons(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.swc"):
        read_skeletons(tmp_path / "nowhere.swc")
