"""Sources of a finished prediction, to be compared with the annotation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gunpowder as gp
from funlib.geometry import Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes import MultiscaleSource
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.input_volume import check_predicted_from
from scalenet_gp.volumes import MultiscaleImage, StoredValues, VolumeFingerprint, find_node, group_attributes

__all__ = ["predicted_sources"]


def predicted_sources(
    dataset: Dataset, prediction: Path, keys: Mapping[str, gp.ArrayKey], roi: Roi
) -> list[gp.Pipeline]:
    """Return sources of the predictions of every output in ``keys``, float32 whatever they are stored as.

    Args:
        dataset: the volume that was predicted, and the network.
        prediction: what :func:`scalenet_gp.pipelines.prediction.predict` wrote.
        keys: keys of the arrays to provide.
        roi: ROI that the prediction has to cover, world units.

    Raises:
        FileNotFoundError: the prediction does not exist.
        ConfigError: it was made of other raw data, has other classes or voxels than the network, or does not cover
            ``roi``.
    """
    _check_made_of(dataset, prediction)
    sources = []
    for name, key in keys.items():
        volume, size = MultiscaleImage.open(prediction / name), dataset.net.voxel_size[name]
        expected = dataset.channels[name]
        if volume.channels != len(expected):
            raise ConfigError(
                f"{volume.path} has {volume.channels} channels, not one for each of {', '.join(expected)}"
            )
        attributes = group_attributes(volume.path)
        channels = attributes.get("omero", {}).get("channels", [])
        named = tuple(channel["label"] for channel in channels)
        if named and named != expected:
            raise ConfigError(f"{volume.path} holds {', '.join(named)}; the config has {', '.join(expected)}")
        there = volume.roi(size, dataset.world)
        if not there.contains(roi):
            raise ConfigError(
                f"{volume.path} covers {dataset.region(there)} from the raw volume's corner, not all of "
                f"{dataset.region(roi)}"
            )
        scale = StoredValues.of(volume.path, attributes).scale
        sources.append(MultiscaleSource(volume, {key: size}, dataset.world) + gp.Normalize(key, factor=scale))
    return sources


def _check_made_of(dataset: Dataset, prediction: Path) -> None:
    """Refuse a prediction that says that it was made of other raw data than these."""
    node = find_node(prediction)
    recorded = {} if node is None else node.attributes.get("job") or {}
    if recorded.get("raw") is None:
        return
    there = VolumeFingerprint.model_validate(recorded["raw"])
    check_predicted_from(prediction, there, dataset.fingerprint, "the data to compare it with")
