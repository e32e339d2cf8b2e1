"""Records of a sample in words."""

from __future__ import annotations

from collections.abc import Mapping

from scalenet_gp.geometry import World
from scalenet_gp.nodes.augment import AUGMENTATIONS
from scalenet_gp.nodes.samplers import describe_location

__all__ = ["describe_augmentation"]


def describe_augmentation(records: Mapping[str, str], world: World | None = None) -> str:
    """Return a line such as ``class mito, scale 1.05, mirrored, contrast 0.93, brightness +0.02, noise 0.03``.

    Left out are changes that do nothing, rotations and elastic deformations (they are seen more easily than said), and
    the records of nodes of other packages and of a second node of one kind.

    Args:
        records: ``array.attrs`` of an array that everything was applied to, such as raw data.
        world: the world that the sample counts in; its unit is 1 nm by default.

    Raises:
        ArgumentError: a text is not a record of the node that it is named for.
    """
    unit = float((world or World()).unit)
    words = describe_location(records["location"]) if "location" in records else []
    for options in AUGMENTATIONS:
        node = options.component()
        if node.record_name in records:
            words += node.parameters.from_json(records[node.record_name]).describe(unit)
    return ", ".join(words)
