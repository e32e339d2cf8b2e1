"""What was drawn for a sample, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from scalenet_gp.nodes.deformation import Deformation
from scalenet_gp.nodes.intensity_augment import Intensity
from scalenet_gp.nodes.noise_augment import Noise
from scalenet_gp.world import World

__all__ = ["in_words"]


def in_words(records: Mapping[str, str], world: World | None = None) -> str:
    """A line such as ``class mito, scale 1.05, mirrored, contrast 0.93, brightness +0.02, noise 0.03``.

    What has changed nothing is left out, and so are records of other nodes than this package's. Rotations and elastic
    deformations are seen more easily than said.

    Args:
        records: ``array.attrs`` of an array that everything was applied to, such as raw data.
        world: that the sample counts in; its unit is 1 nm by default.
    """
    unit = float((world or World()).unit)
    location = json.loads(records.get("location", "{}"))
    words = [f"{name} {location[name]}" for name in ("volume", "region", "stratum", "class") if name in location]
    if "deformation" in records:
        words += _deformation(Deformation.from_json(records["deformation"]))
    for name in ("slips", "shifts"):
        words += _count(json.loads(records.get("misaligned_sections", "{}")).get(name), f"section {name}")
    words += _count(json.loads(records.get("low_contrast_sections", "{}")).get("factors"), "pale sections")
    words += _count(json.loads(records.get("missing_sections", "{}")).get("sections"), "missing sections")
    if "blur" in records:
        sigma = json.loads(records["blur"])["sigma"]
        words.append(f"blur {max(sigma) * unit:.3g} nm")
    if "intensity" in records:
        words += _intensity(Intensity.from_json(records["intensity"]))
    if "noise" in records:
        words.append(f"noise {Noise.from_json(records['noise']).sigma:.2g}")
    return ", ".join(words)


def _deformation(deformation: Deformation) -> list[str]:
    matrix = np.array(deformation.matrix)
    factors = [f"{factor:.3g}" for factor in np.linalg.svd(matrix, compute_uv=False)]
    # the factors of a rotation without scale are one; those of a scale for each axis have an order of their own
    scaled = [] if set(factors) == {"1"} else [f"scale {' to '.join(dict.fromkeys((factors[-1], factors[0])))}"]
    return scaled + (["mirrored"] if np.linalg.det(matrix) < 0 else [])


def _intensity(drawn: Intensity) -> list[str]:
    words = {
        "contrast": f"{drawn.scale:.3g}" if drawn.scale != 1 else "",
        "brightness": f"{drawn.shift:+.2g}" if drawn.shift else "",
        "gamma": f"{drawn.gamma:.3g}" if drawn.gamma != 1 else "",
    }
    return [f"{name} {value}" for name, value in words.items() if value]


def _count(found: object, what: str) -> list[str]:
    return [f"{len(found)} {what}"] if isinstance(found, (dict, list)) and found else []
