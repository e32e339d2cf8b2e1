"""An opened job: the volume to read, the networks, the blocks."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.inference import Ensemble, OverlappingTiles, Product, block_thickness, lattice_symmetries
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.pipelines.blockwise import Grid
from scalenet_gp.pipelines.config import PredictionOptions
from scalenet_gp.pipelines.data import Dataset
from scalenet_gp.pipelines.prediction.blending import blending_attributes, blending_tiles
from scalenet_gp.pipelines.prediction.job import PredictionJob
from scalenet_gp.serialization import package_versions
from scalenet_gp.training import load_checkpoint
from scalenet_gp.volumes import ImageLayout, default_levels

__all__ = ["Prediction", "output_of"]

_CHUNK = {2: 512, 3: 64}

_GAPS = 1.5
"""Memory that allocators hold, relative to that of the tensors, as they leave gaps: :func:`.keep_freed_memory`."""

_PACKAGES = ("scalenet_gp", "torch", "gunpowder", "daisy", "tensorstore")


@dataclass(frozen=True)
class Prediction:
    """A job whose files are open.

    Attributes:
        job: the job.
        dataset: the volume to read.
        ensemble: the networks.
        grid: the blocks that are written.
        tiles: the tiles that are predicted and blended, for a network whose tiles do not agree with the whole; None if
            blocks are predicted as they are written.
    """

    job: PredictionJob
    dataset: Dataset
    ensemble: Ensemble
    grid: Grid
    tiles: OverlappingTiles | None = None

    @classmethod
    def open(cls, job: PredictionJob) -> Prediction:
        """Open the volume and the networks.

        Raises:
            FileNotFoundError: there is no such volume or checkpoint.
            ConfigError: a checkpoint is another file than the job names, or was trained with other classes, padding or
                intensities; the config does not fit the volume; the region holds no whole voxel; the overlap of blocks
                does not fit the network; a volume beside the raw data does not hold all that is read of it; or
                symmetries turn channels that have directions.
            CheckpointError: a checkpoint is another network's.
        """
        nets = [_network(job, index) for index in range(len(job.networks))]
        net = nets[0]
        transposed = () if job.options.symmetries == "mirrors" else None
        symmetries = None if job.options.symmetries == "none" else lattice_symmetries(net, transpose_axes=transposed)
        weights = [network.weight for network in job.networks]
        ensemble = Ensemble(nets, weights, symmetries, job.options.products)
        dataset = Dataset.open(job.volume, job.config, net)
        dataset.inputs.check_levels()
        if symmetries is not None:
            _check_directions(dataset, job.options)
        roi = dataset.roi(job.region, job.options.outputs)
        block = dataset.shape(job.options.block_shape, "prediction.block_shape", job.options.outputs)
        sizes = {name: net.voxel_size[name] for name in job.options.outputs}
        grid = Grid.fitting(roi, block, sizes, job.options.chunk or _CHUNK[net.dims])
        tiles = blending_tiles(job.options, dataset, roi)
        needed = ensemble.inputs(dict.fromkeys(job.options.outputs, roi))
        dataset.inputs.check_covered(needed, f"the prediction of {dataset.region(roi)}")
        return cls(job, dataset, ensemble, grid, tiles)

    @property
    def net(self) -> LeibNet:
        """The first of the networks, which all have the same inputs and outputs."""
        return self.ensemble.networks[0]

    @cached_property
    def computing(self) -> Ensemble:
        """The ensemble that predicts: as ``ensemble``, but tiles have a mean instead of an entropy, to be blended."""
        if self.tiles is None:
            return self.ensemble
        wanted = set(self.job.options.products)
        products: list[Product] = []
        if wanted & {"mean", "entropy"}:
            products.append("mean")
        if "variance" in wanted:
            products.append("variance")
        weights = [network.weight for network in self.job.networks]
        return Ensemble(self.ensemble.networks, weights, self.ensemble.symmetries, products, self.ensemble.exclusive)

    @cached_property
    def voxel_sizes(self) -> dict[str, Coordinate]:
        """The voxel size of every product, world units."""
        return {
            product: self.net.voxel_size[output_of(product)]
            for product in self.ensemble.produced(self.job.options.outputs)
        }

    def layouts(self) -> dict[str, ImageLayout]:
        """Return the layout of every product's volume."""
        world = self.dataset.world
        stored = self.job.options.stored
        layouts = {}
        for product, channels in self.ensemble.produced(self.job.options.outputs).items():
            name, size = output_of(product), self.voxel_sizes[product]
            names = self.dataset.channels[name]
            # as fractions of 255 all variances would be 0, and distances below 0 are no fractions
            quantities = product.endswith("/variance") or not self.dataset.targets[name].makes_probabilities
            length, shape = world.size_in_nm(size), tuple(map(int, self.grid.roi.shape / size))
            layouts[product] = ImageLayout(
                voxel_size=length,
                corner=world.position_in_nm(self.grid.roi.begin),
                shape=shape,
                channels=names if channels == len(names) else tuple(map(str, range(channels))),
                stored="float32" if quantities and stored == "uint8" else stored,
                kind="quantities" if quantities else "fractions",
                levels=default_levels(length, shape),
                chunks=tuple(map(int, self.grid.chunks[name])),
            )
        return layouts

    def block_voxels(self, product: str) -> tuple[int, ...]:
        """Return the shape of a block in voxels of a product; 0 along an axis with a single block."""
        lengths = self.grid.block / self.voxel_sizes[product]
        return tuple(int(length) if count > 1 else 0 for length, count in zip(lengths, self.grid.shape, strict=True))

    def thickness(self, memory: int, on_processor: bool) -> int | None:
        """Return the thickness of the slabs (world units) in which a block is computed; None for tiles, in one piece.

        Args:
            memory: bytes for the blocks of a worker: the one that it computes, the inputs of the next one, and the
                outputs of the one before, as floats and as they are stored.
            on_processor: True if the processor computes, whose convolutions take memory of their own.

        Raises:
            ConfigError: the memory is too little; the message says how much it takes.
        """
        largest = Roi(self.grid.roi.begin, self.grid.block if self.tiles is None else self.tiles.tile)
        outputs = dict.fromkeys(self.job.options.outputs, largest)
        specs = self.net.specs
        windows = self.dataset.inputs.windows
        read = sum(
            specs[name].channels * math.prod(roi.shape / self.net.voxel_size[name]) * windows[name].dtype.itemsize
            for name, roi in self.ensemble.inputs(outputs).items()
        )
        made = sum(
            channels * math.prod(largest.shape / self.net.voxel_size[output_of(product)])
            for product, channels in self.computing.produced(self.job.options.outputs).items()
        )
        ensemble = self.computing
        if not on_processor:
            networks = [copy.deepcopy(net).to("meta") for net in ensemble.networks]
            ensemble = Ensemble(networks, None, ensemble.symmetries, ensemble.products)
        beside = int(read) + int(made) * 2 * torch.float32.itemsize
        try:
            limit = max(0, int(memory / _GAPS) - beside)
            thickness = block_thickness(ensemble, outputs, limit, getattr(torch, self.job.options.precision), windows)
        except ValueError as error:
            raise ConfigError(
                f"{error} (of the {memory / 2**20:,.0f} MiB that a worker may take for blocks (--memory), a third is "
                f"for the gaps between tensors, and {beside / 2**20:,.0f} MiB for blocks that are read and written "
                "meanwhile)"
            ) from None
        return thickness if self.tiles is None else None

    def provenance(self) -> dict[str, Any]:
        """Return the origin of the prediction as plain values."""
        blending = {} if self.tiles is None else {"blending": blending_attributes(self.tiles, self.dataset.world)}
        return {
            **blending,
            "channels": {name: list(self.dataset.channels[name]) for name in self.job.options.outputs},
            "network": self.net.fingerprint,
            "checkpoint": self.job.networks[0].path.name,
            "versions": package_versions(_PACKAGES),
            "job": self.job.model_dump(mode="json"),
        }

    def folders(self) -> Iterator[tuple[str, Path]]:
        """Yield every product with its folder: ``1_output_entropy`` is that of ``"1_output/entropy"``."""
        for product in self.voxel_sizes:
            yield product, self.job.folder.group / product.replace("/", "_")


def _check_directions(dataset: Dataset, options: PredictionOptions) -> None:
    """Refuse to average over symmetries what has directions, which the average would not turn back."""
    read = [volume.field for volume in dataset.inputs.volumes.values() if volume.directed]
    made = [f"the output {name!r}" for name in options.outputs if dataset.targets[name].directed]
    if turned := [*read, *made]:
        raise ConfigError(
            f"prediction.symmetries is {options.symmetries}, and channels of {turned[0]} have directions, which are "
            "not turned with the data: write none"
        )


def _network(job: PredictionJob, index: int) -> LeibNet:
    path = job.networks[index].check(job.kept(index))
    net = job.config.build_network()
    trained = load_checkpoint(path)
    trained.restore(net, path)
    expected = job.config.learned(net.output_keys)
    learned = trained.metadata.get("learned", expected)
    if learned != expected:
        raise ConfigError(f"{path} was trained with {learned}, the config has {expected}")
    return net.eval()


def output_of(product: str) -> str:
    """Return the output of a product: ``"1_output"`` of ``"1_output/entropy"``."""
    return product.partition("/")[0]
