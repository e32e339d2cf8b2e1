"""A picture of segmentations of the same section, beside raw data and truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scalenet_gp.pictures import color_objects
from scalenet_gp.pipelines.plots.drawing import as_greys, middle_section, scale_bar, section, show
from scalenet_gp.volumes import MultiscaleImage, StrPath

__all__ = ["draw_objects"]

_PANEL = 3.2  # inches, the width


def draw_objects(raw: StrPath, truth: StrPath, segmentations: Mapping[str, StrPath], output: Path) -> Path:
    """Draw the middle section of a truth: raw data, true objects, and those of each segmentation.

    Neighbours differ in color. An object that was found has the color of the true one that it matches:
    see :func:`scalenet_gp.pictures.color_objects`.

    Args:
        raw: the raw volume.
        truth: a volume of ids; 0 is the background.
        segmentations: by its title, a volume of ids of the voxel size of the truth.
        output: PNG file to make.

    Returns:
        ``output``.

    Raises:
        FileNotFoundError: there is no such volume.
        LatticeError: a volume does not cover the section, or not at its voxels.
    """
    from matplotlib.figure import Figure

    true = MultiscaleImage.open(truth)
    size_nm = true.levels[0].voxel_size
    world = true.world()
    size = world.size(size_nm)
    middle = middle_section(true.roi(size, world, labels=True), size)

    def ids(path: StrPath) -> np.ndarray:
        image = MultiscaleImage.open(path)
        return section(image.read(middle, size, world, labels=True), middle, middle)[0]

    image = section(MultiscaleImage.open(raw).read(middle, size, world), middle, middle)[0]
    colored = color_objects(*map(ids, (truth, *segmentations.values())))
    panels = {"raw": as_greys(image), **dict(zip(("truth", *segmentations), colored, strict=True))}
    height, width = (float(edge) * voxels for edge, voxels in zip(size_nm[-2:], image.shape, strict=True))
    figure = Figure(figsize=(_PANEL * len(panels), _PANEL * height / width + 0.5), layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, (title, picture) in zip(row, panels.items(), strict=True):
        show(panel, picture, (0.0, width, height, 0.0))
        panel.set_title(title, fontsize=10)
    scale_bar(row[0])
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    return output
