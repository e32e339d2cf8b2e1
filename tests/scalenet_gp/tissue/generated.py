"""Tissue embedded in resin, as it looks at some 100 nm: what the search for tissue has to find."""

import numpy as np
from scipy.ndimage import gaussian_filter


def resin(rng, shape, noise=3.0, gradient=110.0):
    """Noise on a brightness that rises by ``gradient`` grey levels across a volume of 64 voxels or more, and bends."""
    places = np.meshgrid(*(np.linspace(0, min(n / 64, 1), n) for n in shape), indexing="ij")
    slope = sum(place * weight for place, weight in zip(places, (0.2, 0.3, 0.5)[-len(shape) :], strict=True))
    return 60 + gradient * (slope + 0.1 * np.sin(3 * slope)), noise * rng.standard_normal(shape)


def texture(rng, shape):
    """Membranes between cells, dark organelles and pale vacuoles, about a mean of zero."""
    cells = gaussian_filter(rng.standard_normal(shape), 5)
    organelles = gaussian_filter(rng.standard_normal(shape), 1.5)
    cells, organelles = cells / cells.std(), organelles / organelles.std()
    content = 9 * gaussian_filter(rng.standard_normal(shape), 1)
    content -= 35 * (np.abs(cells) < 0.12)
    content -= 25 * (organelles > 1.6)
    content += 15 * (organelles < -2)
    return content - content.mean()


def blob(shape, radius=0.32, wobble=0.06, seed=3):
    """The mask of the tissue: an uneven ball."""
    rng = np.random.default_rng(seed)
    places = np.meshgrid(*(np.arange(n) / n - 0.5 for n in shape), indexing="ij")
    uneven = gaussian_filter(rng.standard_normal(shape), [n / 10 for n in shape])
    return np.sqrt(sum(place**2 for place in places)) + wobble * uneven / np.abs(uneven).max() < radius


def embedded(tissue, seed=0, noise=3.0, gradient=110.0, dtype=np.uint8):
    """A recording of the tissue in ``tissue`` (bool), with resin around it."""
    rng = np.random.default_rng(seed)
    background, grain = resin(rng, tissue.shape, noise, gradient)
    image = background + grain + np.where(tissue, texture(rng, tissue.shape), 0)
    return np.clip(np.round(image), 0, 255).astype(dtype) if np.issubdtype(dtype, np.integer) else image.astype(dtype)


def overlap(found, true):
    """Intersection over union."""
    return np.count_nonzero(found & true) / np.count_nonzero(found | true)


def best_by_brightness(image, true):
    """The overlap of the best that any global threshold on brightness, of either sign, can do."""
    levels = np.quantile(image, np.linspace(0, 1, 65))
    return max(overlap(side, true) for level in levels for side in (image > level, image <= level))
