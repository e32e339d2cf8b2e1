"""The challenge's own manifest of test crops, where its tool keeps it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from scalenet_gp.errors import ConfigError

__all__ = ["choose_manifest"]

_NAME = "test_crop_manifest.csv"
_TOOL = "cellmap_segmentation_challenge"
_SOURCE = f"https://github.com/janelia-cellmap/cellmap-segmentation-challenge, src/{_TOOL}/utils/{_NAME}"


def choose_manifest(given: Path, option: str) -> Path:
    """Return the manifest that a user gave; for ``test``, that of the challenge.

    It is looked for in the working folder, and in the challenge's tool if it is installed, which keeps it among its own
    files.

    Args:
        given: a path, or ``test``.
        option: the name of the option, for messages.

    Raises:
        ConfigError: it is nowhere.
    """
    if str(given) != "test" or given.exists():
        return given
    places = [Path(_NAME)]
    tool = find_spec(_TOOL)
    if tool is not None and tool.origin is not None:
        places.append(Path(tool.origin).parent / "utils" / _NAME)
    for place in places:
        if place.is_file():
            return place
    where = " and ".join(str(place.absolute()) for place in places)
    package = "" if len(places) > 1 else f", and the package {_TOOL} is not installed"
    raise ConfigError(
        f"{option} test: the challenge's {_NAME} is not at {where}{package}; copy it from {_SOURCE}, or say its path: "
        f"{option} PATH"
    )
