"""The task of the blockwise engine that predicts: the blocks, or tiles and their blending, then the levels left."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ConfigError
from scalenet_gp.inference import OverlappingTiles
from scalenet_gp.pipelines.blockwise import BlockStage, BlockTask, Workers, WorkFolder, read_times, total_seconds
from scalenet_gp.pipelines.prediction.blend_work import BlendWork
from scalenet_gp.pipelines.prediction.blending import blending_attributes, unneeded_tiles
from scalenet_gp.pipelines.prediction.block_work import BlockWork
from scalenet_gp.pipelines.prediction.coarser_levels import LevelWork, level_box, levels_left
from scalenet_gp.pipelines.prediction.job import PredictionJob
from scalenet_gp.pipelines.prediction.prediction import Prediction, output_of
from scalenet_gp.pipelines.prediction.skipping import empty_blocks
from scalenet_gp.pipelines.prediction.tile_store import TileStore
from scalenet_gp.pipelines.prediction.volume_writer import VolumeWriter
from scalenet_gp.training import free_bytes
from scalenet_gp.volumes import (
    MultiscaleImage,
    create_array,
    create_group,
    create_image,
    open_array,
    update_attributes,
)

__all__ = ["PredictionTask"]

_PREDICTING = "predicting"
_TILES = "predicting tiles"
_BLENDING = "blending"
_LEVEL = "level "
_SKIPPED = "skipped"
_SHOWN = 4


@final
@dataclass(frozen=True)
class PredictionTask(BlockTask):
    """Predicts the blocks of a region, and makes the coarser levels of the prediction.

    Attributes:
        prediction: the opened job.
    """

    doing = "being predicted"
    worker = "scalenet_gp.pipelines.prediction.worker"

    prediction: Prediction

    @classmethod
    def open(cls, job: PredictionJob, workers: Workers | None = None) -> PredictionTask:
        """Open a job.

        Args:
            job: the job.
            workers: processes that begin it, whose memory says how thick slabs may be; unless given, the job says it.

        Raises:
            ConfigError: the memory of ``workers`` is too little, or more than what is free here; or as
                :meth:`.Prediction.open`.
        """
        prediction = Prediction.open(job)
        if workers is not None:
            thickness = prediction.thickness(workers.memory, workers.on_processor)
            if workers.on_processor and not workers.launcher:
                _check_free(prediction, thickness, workers)
            prediction = replace(prediction, job=job.model_copy(update={"thickness": thickness}))
        return cls(prediction)

    @property
    def folder(self) -> WorkFolder:
        """The folder of the unfinished prediction."""
        return self.prediction.job.folder

    def create_or_resume(self) -> PredictionTask:
        """Create the volumes, or check that those there are this prediction's.

        ``job.json`` is written after the volumes. Where it is there without them, a process was killed as it finished.
        All that is left of other than unfinished predictions is removed.

        Returns:
            The task to resume: with slabs of the thickness with which it began.

        Raises:
            ConfigError: the volumes are another prediction's, or took more memory.
            OSError: the folder cannot be written, or the mask cannot be read.
        """
        job = self.prediction.job
        if self.folder.job.exists() and self.folder.group.exists():
            job = _resumed(job)
        else:
            self._create()
        job.write()  # files may have moved since
        job.keep_networks()
        return replace(self, prediction=replace(self.prediction, job=job))

    def stages(self) -> Iterator[BlockStage]:
        """Yield the blocks, or tiles and then the blocks that are blended, and each level that is not made with them.

        Raises:
            OSError: the array of skipped blocks cannot be read.
        """
        prediction, grid, tracking = self.prediction, self.prediction.grid, self.folder.tracking
        voxels = max(math.prod(map(int, grid.roi.shape / size)) for size in prediction.voxel_sizes.values())
        skipped, tiles = self._skipped(), prediction.tiles
        if tiles is None:
            yield BlockStage(_PREDICTING, grid.roi, grid.block, tracking, voxels, skipped)
        else:
            unneeded = None if skipped is None else unneeded_tiles(tiles, grid, skipped)
            one, places = Coordinate((1,) * grid.roi.dims), Roi((0,) * grid.roi.dims, tiles.shape)
            yield BlockStage(_TILES, places, one, tracking / "tiles", int(voxels * tiles.cost), unneeded)
            yield BlockStage(_BLENDING, grid.roi, grid.block, tracking, voxels, skipped, light=True)
        for level in levels_left(prediction):
            box = level_box(prediction, level)
            yield BlockStage(f"{_LEVEL}{level}", grid.roi, box, tracking / f"s{level}", voxels, light=True)

    @contextmanager
    def prepare(self, stage: str, device: str | None) -> Iterator[Callable[[Roi], None]]:
        """Yield what predicts a block or a tile on a device, blends a block, or makes a box of a level.

        Raises:
            ValueError: there is no such device.
        """
        prediction, tiles = self.prediction, self.prediction.tiles
        if stage == _PREDICTING:
            with BlockWork.ready(prediction, device, VolumeWriter(prediction).write) as work:
                yield work
        elif tiles is not None and stage == _TILES:
            with BlockWork.ready(prediction, device, self._store(tiles).write) as work:
                yield lambda place: work(tiles.roi_of(place.begin))
        elif tiles is not None and stage == _BLENDING:
            yield BlendWork(prediction, tiles, self._store(tiles))
        else:
            yield LevelWork(self.prediction, int(stage.removeprefix(_LEVEL)))

    def describe(self, stage: str, roi: Roi) -> str:
        """Return the ROI of a block in nm from the raw volume's corner."""
        tiles = self.prediction.tiles
        if tiles is not None and stage == _TILES:
            roi = tiles.roi_of(roi.begin)
        return str(self.prediction.dataset.region(roi))

    def finish(self) -> None:
        """Give the output its name, with a note of where the time went and of the seams, and remove everything else."""
        attributes: dict[str, Any] = {"seconds": total_seconds(read_times(self.folder.times))}
        prediction, tiles = self.prediction, self.prediction.tiles
        if tiles is not None:
            seams = dict(zip(prediction.job.options.outputs, self._store(tiles).seams(), strict=True))
            attributes["blending"] = blending_attributes(tiles, prediction.dataset.world, seams)
        update_attributes(self.folder.group, attributes)
        self.folder.group.rename(self.folder.output)
        shutil.rmtree(self.folder.path)

    def _create(self) -> None:
        folder, prediction = self.folder, self.prediction
        folder.job.unlink(missing_ok=True)
        for left in (folder.group, folder.tracking, folder.times, self._tile_folder):
            shutil.rmtree(left, ignore_errors=True)
        attributes, mask = prediction.provenance(), prediction.job.options.mask
        empty = None
        if mask is not None:
            empty = empty_blocks(MultiscaleImage.open(mask), prediction.grid, prediction.dataset.world)
            attributes["skipped_blocks"] = int(empty.sum())
        create_group(folder.group, attributes)
        if empty is not None:
            create_array(folder.group / _SKIPPED, empty.shape, empty.shape, np.dtype(np.uint8))[...] = empty
        for (_, path), layout in zip(prediction.folders(), prediction.layouts().values(), strict=True):
            create_image(path, layout, {"network": prediction.net.fingerprint})
        if (tiles := prediction.tiles) is not None:
            channels = prediction.computing.produced(prediction.job.options.outputs)
            sizes = {product: prediction.net.voxel_size[output_of(product)] for product in channels}
            outputs = len(prediction.job.options.outputs)
            TileStore.create(self._tile_folder, tiles, sizes, channels, prediction.grid.shape, outputs)

    @property
    def _tile_folder(self) -> Path:
        return self.folder.path / "tiles"

    def _store(self, tiles: OverlappingTiles) -> TileStore:
        products = self.prediction.computing.produced(self.prediction.job.options.outputs)
        sizes = {product: self.prediction.net.voxel_size[output_of(product)] for product in products}
        return TileStore(self._tile_folder, tiles, sizes)

    def _skipped(self) -> NDArray[np.uint8] | None:
        """Return 1 for each block that is left out, in the shape of the grid; None if the job has no mask."""
        if self.prediction.job.options.mask is None:
            return None
        return open_array(self.folder.group / _SKIPPED)[:]


