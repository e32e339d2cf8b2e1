"""Options of a component that has a constructor: the constructor's signature is their one declaration."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, create_model

from scalenet_gp.options.docstrings import field_descriptions
from scalenet_gp.options.model import Options

__all__ = ["ComponentOptions", "FieldType", "options_of", "union_of"]


class FieldType:
    """Abstract: marks a parameter whose option has another type than the parameter, as in ``Annotated[int, marker]``.

    Attributes:
        field: the type of the option's field.

    Example:
        >>> class AsText(FieldType):
        ...     field = str
        >>> class Sleep:
        ...     def __init__(self, seconds: Annotated[float, AsText()]) -> None: ...
        >>> options_of(Sleep, "sleep")(seconds="2").seconds
        '2'
    """

    __slots__ = ()
    field: Any


class ComponentOptions(Options):
    """Abstract: the arguments with which a component is built. :func:`options_of` makes the model of a component.

    Example:
        >>> class Focus:
        ...     def __init__(self, gamma: float = 2.0) -> None:
        ...         self.gamma = gamma
        >>> options_of(Focus, "focus")(gamma=3).arguments()
        {'gamma': 3.0}
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    _field_types: ClassVar[Mapping[str, FieldType]] = {}

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

    @classmethod
    def field_types(cls) -> Mapping[str, FieldType]:
        """Return the markers of the parameters that have one, by name."""
        return cls._field_types


OptionsT = TypeVar("OptionsT", bound=ComponentOptions)


def options_of(
    component: type[Any],
    kind: str,
    *,
    without: Collection[str] = (),
    base: type[OptionsT] = ComponentOptions,  # type: ignore[assignment]
) -> type[OptionsT]:
    """Return the model of a component's arguments, with a field ``kind`` that tells it from others in a union.

    Types and defaults are those of the constructor's signature, descriptions those of the class's docstring. A
    parameter marked by a :class:`FieldType` gets the type that the marker names. Sequences become tuples. A constructor
    that ends with ``**arguments`` has the keyword-only parameters of the constructor that it extends, too.

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
    fields: dict[str, Any] = {"kind": (Literal[kind], kind)}
    marked: dict[str, FieldType] = {}
    for name, hint, default in _parameters(component):
        if name in without or name in fields:
            continue
        field = _immutable(hint)
        for marker in getattr(hint, "__metadata__", ()):
            if isinstance(marker, FieldType):
                marked[name], field = marker, marker.field
        fields[name] = (field, ... if default is inspect.Parameter.empty else default)
    described = field_descriptions(component)
    lines = [f"    {name}: {described[name]}" for name in fields if name in described]
    doc = "\n".join([(inspect.getdoc(component) or component.__name__).partition("\n")[0], "", "Attributes:", *lines])
    made = create_model(
        f"{component.__name__}Options", __base__=base, __doc__=doc, __module__=component.__module__, **fields
    )
    made.component = classmethod(lambda cls: component)  # type: ignore[method-assign, assignment]
    made._field_types = marked
    return made


def union_of(models: Iterable[type[ComponentOptions]]) -> Any:
    """Return the type of an option that is any of several models, told apart by their field ``kind``."""
    return Annotated[Union[tuple(models)], Field(discriminator="kind")]  # noqa: UP007


def _parameters(component: type[Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, annotation and default of every parameter, those that ``**arguments`` passes on after the others."""
    extended = False
    for cls in component.__mro__:
        constructor = vars(cls).get("__init__")
        if constructor is None:
            continue
        hints = get_type_hints(constructor, include_extras=True)
        passed_on = False
        for name, parameter in list(inspect.signature(constructor).parameters.items())[1:]:  # without self
            if parameter.kind is parameter.VAR_KEYWORD:
                passed_on = True
            elif not extended or parameter.kind is parameter.KEYWORD_ONLY:
                yield name, hints[name], parameter.default
        if not passed_on:
            return
        extended = True


def _immutable(hint: Any) -> Any:
    """Return the type with tuples for sequences, so that options cannot change."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Sequence, Iterable):
        return tuple[_immutable(arguments[0]), ...]  # type: ignore[misc]
    if origin in (Union, UnionType):
        return Union[tuple(map(_immutable, arguments))]  # noqa: UP007
    return hint
