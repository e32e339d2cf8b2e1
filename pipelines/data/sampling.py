"""Samplers, from a config."""

from __future__ import annotations

from collections import Counter

from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import format_size
from scalenet_gp.nodes import ClassSampler, MaskSampler, Sampler, StratifiedSampler, UniformSampler
from scalenet_gp.pipelines.config import (
    ClassSamplerOptions,
    Config,
    MaskSamplerOptions,
    SamplerOptions,
    StratifiedSamplerOptions,
)
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.volumes import MultiscaleImage, join

__all__ = ["build_sampler"]


def build_sampler(config: Config, dataset: Dataset) -> Sampler:
    """Return the sampler of ``config.training.sampler``, within the annotated part of ``config.training.region``.

    Raises:
        ConfigError: nothing is annotated there, or the config does not fit the annotation.
    """
    annotated = dataset.annotated(config.training.region)
    return _build(config.training.sampler, "training.sampler", dataset, annotated, _overhang(config, dataset))


def _build(options: SamplerOptions, where: str, dataset: Dataset, annotated: Roi, overhang: Coordinate) -> Sampler:
    inside = annotated.grow(overhang, overhang)
    if isinstance(options, MaskSamplerOptions):
        mask = MultiscaleImage.open(join(dataset.path, options.mask), cache=dataset.cache)
        given = options.voxel_size
        size = None if given is None else dataset.world.size(given, f"{where}.voxel_size")
        return MaskSampler(mask, dataset.world, size, within=annotated, inside=inside)
    if isinstance(options, StratifiedSamplerOptions):
        strata = {}
        for name, stratum in options.strata.items():
            parts = [dataset.roi(region).intersect(annotated) for region in stratum.regions]
            if any(part.empty for part in parts):
                raise ConfigError(f"{where}.strata.{name} has a region in which nothing is annotated")
            strata[name] = UniformSampler(parts, overhang)
        return StratifiedSampler(strata, {name: stratum.weight for name, stratum in options.strata.items()})
    if isinstance(options, ClassSamplerOptions):
        volumes, shares = dataset.class_volumes(), Counter[str]()
        for label, share in options.shares.items():
            members = dataset.config.classes.get(label)
            if members is None:
                raise ConfigError(
                    f"{where}.shares names {label}; the classes are {', '.join(dataset.config.class_names)}"
                )
            shares.update({name: share / len(members) for name in members})
        elsewhere = _build(options.elsewhere, f"{where}.elsewhere", dataset, annotated, overhang)
        chosen = {name: volumes[name] for name in shares}
        return ClassSampler(chosen, shares, elsewhere, dataset.world, within=annotated, inside=inside)
    return UniformSampler(annotated, overhang)


def _overhang(config: Config, dataset: Dataset) -> Coordinate:
    size, dims = config.training.overhang, dataset.net.dims
    if size is None:
        return Coordinate((0,) * dims)
    if len(size) != dims or min(size) < 0:
        raise ConfigError(f"training.overhang {format_size(size)} nm has to be {dims} lengths of at least 0 nm")
    return dataset.world.size(size, "training.overhang")
