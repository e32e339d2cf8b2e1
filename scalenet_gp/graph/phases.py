"""A cache by phase: requests that lie whole periods apart share one answer, shifted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from funlib.geometry import Coordinate, Roi

__all__ = ["PhaseCache"]

Answer = TypeVar("Answer")


class PhaseCache(Generic[Answer]):
    """Keeps the answers to requests, and finds them again for requests that lie whole periods away.

    A request is a ROI per name. Its phase is the request shifted by whole periods until the first ROI begins between
    the origin and one period. All blocks within a volume share a few phases.

    Args:
        most: answers that are kept; the one that was used longest ago goes first.

    Example:
        >>> from funlib.geometry import Coordinate, Roi
        >>> cache = PhaseCache(most=2)
        >>> for begin in (4, 12, 13):
        ...     answer, offset = cache.get({"a": Roi((begin,), (2,))}, Coordinate(8), lambda rois: str(rois["a"]))
        ...     print(answer, offset)
        [4:6] (2) (0,)
        [4:6] (2) (8,)
        [5:7] (2) (8,)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: OrderedDict[object, Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(
        self, request: Mapping[str, Roi], period: Coordinate, answer: Callable[[dict[str, Roi]], Answer]
    ) -> tuple[Answer, Coordinate]:
        """Return the answer to the phase of a request, and the offset from the phase to the request (world units).

        Args:
            request: a ROI by name, at least one.
            period: the distances (world units) by which an answer can be shifted.
            answer: works the answer out for the phase.
        """
        offset = next(iter(request.values())).begin // period * period
        key = (tuple(period), *((name, *(roi.begin - offset), *roi.shape) for name, roi in request.items()))
        if key not in self._answers:
            self._answers[key] = answer({name: roi.shift(-offset) for name, roi in request.items()})
            if len(self._answers) > self._most:
                self._answers.popitem(last=False)
        self._answers.move_to_end(key)
        return self._answers[key], offset
