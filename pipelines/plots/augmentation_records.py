"""What was drawn for a sample, in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np

from scalenet_gp.geometry import World
from scalenet_gp.nodes.augment import Blur, Deformation, Intensity, LowContrast, Misalignment, Missing, Noise

__all__ = ["describe_augmentation"]

_PLACES = ("volume", "region", "stratum", "class")
"""What strategies tell of where a sample lies."""


def describe_augmentation(records: Mapping[str, str], world: World | None = None) -> str:
    """A line such as ``class mito, scale 1.05, mirrored, contrast 0.93, brightness +0.02, noise 0.03``.

    What has changed nothing is left out, and so are rotations and elastic deformations, which are seen more easily than
    said, and the records of other nodes than this package's and of a second node of one kind.

    Args:
        records: ``array.attrs`` of an array that everything was applied to, such as raw data.
        world: that the sample counts in; its unit is 1 nm by default.

    Raises:
        ValueError: a text is no record of the node that it is named for.
    """
    unit = float((world or World()).unit)
    lines = (write(records[name], unit) for name, write in _WRITERS.items() if name in records)
    return ", ".join(word for line in lines for word in line)


def _location(record: str, unit: float) -> list[str]:
    drawn = json.loads(record)
    return [f"{name} {drawn[name]}" for name in _PLACES if drawn.get(name) is not None]


def _deformation(record: str, unit: float) -> list[str]:
    matrix = np.array(Deformation.from_json(record).matrix)
    factors = np.linalg.svd(matrix, compute_uv=False)  # without those of rotation, mirror and transposition, all 1
    ends = dict.fromkeys(f"{factor:.3g}" for factor in (factors.min(), factors.max()))
    scaled = [] if list(ends) == ["1"] else [f"scale {' to '.join(ends)}"]
    return scaled + (["mirrored"] if np.linalg.det(matrix) < 0 else [])


def _misaligned(record: str, unit: float) -> list[str]:
    drawn = Misalignment.from_json(record)
    return _counts({"slipped sections": len(drawn.slips), "shifted sections": len(drawn.shifts)})


def _intensity(record: str, unit: float) -> list[str]:
    drawn = Intensity.from_json(record)
    contrast = [f"contrast {drawn.scale:.3g}"] if drawn.scale != 1 else []
    brightness = [f"brightness {drawn.shift:+.2g}"] if drawn.shift else []
    return contrast + brightness + ([f"gamma {drawn.gamma:.3g}"] if drawn.gamma != 1 else [])


def _counts(found: Mapping[str, int]) -> list[str]:
    return [f"{name} {count}" for name, count in found.items() if count]


_WRITERS: dict[str, Callable[[str, float], list[str]]] = {
    "location": _location,
    "deformation": _deformation,
    "misaligned_sections": _misaligned,
    "low_contrast_sections": lambda record, unit: _counts(
        {"pale sections": len(LowContrast.from_json(record).factors)}
    ),
    "missing_sections": lambda record, unit: _counts({"missing sections": len(Missing.from_json(record).sections)}),
    "blur": lambda record, unit: [f"blur {max(Blur.from_json(record).sigma) * unit:.3g} nm"],
    "intensity": _intensity,
    "noise": lambda record, unit: [f"noise {Noise.from_json(record).sigma:.2g}"],
}
