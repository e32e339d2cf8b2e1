"""Random noise of one physical strength at every voxel size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod, sqrt
from typing import Annotated, Any, Unpack, final
from zlib import crc32

import numpy as np
import torch
from gunpowder import Array, ArrayKey, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.augment.augment import AugmentOptions, DrawnParameters
from scalenet_gp.nodes.augment.random_augment import (
    AugmentArguments,
    RandomAugment,
    as_interval,
    as_whole,
    check_intensities,
    writable_data,
)
from scalenet_gp.nodes.augment.threads import over_planes
from scalenet_gp.options import InWorldUnits, Size, options_of

__all__ = ["Noise", "NoiseAugment", "NoiseOptions"]

_CHUNK = 1 << 14  # values drawn at a time: they stay in the processor's cache


@final
class Noise(DrawnParameters):
    """The draw of :class:`NoiseAugment`: the standard deviation, and the seed of the values."""

    sigma: float
    seed: int

    def describe(self, unit: float) -> list[str]:
        return [f"noise {self.sigma:.2g}"]


@final
class NoiseAugment(RandomAugment[Noise]):
    """Add Gaussian noise, its strength drawn once for all arrays of a batch.

    The values of every array are independent: arrays of different voxel sizes are noisy as if each had been imaged
    separately. Without a reference voxel size the noise is equally strong in all arrays. With one, it is weaker in
    coarser arrays, as averaging would make it: sigma holds at the reference voxel size, and elsewhere
    ``sigma * sqrt(reference volume / voxel volume)``. The draw is kept as ``array.attrs["noise"]``, see
    :class:`Noise`. The same record gives the same values again, for every array by its name, whichever others are
    requested.

    Args:
        arrays: the intensity arrays, of a float type.
        sigma: the standard deviation, or its bounds.
        reference_voxel_size: the voxel size at which ``sigma`` holds, world units per axis.
        clip: keep the result in [0, 1]. The values before have to lie there, too.
        arguments: ``p`` and ``replay``, see :class:`RandomAugment`.

    Raises:
        ArgumentError: an argument is out of its range; or, when the pipeline is built: an array has no voxel size that
            can be compared with ``reference_voxel_size``.
        UnknownNameError: when the pipeline is built: an array is not provided upstream.
        DataError: for a batch: an array is not of a float type, or has values outside [0, 1] although ``clip`` is set.

    Example:
        >>> import gunpowder as gp
        >>> NoiseAugment([gp.ArrayKey("RAW")], sigma=(0, 0.05)).sigma
        (0.0, 0.05)
    """

    record_name = "noise"
    parameters = Noise

    def __init__(
        self,
        arrays: Iterable[ArrayKey],
        sigma: tuple[float, float] | float,
        reference_voxel_size: Annotated[Iterable[int] | None, InWorldUnits(Size | None)] = None,
        *,
        clip: bool = True,
        **arguments: Unpack[AugmentArguments],
    ) -> None:
        super().__init__(arrays, **arguments)
        self.sigma = as_interval("sigma", sigma, least=0)
        self.clip = clip
        self.reference_voxel_size: tuple[int, ...] | None = None
        if reference_voxel_size is not None:
            self.reference_voxel_size = tuple(
                as_whole("reference_voxel_size", length) for length in reference_voxel_size
            )
            if not self.reference_voxel_size or min(self.reference_voxel_size) <= 0:
                raise ArgumentError(f"reference_voxel_size is {self.reference_voxel_size}; write lengths above 0")

    def setup(self) -> None:
        super().setup()
        if self.reference_voxel_size is not None:
            for key in self.arrays:
                voxel_size = self.spec[key].voxel_size
                if voxel_size is None or len(voxel_size) != len(self.reference_voxel_size):
                    raise PipelineError(
                        f"{key} has the voxel size {voxel_size}, which cannot be compared with "
                        f"reference_voxel_size={self.reference_voxel_size}"
                    )

    def draw(self, generator: np.random.Generator, rois: Mapping[ArrayKey, Roi]) -> Noise:
        return Noise(sigma=generator.uniform(*self.sigma), seed=int(generator.integers(2**63)))

    def apply(self, key: ArrayKey, array: Array, roi: Roi, drawn: Noise) -> NDArray[Any]:
        check_intensities(key, array.data, type(self).__name__, bounded=self.clip)
        sigma = drawn.sigma
        if self.reference_voxel_size is not None:
            sigma *= sqrt(prod(self.reference_voxel_size) / prod(array.spec.voxel_size))
        data = np.ascontiguousarray(writable_data(array))
        values = torch.from_numpy(data).view(-1)
        chunks = values.split(_CHUNK)
        # every chunk has its own seed, made from the array's name and the drawn seed: threads may take any chunk
        mixed = np.random.SeedSequence([drawn.seed, crc32(key.identifier.encode())])
        seeds = mixed.generate_state(len(chunks), np.uint64).tolist()

        def add(begin: int, end: int) -> None:
            generator, space = torch.Generator(), torch.empty(_CHUNK, dtype=values.dtype)
            for chunk, seed in zip(chunks[begin:end], seeds[begin:end], strict=True):
                generator.manual_seed(seed)
                chunk.add_(space[: len(chunk)].normal_(generator=generator), alpha=sigma)
                if self.clip:
                    chunk.clamp_(0, 1)

        over_planes(len(chunks), len(values), add)
        return data


NoiseOptions = options_of(NoiseAugment, "noise", without=("arrays", "replay"), base=AugmentOptions)
