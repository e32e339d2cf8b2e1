"""The folder of a prediction that is not finished yet: begun once, and gone on with until it can have its name."""

from __future__ import annotations

import shutil

import numpy as np
from numpy.typing import NDArray

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.prediction.block_times import read_times, seconds_in_all
from scalenet_gp.pipelines.prediction.job import PredictionJob
from scalenet_gp.pipelines.prediction.prediction import Prediction
from scalenet_gp.pipelines.prediction.skipping import empty_blocks
from scalenet_gp.volumes import MultiscaleImage, create_array, create_group, create_image, open_array, update_attributes

__all__ = ["create_or_resume", "finish", "skipped_blocks"]

_SKIPPED = "skipped"
_SHOWN = 4


def create_or_resume(prediction: Prediction) -> PredictionJob:
    """Create the volumes of a prediction, or see that those which are there are its own.

    There is a ``job.json`` only after the volumes, and without them it is what a process left that was killed as it
    finished: what is left of another run than an unfinished one is removed.

    Returns:
        The job as it goes on: with slabs of the thickness that it was begun with.

    Raises:
        ValueError: what is there is another job's, or takes more memory.
        OSError: the folder cannot be written, or the mask not be read.
    """
    job = prediction.job
    if job.file.exists() and job.group.exists():
        begun = PredictionJob.read(job.file)
        differences = begun.differences(job)
        if differences:
            more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
            raise ConfigError(
                f"{job.partial} is an unfinished prediction of another kind, there and here: "
                f"{'; '.join(differences[:_SHOWN])}{more}. Go on with what it is, remove the folder, or choose another "
                "output"
            )
        if begun.thickness is not None and job.thickness is not None and begun.thickness > job.thickness:
            raise ConfigError(
                f"{job.partial} was begun with more memory for each worker than there is now; give as much, or remove "
                "the folder"
            )
        job = job.model_copy(update={"thickness": begun.thickness})
        job.write()  # files may have moved since
        return job
    job.file.unlink(missing_ok=True)
    for left in (job.group, job.tracking, job.times):
        shutil.rmtree(left, ignore_errors=True)
    empty = None
    if job.options.mask is not None:
        empty = empty_blocks(MultiscaleImage.open(job.options.mask), prediction.grid, prediction.dataset.world)
    create_group(job.group, prediction.provenance() | ({} if empty is None else {"skipped_blocks": int(empty.sum())}))
    if empty is not None:
        create_array(job.group / _SKIPPED, empty.shape, empty.shape, np.dtype(np.uint8))[...] = empty
    for (_, folder), layout in zip(prediction.folders(), prediction.layouts().values(), strict=True):
        create_image(folder, layout, {"network": prediction.net.fingerprint})
    job.write()
    return job


def skipped_blocks(job: PredictionJob) -> NDArray[np.uint8] | None:
    """Which blocks are left out, of the shape of the grid; None if the job has no mask."""
    return None if job.options.mask is None else open_array(job.group / _SKIPPED)[:]


def finish(job: PredictionJob) -> None:
    """Give the output its name, and remove everything else but a note of where the time went."""
    update_attributes(job.group, {"seconds": seconds_in_all(read_times(job.times))})
    job.group.rename(job.output)
    shutil.rmtree(job.partial)
