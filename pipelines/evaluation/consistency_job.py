"""The consistency of a prediction with itself, and with another one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import exact_size
from scalenet_gp.metrics import ConfusionCounts, Consistency, VolumeFractions, compare_neighbours
from scalenet_gp.pipelines.blockwise import tiles
from scalenet_gp.pipelines.config import Config, InstanceTargetsOptions, TargetOptions, match_outputs
from scalenet_gp.pipelines.process import progress_bar
from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import MultiscaleImage, StoredValues, find_node, group_attributes

__all__ = ["check_consistency"]

_VERSION = 1

Consistencies = dict[str, dict[str, Consistency]]
"""The consistency of each class, for each output."""


def check_consistency(
    config: Config,
    prediction: Path,
    other: Path | None = None,
    output: Path | None = None,
    *,
    overwrite: bool = False,
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
) -> Consistencies:
    """Return how consistent the classes of a prediction are. No annotation is needed.

    Blocks of ``prediction.block_shape`` are the sub-volumes whose shares are compared; those that the border cuts have
    no share. Planes next to each other are compared within blocks, and across where they meet. Another prediction is
    compared where it overlaps; one that only meets this one, by the planes on both sides.

    Args:
        config: the run file.
        prediction: zarr group that :func:`scalenet_gp.pipelines.prediction.predict` wrote.
        other: another one, of the same classes and voxel sizes.
        output: JSON file to write.
        overwrite: replace ``output`` if it exists.
        thresholds: the thresholds of classes, by output, instead of ``evaluation.threshold``.

    Raises:
        FileExistsError: ``output`` exists.
        FileNotFoundError: there is no such prediction.
        ConfigError: no output has classes, or the predictions have nothing in common.
    """
    if output is not None and output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; replace it with --force, or choose another folder with --output")
    for path in (prediction, *([] if other is None else [other])):
        if find_node(path) is None:
            raise FileNotFoundError(f"there is no prediction {path}")
    targets = match_outputs(config.training.targets, config.build_network().output_keys)
    readers = {}
    for name, options in targets.items():
        if not isinstance(options, InstanceTargetsOptions) and (prediction / name).exists():
            chosen = (thresholds or {}).get(name, {})
            limits = {label: chosen.get(label, config.evaluation.threshold) for label in _classes(config, options)}
            readers[name] = _Masks.open(prediction / name, options, limits)
    if not readers:
        raise ConfigError(
            f"{prediction} has no output of classes, which alone are compared, by the config: if it has some, take the "
            "run file that it was predicted with"
        )
    shape = exact_size(config.prediction.block_shape)
    blocks = {name: masks.blocks(shape) for name, masks in readers.items()}
    found: Consistencies = {}
    with progress_bar("comparing", sum(map(len, blocks.values()))) as advance:
        for name, masks in readers.items():
            sums = {label: Consistency() for label in masks.limits}
            for block in blocks[name]:
                for label, mask in masks.read(*masks.with_next(block)).items():
                    sums[label] = _added(sums[label], mask, block, blocks[name][0].shape)
                advance("")
            found[name] = sums
    if other is not None:
        found = {
            name: {
                label: Consistency(one.fractions, one.within, one.across, counts[label])
                for label, one in found[name].items()
            }
            for name, masks in readers.items()
            for counts in [_compared(masks, _Masks.open(other / name, masks.targets, masks.limits))]
        }
    if output is not None:
        plain = {name: {label: one.to_json() for label, one in of.items()} for name, of in found.items()}
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(output) as beside:
            beside.write_text(json.dumps({"version": _VERSION, "outputs": plain}, indent=2) + "\n", encoding="utf-8")
    return found


def _classes(config: Config, options: TargetOptions) -> tuple[str, ...]:
    return options.scored(options.channels(config.data))


@final
@dataclass(frozen=True)
class _Masks:
    """Reads which voxels of an output are of each class. ROIs count voxels from the world's origin.

    Attributes:
        image: the volume.
        scale: value = stored number × scale.
        targets: what the output learned.
        limits: the threshold of each class.
    """

    image: MultiscaleImage
    scale: float
    targets: TargetOptions
    limits: Mapping[str, float]

    @classmethod
    def open(cls, path: Path, targets: TargetOptions, limits: Mapping[str, float]) -> _Masks:
        scale = StoredValues.of(path, group_attributes(path)).scale
        return cls(MultiscaleImage.open(path), scale, targets, limits)

    def roi(self) -> Roi:
        level = self.image.levels[0]
        begin = (corner / size for corner, size in zip(level.begin, level.voxel_size, strict=True))
        # the same lattice for predictions of the same volume: whole voxels apart
        return Roi(Coordinate(int(voxels // 1) for voxels in begin), level.shape)

    def blocks(self, shape: tuple[Any, ...]) -> list[Roi]:
        size = self.image.levels[0].voxel_size
        voxels = Coordinate(max(1, int(length / step)) for length, step in zip(shape, size, strict=True))
        return list(tiles(self.roi(), voxels))

    def with_next(self, block: Roi) -> tuple[Any, Any]:
        one = Coordinate((1,) * block.dims)
        around = block.grow((0,) * block.dims, one).intersect(self.roi())
        return around.begin, around.end

    def read(self, begin: Any, end: Any) -> dict[str, np.ndarray]:
        image = self.image
        size = image.levels[0].voxel_size
        world = image.world(size)
        step = world.size(size)
        corner = image.roi(step, world).begin
        roi = Roi(corner + (Coordinate(begin) - self.roi().begin) * step, (Coordinate(end) - Coordinate(begin)) * step)
        values = image.read(roi, step, world).astype(np.float32) * self.scale
        scored, _, _ = self.targets.as_classes(values, values, values)
        return {label: of >= limit for of, (label, limit) in zip(scored, self.limits.items(), strict=True)}


def _added(sums: Consistency, mask: np.ndarray, block: Roi, whole: Coordinate) -> Consistency:
    within, across = compare_neighbours(mask, tuple(map(int, block.shape)))
    shares = sums.fractions.shares
    if block.shape == whole:
        shares = (*shares, float(mask[tuple(slice(0, int(n)) for n in block.shape)].mean()))
    return Consistency(VolumeFractions(shares), sums.within + within, sums.across + across)


def _compared(one: _Masks, other: _Masks) -> dict[str, ConfusionCounts]:
    """Return the counts of two predictions where they overlap, or of the planes where they meet.

    Raises:
        ConfigError: they do neither, or have other voxels.
    """
    levels = [masks.image.levels[0] for masks in (one, other)]
    sizes, begins = zip(*((level.voxel_size, level.begin) for level in levels), strict=True)
    apart = [(b - a) / size for a, b, size in zip(*begins, sizes[0], strict=True)]
    if sizes[0] != sizes[1] or any(voxels.denominator != 1 for voxels in apart):
        raise ConfigError(
            f"{other.image.path} has other voxels than {one.image.path}: compare predictions of one network"
        )
    first, second = one.roi(), other.roi()
    common = first.intersect(second)
    boxes = [(common, common)] if not common.empty else _meeting(first, second)
    if not boxes:
        raise ConfigError(f"{other.image.path} neither overlaps {one.image.path} nor meets it: they cannot be compared")
    counts = dict.fromkeys(one.limits, ConfusionCounts())
    for mine, theirs in boxes:
        for part in tiles(mine, Coordinate(min(256, int(n)) for n in mine.shape)):
            shifted = part + (theirs.begin - mine.begin)
            masks, others = one.read(part.begin, part.end), other.read(shifted.begin, shifted.end)
            for label, mask in masks.items():
                counts[label] += ConfusionCounts.count(mask, others[label], np.ones(mask.shape, bool))
    return counts


def _meeting(one: Roi, other: Roi) -> list[tuple[Roi, Roi]]:
    """Return the planes on both sides of where two boxes meet."""
    for axis in range(one.dims):
        for back, front, swapped in ((one, other, False), (other, one, True)):
            if back.end[axis] != front.begin[axis]:
                continue
            step = Coordinate(int(a == axis) for a in range(one.dims))
            common = Roi(back.begin + step, back.shape).intersect(front)
            if not common.empty:
                plane = Roi(common.begin, [1 if a == axis else n for a, n in enumerate(common.shape)])
                pair = plane - step, plane
                return [pair[::-1] if swapped else pair]
    return []
