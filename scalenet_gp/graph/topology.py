"""What makes a list of nodes a graph: names that fit together, no cycle, voxel sizes that agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import networkx as nx
from torch import nn

from scalenet_gp.errors import GraphError
from scalenet_gp.graph.node import Node, TensorSpec

__all__ = ["producers", "resolve_specs", "topological_order"]


def producers(nodes: Sequence[Node]) -> dict[str, str]:
    """The identifier of the node that makes each tensor.

    Raises:
        ValueError: two nodes make one tensor.
    """
    made_by: dict[str, str] = {}
    for node in nodes:
        for key in node.output_keys:
            if key in made_by:
                raise GraphError(f"tensor {key!r} has two makers: nodes {made_by[key]!r} and {node.identifier!r}")
            made_by[key] = node.identifier
    return made_by


def topological_order(nodes: Sequence[Node], input_keys: Sequence[str], output_keys: Sequence[str]) -> list[Node]:
    """The nodes, each after those that it reads from; where there is a choice, in the order given.

    Raises:
        ValueError: something about the names is wrong; the message names the nodes and tensors.
    """
    by_identifier: dict[str, Node] = {}
    for node in nodes:
        if node.identifier in by_identifier:
            raise GraphError(f"two nodes are called {node.identifier!r}")
        if not node.identifier or "." in node.identifier or hasattr(nn.ModuleDict(), node.identifier):
            raise GraphError(f"no node can be called {node.identifier!r}: torch uses that, or the dots in it, itself")
        by_identifier[node.identifier] = node
    made_by = producers(nodes)
    for key in input_keys:
        if key in made_by:
            raise GraphError(f"tensor {key!r} is declared as an input, and node {made_by[key]!r} makes it too")
    known = {*made_by, *input_keys}
    graph = nx.DiGraph()
    graph.add_nodes_from(by_identifier)
    for node in nodes:
        for key in node.input_keys:
            if key not in known:
                raise GraphError(
                    f"node {node.identifier!r} reads {key!r}, which no node makes and nobody declared as an input; "
                    f"there are {', '.join(sorted(known))}"
                )
            if key in made_by:
                graph.add_edge(made_by[key], node.identifier)
    for key in output_keys:
        if key not in made_by:
            raise GraphError(f"no node makes the output {key!r}; they make {', '.join(sorted(made_by))}")
    if not output_keys or len(set(output_keys)) < len(output_keys):
        raise GraphError(f"a network needs at least one output, each named once, not {list(output_keys)}")
    unread = [key for key in input_keys if not any(key in node.input_keys for node in nodes)]
    if unread:
        raise GraphError(f"no node reads the declared inputs {unread}")
    position = {identifier: index for index, identifier in enumerate(by_identifier)}
    try:
        order = list(nx.lexicographical_topological_sort(graph, key=position.__getitem__))
    except nx.NetworkXUnfeasible:
        cycle = " -> ".join(repr(start) for start, _ in nx.find_cycle(graph))
        raise GraphError(f"the graph has a cycle through the nodes {cycle}") from None
    return [by_identifier[identifier] for identifier in order]


def resolve_specs(nodes: Sequence[Node], inputs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """Voxel size and channels of every tensor; ``nodes`` as :func:`topological_order` gives them.

    Raises:
        ValueError: what a node reads does not fit together; the message names the node and the values.
    """
    if len({len(spec.voxel_size) for spec in inputs.values()}) > 1:
        listed = ", ".join(f"{key!r} {spec}" for key, spec in inputs.items())
        raise GraphError(f"the inputs have to share one number of axes: {listed}")
    specs = dict(inputs)
    for node in nodes:
        read = [specs[key] for key in node.input_keys]
        try:
            made = node.output_specs(*read)
        except ValueError as error:
            listed = ", ".join(f"{key!r} ({spec})" for key, spec in zip(node.input_keys, read, strict=True))
            raise GraphError(f"node {node.identifier!r} cannot work on {listed}: {error}") from error
        if len(made) != len(node.output_keys):
            raise GraphError(f"node {node.identifier!r} makes {len(made)} tensors, but names {node.output_keys}")
        specs.update(zip(node.output_keys, made, strict=True))
    return specs
