"""Arguments as JSON holds them, and their types."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from scalenet_gp import TensorSpec, build_scalenet, build_unet
from scalenet_gp.layers import ConvPass, Pool, Upsample
from scalenet_gp.layers.same_lattice import SameLattice
from scalenet_gp.options.arguments import coerce_arguments, to_json_value


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_float_counts_as_the_decimal_that_it_prints_as(dtype):
    assert to_json_value(dtype(4.6)) == 4.6
    assert to_json_value(np.array([[4.6, 8]], dtype)) == [[4.6, 8.0]]
    assert to_json_value(np.array(4.6, dtype)) == 4.6
    assert build_unet(np.array([4.6] * 3, dtype)).specs["input"].voxel_size == (Fraction(23, 5),) * 3
    sizes = [np.array([size] * 2, dtype) for size in (18.4, 4.6)]
    assert build_scalenet([{"top_resolution": size} for size in sizes]).unit == Fraction(1, 5)


def test_numbers_of_numpy_become_those_of_python():
    made = to_json_value(
        [np.int8(3), np.bool_(True), np.arange(2), np.str_("a"), range(2), {"b": (1, Fraction(1, 3))}.items()]
    )
    assert made[:5] == [3, True, [0, 1], "a", [0, 1]]
    assert [type(value) for value in made[:2]] == [int, bool]
    assert all(type(value) is int for value in made[2])


def partly_annotated(
    number: int,
    unknown: NotThere = None,  # type: ignore[name-defined]  # noqa: F821
    invalid: callable | None = None,  # type: ignore[valid-type]
    text: "an int" = None,  # type: ignore[syntax]  # noqa: F722
) -> None:
    """Takes arguments of which only the first says what it is."""


def test_an_annotation_that_means_nothing_leaves_its_argument_alone():
    anything = {"number": 1, "unknown": "x", "invalid": 2.5, "text": [1]}
    assert coerce_arguments(partly_annotated, anything) == anything
    with pytest.raises(ValueError, match="number is 'x': it has to be a valid integer"):
        coerce_arguments(partly_annotated, {**anything, "number": "x"})


class Lenient(SameLattice):
    """A kind whose defaults are not what their annotations say."""

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        sizes: list[int] = None,  # type: ignore[assignment]  # noqa: RUF013
        identifier: str = None,  # type: ignore[assignment]  # noqa: RUF013
    ) -> None:
        super().__init__(input_keys, output_keys, identifier)
        self.sizes = sizes

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        return input_channels

    def forward(self, *tensors):
        return tensors[0]


def test_a_default_is_right_whatever_its_annotation():
    assert Lenient(["a"], ["b"]).sizes is None
    assert Lenient(["a"], ["b"], None).sizes is None
    assert Lenient(["a"], ["b"], (1, 2)).sizes == [1, 2]
    with pytest.raises(ValueError, match=r"Lenient \['b'\]: sizes is 2: it has to be a list"):
        Lenient(["a"], ["b"], 2)


class DerivedPool(Pool):
    def __init__(self, input_keys: Sequence[str], output_keys: Sequence[str]) -> None:
        super().__init__(input_keys, output_keys, (2, 2), "cubic")


class DerivedUpsample(Upsample):
    def __init__(self, input_keys: Sequence[str], output_keys: Sequence[str]) -> None:
        super().__init__(input_keys, output_keys, (2, 2), "cubic")


@pytest.mark.parametrize("kind", [DerivedPool, DerivedUpsample])
def test_a_derived_kind_that_passes_on_nonsense(kind):
    with pytest.raises(ValueError, match=r"b: mode is one of .* not 'cubic'"):
        kind(["a"], ["b"])


class DerivedConvPass(ConvPass):
    def __init__(self, input_keys: Sequence[str], output_keys: Sequence[str]) -> None:
        super().__init__(input_keys, output_keys, 1, 1, [(3, 3)], padding="reflect")  # type: ignore[arg-type]


def test_a_derived_pass_that_passes_on_nonsense():
    with pytest.raises(ValueError, match=r"b: padding is 'valid' or 'same', not 'reflect'"):
        DerivedConvPass(["a"], ["b"])


def test_channels_are_whole():
    with pytest.raises(ValueError, match=r"channels are a whole number, not 1\.5"):
        TensorSpec((8, 8), 1.5)