def _resumed(job: PredictionJob) -> PredictionJob:
    """Return the job that resumes the one that began.

    Raises:
        ConfigError: that one would give other voxels, or took more memory.
    """
    begun, folder = PredictionJob.read(job.folder.job), job.folder.path
    if differences := begun.differences(job):
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise ConfigError(
            f"{folder} is an unfinished prediction of another kind, there and here: "
            f"{'; '.join(differences[:_SHOWN])}{more}. Resume it with its own settings, remove the folder, or "
            "choose another output"
        )
    if begun.thickness is not None and job.thickness is not None and begun.thickness > job.thickness:
        raise ConfigError(
            f"{folder} was begun with more memory for each worker than there is now; give as much with --memory, or "
            "remove the folder"
        )
    return job.model_copy(update={"thickness": begun.thickness})


def _check_free(prediction: Prediction, thickness: int | None, workers: Workers) -> None:
    """Refuse blocks that take more memory than is free on this machine.

    Raises:
        ConfigError: they do.
    """
    count = max(1, workers.count)
    free = free_bytes(torch.device("cpu")) // count
    if workers.memory <= free:
        return
    try:
        fits = prediction.thickness(free, True) == thickness
    except ConfigError:
        fits = False
    if not fits:
        allowed, there = workers.memory / 2**30, free / 2**30
        raise ConfigError(
            f"blocks may take {allowed:.1f} GiB (--memory) in each of {count} processes, and {there * count:.1f} GiB "
            f"are free here: give --memory {0.9 * there:.1f}, fewer --workers, or a smaller prediction.block_shape, "
            "whose lengths are nanometres"
        )
