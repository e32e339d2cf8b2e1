"""Problems of options in words: the dotted field, its value, and what would be right."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from scalenet_gp.options.docstrings import field_descriptions

__all__ = ["describe_problems", "nearest_first", "reword", "show_value", "suggest"]

_SHOWN = 80  # characters of a value
_WORDS = {
    "Input should": "it has to",
    "Tuple should": "it has to",
    "List should": "it has to",
    " after validation": "",
    "valid dictionary": "mapping of names to values",
    "valid tuple": "list",
    "valid list": "list",
    "valid array": "list",
    "valid object": "mapping of names to values",
    "an object": "a mapping of names to values",
}
_NOT_A_MAPPING = ("model_type", "model_attributes_type", "dict_type", "mapping_type")


class _Problem(NamedTuple):
    """A problem, the field that it has, and the branch of a union that it was found in."""

    path: tuple[str | int, ...]
    branches: tuple[tuple[int, str], ...]
    details: ErrorDetails
    models: tuple[type[BaseModel], ...]

    @property
    def field(self) -> str:
        return ".".join(map(str, self.path))


def describe_problems(error: ValidationError, model: type[BaseModel], data: Any, whole: str) -> list[str]:
    """Return a line for each field that is wrong: its dotted name, its value, and what would be right.

    Args:
        error: raised when ``data`` was validated.
        model: the model that validated it.
        data: what was validated, as it was given.
        whole: the name of it all, for problems that no single field has.

    Example:
        >>> class Blur(BaseModel, extra="forbid"):
        ...     sigma: float = 1.0
        >>> try:
        ...     Blur.model_validate({"sgma": 2})
        ... except ValidationError as error:
        ...     print(*describe_problems(error, Blur, {"sgma": 2}, "the file"))
        there is no field sgma; did you mean sigma? There is only sigma
    """
    problems = _best_branches([_read(details, model, data) for details in error.errors(include_url=False)])
    # pydantic counts items with a problem as missing from their list, which says nothing new
    problems = [
        problem for problem in problems if problem.details["type"] != "too_short" or not _below_any(problem, problems)
    ]
    unknown = [problem for problem in problems if problem.details["type"] == "extra_forbidden"]
    lines, told, listed = [], set(), set()
    for problem in problems:
        parent = problem.path[:-1]
        if problem not in unknown:
            lines.append(_in_words(problem, whole))
        elif parent not in told:  # all unknown fields of a mapping in one line
            told.add(parent)
            same = [each for each in unknown if each.path[:-1] == parent]
            lines.append(_unknown(same, listing=problem.models not in listed))
            listed.add(problem.models)
    return lines


def reword(message: str) -> str:
    """Return a message of pydantic in the words of this package.

    Example:
        >>> reword("Input should be a valid tuple")
        'it has to be a list'
    """
    message = message.removeprefix("Value error, ")
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message


def nearest_first(name: object, names: Collection[str]) -> list[str]:
    """Return ``names``, those first that ``name`` may be a misspelling of.

    Example:
        >>> nearest_first("blurr", ["noise", "blur"])
        ['blur', 'noise']
    """
    lowered = {candidate.lower(): candidate for candidate in names}
    near = [lowered[found] for found in difflib.get_close_matches(str(name).lower(), lowered, n=3, cutoff=0.6)]
    return [*near, *(candidate for candidate in names if candidate not in near)]


def suggest(name: object, names: Collection[str], noun: str = "there") -> str:
    """Return the nearest of ``names`` as a question, and all of them: ``did you mean blur? There are blur, noise``."""
    ordered = nearest_first(name, names)
    if not ordered:
        return f"{noun} is none"
    near = difflib.get_close_matches(str(name).lower(), [candidate.lower() for candidate in names], n=1, cutoff=0.6)
    listed = f"{noun} is only {ordered[0]}" if len(ordered) == 1 else f"{noun} are {', '.join(ordered)}"
    return f"did you mean {ordered[0]}? {listed[0].upper()}{listed[1:]}" if near else listed


def _read(details: ErrorDetails, model: type[BaseModel], data: Any) -> _Problem:
    """Tell the fields of a problem's location from the branches of unions, by means of the data."""
    path: list[str | int] = []
    branches: list[tuple[int, str]] = []
    place, types = data, [model]
    for number, step in enumerate(details["loc"]):
        types = list(_flat(types))
        if number == len(details["loc"]) - 1 and details["type"] in ("missing", "extra_forbidden"):
            path.append(step)  # the types stay those of the mapping that has the field, or lacks it
        elif _leads_on(place, step) and not _is_kind(place, types, step):
            path.append(step)
            place, types = _below(place, step), list(_types_below(types, step))
        else:
            branches.append((len(path), str(step)))
            types = [found for found in types if _is_branch(found, step)] or types
    models = tuple(found for found in _flat(types) if inspect.isclass(found) and issubclass(found, BaseModel))
    return _Problem(tuple(path), tuple(branches), details, models)


