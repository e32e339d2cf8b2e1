"""Words for the augmentations that were drawn."""

import json
from fractions import Fraction

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.augment.deformation import Deformation
from scalenet_gp.pipelines.plots.augmentation_records import describe_augmentation


def deformation(matrix):
    return Deformation.centred(np.array(matrix, float), Roi((0, 0), (8, 8)), Coordinate((1, 1))).to_json()


TURN = np.array([[0.6, -0.8], [0.8, 0.6]])
PALE = {"low_contrast_sections": {"factors": {"3": 0.2, "4": 0.3}}}
DISPLACED = {"misaligned_sections": {"slips": {"1": [3.0, 4.0]}, "shifts": {}}}


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ({}, ""),
        ({"deformation": deformation(TURN)}, ""),
        ({"deformation": deformation(1.25 * TURN)}, "scale 1.25"),
        ({"deformation": deformation(TURN @ np.diag([0.9, 1.2]))}, "scale 0.9 to 1.2"),
        ({"deformation": deformation(TURN @ np.diag([1, -1]))}, "mirrored"),
        (
            {"location": {"begin": [1, 2], "shift": [0, 0], "stratum": "edge", "class": "mito"}},
            "stratum edge, class mito",
        ),
        ({"location": {"begin": [1, 2], "shift": [0, 0], "region": 0}}, "region 0"),
        ({"location": {"begin": [1, 2], "shift": [0, 0], "class": None}}, ""),
        ({"intensity": {"scale": 0.934, "shift": -0.05, "gamma": 1.0}}, "contrast 0.934, brightness -0.05"),
        ({"intensity": {"scale": 1.0, "shift": 0.0, "gamma": 1.5}}, "gamma 1.5"),
        ({"blur": {"sigma": [10.0, 10.0]}, "noise": {"sigma": 0.03, "seed": 5}}, "blur 2 nm, noise 0.03"),
        (
            PALE | DISPLACED | {"missing_sections": {"sections": [7]}},
            "slipped sections 1, pale sections 2, missing sections 1",
        ),
        ({"missing_sections": {"sections": []}}, ""),
        ({"anything": "else"}, ""),
    ],
)
def test_words(records, words):
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in records.items()}
    assert describe_augmentation(texts, World(Fraction(1, 5))) == words


def test_what_is_no_record_is_refused():
    with pytest.raises(ValueError, match="Noise"):
        describe_augmentation({"noise": "{}"})
