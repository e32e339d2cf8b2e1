"""A run file written from a look at its data."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from funlib.geometry import Coordinate, Roi
from pydantic import ValidationError

from scalenet_gp.errors import ConfigError, VolumeFormatError
from scalenet_gp.options import describe_problems
from scalenet_gp.pipelines.config import Config, DataConfig, Region, SourceConfig, load_yaml, parse_yaml
from scalenet_gp.pipelines.data import Datasets, class_amounts, resolve_sources, survey
from scalenet_gp.pipelines.planning.choices import NetworkChoice, choose_network, choose_scales, choose_voxel_size
from scalenet_gp.pipelines.planning.fingerprint import Fingerprint, measure, provisional_config
from scalenet_gp.pipelines.planning.run_file import HeldOut, fresh_text, planned_text
from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import MultiscaleImage, StrPath, find_node, local_path, volumes_below

__all__ = ["PlannedRun", "data_of_file", "data_of_paths", "plan_run", "write_fresh"]

_HELD_OUT = 0.2
"""The share of the annotation, or of the sources, that is validated with."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run file that was written.

    Attributes:
        path: the file.
        fingerprint_path: the fingerprint of the data.
        fingerprint: its content.
        choice: the network.

    Example:
        >>> PlannedRun.__slots__
        ('path', 'fingerprint_path', 'fingerprint', 'choice')
    """

    path: Path
    fingerprint_path: Path
    fingerprint: Fingerprint
    choice: NetworkChoice


def data_of_paths(raw: str, labels: str, classes: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the part ``data`` of a run file for paths that start at the working folder.

    Args:
        raw: the raw volume.
        labels: the group of label volumes; wildcards as in ``data.sources``.
        classes: the classes; all that the groups hold if empty.
        folder: folder of the run file, at which paths in it start.

    Raises:
        ConfigError: there are no label volumes.
        FileNotFoundError: nothing is there.
    """
    source = {"raw": _from(raw, folder), "labels": _from(labels, folder)}
    names = list(classes)
    if not names:
        as_given = DataConfig.create(sources=[{"raw": raw, "labels": labels}], classes=["any"])
        found = resolve_sources(as_given, str(Path.cwd()))
        paths = [one.config.labels for one in found]
        for path in paths:
            if local_path(path) is None:
                raise ConfigError(f"--labels {labels} is a URL, whose content cannot be listed: say --classes")
            if find_node(path) is None:
                raise FileNotFoundError(f"--labels: there is no volume or group at {path}")
        if any(_is_volume(path) for path in paths):
            paths = []
        names = sorted({name for path in paths for name in volumes_below(path)})
    if not names:
        raise ConfigError(
            f"--labels {labels} holds no label volumes, one for each class. If it is one volume of ids or instances, "
            "write `data:` with its encoding and classes into a file, and give that: scalenet-gp plan FILE"
        )
    return {"sources": [source], "classes": names}


def data_of_file(path: Path, folder: Path) -> dict[str, Any]:
    """Return the part ``data`` of a file that has no other, for a run file in a folder.

    Raises:
        ConfigError: the file has other parts, or no ``data``.
    """
    plain = load_yaml(path)
    if not isinstance(plain, dict) or "data" not in plain:
        raise ConfigError(f"{path}: there is no part data with sources and classes to plan for")
    if others := sorted(set(plain) - {"version", "data"}):
        raise ConfigError(f"{path}: plan writes {', '.join(others)} itself: leave all parts out but data")
    data = plain["data"]
    own = path.absolute().parent
    if isinstance(data, dict) and own != folder.absolute():
        start = data.get("folder") or "."
        data = {**data, "folder": start if "://" in str(start) else os.path.relpath(own / start, folder.absolute())}
    return data


def plan_run(
    data: Mapping[str, Any],
    output: Path,
    memory: int | None = None,
    context: Fraction | None = None,
    *,
    overwrite: bool = False,
) -> PlannedRun:
    """Measure the annotation, and write a run file and its ``fingerprint.json``, which is put beside it.

    The same data give the same files.

    Args:
        data: the part ``data``, plain.
        output: the run file.
        memory: bytes that a training step may take. If they are given, the network has up to twice the default's
            channels and samples, as they allow.
        context: nm that the network is to see; as much as the largest class is long unless given.
        overwrite: replace files that exist.

    Raises:
        FileExistsError: there is such a file.
        FileNotFoundError: the folder of the run file, or a volume does not exist.
        ScaleNetError: the data cannot be learned from; the message names the field.
    """
    _check_folder(output)
    beside = output.parent / "fingerprint.json"
    for path in (output, beside):
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; replace it with --force, or choose another folder with --output")
    try:
        settings = DataConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError("; ".join(describe_problems(error, DataConfig, dict(data), "data"))) from error
    for number, source in enumerate(settings.sources):
        if isinstance(source, SourceConfig) and source.inputs:
            raise ConfigError(
                f"data.sources.{number}.inputs names {', '.join(source.inputs)}, and plan looks at raw data alone: "
                "leave inputs out, and write them into the planned file, for the sources and for the network"
            )
    folder = _folder(settings, output)
    fingerprint = measure(settings, folder)
    finest = choose_voxel_size(fingerprint, settings, folder)
    scales, end, share = choose_scales(finest, fingerprint, settings, folder, context)
    choice = choose_network(scales, end, share, settings, folder, memory)
    held_out, voxels = _held_out(settings, choice, folder)
    drawn = _drawn(settings, choice, held_out, fingerprint, folder)
    text = planned_text(data, fingerprint, choice, held_out, voxels, memory, drawn)
    config = Config.model_validate(parse_yaml(text))
    survey(Datasets.find(folder, config, config.build_network())).check()
    with atomic_write(output) as made:
        made.write_text(text, encoding="utf-8")
    fingerprint.write(beside)
    return PlannedRun(output, beside, fingerprint, choice)


