"""Random blur of one physical width at every voxel size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Annotated, Any, Unpack, final

import numpy as np
from gunpowder import Array, ArrayKey, Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.augment.augment import AugmentOptions, DrawnParameters
from scalenet_gp.nodes.augment.random_augment import AugmentArguments, RandomAugment, as_interval, check_intensities
from scalenet_gp.options import InWorldUnits, Length, options_of

__all__ = ["Blur", "BlurAugment", "BlurOptions", "blur_kernel"]

_REACH = 3.719  # standard deviations; 1/10000 of a Gaussian lies beyond, at either end


@final
class Blur(DrawnParameters):
    """The draw of :class:`BlurAugment`: the standard deviation per spatial axis, world units."""

    sigma: tuple[float, ...]

    def describe(self, unit: float) -> list[str]:
        return [f"blur {max(self.sigma) * unit:.3g} nm"]


_Pair = tuple[Length, Length]


@final
class BlurAugment(RandomAugment[Blur]):
    """Blur by a Gaussian of one physical width, drawn once for all arrays of a batch.

    Every voxel becomes a weighted mean of its neighbors. The weight of a neighbor is the part of the Gaussian about
    the voxel's center that lies in it. So a blur of a fraction of a voxel hardly changes an array, and to blur fine
    voxels and average them gives nearly the same as to average and then blur: the squared widths are the Gaussian's to
    a twelfth of the squared voxel size. Where structures of all sizes from 40 nm on are blurred by 4 to 48 nm, the two
    orders differ by at most 1.5 % of the contrast at 32 nm and 4 % at 128 nm. Content does not move. The node asks its
    upstream for the margin that the blur needs, so there are no border effects. The draw is kept as
    ``array.attrs["blur"]``, see :class:`Blur`.

    Args:
        arrays: the intensity arrays, of a float type.
        sigma: bounds of the Gaussian's standard deviation, world units: one pair for a standard deviation that all axes
            share, or a pair per spatial axis, each drawn independently.
        arguments: ``p`` and ``replay``, see :class:`RandomAugment`.

    Raises:
        ArgumentError: an argument is out of its range; or, when the pipeline is built: an array has no voxel size, or
            other axes than ``sigma`` or ``replay``.
        UnknownNameError: when the pipeline is built: an array is not provided upstream.
        DataError: for a batch: an array is not of a float type.

    Example:
        >>> import gunpowder as gp
        >>> BlurAugment([gp.ArrayKey("RAW")], sigma=(0, 24)).sigma
        ((0.0, 24.0),)
    """

    record_name = "blur"
    parameters = Blur

    def __init__(
        self,
        arrays: Iterable[ArrayKey],
        sigma: Annotated[
            tuple[float, float] | Sequence[tuple[float, float]],
            InWorldUnits(_Pair | tuple[_Pair, ...], whole=False),
        ],
        **arguments: Unpack[AugmentArguments],
    ) -> None:
        super().__init__(arrays, **arguments)
        try:
            bounds = np.asarray(sigma, dtype=float)
        except (TypeError, ValueError):
            bounds = np.empty(0)
        if bounds.shape != (2,) and (bounds.ndim != 2 or bounds.shape[1] != 2):
            raise ArgumentError(f"sigma is {sigma!r}; write (low, high), or one such pair per spatial axis")
        self._shared = bounds.ndim == 1
        self.sigma = tuple(as_interval("sigma", tuple(pair), least=0) for pair in np.atleast_2d(bounds).tolist())
        self._dims = 0

    def setup(self) -> None:
        super().setup()
        dims = {key: 0 if self.spec[key].voxel_size is None else len(self.spec[key].voxel_size) for key in self.arrays}
        self._dims = dims[self.arrays[0]] if self._shared else len(self.sigma)
        if set(dims.values()) != {self._dims} or not self._dims:
            raise PipelineError(
                f"arrays need {self._dims or 'spatial'} axes to be blurred by sigma={self.sigma}, they have {dims}"
            )
        if self._replay is not None and len(self._replay.sigma) != self._dims:
            raise ArgumentError(f"replay has sigma={self._replay.sigma}; there are {self._dims} spatial axes")

    def draw(self, generator: np.random.Generator, rois: Mapping[ArrayKey, Roi]) -> Blur:
        drawn = [generator.uniform(*bounds) for bounds in self.sigma]
        return Blur(sigma=tuple(drawn * self._dims if self._shared else drawn))

    def source_roi(self, key: ArrayKey, roi: Roi, drawn: Blur) -> Roi:
        voxel_size = self.spec[key].voxel_size
        kernels = (blur_kernel(s, v) for s, v in zip(drawn.sigma, voxel_size, strict=True))
        margin = Coordinate(len(kernel) // 2 for kernel in kernels) * voxel_size
        return roi.grow(margin, margin)

    def apply(self, key: ArrayKey, array: Array, roi: Roi, drawn: Blur) -> NDArray[Any]:
        from scipy.ndimage import correlate1d  # slow to import

        check_intensities(key, array.data, type(self).__name__, bounded=False)
        # scipy filters no type of 16 bits
        data = array.data.astype(np.result_type(array.data, np.float32), copy=False)
        for axis, (sigma, length) in enumerate(zip(drawn.sigma, array.spec.voxel_size, strict=True)):
            kernel = blur_kernel(sigma, length)
            if margin := len(kernel) // 2:
                axis -= len(drawn.sigma)
                inner = [slice(None)] * data.ndim
                inner[axis] = slice(margin, -margin)
                data = correlate1d(data, kernel, axis=axis)[tuple(inner)]
        return np.ascontiguousarray(data)


def blur_kernel(sigma: float, voxel_size: float) -> NDArray[np.float64]:
    """Return the weights of a voxel's neighbors along one axis: the part of a Gaussian about its center in each.

    Args:
        sigma: standard deviation, at least 0.
        voxel_size: in the same unit.

    Returns:
        An odd number of weights, which sum to 1. A single one if less than 1/10000 of the Gaussian reaches beyond
        either end of the voxel.
    """
    from scipy.special import ndtr  # slow to import

    radius = max(0, ceil(_REACH * sigma / voxel_size - 0.5))
    if not radius:
        return np.ones(1)
    ends = (np.arange(-radius, radius + 2) - 0.5) * (voxel_size / sigma)
    weights = np.diff(ndtr(ends))
    return weights / weights.sum()


BlurOptions = options_of(BlurAugment, "blur", without=("arrays", "replay"), base=AugmentOptions)
