"""Where samples are taken, from a config."""

from __future__ import annotations

from collections import Counter

from funlib.geometry import Coordinate

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import format_size
from scalenet_gp.nodes import ClassSampler, Sampler, StratifiedSampler, UniformSampler
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data.dataset import Dataset

__all__ = ["build_sampler"]


def build_sampler(config: Config, dataset: Dataset) -> Sampler:
    """The strategy of ``config.training.sampling``, within the annotated part of ``config.training.region``.

    Raises:
        ValueError: nothing is annotated there, or the config does not fit the annotation.
    """
    sampling, overhang = config.training.sampling, _overhang(config, dataset)
    annotated = dataset.annotated(config.training.region)
    everywhere: Sampler = UniformSampler(annotated, overhang)
    if sampling.strata:
        strata = {}
        for name, stratum in sampling.strata.items():
            parts = [dataset.roi(region).intersect(annotated) for region in stratum.regions]
            if any(part.empty for part in parts):
                raise ConfigError(f"training.sampling.strata.{name} has a region in which nothing is annotated")
            strata[name] = UniformSampler(parts, overhang)
        everywhere = StratifiedSampler(strata, {name: stratum.weight for name, stratum in sampling.strata.items()})
    if not sampling.classes:
        return everywhere
    volumes, shares = dataset.class_volumes(), Counter[str]()
    for label, share in sampling.classes.items():
        if label not in config.data.classes:
            raise ConfigError(
                f"training.sampling.classes names {label}; the classes are {', '.join(config.data.classes)}"
            )
        members = config.data.members(label)
        shares.update({name: share / len(members) for name in members})
    inside = annotated.grow(overhang, overhang)
    chosen = {name: volumes[name] for name in shares}
    return ClassSampler(chosen, shares, everywhere, dataset.world, within=annotated, inside=inside)


def _overhang(config: Config, dataset: Dataset) -> Coordinate:
    size, dims = config.training.overhang, dataset.net.dims
    if size is None:
        return Coordinate((0,) * dims)
    if len(size) != dims or min(size) < 0:
        raise ConfigError(f"training.overhang {format_size(size)} nm has to be {dims} lengths of at least 0 nm")
    return dataset.world.size(size, "training.overhang")
