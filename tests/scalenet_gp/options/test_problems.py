"""Problems of options in words: the dotted field, its value, and what would be right."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from scalenet_gp.errors import ArgumentError
from scalenet_gp.options import (
    Options,
    PhysicalOptions,
    Size,
    Whole,
    describe_problems,
    options_of,
    suggest,
)
from scalenet_gp.options.problems import nearest_first


class Blur(Options):
    """A blur.

    Attributes:
        sigma: its standard deviation.
    """

    kind: Literal["blur"] = "blur"
    sigma: float = Field(ge=0)


class Noise(Options):
    kind: Literal["noise"] = "noise"
    mode: Literal["additive", "speckle"] = "additive"
    spread: float = 1.0


class Weights(Options):
    iteration: int
    weights: tuple[float, ...]


class Whole3(Options):
    changes: tuple[Annotated[Blur | Noise, Field(discriminator="kind")], ...] = ()
    by_name: dict[str, Annotated[Blur | Noise, Field(discriminator="kind")]] = Field(default_factory=dict)
    shape: Size = ()
    loss_weights: tuple[float, ...] | tuple[Weights, ...] | None = None
    name: str | int = ""
    count: Whole = 1


class Focus:
    """A change of contrast.

    Args:
        gamma: the exponent.
    """

    def __init__(self, gamma: float) -> None:
        if gamma <= 0:
            raise ArgumentError(f"gamma is {gamma:g}, it has to be above 0")


Focused = options_of(Focus, "focus", base=PhysicalOptions)


def problems(**data: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Whole3.model_validate(data)
    return describe_problems(caught.value, Whole3, data, "the file")


class Blurs(Options):
    blurs: tuple[Blur, ...] = Field(min_length=1)


def test_a_mistake_in_every_item_is_told_once_and_not_as_an_empty_list() -> None:
    data = {"blurs": [{"sgma": 1, "sigma": 1}, {"sgma": 1, "sigma": 1}]}
    with pytest.raises(ValidationError) as caught:
        Blurs.model_validate(data)
    assert describe_problems(caught.value, Blurs, data, "the file") == [
        "there is no field blurs.0.sgma; did you mean sigma? In blurs.0 there are sigma, kind",
        "there is no field blurs.1.sgma (did you mean sigma?)",
    ]
    with pytest.raises(ValidationError) as caught:
        Blurs.model_validate({"blurs": []})
    (told,) = describe_problems(caught.value, Blurs, {"blurs": []}, "the file")
    assert told == "blurs is []: it has to have at least 1 item, not 0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"chnges": []},
            "there is no field chnges; did you mean changes? There are changes, by_name, shape, loss_weights, name, "
            "count",
        ),
        (
            {"changes": [{"kind": "noise", "sigma": 1}]},
            "there is no field changes.0.sigma; in changes.0 there are kind, mode, spread",
        ),
        (
            {"by_name": {"x": {"kind": "blur", "sigma": 1, "sgma": 2}}},
            "there is no field by_name.x.sgma; did you mean sigma? In by_name.x there are sigma, kind",
        ),
        ({"changes": [{"kind": "blur"}]}, "changes.0.sigma is missing: its standard deviation"),
        (
            {"changes": [{"kind": "blr"}]},
            "changes.0.kind is 'blr', which is not known; did you mean blur? There are blur, noise",
        ),
        (
            {"changes": [{"sigma": 1}]},
            "changes.0 is {'sigma': 1}: it is a mapping whose kind is written, blur or noise",
        ),
        ({"changes": ["blur"]}, "changes.0 is 'blur': it is a mapping whose kind is written, blur or noise"),
        (
            {"changes": [{"kind": "noise", "mode": "specle"}]},
            "changes.0.mode is 'specle': it has to be 'speckle' or 'additive'",
        ),
        (
            {"changes": [{"kind": "blur", "sigma": -1}]},
            "changes.0.sigma is -1: it has to be greater than or equal to 0",
        ),
        (
            {"shape": [8, "wide"]},
            "shape.1 is 'wide': 'wide' is not a finite length; write a number such as 8, 4.6 or '23/5'",
        ),
        (
            {"loss_weights": [{"iteration": 1, "weights": [1]}, {"iteration": 2.5, "weights": [1]}]},
            "loss_weights.1.iteration is 2.5: it has to be a valid integer, got a number with a fractional part",
        ),
        ({"name": [2]}, "name is [2]: it has to be a valid string or a valid integer"),
        ({"count": True}, "count is True: it has to be a valid integer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_problem_names_field_value_and_remedy(data, message):
    assert problems(**data) == [message]


def test_several_problems_are_told_in_order():
    assert problems(count=0, nme=1) == [
        "count is 0: it has to be greater than or equal to 1",
        "there is no field nme; did you mean name? There are name, by_name, changes, shape, loss_weights, count",
    ]


def test_what_is_not_a_mapping_at_all():
    with pytest.raises(ValidationError) as caught:
        Whole3.model_validate("words")
    assert describe_problems(caught.value, Whole3, "words", "the file") == [
        "the file is 'words': it has to be a mapping, as in {name: value}"
    ]


def test_python_gets_errors_of_its_own():
    with pytest.raises(TypeError, match=r"there is no argument 'cuont'; did you mean count\?"):
        Whole3.create(cuont=1)
    with pytest.raises(ArgumentError, match=r"^count is 0: it has to be greater than or equal to 1$"):
        Whole3.create(count=0)
    assert Whole3.create(count=2).count == 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Blur(sigma=-1), "Blur: sigma is -1: it has to be greater than or equal to 0"),
        (lambda: Blur(), "Blur: sigma is missing: its standard deviation"),
        (
            lambda: Whole3(cuont=1),
            "Whole3: there is no field cuont; did you mean count? There are count, changes, by_name, shape, "
            "loss_weights, name",
        ),
        (
            lambda: Whole3(changes=[{"kind": "blur", "sigma": 1}, {"kind": "noise", "spread": "wide"}]),
            "Whole3: changes.1.spread is 'wide': it has to be a valid number, unable to parse string as a number",
        ),
        (lambda: Focused(), "FocusOptions: gamma is missing: the exponent"),
        (lambda: Focused(gamma=0), "FocusOptions: gamma is 0, it has to be above 0"),
    ],
    ids=["range", "missing", "unknown", "nested", "component", "component's constructor"],
)
def test_constructors_name_model_and_field(build, message):
    with pytest.raises(ArgumentError) as caught:
        build()
    assert str(caught.value) == message


def test_models_within_models_keep_their_path():
    """Their constructors are not called: each field is named by its path from the outermost model."""
    with pytest.raises(ArgumentError, match=r"^Whole3: by_name\.x\.sigma is -1: it has to be greater"):
        Whole3(by_name={"x": {"kind": "blur", "sigma": -1}})
    with pytest.raises(ValidationError):
        Whole3.model_validate({"count": 0})


def test_nearest_names():
    assert nearest_first("Blurr", ["noise", "blur"]) == ["blur", "noise"]
    assert nearest_first("zzz", ["noise", "blur"]) == ["noise", "blur"]
    assert suggest("x", []) == "there is none"
    assert suggest("x", ["only"]) == "there is only only"
