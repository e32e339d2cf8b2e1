"""The unit of the model graph: a module that knows which part of its inputs an output depends on.

Letters used for shapes throughout: B batch, C channels, Z Y X voxels (Y X in two dimensions).
"""

from __future__ import annotations

import inspect
import operator
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

from funlib.geometry import Coordinate, Roi
from torch import Tensor, nn

from scalenet_gp.errors import GraphError
from scalenet_gp.geometry import exact_size, format_size
from scalenet_gp.options import coerce_arguments, suggest, to_json_value

__all__ = ["Node", "TensorSpec", "build_node"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Voxel size (nm, exact, per spatial axis) and channels of a tensor, whatever its extent.

    Raises:
        GraphError: a voxel size is not positive, the channels are not a whole number from 1 up, or there are not two
            or three axes.

    Example:
        >>> print(TensorSpec((40, "4.6", "4.6"), channels=2))
        2 channels of 40 × 4.6 × 4.6 nm
    """

    voxel_size: tuple[Fraction, ...]
    channels: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "voxel_size", exact_size(self.voxel_size))
        if len(self.voxel_size) not in (2, 3):
            raise GraphError(f"a voxel size has 2 or 3 axes, {format_size(self.voxel_size)} has {len(self.voxel_size)}")
        if min(self.voxel_size) <= 0:
            raise GraphError(f"voxel size {format_size(self.voxel_size)} nm has to be positive on every axis")
        try:
            object.__setattr__(self, "channels", operator.index(self.channels))
        except TypeError:
            raise GraphError(f"channels are a whole number, not {self.channels!r}") from None
        if self.channels < 1:
            raise GraphError(f"a tensor has at least one channel, not {self.channels}")

    def __str__(self) -> str:
        return f"{self.channels} channels of {format_size(self.voxel_size)} nm"


class _NodeType(ABCMeta):
    """Registers every kind of node by name, checks the arguments that a node is built with, and records them.

    Thus a node kind declares its arguments once, in its constructor, and every node can be rebuilt from a spec.
    """

    kinds: ClassVar[dict[str, _NodeType]] = {}

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        cls.__signature__ = cls.signature()  # for help() and completion; else they show that of __call__
        if inspect.isabstract(cls):
            return
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        for argument in cls.signature().parameters.values():
            if argument.kind not in named or argument.name == "kind":
                raise TypeError(f"node kind {name}: a spec cannot hold the argument {argument}; name each, none 'kind'")
        taken = _NodeType.kinds.get(name)
        if taken is not None and taken.__module__ != cls.__module__:
            raise TypeError(
                f"node kind {name}: {taken.__module__} has one of that name; specs could not tell them apart"
            )
        _NodeType.kinds[name] = cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            bound = cls.signature().bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}: {error}") from None
        bound.apply_defaults()
        arguments = {name: to_json_value(argument) for name, argument in bound.arguments.items()}
        defaults = {name: parameter.default for name, parameter in cls.signature().parameters.items()}
        given = {name: plained for name, plained in arguments.items() if bound.arguments[name] is not defaults[name]}
        try:
            taken = {**bound.arguments, **coerce_arguments(cls.__init__, given)}  # type: ignore[misc]
        except ValueError as error:
            raise GraphError(f"{cls.__name__} {arguments.get('output_keys', '')}: {error}") from None
        node = super().__call__(**taken)
        node.arguments = arguments
        return node

    def signature(cls) -> inspect.Signature:
        """Return the constructor's arguments."""
        own = inspect.signature(cls.__init__)  # type: ignore[misc]
        return own.replace(parameters=list(own.parameters.values())[1:])


class Node(nn.Module, metaclass=_NodeType):
    """A step of the model graph: reads the tensors ``input_keys``, makes the tensors ``output_keys``.

    A node kind is one class with four methods. :meth:`output_specs` gives voxel size and channels of the outputs,
    :meth:`input_roi` the ROI that an output depends on, :meth:`output_roi` the ROI that can be computed from an input,
    and :meth:`forward` computes it. The graph does everything else. World ROIs are boxes of voxel corners in world
    units; the graph snaps the ROI that a node asks for outwards to the lattice of each input.

    Args:
        input_keys: names of the tensors read, in the order in which :meth:`forward` takes them.
        output_keys: names of the tensors made, in the order in which :meth:`forward` returns them.
        identifier: the node's name in the graph; its first output's name unless given.

    Example:
        >>> from scalenet_gp import LeibNet, Node, TensorSpec
        >>> class Negate(Node):
        ...     def output_specs(self, *inputs):
        ...         return inputs
        ...     def input_roi(self, output_roi):
        ...         return output_roi
        ...     def output_roi(self, input_roi):
        ...         return input_roi
        ...     def forward(self, *tensors):
        ...         return -tensors[0]
        >>> LeibNet([Negate(["raw"], ["negative"])], {"raw": TensorSpec((8, 8, 8), 1)}, ["negative"]).output_keys
        ('negative',)
    """

    arguments: dict[str, Any]
    """The constructor's arguments, defaults included: the node's part of a network's spec."""

    arity: ClassVar[int | None] = None
    """Number of tensors that a node of this kind reads; ``None`` for any number."""

    def __init__(self, input_keys: Sequence[str], output_keys: Sequence[str], identifier: str | None = None) -> None:
        super().__init__()
        if isinstance(input_keys, str) or isinstance(output_keys, str):
            raise GraphError(f"tensor names come as a list of strings, not as one: {input_keys!r}, {output_keys!r}")
        if not input_keys or not output_keys:
            raise GraphError(f"a node reads and makes at least one tensor, not {input_keys!r} and {output_keys!r}")
        if self.arity not in (None, len(input_keys)):
            raise GraphError(f"a {type(self).__name__} reads {self.arity} tensor(s), not {list(input_keys)}")
        self.input_keys = tuple(input_keys)
        self.output_keys = tuple(output_keys)
        self.identifier = self.output_keys[0] if identifier is None else identifier
        self._voxel_sizes: dict[str, Coordinate] = {}

    @property
    def tileable(self) -> bool:
        """True if an output voxel depends on its :meth:`input_roi` alone, and not on the extent of the tensor."""
        return True

    @property
    def accepts_unfused_inputs(self) -> bool:
        """True if :meth:`forward` takes, instead of its one input, the tensors that it is upsampled and joined from."""
        return False

    @property
    def output_activation(self) -> Literal["Sigmoid", "Softmax"] | None:
        """The name of the activation that the node ends in, if ``forward(*tensors, logits=True)`` leaves it out.

        It works voxel by voxel, a Softmax across the channels, so that it can be applied to a part of the logits later.
        """
        return None

    @property
    def concatenates(self) -> bool:
        """True if the output is the channels of the inputs, one after another, and nothing else."""
        return False

    @property
    def repeats(self) -> tuple[int, ...] | None:
        """Number of repetitions of each voxel per axis, if the output is the input repeated and nothing else."""
        return None

    @property
    def input_voxel_size(self) -> Coordinate:
        """Voxel size of the first input in world units; known once the node is part of a graph."""
        return self._voxel_size(self.input_keys[0])

    @property
    def output_voxel_size(self) -> Coordinate:
        """Voxel size of the first output in world units; known once the node is part of a graph."""
        return self._voxel_size(self.output_keys[0])

    def check_resolvable(self, voxel_sizes: Mapping[str, Coordinate]) -> None:
        """Refuse voxel sizes (world units) that differ from those of the graph that the node belongs to already.

        Raises:
            GraphError: the node belongs to a graph with other voxel sizes.
        """
        own = self._own(voxel_sizes)
        if self._voxel_sizes not in ({}, own):
            raise GraphError(
                f"node {self.identifier!r} belongs to another graph already, with voxel sizes of "
                f"{_listed(self._voxel_sizes)} world units; here they would be {_listed(own)}"
            )

    def resolve(self, voxel_sizes: Mapping[str, Coordinate]) -> None:
        """Tell the node the voxel sizes (world units) of its tensors. The graph calls this when it is built.

        Raises:
            GraphError: the node belongs to another graph already, with other voxel sizes.
        """
        self.check_resolvable(voxel_sizes)
        self._voxel_sizes = self._own(voxel_sizes)

    def share_weights(self, nodes: Mapping[str, nn.Module]) -> None:
        """Take over weights of other nodes, if the node is to use the same. The network calls this when it is built.

        Args:
            nodes: all nodes by identifier.

        Raises:
            ValueError: the node whose weights are to be used is not there, or does not fit.
        """

    @abstractmethod
    def output_specs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Return voxel size and channels of every output, given those of every input.

        Raises:
            ValueError: the node cannot work on such inputs.
        """

    @abstractmethod
    def input_roi(self, output_roi: Roi) -> Roi:
        """Return the smallest world ROI of the inputs on which the outputs within ``output_roi`` depend."""

    @abstractmethod
    def output_roi(self, input_roi: Roi) -> Roi:
        """Return the world ROI that :meth:`forward` computes from inputs that cover ``input_roi``."""

    @abstractmethod
    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the outputs (B, C, Z, Y, X), one for each output key, of the inputs (B, C, Z, Y, X)."""

    def _own(self, voxel_sizes: Mapping[str, Coordinate]) -> dict[str, Coordinate]:
        return {key: voxel_sizes[key] for key in (*self.input_keys, *self.output_keys)}

    def _voxel_size(self, key: str) -> Coordinate:
        if not self._voxel_sizes:
            raise RuntimeError(f"node {self.identifier!r} is not part of a graph yet, so its voxel sizes are not known")
        return self._voxel_sizes[key]


def _listed(voxel_sizes: dict[str, Coordinate]) -> str:
    return ", ".join(f"{key!r} {tuple(voxel_size)}" for key, voxel_size in voxel_sizes.items())


def build_node(kind: str, **arguments: Any) -> Node:
    """Build the node that ``type(node).__name__`` and ``node.arguments`` describe, with new weights.

    Raises:
        GraphError: no class of that name has been defined, or it takes other arguments.
    """
    if kind not in _NodeType.kinds:
        raise GraphError(f"there is no kind of node {kind!r}; {suggest(kind, sorted(_NodeType.kinds))}")
    cls = _NodeType.kinds[kind]
    try:
        cls.signature().bind(**arguments)
    except TypeError as error:
        raise GraphError(f"a node of kind {kind!r} cannot be built from {arguments}: {error}") from error
    return cls(**arguments)
