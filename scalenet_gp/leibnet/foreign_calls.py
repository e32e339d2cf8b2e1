"""Messages for a network that is used as gunpowder's own torch nodes use a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from torch import Tensor

from scalenet_gp.errors import GraphError

__all__ = ["no_such_attribute", "refusing_tensors"]

_WRAP = (
    "In gunpowder's own torch.Train and torch.Predict, a network stands wrapped with a plan: "
    "scalenet_gp.nodes.GunpowderModel(net, plan); scalenet_gp.nodes.Train and Predict take it as it is"
)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Network = TypeVar("_Network", bound=_Named)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def refusing_tensors(
    forward: Callable[Concatenate[_Network, _Arguments], _Result],
) -> Callable[Concatenate[_Network, _Arguments], _Result]:
    """Have a network's ``forward`` say how it is called if it gets tensors in the place of inputs by name and a plan.

    Raises:
        GraphError: when called: an argument is a tensor.
    """

    @wraps(forward)
    def checked(self: _Network, *arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        tensors = [repr(name) for name, value in named.items() if isinstance(value, Tensor)]
        if tensors or any(isinstance(value, Tensor) for value in arguments):
            given = f"with the tensors {', '.join(tensors)}" if tensors else "with tensors by number"
            raise GraphError(f"{self.name} is called as net({{name: tensor}}, plan), not {given}. {_WRAP}")
        return forward(self, *arguments, **named)

    return checked


def no_such_attribute(network: str, output: str) -> AttributeError:
    """Return the error for an output that is looked for as an attribute."""
    return AttributeError(f"{network} has the output {output!r}, which is not an attribute of it. {_WRAP}")
