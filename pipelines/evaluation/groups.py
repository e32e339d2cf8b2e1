"""Groups of exclusive classes among the channels of outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import suggest

__all__ = ["group_channels"]


def group_channels(
    groups: Mapping[str, Sequence[str]], channels: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, list[int]]]:
    """Return the channels of each group's classes, for each output that has all of them.

    Args:
        groups: the classes of each group, by its name.
        channels: the names of each output's channels.

    Raises:
        ConfigError: no output has all classes of a group.
    """
    found: dict[str, dict[str, list[int]]] = {}
    for group, classes in groups.items():
        having = [output for output, names in channels.items() if set(classes) <= set(names)]
        if not having:
            everywhere = list(dict.fromkeys(name for names in channels.values() for name in names))
            if unknown := [name for name in classes if name not in everywhere]:
                raise ConfigError(
                    f"evaluation.groups.{group} has {unknown[0]!r}, which no output has; "
                    f"{suggest(unknown[0], everywhere)}"
                )
            outputs = "; ".join(f"{output} has {', '.join(names)}" for output, names in channels.items())
            raise ConfigError(
                f"evaluation.groups.{group} has the classes {', '.join(classes)}, and no output has all of them: "
                f"{outputs}"
            )
        for output in having:
            found.setdefault(output, {})[group] = [list(channels[output]).index(name) for name in classes]
    return found
