"""The window of stored values that a network sees, compared with the values of a volume."""

from __future__ import annotations

import numpy as np

from scalenet_gp.geometry import Length
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.pipelines.config import Intensities
from scalenet_gp.volumes import IntensitySample, MultiscaleImage, sample_intensities

__all__ = ["compare_intensities", "sample_raw"]

_FEW, _MOST, _FLOATS = 0.05, 0.75, 0.99
"""Shares of the sampled values within a window: fewer are refused, said, and refused of floats without a window."""

_NARROW = 0.1
"""Share of a window that sampled tissue should span."""


def sample_raw(raw: MultiscaleImage, net: LeibNet) -> IntensitySample:
    """Return sampled values of a volume, as fine as the finest input of a network."""
    finest: tuple[Length, ...] = min(net.specs[name].voxel_size for name in net.input_keys)
    return sample_intensities(raw, finest if len(finest) == raw.dims else None)


def compare_intensities(sample: IntensitySample, dtype: np.dtype, window: Intensities, field: str) -> tuple[str, bool]:
    """Return what is wrong with a window for sampled values, and whether it is too wrong to be used.

    Args:
        sample: the values.
        dtype: the type of the volume.
        window: two values, or ``range``.
        field: the name of the window in the run file.

    Returns:
        A sentence, empty if nothing is wrong; and True if the window has to be refused.
    """
    low, high = _range(dtype) if isinstance(window, str) else window
    if not sample.values.size:
        return "", False
    share = sample.share_within(low, high)
    darkest, brightest = (float(value) for value in np.percentile(sample.values, (0.5, 99.5)))
    found = (
        f"{sample.path} is {dtype} with values of {darkest:g} to {brightest:g} (percentiles 0.5 and 99.5 of sampled "
        f"tissue), and {field} is {low:g} to {high:g} in stored values"
    )
    cure = "write `intensities: auto`, or the darkest and the brightest stored value of tissue"
    if dtype.kind in "iu" and not isinstance(window, str) and 0 <= low < high <= 1:
        cure = f"[{low:g}, {high:g}] look like fractions: {cure}"
    if share < (_FLOATS if window == "range" and dtype.kind == "f" else _FEW):
        return f"{found}: {1 - share:.0%} lie outside; {cure}", True
    if share < _MOST:
        return f"{found}: {1 - share:.0%} lie outside; {cure}", False
    if brightest - darkest < _NARROW * (high - low):
        return f"{found}: they fill {(brightest - darkest) / (high - low):.1%} of it; {cure}", False
    return "", False


def _range(dtype: np.dtype) -> tuple[float, float]:
    if dtype.kind in "fb":
        return 0.0, 1.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
