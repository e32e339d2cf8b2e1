"""From where on texture is that of tissue."""

from __future__ import annotations

from math import log

import numpy as np
from skimage.filters import threshold_otsu

__all__ = ["NOISE", "texture_threshold"]

NOISE = 2.0
"""Texture of less than this is that of noise alone, whose own is 1."""


_APART = 8.0  # the texture of tissue alone does not fall into parts that differ so much


def texture_threshold(texture: np.ndarray) -> float:
    """The threshold between resin and tissue.

    Otsu's method splits whatever it is given, a volume of tissue or of resin alone too. So its split counts only if
    what lies below it is resin: if the median there looks like noise, less than :data:`NOISE`, or is less than an
    eighth of the median above. The threshold is then midway between the two medians. Otherwise, and where that would be
    lower, it is :data:`NOISE`.

    Args:
        texture: logs of the texture, relative to that of noise; any shape.

    Returns:
        The log of the threshold.
    """
    floor = log(NOISE)
    if texture.min() == texture.max():
        return floor
    split = float(threshold_otsu(texture))
    lower, upper = float(np.median(texture[texture <= split])), float(np.median(texture[texture > split]))
    resin = lower < floor or upper - lower > log(_APART)
    return max((lower + upper) / 2, floor) if resin else floor
