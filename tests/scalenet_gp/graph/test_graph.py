"""Graphs below networks: order, cycles, and plans that are kept by phase."""

from __future__ import annotations

import copy
import pickle

import pytest
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp import TensorSpec, build_scalenet, build_unet
from scalenet_gp.graph import Graph, PhaseCache
from scalenet_gp.graph.planning import Planner
from scalenet_gp.layers import Concatenate, Sum
from tests.scalenet_gp.graph.strategies import networks, requests

A = {"a": TensorSpec((8, 8), 1)}
READS = {"b": {"a"}, "c": {"a"}, "d": {"b"}, "e": {"c", "d"}}


def fresh_plan(graph, request):
    """The plan, worked out without the cache."""
    return Planner(list(graph.nodes.values()), graph.specs, graph.voxel_size).plan(request, graph.fingerprint)


@given(st.data())
@settings(max_examples=60)
def test_a_kept_plan_is_the_plan_worked_out_anew(data):
    graph = data.draw(networks(linear=False)).graph
    request = data.draw(requests(graph))
    expected = fresh_plan(graph, request)
    assert graph.plan(request) == expected
    assert graph.plan(request) == expected  # from the cache
    moved = Coordinate(data.draw(st.integers(-3, 3)) for _ in range(graph.dims)) * graph.period
    elsewhere = {key: roi.shift(moved) for key, roi in request.items()}
    assert graph.plan(elsewhere) == fresh_plan(graph, elsewhere) == expected.shifted(moved)


def test_requests_whole_periods_apart_are_planned_once(monkeypatch):
    graph = build_scalenet([{"top_resolution": (r, r), "base_nc": 1} for r in (32, 8)]).graph
    planned = []
    plan = Planner.plan
    monkeypatch.setattr(Planner, "plan", lambda *arguments: planned.append(1) or plan(*arguments))
    for step in (0, 1, -5, 100):
        graph.plan({"1_output": Roi(graph.period * step + Coordinate(8, 16), (64, 64))})
    assert len(planned) == 1
    graph.plan({"1_output": Roi((0, 16), (64, 64))})
    assert len(planned) == 2


def test_the_longest_unused_answer_goes_first():
    cache = PhaseCache(most=2)
    asked = []

    def at(begin):
        return cache.get({"a": Roi((begin,), (1,))}, Coordinate((10,)), lambda rois: asked.append(rois) or len(asked))[
            0
        ]

    assert [at(0), at(1), at(10), at(2), at(20), at(1)] == [1, 2, 1, 3, 1, 4]
    assert len(cache) == 2


def test_a_graph_is_copied_and_pickled_with_its_plans():
    net = build_unet((8, 8), base_nc=1)
    plan = net.plan({"output": Roi((800, 0), (32, 32))})
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert all(again.nodes[name] is node for name, node in again.graph.nodes.items())
        assert all(again.nodes[name] is not net.nodes[name] for name in net.nodes)
        assert again.plan(plan.outputs) == plan


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_of_nodes_that_are_ready_the_one_given_first_runs_first(order):
    nodes = [
        Concatenate(["a"], ["b"]),
        Concatenate(["a"], ["c"]),
        Concatenate(["b"], ["d"]),
        Sum(["c", "d"], ["e"], [1, 1], dims=2),
    ]
    names = [nodes[index].identifier for index in order]
    graph = Graph([nodes[index] for index in order], A, ["e"])
    ready, expected = {"a"}, []
    while len(expected) < len(nodes):
        made = next(
            n for n in names if n not in ready and {"b": {"a"}, "c": {"a"}, "d": {"b"}, "e": {"c", "d"}}[n] <= ready
        )
        ready.add(made)
        expected.append(made)
    assert list(graph.nodes) == expected


def test_a_cycle_is_named_from_the_node_given_first():
    nodes = [Concatenate(["d"], ["b"]), Concatenate(["b"], ["c"]), Concatenate(["c"], ["d"])]
    for rotated in (nodes, nodes[1:] + nodes[:1]):
        names = " -> ".join(repr(node.identifier) for node in rotated)
        with pytest.raises(ValueError, match=f"the graph has a cycle through the nodes {names}"):
            Graph(rotated, {}, ["d"])
