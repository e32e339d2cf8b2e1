"""The part ``training.sampler`` of a run file: where samples are taken."""

from __future__ import annotations

from math import fsum
from typing import Annotated, Literal

from pydantic import Field, field_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Options, Probability, Size
from scalenet_gp.pipelines.config.region import Region

__all__ = [
    "ClassSamplerOptions",
    "MaskSamplerOptions",
    "SamplerOptions",
    "StratifiedSamplerOptions",
    "StratumOptions",
    "UniformSamplerOptions",
]

_SLACK = 1e-9  # shares that are written as decimals sum to a little more than 1


class UniformSamplerOptions(Options):
    """Take samples anywhere in the annotated part of the training region.

    Attributes:
        kind: ``uniform``.

    Example:
        >>> UniformSamplerOptions().kind
        'uniform'
    """

    kind: Literal["uniform"] = "uniform"


class MaskSamplerOptions(Options):
    """Lay samples on the voxels of a mask: see :class:`scalenet_gp.nodes.MaskSampler`.

    Attributes:
        kind: ``mask``.
        mask: multiscale group of one channel within the volume's folder; voxels above 0 count.
        voxel_size: nm at which the mask is searched; that of the finest level of moderate size unless given. Structures
            that are thinner may be missed.

    Example:
        >>> MaskSamplerOptions(mask="masks/synapses").voxel_size is None
        True
    """

    kind: Literal["mask"] = "mask"
    mask: str
    voxel_size: Size | None = None


class StratumOptions(Options):
    """Regions of one kind, and how often samples are taken there.

    Attributes:
        weight: weight of the stratum, in any unit.
        regions: the regions.

    Example:
        >>> StratumOptions.create(weight=2, regions=[{"begin": [0, 0, 0], "end": [800, 800, 800]}]).weight
        2.0
    """

    weight: float = Field(ge=0, allow_inf_nan=False)
    regions: tuple[Region, ...] = Field(min_length=1)


class StratifiedSamplerOptions(Options):
    """Draw a stratum by weight, and a sample within it: see :class:`scalenet_gp.nodes.StratifiedSampler`.

    Attributes:
        kind: ``stratified``.
        strata: the strata by name: "dense", "sparse", "artefact", as one likes.

    Example:
        >>> region = {"begin": [0, 0, 0], "end": [800, 800, 800]}
        >>> list(StratifiedSamplerOptions.create(strata={"dense": {"weight": 2, "regions": [region]}}).strata)
        ['dense']
    """

    kind: Literal["stratified"] = "stratified"
    strata: dict[str, StratumOptions] = Field(min_length=1)


class ClassSamplerOptions(Options):
    """Lay a share of the samples on voxels of each class: see :class:`scalenet_gp.nodes.ClassSampler`.

    Attributes:
        kind: ``class``.
        shares: share of the samples to lay on a voxel of each class; 1 in sum at most.
        elsewhere: sampler of the rest.

    Example:
        >>> ClassSamplerOptions(shares={"mito": 0.5}).elsewhere.kind
        'uniform'
    """

    kind: Literal["class"] = "class"
    shares: dict[str, Probability] = Field(min_length=1)
    elsewhere: Annotated[
        UniformSamplerOptions | StratifiedSamplerOptions | MaskSamplerOptions, Field(discriminator="kind")
    ] = UniformSamplerOptions()

    @field_validator("shares")
    @classmethod
    def _share(cls, shares: dict[str, float]) -> dict[str, float]:
        if (total := fsum(shares.values())) > 1 + _SLACK:
            raise ConfigError(f"the shares sum to {total:g}; they may sum to 1 at most")
        return shares


SamplerOptions = Annotated[
    UniformSamplerOptions | ClassSamplerOptions | StratifiedSamplerOptions | MaskSamplerOptions,
    Field(discriminator="kind"),
]
"""Options of any sampler; ``kind`` tells which."""
