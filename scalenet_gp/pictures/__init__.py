"""Pictures of sections as arrays: raw data, classes as colors, rows of panels."""

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
    "enlarge",
    "outline",
    "overlay",
    "side_by_side",
    "stack_rows",
    "to_grey",
]
