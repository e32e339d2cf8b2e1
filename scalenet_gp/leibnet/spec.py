"""A network without its weights, as JSON: what describes it, and what builds it again.

Nothing that a spec says is imported or run: kinds of node are found by the names of classes that have been defined.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from scalenet_gp.errors import GraphError
from scalenet_gp.graph import Node, TensorSpec, build_node
from scalenet_gp.options import to_json_value

if TYPE_CHECKING:
    from scalenet_gp.leibnet.leibnet import LeibNet

__all__ = ["InputSpec", "NetworkSpec", "NodeSpec", "build_network", "network_fingerprint", "network_spec"]

_SCHEMA = 1


class InputSpec(BaseModel):
    """A tensor that comes from outside: its voxel size (nm per spatial axis, exact, as in ``"23/5"``) and channels."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    voxel_size: tuple[str, ...]
    channels: int

    @model_validator(mode="after")
    def _is_a_tensor(self) -> InputSpec:
        self.tensor()
        return self

    def tensor(self) -> TensorSpec:
        """The same as the graph takes it."""
        return TensorSpec(self.voxel_size, self.channels)  # type: ignore[arg-type]


class NodeSpec(BaseModel):
    """A node: the name of its class, and beside it the arguments of its constructor."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, JsonValue]

    kind: str

    def node(self) -> Node:
        """The node, with new weights.

        Raises:
            ValueError: no class of that name has been defined, or it does not take these arguments.
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
        schema_version: which version of these fields it is; in JSON its name is ``"schema"``.
        name: the network's.
        inputs: what comes from outside.
        outputs: the tensors that can be asked for.
        nodes: the nodes, each after those that it reads from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    inputs: dict[str, InputSpec]
    outputs: list[str]
    nodes: list[NodeSpec]


def network_spec(net: LeibNet) -> dict[str, Any]:
    """``net`` without its weights, as JSON holds it; :func:`build_network` builds it again.

    Raises:
        ValueError: a node was given something that JSON cannot hold, such as a module, or the network's name is no
            string.
    """
    spec = {"schema": _SCHEMA, "name": net.name, **_described(net)}
    for described, node in zip(spec["nodes"], net.nodes.values(), strict=True):
        for name, value in described.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                kind, made = described["kind"], node.output_keys[0]  # type: ignore[index]
                raise GraphError(
                    f"no spec can hold the argument {name} of the {kind} that makes {made!r} ({error}); write a "
                    f"subclass of {kind} whose constructor takes names and numbers alone and makes the rest itself"
                ) from error
    try:
        _checked(spec)
    except ValueError as error:
        raise GraphError(f"no spec can hold the network: {error}") from error
    return spec


def build_network(spec: Mapping[str, Any]) -> LeibNet:
    """The network that :func:`network_spec` described, with new weights.

    Raises:
        ValueError: the spec is of another schema, lacks a field, has one too many or one of another type, or names a
            kind of node that has not been defined; the message says where.
    """
    from scalenet_gp.leibnet.leibnet import LeibNet

    if not isinstance(spec, Mapping):
        raise GraphError(f"a spec is a mapping, as to_spec() makes it; this is of type {type(spec).__name__}")
    schema = spec.get("schema")
    if schema != _SCHEMA:
        raise GraphError(f"this version reads network specs of schema {_SCHEMA}, not {schema!r}")
    try:
        checked = _checked(spec)
    except ValueError as error:
        raise GraphError(f"this is no spec of a network: {error}") from error
    nodes = [node.node() for node in checked.nodes]
    return LeibNet(nodes, {key: i.tensor() for key, i in checked.inputs.items()}, checked.outputs, checked.name)


def network_fingerprint(net: LeibNet) -> str:
    """Sixteen hexadecimal digits that two networks share if their nodes, inputs and outputs are described alike.

    Weights play no part, and neither does the network's name: plans of one fit the other. What a spec cannot hold
    counts by how it prints, wherever in memory it lies.
    """
    text = json.dumps(_described(net), sort_keys=True, default=lambda value: re.sub(r" at 0x\w+", "", repr(value)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _checked(spec: Mapping[str, Any]) -> NetworkSpec:
    """The fields of a spec; what the nodes are built with is checked when they are built."""
    try:
        text = json.dumps(to_json_value(spec), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise GraphError(f"JSON cannot hold it ({error})") from error
    try:
        return NetworkSpec.model_validate_json(text)
    except ValidationError as error:
        raise GraphError(_in_words(error)) from error


def _described(net: LeibNet) -> dict[str, Any]:
    """What a network computes, and at which voxel sizes."""
    return {
        "inputs": {
            key: {
                "voxel_size": [str(size) for size in net.specs[key].voxel_size],
                "channels": net.specs[key].channels,
            }
            for key in net.input_keys
        },
        "outputs": list(net.output_keys),
        "nodes": [{"kind": type(node).__name__, **node.arguments} for node in net.nodes.values()],  # type: ignore[dict-item]
    }


def _in_words(error: ValidationError) -> str:
    """Each field that is wrong, and how."""
    fields = {InputSpec: "voxel_size, channels", NetworkSpec: "schema, name, inputs, outputs, nodes"}
    problems = []
    for problem in error.errors(include_url=False):
        where = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = fields[NetworkSpec if len(problem["loc"]) == 1 else InputSpec]
            problems.append(f"{where} is no field of it; there are {known}")
        elif problem["type"] == "missing":
            problems.append(f"{where} is missing")
        else:
            problems.append(f"{where} is {problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)
