"""Nodes for chains that are sent to worker processes, which import them from here."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import gunpowder as gp
import numpy as np
import torch
from gunpowder import Array, ArrayKey, ArraySpec, Batch, BatchFilter, BatchProvider, BatchRequest, GraphKey, GraphSpec

from scalenet_gp.errors import DataError
from scalenet_gp.nodes.requests import batch_seed, request_generator

PLACES, DRAWS, VALUE = ArrayKey("PLACES"), ArrayKey("DRAWS"), ArrayKey("VALUE")
POINTS = GraphKey("POINTS")
VOXEL = gp.Coordinate((8, 8, 8))
ROI = gp.Roi((-4096,) * 3, (8192,) * 3)
OBJECT, EMPTY = "object", "empty"
DTYPES = ("float16", "uint64", "bool", ">i4", "complex64", "U5", "i2,f4", OBJECT, EMPTY)


class Drawings(BatchProvider):
    """Serves where it was read, what every global generator and the request's own draw, and a graph."""

    def setup(self) -> None:
        self.provides(PLACES, ArraySpec(ROI, VOXEL, interpolatable=True, dtype=np.int64))
        self.provides(DRAWS, ArraySpec(ROI, VOXEL, interpolatable=True, dtype=np.float64))
        self.provides(POINTS, GraphSpec(ROI, directed=True))

    def provide(self, request: BatchRequest) -> Batch:
        batch = Batch()
        for key, spec in request.array_specs.items():
            served = self.spec[key].copy()
            served.roi = spec.roi
            shape = spec.roi.shape / VOXEL
            if key == PLACES:
                data = np.full(shape, spec.roi.begin[0])
            else:
                data = (
                    np.random.random_sample(shape)  # noqa: NPY002
                    + torch.rand(*shape).numpy()
                    + request_generator(request, "x").random(shape)
                )
            batch[key] = Array(data, served, {"begin": tuple(spec.roi.begin)})
        for key, spec in request.graph_specs.items():
            places = [np.asarray(spec.roi.begin) + 8 * i for i in (1, 2, 3)]
            nodes = [gp.Node(7 + i, place, attrs={"name": f"n{i}"}) for i, place in enumerate(places)]
            batch[key] = gp.Graph(nodes, [gp.Edge(7, 8), gp.Edge(9, 8)], GraphSpec(spec.roi, directed=True))
        return batch


class DrawValue(BatchFilter):
    """Adds a number without a place."""

    def setup(self) -> None:
        self.provides(VALUE, ArraySpec(nonspatial=True))

    def process(self, batch: Batch, request: BatchRequest) -> Batch:
        value = Batch()
        value[VALUE] = Array(np.array(random.random()), ArraySpec(nonspatial=True))
        return value


class Exotic(BatchProvider):
    """Serves an array of each of DTYPES, read-only, of odd memory orders, and a batch that has a loss."""

    def __init__(self) -> None:
        self.keys = {name: ArrayKey("EXOTIC_" + name.replace(",", "_").replace(">", "BIG_").upper()) for name in DTYPES}

    def setup(self) -> None:
        for key in self.keys.values():
            self.provides(key, ArraySpec(nonspatial=True))

    def provide(self, request: BatchRequest) -> Batch:
        batch = Batch()
        for name, key in self.keys.items():
            if name == OBJECT:
                data = np.array([{"a": 1}, None], dtype=object)
            elif name == EMPTY:
                data = np.zeros((0, 3), dtype=np.float32)
            else:
                data = np.arange(24).reshape(2, 3, 4).astype(np.dtype(name)).transpose(2, 0, 1)[::2]
            data.setflags(write=False)
            batch[key] = Array(data, ArraySpec(nonspatial=True, dtype=data.dtype), {"record": {"name": name}})
        batch.loss, batch.iteration = 0.5, 11
        return batch


class Mishap(BatchFilter):
    """Does something bad in the making of one batch. Stands right above Prefetch, by whose seeds it knows the batch."""

    def __init__(self, mishap: str, seed: int, batch: int, beginnings: Path | None = None) -> None:
        self.mishap = mishap
        self.fatal = BatchRequest(random_seed=batch_seed(seed, batch)).copy().random_seed
        self.beginnings = beginnings

    def setup(self) -> None:
        pass

    def provide(self, request: BatchRequest) -> Batch:
        if self.beginnings is not None:
            (self.beginnings / str(os.getpid())).touch()
        if request.random_seed == self.fatal:
            if self.mishap == "raise":
                raise LookupError("the moon is missing")
            if self.mishap == "refuse":
                raise DataError("the moon is not annotated")
            if self.mishap == "exit":
                os._exit(3)
            if self.mishap == "hang":
                time.sleep(1000)
            os.kill(os.getpid(), signal.Signals[self.mishap])
        return self.get_upstream_provider().request_batch(request)


class Unpicklable(BatchFilter):
    def __init__(self) -> None:
        self.function = lambda: None

    def setup(self) -> None:
        pass

    def process(self, batch: Batch, request: BatchRequest) -> None:
        pass
