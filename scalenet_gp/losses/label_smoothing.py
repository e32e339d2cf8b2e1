"""What losses with smoothed targets take."""

from __future__ import annotations

from scalenet_gp.errors import ArgumentError

__all__ = ["checked_smoothing"]


def checked_smoothing(share: float) -> float:
    """``share``, the part of a target that is replaced by what knows nothing.

    Raises:
        ValueError: it is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ArgumentError(
            f"label_smoothing has to be from 0 to below 1, not {share}: with 1, no target says anything"
        )
    return share