def write_fresh(output: Path, *, overwrite: bool = False) -> Path:
    """Write a run file to fill in by hand, without a look at data.

    Raises:
        FileExistsError: there is such a file.
        FileNotFoundError: its folder does not exist.
    """
    _check_folder(output)
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; replace it with --force, or choose another path with --output")
    with atomic_write(output) as made:
        made.write_text(fresh_text(), encoding="utf-8")
    return output


def _is_volume(path: str) -> bool:
    try:
        MultiscaleImage.open(path)
    except VolumeFormatError:
        return False
    return True


def _check_folder(output: Path) -> None:
    if not output.parent.is_dir():
        raise FileNotFoundError(f"the folder {output.parent} of --output does not exist: make it first")


def _held_out(data: DataConfig, choice: NetworkChoice, folder: StrPath) -> tuple[HeldOut, float]:
    """Return how annotation is kept for validation, and the number of voxels that are left to learn from."""
    config = provisional_config(data, choice.network, choice.block)
    datasets = Datasets.find(folder, config, config.build_network())
    sources = resolve_sources(data, folder)
    opened = {one.name: datasets.open(one) for one in datasets.sources}
    finest = datasets.net.voxel_size[datasets.first.finest]
    voxels = {
        name: float(math.prod(int(n) for n in dataset.labelled().shape / Coordinate(finest)))
        for name, dataset in opened.items()
    }
    open_ones = [one for one in sources if one.use is None]
    if any(one.use == "validate" for one in sources):
        learned = math.fsum(voxels[one.name] for one in sources if one.use in (None, "train"))
        return HeldOut("Sources say what they are for", validated=True), learned
    if not open_ones:
        reason = "No validation: every source says a use, and none that of validation"
        return HeldOut(reason), math.fsum(voxels[one.name] for one in sources if one.use == "train")
    if len(open_ones) > 1:
        raws = {one.config.raw for one in open_ones}
        by = "dataset" if len(raws) > 1 else "crop"
        reason = f"A fifth of the {'raw volumes' if len(raws) > 1 else 'crops'} is kept for validation"
        split = {"by": by, "share": _HELD_OUT}
        return HeldOut(reason, split=split, validated=True), (1 - _HELD_OUT) * math.fsum(voxels.values())
    dataset = opened[open_ones[0].name]
    labelled, lattice = dataset.labelled(), dataset.lattice()
    counts = labelled.shape / lattice
    axis = max(range(len(counts)), key=lambda a: (counts[a], a))
    count = int(counts[axis])
    kept = max(1, round(count * (1 - _HELD_OUT)))
    ends = [kept, kept + (count - kept + 1) // 2]
    everywhere: list[Fraction | None] = [None] * len(counts)

    def bounds(steps: int) -> list[Fraction | None]:
        step = Coordinate(n * (a == axis) for a, n in enumerate(lattice))
        corner = dataset.region(Roi(labelled.begin + step * steps, lattice)).begin
        return [corner[a] if a == axis else None for a in range(len(corner))]

    first, second = map(bounds, ends)
    last = ends[1] < count
    held = HeldOut(
        f"The last {1 - kept / count:.0%} of the annotation along {'zyx'[-len(counts) :][axis]} is held out"
        + (", one half to validate with and one to evaluate" if last else ""),
        {"begin": everywhere, "end": first},
        {"begin": first, "end": second if last else everywhere},
        {"begin": second, "end": everywhere} if last else None,
        validated=True,
    )
    return held, math.fsum(voxels.values()) * kept / count


def _drawn(
    data: DataConfig, choice: NetworkChoice, held_out: HeldOut, fingerprint: Fingerprint, folder: StrPath
) -> list[str]:
    """Return the classes that samples can be laid on: of one volume those with a voxel in the part to learn from."""
    present = [name for name, one in fingerprint.classes.items() if one.fraction]
    if len(fingerprint.sources) > 1:
        return present
    config = provisional_config(data, choice.network, choice.block)
    if held_out.train is not None:
        region = Region.model_validate(held_out.train)
        config = config.model_copy(update={"training": config.training.model_copy(update={"region": region})})
    learned = class_amounts(Datasets.find(folder, config, config.build_network()).first)
    return [name for name in present if name in learned] or present


def _from(path: str, folder: Path) -> str:
    """Return a path from the working folder on as one from another folder on."""
    if "://" in path or os.path.isabs(path):
        return path
    return os.path.relpath(path, folder)


def _folder(data: DataConfig, output: Path) -> str:
    own = output.absolute().parent
    if data.folder is None:
        return str(own)
    return data.folder if "://" in data.folder else str(own / data.folder)
