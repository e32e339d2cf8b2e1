"""Pictures of sections as arrays: raw data, classes and objects as colors, rows of panels."""

from scalenet_gp.pictures.objects import color_objects
from scalenet_gp.pictures.panels import (
    Box,
    as_bytes,
    class_colors,
    class_legend,
    enlarge,
    outline,
    overlay,
    side_by_side,
    stack_rows,
    to_grey,
)

__all__ = [
    "Box",
    "as_bytes",
    "class_colors",
    "class_legend",
    "color_objects",
    "enlarge",
    "outline",
    "overlay",
    "side_by_side",
    "stack_rows",
    "to_grey",
]
