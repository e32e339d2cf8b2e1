"""A network without its weights, as JSON: the fields that describe it, and the graph that they describe.

Nothing that a spec says is imported or run: kinds of nodes are found by the names of classes that have been defined.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from scalenet_gp.errors import GraphError
from scalenet_gp.graph import Graph, Node, TensorSpec, build_node
from scalenet_gp.options import reword, show_value, to_json_value

__all__ = ["InputSpec", "NetworkSpec", "NodeSpec", "graph_spec", "read_spec"]

_SCHEMA = 1


class InputSpec(BaseModel):
    """An input: its voxel size (nm per spatial axis, exact, as in ``"23/5"``) and channels."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    voxel_size: tuple[str, ...]
    channels: int

    @model_validator(mode="after")
    def _is_a_tensor(self) -> InputSpec:
        self.tensor()
        return self

    def tensor(self) -> TensorSpec:
        """Return the same as a graph takes it."""
        return TensorSpec(self.voxel_size, self.channels)  # type: ignore[arg-type]


class NodeSpec(BaseModel):
    """A node: the name of its class, and beside it the arguments of its constructor."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, JsonValue]

    kind: str

    def node(self) -> Node:
        """Return the node, with new weights.

        Raises:
            GraphError: no class of that name has been defined, or it does not take these arguments.
        """
        arguments: dict[str, Any] = dict(self.__pydantic_extra__)
        made = arguments.get("output_keys")
        name = arguments.get("identifier") or (made[0] if isinstance(made, list) and made else "?")
        try:
            return build_node(self.kind, **arguments)
        except Exception as error:  # a constructor may raise anything when arguments do not fit each other
            raise GraphError(f"node {name!r} of kind {self.kind!r} cannot be built: {error}") from error


class NetworkSpec(BaseModel):
    """A network without its weights.

    Attributes:
        schema_version: the version of these fields; in JSON its name is ``"schema"``.
        name: the network's name.
        inputs: the tensors that come from outside.
        outputs: the tensors that can be requested.
        nodes: the nodes, each after those that it reads from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    inputs: dict[str, InputSpec]
    outputs: list[str]
    nodes: list[NodeSpec]


def graph_spec(graph: Graph) -> dict[str, Any]:
    """Return ``graph`` without weights, as JSON holds it; :func:`read_spec` takes it.

    Raises:
        GraphError: an argument of a node does not fit into JSON, such as a module, or the name is not a string.
    """
    spec = {"schema": _SCHEMA, "name": graph.name, **graph.description()}
    for described, node in zip(spec["nodes"], graph.nodes.values(), strict=True):
        for name, value in described.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                kind, made = described["kind"], node.output_keys[0]
                raise GraphError(
                    f"no spec can hold the argument {name} of the {kind} that makes {made!r} ({error}); write a "
                    f"subclass of {kind} whose constructor takes names and numbers alone and makes the rest itself"
                ) from error
    try:
        _validate(spec)
    except ValueError as error:
        raise GraphError(f"no spec can hold the network: {error}") from error
    return spec


def read_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for :class:`.LeibNet` that :func:`graph_spec` described; the nodes have new weights.

    Raises:
        GraphError: the spec is of another schema, lacks a field, has one too many or one of another type, or names a
            kind of node that has not been defined; the message says where.
    """
    if not isinstance(spec, Mapping):
        raise GraphError(f"a spec is a mapping, as to_spec() makes it; this is of type {type(spec).__name__}")
    schema = spec.get("schema")
    if schema != _SCHEMA:
        raise GraphError(f"this version reads network specs of schema {_SCHEMA}, not {schema!r}")
    try:
        valid = _validate(spec)
    except ValueError as error:
        raise GraphError(f"this is not a spec of a network: {error}") from error
    return {
        "nodes": [node.node() for node in valid.nodes],
        "inputs": {key: tensor.tensor() for key, tensor in valid.inputs.items()},
        "outputs": valid.outputs,
        "name": valid.name,
    }


def _validate(spec: Mapping[str, Any]) -> NetworkSpec:
    """Return the fields of a spec; the arguments of nodes are checked when the nodes are built."""
    try:
        text = json.dumps(to_json_value(spec), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise GraphError(f"JSON cannot hold it ({error})") from error
    try:
        return NetworkSpec.model_validate_json(text)
    except ValidationError as error:
        raise GraphError(_describe_problems(error)) from error


def _describe_problems(error: ValidationError) -> str:
    """Return each wrong field and the reason, in one line."""
    fields = {InputSpec: "voxel_size, channels", NetworkSpec: "schema, name, inputs, outputs, nodes"}
    problems = []
    for problem in error.errors(include_url=False):
        where = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = fields[NetworkSpec if len(problem["loc"]) == 1 else InputSpec]
            problems.append(f"{where} is not a field of it; there are {known}")
        elif problem["type"] == "missing":
            problems.append(f"{where} is missing")
        else:
            problems.append(f"{where} is {show_value(problem['input'])}: {reword(problem['msg'])}")
    return "; ".join(problems)
