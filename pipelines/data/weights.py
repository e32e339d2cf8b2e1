"""The shares of the sources in the samples, and of the classes in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, prod

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.nodes import MaskSampler
from scalenet_gp.pipelines.config import ClassSamplerOptions, SamplerOptions
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.datasets import Datasets
from scalenet_gp.pipelines.data.sampling import search_size
from scalenet_gp.volumes import read_separately

__all__ = ["SourceWeight", "class_amounts", "source_weights"]


@dataclass(frozen=True, slots=True)
class SourceWeight:
    """The share of a source in the samples, and the sampler in it.

    Attributes:
        weight: weight of the source among all, in any unit.
        sampler: the sampler in it; that of the run file if None.
    """

    weight: float
    sampler: SamplerOptions | None = None


def source_weights(datasets: Datasets) -> dict[str, SourceWeight]:
    """Return the weight of every source to train on, by its name.

    Raises:
        ConfigError: ``data.sampling`` is by class, and ``training.sampler`` says something else; or no class has a
            voxel.
    """
    sampling, sources = datasets.config.data.sampling, datasets.of("train")
    given = {source.name: source.config.weight for source in sources}
    if sampling.by == "class":
        if datasets.config.training.sampler is not None:
            raise ConfigError(
                "data.sampling is by class, and training.sampler says where samples are taken too: leave one out"
            )
        # in a process of its own, after which this one can still fork workers
        amounts = read_separately(lambda: {source.name: class_amounts(datasets.open(source)) for source in sources})
        return _by_class(given, amounts, sampling.temperature, sampling.shares)
    if not sampling.temperature or len(sources) == 1:
        return {name: SourceWeight(weight) for name, weight in given.items()}
    weights = {}
    for source in sources:
        dataset = datasets.open(source)
        size = prod(dataset.annotated(dataset.training_region).shape)
        weights[source.name] = SourceWeight(given[source.name] * size**sampling.temperature)
    return weights


def class_amounts(dataset: Dataset) -> dict[str, float]:
    """Return the volume (world units) of each class in the training region; classes without any are left out.

    Voxels are counted at the voxel size at which samples are laid on them.
    """
    within, volumes = dataset.annotated(dataset.training_region), dataset.class_volumes()
    size = search_size(dataset, within)
    amounts = {}
    for name, members in dataset.groups.items():
        known = [volumes[member] for member in members if volumes[member].volume is not None]
        if not known:
            continue
        try:
            voxels = MaskSampler(known, dataset.world, size, within=within).voxels
        except DataError:
            continue
        amounts[name] = float(len(voxels) * prod(voxels.voxel_size))
    return amounts


def _by_class(
    weights: Mapping[str, float],
    amounts: Mapping[str, Mapping[str, float]],
    temperature: float,
    given: Mapping[str, float] | None = None,
) -> dict[str, SourceWeight]:
    """Return weights with which drawing a source and then a class is the same as a class and then a source.

    A class is drawn by the share that is given, or else by its amount to the power of the temperature; of those that
    have it, a source is drawn by its weight times its amount of the class to that power.
    """
    totals: dict[str, float] = {}
    for of_source in amounts.values():
        for name, amount in of_source.items():
            totals[name] = totals.get(name, 0) + amount
    if not totals:
        raise ConfigError("data.sampling is by class, and no source has a voxel of any class in its training region")
    if given is None:
        classes = _shares({name: total**temperature for name, total in totals.items()})
    elif not (drawn := {name: share for name, share in given.items() if share and name in totals}):
        raise ConfigError(
            f"data.sampling.shares are of {', '.join(given)}, and no source has a voxel of any of them in its training "
            f"region; there are voxels of {', '.join(totals)}"
        )
    else:
        classes = _shares(drawn)
    joint: dict[str, dict[str, float]] = {source: {} for source in amounts}
    for name, share in classes.items():
        having = {
            source: weights[source] * of_source[name] ** temperature
            for source, of_source in amounts.items()
            if name in of_source
        }
        for source, conditional in _shares(having).items():
            joint[source][name] = share * conditional
    return {
        source: SourceWeight(fsum(of_classes.values()), ClassSamplerOptions(shares=_shares(of_classes)))
        for source, of_classes in joint.items()
        if of_classes
    }


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    total = fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
