"""Samplers, from a config."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from math import prod

from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError, DataError, LatticeError, VolumeFormatError
from scalenet_gp.geometry import format_size
from scalenet_gp.nodes import ClassSampler, MaskSampler, PointSampler, Sampler, StratifiedSampler, UniformSampler
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.config import (
    ClassSamplerOptions,
    MapSamplerOptions,
    MaskSamplerOptions,
    PointSamplerOptions,
    Region,
    SamplerOptions,
    StratifiedSamplerOptions,
    UniformSamplerOptions,
)
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.volumes import MultiscaleImage, join, local_path

__all__ = ["build_sampler", "overhang_of", "search_size"]

_SEARCHED = 2**27
"""Voxels among which those of a class are searched, at most: a list of them takes 4 bytes each."""

_log = logging.getLogger(__name__)


def build_sampler(dataset: Dataset, options: SamplerOptions | None = None) -> Sampler:
    """Return the sampler of a dataset, within the annotated part of its ``training.region``.

    Args:
        dataset: the dataset.
        options: the options; those of ``training.sampler`` unless given.

    Raises:
        ConfigError: nothing is annotated there, or the config does not fit the annotation.
    """
    settings = dataset.run.training
    annotated = dataset.annotated(dataset.training_region)
    chosen = settings.sampler if options is None else options
    overhang = overhang_of(dataset)
    if chosen is not None:
        return _build(chosen, "training.sampler", dataset, annotated, overhang)
    if dataset.source.alone:  # the classes of many volumes would take long to search
        try:
            return _build(ClassSamplerOptions(), "training.sampler", dataset, annotated, overhang)
        except LatticeError as error:
            _log.warning("samples lie anywhere in the annotation, not half of them on the classes: %s", error)
    return _build(UniformSamplerOptions(), "training.sampler", dataset, annotated, overhang)


def _build(options: SamplerOptions, where: str, dataset: Dataset, annotated: Roi, overhang: Coordinate) -> Sampler:
    inside = annotated.grow(overhang, overhang)
    if isinstance(options, UniformSamplerOptions):
        if options.regions is None:
            return UniformSampler(annotated, overhang)
        return UniformSampler(_parts(options.regions, where, dataset, annotated), overhang)
    if isinstance(options, StratifiedSamplerOptions):
        strata = {
            name: _build(stratum.chosen_sampler, f"{where}.strata.{name}", dataset, annotated, overhang)
            for name, stratum in options.strata.items()
        }
        return StratifiedSampler(strata, {name: stratum.weight for name, stratum in options.strata.items()})
    within = annotated if options.within is None else _parts([options.within], where, dataset, annotated)[0]
    if isinstance(options, PointSamplerOptions):
        return _points(options, where, dataset, within, inside)
    world, given = dataset.world, options.voxel_size
    size = None if given is None else world.size(given, f"{where}.voxel_size")
    if isinstance(options, MaskSamplerOptions):
        return MaskSampler(_open(dataset, options.mask), world, size, within=within, inside=inside)
    if isinstance(options, MapSamplerOptions):
        names = {stratum.value: name for name, stratum in options.strata.items()}
        weights = {name: stratum.weight for name, stratum in options.strata.items()}
        volume = _open(dataset, options.map)
        return StratifiedSampler.of_map(volume, names, weights, world, voxel_size=size, within=within, inside=inside)
    volumes, chosen = dataset.class_volumes(), {}
    given_shares = options.shares_of(dataset.config.class_names)
    for label in given_shares:
        members = dataset.groups.get(label)
        if members is None:
            classes = suggest(label, dataset.config.class_names, "the classes")
            raise ConfigError(f"{where}.shares names {label}, which is not a class; {classes}")
        known = [volumes[name] for name in members if volumes[name].volume is not None]
        if known:  # a class that nobody has annotated here leaves its share to what is elsewhere
            chosen[label] = known
    shares = {label: share for label, share in given_shares.items() if label in chosen}
    size = search_size(dataset, within) if size is None else size
    elsewhere = _build(options.elsewhere, f"{where}.elsewhere", dataset, annotated, overhang)
    absent = options.shares is None or not dataset.source.alone
    return ClassSampler(chosen, shares, elsewhere, world, size, within=within, inside=inside, absent_elsewhere=absent)


def _points(options: PointSamplerOptions, where: str, dataset: Dataset, within: Roi, inside: Roi) -> PointSampler:
    path, dims = local_path(join(dataset.folder, options.points)), dataset.net.dims
    if path is None:
        raise ConfigError(f"{where}.points is {options.points!r}, which is not a file of this machine")
    if len(options.columns) != dims:
        raise ConfigError(f"{where}.columns names {len(options.columns)} columns; the volume has {dims} axes")
    radius = None if options.balance_radius is None else options.balance_radius / float(dataset.world.unit)
    try:
        return PointSampler.of_file(
            path, dataset.world, options.columns, within=within, inside=inside, balance_radius=radius
        )
    except (FileNotFoundError, VolumeFormatError, DataError) as error:
        raise ConfigError(f"{where}.points: {error}") from error


def overhang_of(dataset: Dataset) -> Coordinate:
    """Return how far a sample may reach out of its region along each axis, world units.

    Raises:
        ConfigError: it has other axes than the network, or is negative.
    """
    size, dims = dataset.run.training.overhang, dataset.net.dims
    if size is None:
        return Coordinate((0,) * dims)
    if len(size) != dims or min(size) < 0:
        raise ConfigError(f"training.overhang {format_size(size)} nm has to be {dims} lengths of at least 0 nm")
    return dataset.world.size(size, "training.overhang")


def search_size(dataset: Dataset, within: Roi) -> Coordinate | None:
    """Return the voxel size (world units) at which classes are searched; None for that of the labels.

    Labels that may be resampled are searched at the voxels of the finest output, which exist whatever their own are,
    and are what is learned. In a large part, at coarser ones, as the voxels that are found are kept in a list.
    """
    if dataset.source.config.alignment == "exact":
        return None
    size = Coordinate(dataset.net.voxel_size[dataset.finest])
    while prod(within.shape / size) > _SEARCHED:
        size *= 2
    return size


def _open(dataset: Dataset, path: str) -> MultiscaleImage:
    return MultiscaleImage.open(join(dataset.folder, path), cache=dataset.cache)


def _parts(regions: Iterable[Region], where: str, dataset: Dataset, annotated: Roi) -> list[Roi]:
    """Return the annotated parts of regions.

    Raises:
        ConfigError: nothing is annotated in one of them.
    """
    parts = [dataset.roi(region).intersect(annotated) for region in regions]
    if any(part.empty for part in parts):
        raise ConfigError(f"{where} has a region in which nothing is annotated")
    return parts
