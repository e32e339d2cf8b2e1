"""Augmentations in a run file: lengths in nanometres, checked when they are read, and built as nodes."""

from __future__ import annotations

from fractions import Fraction

import gunpowder as gp
import pytest
from pydantic import BaseModel, ValidationError

from scalenet_gp.errors import LatticeError
from scalenet_gp.geometry import World
from scalenet_gp.nodes.augment import (
    AUGMENTATIONS,
    Augmentation,
    BlurAugment,
    DeformAugment,
    IntensityAugment,
    LowContrastSections,
    MisalignedSections,
    MissingSections,
    NoiseAugment,
)

RAW, LABELS = [gp.ArrayKey("RAW")], [gp.ArrayKey("LABELS")]
HALF = World(Fraction(1, 2))


class Run(BaseModel):
    augmentation: tuple[Augmentation, ...]


def built(world=HALF, corner=(), **options):
    (one,) = Run.model_validate({"augmentation": [options]}).augmentation
    return one.build(world, RAW, LABELS, where="augmentation.0", corner=corner)


def test_lengths_become_world_units():
    deform = built(
        kind="deform", control_point_spacing=[36, 4.5, "9/2"], jitter_sigma=[2, 0.1, 0], rotation_axes=[1, 2]
    )
    assert type(deform) is DeformAugment
    assert deform.control_point_spacing == (72, 9, 9)
    assert deform.jitter_sigma == (4.0, 0.2, 0.0)
    assert deform.normalize
    assert built(kind="blur", sigma=[0, 4]).sigma == ((0.0, 8.0),)
    assert built(kind="blur", sigma=[[0, 4], [1, 2.5]]).sigma == ((0.0, 8.0), (2.0, 5.0))
    assert built(kind="noise", sigma=0.02, reference_voxel_size=[4.5, 4.5, 4.5]).reference_voxel_size == (9, 9, 9)
    assert built(kind="noise", sigma=[0, 0.02]).reference_voxel_size is None
    sections = built(kind="misaligned_sections", thickness=4.5, sigma=9, slip=0.3, axis=1)
    assert (sections.thickness, float(sections.sigma), sections.slip, sections.axis) == (9, 18.0, 0.3, 1)
    assert built(kind="misaligned_sections", thickness=4.5, sigma=[9, 4], shift=1).sigma.tolist() == [18.0, 8.0]


@pytest.mark.parametrize("kind", ["misaligned_sections", "missing_sections", "low_contrast_sections"])
def test_sections_are_counted_from_the_corner_of_the_raw_volume(kind):
    options = {
        "misaligned_sections": {"sigma": 9},
        "missing_sections": {"probability": 0.1},
        "low_contrast_sections": {"probability": 0.1, "factor": [0.1, 0.5]},
    }[kind]
    for given, origin in (({}, 7), ({"origin": 4.5}, 16), ({"origin": 4.5, "axis": 1}, 0), ({"axis": 5}, 0)):
        found = built(corner=(7, -9), kind=kind, thickness=9, **options, **given)
        assert found.origin == origin
    assert built(kind=kind, thickness=9, origin=2, **options).origin == 4
    with pytest.raises(LatticeError, match=r"augmentation\.0\.origin 0\.3 nm"):
        built(kind=kind, thickness=9, origin=0.3, **options)


def test_what_moves_content_moves_labels_too():
    assert built(kind="misaligned_sections", thickness=9, sigma=9).arrays == (*RAW, *LABELS)
    for options in (
        {"kind": "missing_sections", "thickness": 9, "probability": 0.1, "value": 0.5},
        {"kind": "low_contrast_sections", "thickness": 9, "probability": 0.1, "factor": [0.1, 0.5]},
        {"kind": "intensity", "scale": [0.9, 1.1]},
    ):
        assert built(**options).arrays == tuple(RAW)


def test_all_nodes_have_a_name_for_run_files():
    nodes = {options.component() for options in AUGMENTATIONS}
    assert nodes == {
        BlurAugment,
        DeformAugment,
        IntensityAugment,
        LowContrastSections,
        MisalignedSections,
        MissingSections,
        NoiseAugment,
    }


def test_a_length_between_world_units_is_refused_by_field():
    with pytest.raises(LatticeError, match=r"augmentation\.0\.thickness 4\.6 nm .* 1/10 nm would fit"):
        built(kind="missing_sections", thickness=4.6, probability=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "intensity", "gamma": [0, 1]}, r"augmentation.0.intensity\n.*an exponent has to be above 0"),
        ({"kind": "intensity", "scale": [2, 1]}, "low <= high"),
        ({"kind": "intensity", "brightness": [0, 1]}, "brightness\n.*Extra"),
        ({"kind": "noise", "sigma": 0.1, "p": 1.5}, "noise.p\n.*less than or equal to 1"),
        ({"kind": "deform", "control_point_spacing": [8, 8]}, "jitter_sigma\n.*required"),
        ({"kind": "deform", "control_point_spacing": [8, 8], "jitter_sigma": [1]}, "write 2 numbers"),
        ({"kind": "deform", "control_point_spacing": ["x", 8], "jitter_sigma": [1, 1]}, "finite length"),
        ({"kind": "shear"}, "shear"),
    ],
)
def test_what_a_node_refuses_is_refused_when_it_is_read(options, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        Run.model_validate({"augmentation": [options]})


def test_options_describe_and_keep_themselves():
    (options,) = Run.model_validate({"augmentation": [{"kind": "blur", "sigma": [0, 4.6]}]}).augmentation
    assert Run.model_validate({"augmentation": [options.model_dump(mode="json")]}).augmentation == (options,)
    fields = type(options).model_json_schema()["properties"]
    assert "standard deviation" in fields["sigma"]["description"]
    assert "probability" in fields["p"]["description"]
    hash(options)