def _is_kind(place: Any, types: Collection[Any], step: str | int) -> bool:
    """Return True if a step names the kind of a mapping, although the mapping has a field of that name, too."""
    kind = place.get("kind") if isinstance(place, Mapping) else None
    return kind == step and len([found for found in types if _has_kind(found)]) > 1


def _has_kind(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, BaseModel) and "kind" in found.model_fields


def _leads_on(place: Any, step: str | int) -> bool:
    if isinstance(place, Mapping):
        return step in place
    if isinstance(place, BaseModel):
        return step in type(place).model_fields
    if isinstance(place, Sequence) and not isinstance(place, str | bytes):
        return isinstance(step, int) and step < len(place)
    return False


def _below(place: Any, step: str | int) -> Any:
    return getattr(place, str(step)) if isinstance(place, BaseModel) else place[step]


def _flat(types: Collection[Any]) -> Iterator[Any]:
    """The types that a union or an annotated type stands for."""
    for found in types:
        if hasattr(found, "__value__"):  # a type alias
            yield from _flat([found.__value__])
        elif hasattr(found, "__metadata__"):
            yield from _flat([found.__origin__])
        elif get_origin(found) is Union or type(found).__name__ == "UnionType":
            yield from _flat(get_args(found))
        else:
            yield found


def _types_below(types: Collection[Any], step: str | int) -> Iterator[Any]:
    for found in types:
        if inspect.isclass(found) and issubclass(found, BaseModel):
            if step in found.model_fields:
                yield found.model_fields[str(step)].annotation
        elif get_origin(found) is not None:
            arguments = [argument for argument in get_args(found) if argument is not Ellipsis]
            of_mapping = inspect.isclass(get_origin(found)) and issubclass(get_origin(found), Mapping)
            yield from arguments[1:] if of_mapping else arguments


def _is_branch(found: Any, step: str | int) -> bool:
    if not (inspect.isclass(found) and issubclass(found, BaseModel)):
        return False
    kind = found.model_fields.get("kind")
    return step == found.__name__ or (kind is not None and step == kind.default)


def _best_branches(problems: Sequence[_Problem]) -> list[_Problem]:
    """Keep, of several branches of one union, the one that the data come nearest to."""
    kept = list(problems)
    for depth in sorted({depth for problem in problems for depth, _ in problem.branches}):
        groups: dict[tuple[str | int, ...], dict[str, list[_Problem]]] = {}
        for problem in kept:
            branch = next((name for at, name in problem.branches if at == depth), None)
            if branch is not None:
                groups.setdefault(problem.path[:depth], {}).setdefault(branch, []).append(problem)
        for rivals in groups.values():
            if len(rivals) < 2:
                continue
            ranks = {name: _rank(found) for name, found in rivals.items()}
            best = [name for name in rivals if ranks[name] == min(ranks.values())]
            lost = [problem for name, found in rivals.items() if name != best[0] for problem in found]
            kept = [problem for problem in kept if not any(problem is other for other in lost)]
            first, *rest = [problem for name in best for problem in rivals[name]]
            if rest and all(problem.path == first.path for problem in rest):
                place = next(number for number, problem in enumerate(kept) if problem is first)
                kept[place] = first._replace(
                    details={**first.details, "msg": _either(p.details for p in (first, *rest))}
                )
    return kept


