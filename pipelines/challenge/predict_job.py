"""The job that predicts the test crops of the challenge, each from the raw volume of its dataset."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.geometry import format_size
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.pipelines.challenge.layout import check_layout, list_classes
from scalenet_gp.pipelines.config import Config, ReadingConfig, Region, SourceConfig
from scalenet_gp.pipelines.data import Dataset, resolve_sources
from scalenet_gp.pipelines.prediction import Workers, predict
from scalenet_gp.volumes import (
    CropLattice,
    ManifestEntry,
    group_attributes,
    nearest_voxel_size,
    read_crop_manifest,
)

__all__ = ["RAW_LAYOUT", "predict_crops"]

RAW_LAYOUT = "{dataset}/{dataset}.zarr/recon-1/em/*"

_READING = ("translation", "unit", "select", "intensities")


@dataclass(frozen=True, slots=True)
class _Crop:
    """A crop of the manifest.

    Attributes:
        name: its name.
        raw: the raw volume of its dataset.
        lattices: the voxels of its classes, which are mostly the same.
    """

    name: str
    raw: Path
    lattices: tuple[CropLattice, ...]


def predict_crops(
    config: Config,
    folder: Path,
    checkpoint: Path | Sequence[Path],
    output: Path,
    manifest: Path,
    *,
    raw: str = RAW_LAYOUT,
    workers: Workers | None = None,
) -> tuple[Path, ...]:
    """Predict the crops of a manifest, each into a group ``<output>/<crop>.zarr`` that ``pack`` reads.

    The output of the network whose voxel size is nearest to that of the crop is predicted, with one voxel more on every
    side, so that the crop's border is interpolated too. Raw data whose voxels do not fit the network's are resampled.
    The same call resumes. Crops that are finished with the same networks are not predicted again.

    Args:
        config: the run.
        folder: folder of the raw volumes, at which paths of the config start too.
        checkpoint: file of the weights; predictions of several are averaged.
        output: folder to make.
        manifest: the challenge's CSV file of test crops.
        raw: path of a dataset's raw volume below the folder, with ``{dataset}`` for its name. One volume matches.
        workers: processes that predict; this process alone unless given.

    Returns:
        The groups, in the order of the manifest.

    Raises:
        FileExistsError: a crop was predicted with other networks.
        FileNotFoundError: there is no such manifest or checkpoint, or a raw volume is missing.
        ConfigError: ``raw`` names something else, or matches several volumes; or as
            :func:`scalenet_gp.pipelines.prediction.predict`.
        DataError: a crop reaches out of its raw volume.
        VolumeFormatError: the manifest or a volume cannot be read.
    """
    check_layout(raw, ("dataset",), "--raw")
    crops = _crops(read_crop_manifest(manifest), folder, raw)
    checkpoints = [checkpoint] if isinstance(checkpoint, Path) else list(checkpoint)
    for path in checkpoints:
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint {path}")
    net = config.build_network()
    todo = []
    for crop in crops:
        made = output / f"{crop.name}.zarr"
        if made.exists():
            _check_finished(made, checkpoints)
        else:
            # all are opened before the first is predicted
            todo.append((crop, made, *_job(config, net, folder, crop)))
    for crop, made, narrowed, region in todo:
        predict(narrowed, crop.raw.parent, checkpoints, made, region, workers=workers)
    return tuple(output / f"{crop.name}.zarr" for crop in crops)


def _crops(entries: Sequence[ManifestEntry], folder: Path, raw: str) -> tuple[_Crop, ...]:
    volumes: dict[str, list[Path]] = {}
    lattices: dict[tuple[str, str], dict[CropLattice, None]] = {}
    for entry in entries:
        if entry.dataset not in volumes:
            volumes[entry.dataset] = sorted(p for p in folder.glob(raw.format(dataset=entry.dataset)) if p.is_dir())
        lattices.setdefault((entry.crop, entry.dataset), {})[entry.lattice] = None
    if missing := [pair[::-1] for pair in lattices if not volumes[pair[1]]]:
        raise FileNotFoundError(
            f"{folder}: there is no raw volume {raw} of {list_classes(missing)}; fetch it, say with --raw where it is, "
            "or leave these crops out of the manifest"
        )
    for dataset, found in volumes.items():
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ConfigError(f"--raw {raw} matches several volumes of {dataset}: {names}; name one of them")
    return tuple(_Crop(crop, volumes[dataset][0], tuple(found)) for (crop, dataset), found in lattices.items())


def _reading(config: Config, folder: Path, crop: _Crop) -> dict[str, Any]:
    """Return the options of reading the raw volume of a crop: those that all sources share, or those of its own source.

    Raises:
        ConfigError: the sources differ, and none has this raw volume.
    """
    sources: Sequence[ReadingConfig] = config.data.sources
    differing = [name for name in _READING if any(getattr(s, name) != getattr(sources[0], name) for s in sources)]
    if differing:
        raw = crop.raw.resolve()
        of_volume = [s.config for s in resolve_sources(config.data, folder) if Path(s.config.raw).resolve() == raw]
        if not of_volume:
            raise ConfigError(
                f"data.sources differ in {', '.join(differing)}, and none of them has {crop.raw}, the raw volume of "
                f"{crop.name}: add it as a source, or say one value for all"
            )
        sources = of_volume
    return {name: getattr(sources[0], name) for name in _READING}


def _job(config: Config, net: LeibNet, folder: Path, crop: _Crop) -> tuple[Config, Region]:
    """Return the config that is narrowed to a crop's volume and outputs, and the region to predict."""
    path = str(crop.raw.absolute())
    source = SourceConfig(raw=path, labels=f"{path}/labels", alignment="resample", **_reading(config, folder, crop))
    narrowed = config.model_copy(update={"data": config.data.model_copy(update={"sources": (source,), "split": None})})
    dataset = Dataset.open(crop.raw.parent, narrowed, net)
    names = config.prediction.outputs or tuple(dataset.targets)
    sizes = [dataset.world.size_in_nm(net.voxel_size[name]) for name in names]
    chosen = {names[nearest_voxel_size(sizes, lattice.voxel_size)] for lattice in crop.lattices}
    outputs = tuple(name for name in names if name in chosen)
    options = config.prediction.model_copy(update={"outputs": outputs})
    level, lattice = dataset.raw.levels[0], dataset.world.size_in_nm(dataset.lattice(outputs))
    begin, end = [], []
    for axis, (first, last, size) in enumerate(zip(level.begin, level.end, lattice, strict=True)):
        low = min(crop.corner[axis] for crop in crop.lattices) - first
        high = max(crop.end[axis] for crop in crop.lattices) - first
        whole = math.floor((last - first) / size)
        begin.append(size * max(math.floor(low / size) - 1, 0))
        end.append(size * min(math.ceil(high / size) + 1, whole))
        if low < -size or high > last - first + size or begin[-1] >= end[-1]:
            raise DataError(
                f"{crop.name} spans {format_size([low + first, high + first])} nm along axis {axis}, and {crop.raw} "
                f"{format_size([first, last])} nm: it reaches out"
            )
    return narrowed.model_copy(update={"prediction": options}), Region(begin=tuple(begin), end=tuple(end))


def _check_finished(made: Path, checkpoints: Sequence[Path]) -> None:
    """Check that a crop was predicted with the same networks.

    Raises:
        FileExistsError: it was not.
    """
    job = group_attributes(made).get("job", {})
    networks = job.get("networks", []) if isinstance(job, Mapping) else []
    if [network.get("sha256") for network in networks] != [_digest(path) for path in checkpoints]:
        raise FileExistsError(
            f"{made} exists, and was predicted with other networks; remove it, or choose another output"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
