"""The part ``training.sampler`` of a run file: where samples are taken."""

from __future__ import annotations

from collections.abc import Collection
from math import fsum
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import Options, Probability, Size
from scalenet_gp.pipelines.config.region import Region

__all__ = [
    "ClassSamplerOptions",
    "MapSamplerOptions",
    "MapStratumOptions",
    "MaskSamplerOptions",
    "PointSamplerOptions",
    "SamplerOptions",
    "StratifiedSamplerOptions",
    "StratumOptions",
    "UniformSamplerOptions",
]

_SLACK = 1e-9  # shares that are written as decimals sum to a little more than 1


class UniformSamplerOptions(Options):
    """Take samples evenly in the annotated part of the training region: see :class:`scalenet_gp.nodes.UniformSampler`.

    Attributes:
        kind: ``uniform``.
        regions: take them only in these parts of it.

    Example:
        >>> UniformSamplerOptions().kind
        'uniform'
    """

    kind: Literal["uniform"] = "uniform"
    regions: tuple[Region, ...] | None = Field(default=None, min_length=1)


class MaskSamplerOptions(Options):
    """Lay samples on the voxels of a mask: see :class:`scalenet_gp.nodes.MaskSampler`.

    Attributes:
        kind: ``mask``.
        mask: multiscale group of one channel within the volume's folder; voxels above 0 count.
        voxel_size: nm at which the mask is searched; that of the finest level of moderate size unless given. Structures
            that are thinner may be missed.
        within: take only the voxels of this part of the training region.

    Example:
        >>> MaskSamplerOptions(mask="masks/synapses").voxel_size is None
        True
    """

    kind: Literal["mask"] = "mask"
    mask: str
    voxel_size: Size | None = None
    within: Region | None = None


class PointSamplerOptions(Options):
    """Lay samples on points, such as synapses or skeletons: see :class:`scalenet_gp.nodes.PointSampler`.

    Attributes:
        kind: ``points``.
        points: CSV file with a line of column names, or SWC or JSON file, within the volume's folder.
        columns: the CSV file's columns that hold the position in nm, in the coordinates of the volume, one for each
            axis.
        balance_radius: nm; a point is drawn in inverse proportion to the number of points this near. All are equally
            likely unless given.
        within: take only the points in this part of the training region.

    Example:
        >>> PointSamplerOptions(points="synapses.csv").columns
        ('z', 'y', 'x')
    """

    kind: Literal["points"] = "points"
    points: str
    columns: tuple[str, ...] = Field(default=("z", "y", "x"), min_length=2, max_length=3)
    balance_radius: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    within: Region | None = None


class StratumOptions(Options):
    """Regions of one kind, or a sampler of its own, and how often samples are taken there.

    Attributes:
        weight: weight of the stratum, in any unit.
        regions: the regions; or else give ``sampler``.
        sampler: where in the stratum samples are taken.

    Example:
        >>> StratumOptions.create(weight=2, regions=[{"begin": [0, 0, 0], "end": [800, 800, 800]}]).weight
        2.0
    """

    weight: float = Field(ge=0, allow_inf_nan=False)
    regions: tuple[Region, ...] | None = Field(default=None, min_length=1)
    sampler: SamplerOptions | None = None

    @property
    def chosen_sampler(self) -> SamplerOptions:
        """The sampler, also where regions are given."""
        return UniformSamplerOptions(regions=self.regions) if self.sampler is None else self.sampler

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.regions is None) == (self.sampler is None):
            raise ConfigError("a stratum has either regions or a sampler")
        return self


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


class MapStratumOptions(Options):
    """A value in a map of strata, and how often samples are laid on its voxels.

    Attributes:
        value: the value in the map.
        weight: weight of the stratum, in any unit.

    Example:
        >>> MapStratumOptions(value=3, weight=2).value
        3
    """

    value: int
    weight: float = Field(ge=0, allow_inf_nan=False)


class MapSamplerOptions(Options):
    """Draw a stratum by weight, and lay a sample on a voxel of it in a map that has a value for each stratum.

    See :meth:`scalenet_gp.nodes.StratifiedSampler.of_map`.

    Attributes:
        kind: ``map``.
        map: multiscale group of one channel within the volume's folder.
        strata: the strata by name; other values of the map are not sampled.
        voxel_size: nm at which the map is searched; that of the finest level of moderate size unless given.
        within: take only the voxels of this part of the training region.

    Example:
        >>> strata = {"best": {"value": 1, "weight": 3}, "worst": {"value": 2, "weight": 1}}
        >>> MapSamplerOptions.create(map="masks/quality", strata=strata).strata["best"].weight
        3.0
    """

    kind: Literal["map"] = "map"
    map: str
    strata: dict[str, MapStratumOptions] = Field(min_length=1)
    voxel_size: Size | None = None
    within: Region | None = None

    @field_validator("strata")
    @classmethod
    def _values(cls, strata: dict[str, MapStratumOptions]) -> dict[str, MapStratumOptions]:
        values = [stratum.value for stratum in strata.values()]
        if len(set(values)) < len(values):
            raise ConfigError(f"every stratum has a value of its own; {', '.join(strata)} share some of {values}")
        return strata


class ClassSamplerOptions(Options):
    """Lay a share of the samples on voxels of each class: see :class:`scalenet_gp.nodes.ClassSampler`.

    Attributes:
        kind: ``class``.
        shares: share of the samples to lay on a voxel of each class; 1 in sum at most. The voxels of a class that
            unites several are those of any of them. Unless given, half of the samples go to the classes, in equal
            parts; the part of a class that is absent goes elsewhere.
        elsewhere: sampler of the rest.
        voxel_size: nm at which the labels are searched; that of the finest level of moderate size unless given.
        within: take only the classes' voxels in this part of the training region.

    Example:
        >>> ClassSamplerOptions(shares={"mito": 0.5}).elsewhere.kind
        'uniform'
    """

    kind: Literal["class"] = "class"
    shares: Annotated[dict[str, Probability], Field(min_length=1)] | None = None
    elsewhere: SamplerOptions = UniformSamplerOptions()
    voxel_size: Size | None = None
    within: Region | None = None

    @field_validator("shares")
    @classmethod
    def _share(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is not None and (total := fsum(shares.values())) > 1 + _SLACK:
            raise ConfigError(f"the shares sum to {total:g}; they may sum to 1 at most")
        return shares

    def shares_of(self, classes: Collection[str]) -> dict[str, float]:
        """Return the share of each class; of all ``classes`` unless some are named."""
        return dict.fromkeys(classes, 0.5 / len(classes)) if self.shares is None else self.shares


SamplerOptions = Annotated[
    UniformSamplerOptions
    | ClassSamplerOptions
    | StratifiedSamplerOptions
    | MapSamplerOptions
    | MaskSamplerOptions
    | PointSamplerOptions,
    Field(discriminator="kind"),
]
"""Options of any sampler; ``kind`` tells which."""

for _model in (StratumOptions, StratifiedSamplerOptions, ClassSamplerOptions):  # which hold samplers themselves
    _model.model_rebuild()