def _rank(problems: Sequence[_Problem]) -> tuple[int, bool, int]:
    """Return a number that is the lower, the nearer the data come to a branch with these problems.

    A problem of a field within is nearer than one of the whole, and a wrong value nearer than a wrong type.
    """
    types = ("literal_error", *_NOT_A_MAPPING)
    mismatch = any(p.details["type"] in types or p.details["type"].endswith("_type") for p in problems)
    return -max(len(problem.path) for problem in problems), mismatch, len(problems)


def _either(details: Iterable[ErrorDetails]) -> str:
    """Return the messages of problems when one of them has to be mended."""
    first, *rest = dict.fromkeys(details_["msg"] for details_ in details)
    return " or ".join([first, *(message.removeprefix("Input should be ") for message in rest)])


def _in_words(problem: _Problem, whole: str) -> str:
    details, field = problem.details, problem.field
    given, kind, context = details["input"], details["type"], details.get("ctx", {})
    if kind == "missing":
        return f"{field or whole} is missing{_told(problem)}"
    if kind == "union_tag_invalid":
        tags = [tag.strip().strip("'") for tag in context["expected_tags"].split(",")]
        return f"{field}.kind is {context['tag']!r}, which is not known; {suggest(context['tag'], tags)}"
    kinds = [str(model.model_fields["kind"].default) for model in problem.models if "kind" in model.model_fields]
    if kind == "union_tag_not_found" or (kind in _NOT_A_MAPPING and len(kinds) > 1):
        return f"{field} is {show_value(given)}: it is a mapping whose kind is written, {_one_of(kinds, quoted=False)}"
    if kind in _NOT_A_MAPPING:
        return f"{field or whole} is {show_value(given)}: it has to be a mapping, as in {{name: value}}"
    if kind == "literal_error":
        choices = [choice for part in context["expected"].split(", ") for choice in part.split(" or ")]
        near = nearest_first(given, [choice.strip("'") for choice in choices])
        return f"{field} is {show_value(given)}: it has to be {_one_of(near, quoted=choices[0].startswith(chr(39)))}"
    text = reword(details["msg"])
    if not problem.path or (isinstance(given, BaseModel | Mapping) and len(repr(given)) > _SHOWN):
        place = field or whole
        return f"{place}: {text}" if place else text
    return f"{field} is {show_value(given)}: {text}"


def _below_any(problem: _Problem, problems: Sequence[_Problem]) -> bool:
    """Return True if another problem lies within the field of ``problem``."""
    depth = len(problem.path)
    return any(len(other.path) > depth and other.path[:depth] == problem.path for other in problems)


def _unknown(problems: Sequence[_Problem], listing: bool) -> str:
    """Return a line for fields of one mapping that do not exist; with ``listing``, of all that there are."""
    first, *others = problems
    parent = ".".join(map(str, first.path[:-1]))
    fields = list(dict.fromkeys(field for model in first.models for field in model.model_fields))
    more = [f"{other.field}{_nearest(other.path[-1], fields)}" for other in others]
    known = f"; {suggest(first.path[-1], fields, f'in {parent} there' if parent else 'there')}"
    told = known if listing else _nearest(first.path[-1], fields)
    return f"there is no field {first.field}{told}" + (f"; nor is there {', '.join(more)}" if more else "")


def _nearest(name: object, names: Collection[str]) -> str:
    text = suggest(name, names)
    return f" ({text.partition('?')[0]}?)" if text.startswith("did you mean") else ""


def _told(problem: _Problem) -> str:
    """Return the docstring's description of a missing field."""
    for model in problem.models:
        if text := field_descriptions(model).get(str(problem.path[-1])):
            return f": {text.rstrip('.')}"
    return ""


def _one_of(choices: Sequence[str], quoted: bool) -> str:
    *first, last = [repr(choice) if quoted else choice for choice in choices]
    return f"{', '.join(first)} or {last}" if first else last


def show_value(value: Any) -> str:
    """Return a value for a message, shortened if it is long.

    Example:
        >>> show_value("lorem ipsum " * 100)[-9:]
        'm lor ...'
    """
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."
