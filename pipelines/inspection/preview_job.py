"""The preview: training samples of a config in pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gunpowder as gp
import numpy as np
from funlib.geometry import Coordinate

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes import Prefetch, Stack
from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import Datasets, record_volumes, training_chain
from scalenet_gp.pipelines.plots import describe_augmentation, draw_batch
from scalenet_gp.training import check_data_memory
from scalenet_gp.volumes import StrPath

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.figure import Figure

__all__ = ["draw_samples", "preview"]


def preview(config: Config, volume: StrPath, output: Path, samples: int = 3, seed: int | None = None) -> Path:
    """Write the picture of :func:`draw_samples` as PNG.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at ``output``.
        FileNotFoundError, ScaleNetError: as :func:`draw_samples`.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    figure = draw_samples(config, volume, samples, seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    return output


def draw_samples(config: Config, volume: StrPath, samples: int = 3, seed: int | None = None) -> Figure:
    """Draw samples that a training run learns from, each below the same crop without augmentation.

    Sample k is the first one in batch k of :func:`scalenet_gp.pipelines.training.train` with the same seed. The panels
    are those of :func:`scalenet_gp.pipelines.plots.draw_batch`; black and white are the ``intensities`` of the config.
    A caption tells the middle of the sample, in nm from the raw volume's corner as positions in the config, and what
    was drawn.

    Args:
        config: the run.
        volume: folder, or its URL, that paths of the config start at.
        samples: number of samples.
        seed: seed of the run; that of the config unless given.

    Raises:
        FileNotFoundError: there is no such volume, or a class has no labels.
        ConfigError: the config does not fit the volume, or the number of samples or the seed is out of its range.
        MemoryError: the samples do not fit into the memory that is free.
    """
    seed = config.training.seed if seed is None else seed
    if samples < 1 or seed < 0:
        raise ConfigError(f"{samples} samples of the run with seed {seed}: one sample is the least, 0 the lowest seed")
    net = config.build_network()
    datasets = Datasets.find(volume, config, net)
    datasets = datasets.with_config(config.model_copy(update={"learned_from": record_volumes(datasets)}))
    dataset = datasets.first
    plan = net.plan(datasets.boxes(config.training.output_shape))
    check_data_memory(net, plan, 2 * samples)  # with and without augmentation
    shape = plan.outputs[dataset.finest].shape
    arrays = dataset.arrays
    request = arrays.request(plan)
    # the first sample of a batch is the same however many it has
    with build_chain(training_chain(datasets) + Stack(1) + Prefetch(seed=seed)) as pipeline:
        batches = [pipeline.request_batch(request) for _ in range(samples)]
    recorded = arrays.inputs[(dataset.inputs.raw_keys or net.input_keys)[-1]]  # every node leaves a record there
    records = [{name: record for name, (record,) in batch[recorded].attrs.items()} for batch in batches]
    before = None
    if config.augmentation:
        before = _joined([_unvaried(datasets, request, record["location"]) for record in records])
    captions = [_caption(datasets, number, shape, record) for number, record in enumerate(records)]
    return draw_batch(
        _joined(batches),
        tuple(arrays.inputs.values()),
        {arrays.targets[name]: arrays.masks[name] for name in arrays.targets},
        {arrays.targets[name]: channels for name, channels in dataset.channels.items()},
        before=before,
        world=dataset.world,
        intensities=(-1.0, 1.0),
        captions=captions,
        names={arrays.inputs[tensor]: name for tensor, name in dataset.inputs.names.items()},
    )


def _place(location: str) -> Coordinate:
    """Return the corner of the sample's target."""
    return Coordinate(json.loads(location)["begin"])


def _unvaried(datasets: Datasets, request: gp.BatchRequest, location: str) -> gp.Batch:
    """Return a batch of the sample there, without augmentation."""
    plain = datasets.with_config(datasets.config.model_copy(update={"augmentation": ()}))
    with build_chain(training_chain(plain, {"location": location}) + Stack(1)) as pipeline:
        return pipeline.request_batch(request)


def _joined(batches: Sequence[gp.Batch]) -> gp.Batch:
    """Return one batch with the samples of all."""
    joined = gp.Batch()
    for key, array in batches[0].items():
        joined[key] = gp.Array(np.concatenate([batch[key].data for batch in batches]), array.spec.copy())
    return joined


def _caption(datasets: Datasets, number: int, shape: Coordinate, records: Mapping[str, str]) -> str:
    """Return the number of a sample, its middle, and what was drawn."""
    volume = json.loads(records["location"]).get("volume")
    dataset = datasets.first if volume is None else datasets.open(datasets.named(volume))
    middle = _place(records["location"]) * 2 + shape  # in half world units
    corner = dataset.corner
    place = ", ".join(f"{float(length) / 2:.6g}" for length in dataset.world.size_in_nm(middle - corner * 2))
    drawn = describe_augmentation(records, dataset.world)
    return f"sample {number} about [{place}] nm" + (drawn and f": {drawn}")
