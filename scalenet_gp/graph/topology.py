"""Checks that make a list of nodes a graph: names that fit together, no cycle, voxel sizes that agree."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from torch import nn

from scalenet_gp.errors import GraphError
from scalenet_gp.graph.node import Node, TensorSpec

__all__ = ["producers", "resolve_specs", "topological_order"]


def producers(nodes: Sequence[Node]) -> dict[str, str]:
    """Return the identifier of the node that makes each tensor.

    Raises:
        GraphError: two nodes make one tensor.
    """
    made_by: dict[str, str] = {}
    for node in nodes:
        for key in node.output_keys:
            if key in made_by:
                raise GraphError(f"tensor {key!r} has two makers: nodes {made_by[key]!r} and {node.identifier!r}")
            made_by[key] = node.identifier
    return made_by


def topological_order(nodes: Sequence[Node], input_keys: Sequence[str], output_keys: Sequence[str]) -> list[Node]:
    """Return the nodes, each after those that it reads from; if there is a choice, in the order given.

    Raises:
        GraphError: names do not fit together, or there is a cycle; the message names the nodes and tensors.
    """
    by_identifier: dict[str, Node] = {}
    for node in nodes:
        if node.identifier in by_identifier:
            raise GraphError(f"two nodes are called {node.identifier!r}")
        if not node.identifier or "." in node.identifier or hasattr(nn.ModuleDict(), node.identifier):
            raise GraphError(f"no node can be called {node.identifier!r}: torch uses that name, or dots, itself")
        by_identifier[node.identifier] = node
    made_by = producers(nodes)
    for key in input_keys:
        if key in made_by:
            raise GraphError(f"tensor {key!r} is declared as an input, and node {made_by[key]!r} makes it too")
    known = {*made_by, *input_keys}
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(by_identifier, ()))
    for node in nodes:
        for key in node.input_keys:
            if key not in known:
                raise GraphError(
                    f"node {node.identifier!r} reads {key!r}, which no node makes and which is not declared as an "
                    f"input; there are {', '.join(sorted(known))}"
                )
            if key in made_by:
                sorter.add(node.identifier, made_by[key])
    for key in output_keys:
        if key not in made_by:
            raise GraphError(f"no node makes the output {key!r}; they make {', '.join(sorted(made_by))}")
    if not output_keys or len(set(output_keys)) < len(output_keys):
        raise GraphError(f"a network needs at least one output, each named once, not {list(output_keys)}")
    unread = [key for key in input_keys if not any(key in node.input_keys for node in nodes)]
    if unread:
        raise GraphError(f"no node reads the declared inputs {unread}")
    return [by_identifier[identifier] for identifier in _sort(sorter, list(by_identifier))]


def _sort(sorter: TopologicalSorter[str], identifiers: Sequence[str]) -> list[str]:
    """Return the identifiers in order; of those that are ready, the one that was given first comes first."""
    position = {identifier: index for index, identifier in enumerate(identifiers)}
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = error.args[1][:-1]
        first = min(range(len(cycle)), key=lambda index: position[cycle[index]])
        listed = " -> ".join(map(repr, cycle[first:] + cycle[:first]))
        raise GraphError(f"the graph has a cycle through the nodes {listed}") from None
    ready: list[int] = []
    order: list[str] = []
    while sorter.is_active():
        for identifier in sorter.get_ready():
            heapq.heappush(ready, position[identifier])
        order.append(identifiers[heapq.heappop(ready)])
        sorter.done(order[-1])
    return order


def resolve_specs(nodes: Sequence[Node], inputs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """Return voxel size and channels of every tensor; ``nodes`` as :func:`topological_order` gives them.

    Raises:
        GraphError: the inputs of a node do not fit together; the message names the node and the values.
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
