"""Regions of a volume, as a run file names them."""

from __future__ import annotations

from pydantic import model_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Bound, Options, to_yaml_length

__all__ = ["Region"]


class Region(Options):
    """A box in nm from the raw volume's corner; a bound of ``null`` is as far as the labels reach.

    Attributes:
        begin: the lower bound per axis.
        end: the upper bound per axis.

    Example:
        >>> print(Region(begin=(None, 0, 4.6), end=(550, None, 9.2)))
        [null, 0, 4.6] to [550, null, 9.2] nm
    """

    begin: tuple[Bound, ...]
    end: tuple[Bound, ...]

    def __str__(self) -> str:
        ends = ([to_yaml_length(bound) for bound in end] for end in (self.begin, self.end))
        begin, end = (", ".join("null" if bound is None else str(bound) for bound in end) for end in ends)
        return f"[{begin}] to [{end}] nm"

    @model_validator(mode="after")
    def _check(self) -> Region:
        if len(self.begin) != len(self.end):
            raise ConfigError(f"begin has {len(self.begin)} axes and end {len(self.end)}")
        for b, e in zip(self.begin, self.end, strict=True):
            if b is not None and e is not None and b >= e:
                raise ConfigError(
                    f"a region ends after it begins; {to_yaml_length(b)} to {to_yaml_length(e)} nm does not"
                )
        return self
