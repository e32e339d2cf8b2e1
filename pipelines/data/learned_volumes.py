"""The raw volumes of a run: their fingerprints, and the intensities that the network sees of each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.config import LearnedInput, LearnedVolume
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.datasets import Datasets
from scalenet_gp.pipelines.data.intensities import compare_intensities, sample_raw
from scalenet_gp.pipelines.data.sources import Source
from scalenet_gp.volumes import MultiscaleImage, StrPath, VolumeFingerprint, labels_digest, read_separately

__all__ = ["check_inputs", "check_intensities", "record_inputs", "record_volumes"]

_logger = logging.getLogger(__name__)


def record_volumes(datasets: Datasets, begun: Sequence[LearnedVolume] = ()) -> tuple[LearnedVolume, ...]:
    """Return the raw volumes to train on, each once, after a comparison of their values with their intensities.

    A few blocks of each, and one of each of their label volumes, are read, in a process of their own: worker processes
    may be forked afterwards.

    Args:
        datasets: the sources.
        begun: the volumes that a run of this config began with, in the same order. The intensities that were sampled of
            them then stand for ``auto``, if they are the same volumes.

    Raises:
        ConfigError: hardly any sampled value of a volume lies within its intensities, or a volume beside it was
            predicted from other raw data.
        DataError: ``auto`` finds one value only.
    """
    by_raw: dict[str, list[Source]] = {}
    for source in datasets.of("train"):
        by_raw.setdefault(source.config.raw, []).append(source)

    def look() -> list[tuple[LearnedVolume, str, bool]]:
        found = []
        for number, sources in enumerate(by_raw.values()):
            dataset = datasets.open(sources[0])
            fingerprint = VolumeFingerprint.of(dataset.raw)
            before = begun[number] if number < len(begun) else None
            kept = None if before is None or before.raw.differences(fingerprint) else before.intensities
            learned, fault, refused = _look(dataset, fingerprint, kept)
            labels = labels_digest(_label_volumes(datasets, sources))
            inputs = _learned_inputs([datasets.open(source) for source in sources], fingerprint)
            found.append((learned.model_copy(update={"labels": labels, "inputs": inputs}), fault, refused))
        return found

    looked = read_separately(look)
    for _, fault, refused in looked:
        _tell(fault, refused)
    return tuple(volume for volume, *_ in looked)


def check_intensities(dataset: Dataset) -> None:
    """Compare the values of a volume with its intensities, and say so if they do not fit.

    Raises:
        ConfigError: hardly any sampled value lies within them.
    """
    if dataset.inputs.intensity_options != "auto" and not _is_whole_range(dataset):
        _tell(*read_separately(lambda: _compare(dataset)))


def check_inputs(dataset: Dataset, record: LearnedVolume, learned: Sequence[LearnedInput], network: StrPath) -> None:
    """Check that the volumes beside the raw data are such as a network has learned from.

    Args:
        dataset: the volume to predict.
        record: the record of it.
        learned: the volumes that the network has learned from; nothing is checked if they are not known.
        network: its checkpoint.

    Raises:
        ConfigError: a volume has other channels, or other networks predicted it.
    """
    for one in record.inputs:
        known = [other for other in learned if other.name == one.name]
        field = dataset.inputs.volumes[one.name].field
        if known and all(one.channels != other.channels for other in known):
            raise ConfigError(
                f"{field}: {one.volume.path} holds {', '.join(one.channels)}, and {network} has learned from "
                f"{', '.join(known[0].channels)}"
            )
        if known and not any(one.is_like(other) for other in known):
            raise ConfigError(
                f"{field}: {one.volume.path} is {_origin(one)}, and {network} has learned from "
                f"{known[0].volume.path}, {_origin(known[0])}: predict with that network, or set "
                "prediction.allow_other_inputs to true"
            )


def record_inputs(dataset: Dataset) -> tuple[LearnedInput, ...]:
    """Return the records of the volumes beside the raw data, of which a few blocks are read in another process.

    Raises:
        FileNotFoundError, VolumeFormatError, ConfigError: as :attr:`.NetworkInputs.volumes`.
        ConfigError: one was predicted from other raw data.
    """
    raw, volumes = dataset.fingerprint, dataset.inputs.volumes
    return read_separately(lambda: tuple(volume.learned(raw) for volume in volumes.values())) if volumes else ()


def _learned_inputs(datasets: Sequence[Dataset], raw: VolumeFingerprint) -> tuple[LearnedInput, ...]:
    """Return the volumes beside a raw volume that several sources have, each once."""
    volumes = {(name, one.image.path): one for dataset in datasets for name, one in dataset.inputs.volumes.items()}
    return tuple(volume.learned(raw) for volume in volumes.values())


def _origin(one: LearnedInput) -> str:
    if not one.networks:
        return "not a prediction of a known network"
    return f"the output {one.output} of the networks {', '.join(network[:12] for network in one.networks)}"


def _label_volumes(datasets: Datasets, sources: Sequence[Source]) -> Iterator[tuple[str, MultiscaleImage]]:
    """Yield the label volumes of sources, each with a name that does not depend on its place."""
    for number, source in enumerate(sources):
        for name, volume in datasets.open(source).label_volumes().items():
            yield f"{number}/{name}", volume


def _look(
    dataset: Dataset, fingerprint: VolumeFingerprint, kept: tuple[float, float] | None
) -> tuple[LearnedVolume, str, bool]:
    """Return the record of a volume, and the fault of its intensities."""
    if dataset.inputs.intensity_options == "auto":
        window = kept or sample_raw(dataset.raw, dataset.net).window()
        return LearnedVolume(raw=fingerprint, intensities=window), "", False
    fault, refused = ("", False) if _is_whole_range(dataset) else _compare(dataset)
    return LearnedVolume(raw=fingerprint), fault, refused


def _compare(dataset: Dataset) -> tuple[str, bool]:
    sample = sample_raw(dataset.raw, dataset.net)
    inputs = dataset.inputs
    return compare_intensities(sample, dataset.raw.dtype, inputs.intensity_options, inputs.intensity_field)


def _is_whole_range(dataset: Dataset) -> bool:
    """Return whether all values may be seen, as those of one byte are, or none is."""
    seen = dataset.inputs.intensity_options != "range" or dataset.raw.dtype != np.uint8
    return not (seen and dataset.inputs.raw_keys)


def _tell(fault: str, refused: bool) -> None:
    if refused:
        raise ConfigError(fault)
    if fault:
        _logger.warning("%s", fault)
