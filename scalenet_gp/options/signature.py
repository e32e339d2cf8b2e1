"""Options of a component that has a constructor: the constructor's signature is their one declaration."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any, Literal, get_type_hints

from pydantic import ConfigDict, create_model

from scalenet_gp.options.docstrings import field_descriptions
from scalenet_gp.options.model import Options

__all__ = ["ComponentOptions", "options_of"]


class ComponentOptions(Options):
    """Abstract: the arguments with which a component is built. :func:`options_of` makes the model of a component."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments by name, without ``kind``."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}

    def build(self, **given: Any) -> Any:
        """Return the component, built with these arguments and those ``given``, which no option can hold."""
        return self.component()(**self.arguments(), **given)

    @classmethod
    def component(cls) -> type[Any]:
        """Return the class that :meth:`build` builds."""
        raise TypeError(f"{cls.__name__} was not made by options_of")


def options_of(
    component: type[Any], kind: str, *, without: Collection[str] = (), base: type[ComponentOptions] = ComponentOptions
) -> type[ComponentOptions]:
    """Return the model of a component's arguments, with a field ``kind`` that tells it from others in a union.

    Types and defaults are those of the constructor's signature, descriptions those of the class's docstring.

    Args:
        component: a class whose constructor's parameters have annotations.
        kind: the name that a run file has for it.
        without: parameters that a run file cannot give, such as arrays.
        base: what the model derives from.

    Example:
        >>> class Focus:
        ...     def __init__(self, gamma: float = 2.0) -> None:
        ...         self.gamma = gamma
        >>> options_of(Focus, "focus")(gamma=3).build().gamma
        3.0
    """
    hints = get_type_hints(component.__init__, include_extras=True)
    fields: dict[str, Any] = {"kind": (Literal[kind], kind)}
    for name, parameter in inspect.signature(component).parameters.items():
        if name not in without:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints[name], default)
    described = field_descriptions(component)
    lines = [f"    {name}: {described[name]}" for name in fields if name in described]
    doc = "\n".join([(inspect.getdoc(component) or component.__name__).partition("\n")[0], "", "Attributes:", *lines])
    made: type[ComponentOptions] = create_model(
        f"{component.__name__}Options", __base__=base, __doc__=doc, __module__=component.__module__, **fields
    )
    made.component = classmethod(lambda cls: component)  # type: ignore[method-assign, assignment]
    return made
