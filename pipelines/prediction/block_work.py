"""The work on a block or a tile, the same in every process: read, compute, write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Lock
from typing import final

import gunpowder as gp
import numpy as np
import torch
from funlib.geometry import Roi

from scalenet_gp.inference import BlockPredictor
from scalenet_gp.kernels import set_deterministic_mkl
from scalenet_gp.nodes.chains import build_chain, unwrap_errors
from scalenet_gp.pipelines.blockwise import BlockTime, record_time
from scalenet_gp.pipelines.prediction.prediction import Prediction

__all__ = ["BlockWork", "WriteProduct"]

WriteProduct = Callable[[str, Roi, np.ndarray], None]
"""Writes a product of a block: its name, the block, and its voxels, (C, Z, Y, X)."""


@final
class BlockWork:
    """Predicts blocks. Of several threads that call it at once, one reads, one computes, and any number write.

    Args:
        prediction: the opened job.
        predictor: computes a block from its inputs.
        pipeline: reads the inputs.
        write: writes a product of a block.
    """

    def __init__(
        self, prediction: Prediction, predictor: BlockPredictor, pipeline: gp.Pipeline, write: WriteProduct
    ) -> None:
        self._prediction = prediction
        self._predictor = predictor
        self._pipeline = pipeline
        self._keys = prediction.dataset.arrays.inputs
        self._write = write
        self._reading, self._computing = Lock(), Lock()

    @classmethod
    @contextmanager
    def ready(cls, prediction: Prediction, device: str | None, write: WriteProduct) -> Iterator[BlockWork]:
        """Yield the work, with its source open while the context lasts.

        Args:
            prediction: the opened job.
            device: name of a torch device; the first GPU unless given, the processor where there is none.
            write: writes a product of a block.

        Raises:
            ValueError: there is no such device.
        """
        set_deterministic_mkl()
        job = prediction.job
        predictor = BlockPredictor(
            prediction.computing,
            job.thickness,
            device,
            getattr(torch, job.options.precision),
            prediction.dataset.inputs.windows,
        )
        sources = [volume.stored() for volume in prediction.dataset.inputs.all(prediction.dataset.arrays.inputs)]
        chain = sources[0] if len(sources) == 1 else tuple(sources) + gp.MergeProvider()
        with build_chain(chain) as pipeline:
            yield cls(prediction, predictor, pipeline, write)

    def __call__(self, roi: Roi) -> None:
        """Predict a block. When this returns, the block is on the disk.

        Args:
            roi: the block, world units.

        Raises:
            OSError: the volume cannot be read (:class:`.UnreadableDataError`), or the disk is full.
        """
        outputs = dict.fromkeys(self._prediction.job.options.outputs, roi)
        with self._reading, _timed() as reading:
            inputs = self._read(self._predictor.inputs(outputs))
        with self._computing, _timed() as computing:
            made = self._predictor.predict(inputs, outputs)
        del inputs
        with _timed() as writing:
            for product, data in made.items():
                self._write(product, roi, data)
        with suppress(OSError):  # the block is done, whether or not there is room for a note of it
            record_time(self._prediction.job.folder.times, BlockTime(os.getpid(), *reading, *computing, *writing))

    def _read(self, rois: Mapping[str, Roi]) -> dict[str, np.ndarray]:
        request = gp.BatchRequest({self._keys[name]: gp.ArraySpec(roi=roi) for name, roi in rois.items()})
        with unwrap_errors():
            batch = self._pipeline.request_batch(request)
        return {name: np.require(batch[self._keys[name]].data, requirements=["C", "W"]) for name in rois}


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Yield a list that holds, once the context has ended, its end and its duration (seconds)."""
    begun, taken = time.perf_counter(), list[float]()
    yield taken
    taken += [time.time(), time.perf_counter() - begun]
