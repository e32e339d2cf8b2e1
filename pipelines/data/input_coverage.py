"""The check that volumes beside the raw data hold all that a run will read of them."""

from __future__ import annotations

from collections.abc import Iterator

from funlib.geometry import Roi

from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.datasets import Datasets
from scalenet_gp.pipelines.data.sampling import overhang_of

__all__ = ["check_inputs_cover"]


def check_inputs_cover(datasets: Datasets, dataset: Dataset) -> None:
    """Check that each volume beside the raw data holds all that samples and the final prediction read of it.

    That is the region of each of the source's purposes, with the context of the network, within the raw volume. What
    augmentation reads beyond it counts as what lies beyond the raw volume: it is padded.

    Raises:
        ConfigError: one does not, or a region does not fit the volume.
        LatticeError: a volume has no level that an input can be made of.
    """
    if not dataset.inputs.names:
        return
    for what, region in _sampled(datasets, dataset):
        dataset.inputs.check_covered(_read_by_samples(datasets, region), what)
    evaluated = dataset.run.evaluation.region
    if dataset.source in datasets.of("evaluate") and evaluated is not None:
        roi = dataset.roi(evaluated)
        needed = datasets.net.plan(dict.fromkeys(datasets.net.output_keys, roi)).inputs
        dataset.inputs.check_covered(needed, f"the prediction of {dataset.region(roi)} to evaluate")


def _sampled(datasets: Datasets, dataset: Dataset) -> Iterator[tuple[str, Roi]]:
    """Yield the boxes that samples of the finest output lie in, each with its purpose."""
    if dataset.source in datasets.of("train"):
        overhang = overhang_of(dataset)
        yield "training", dataset.annotated(dataset.training_region).grow(overhang, overhang)
    validation = dataset.run.validation
    if dataset.source in datasets.of("validate") and validation is not None and validation.region is not None:
        yield "validation", dataset.annotated(validation.region)


def _read_by_samples(datasets: Datasets, region: Roi) -> dict[str, Roi]:
    """Return the ROI of each input that samples of a region read, augmentation apart."""
    net = datasets.net
    plan = net.plan(datasets.boxes(datasets.config.training.output_shape))
    finest = plan.outputs[datasets.first.finest]
    needed = {}
    for name, roi in plan.inputs.items():
        around = region.grow(finest.begin - roi.begin, roi.end - finest.end)
        needed[name] = around.snap_to_grid(net.voxel_size[name], mode="grow")
    return needed
