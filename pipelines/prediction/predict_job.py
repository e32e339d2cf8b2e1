"""The job that predicts a region block by block."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from scalenet_gp.errors import ConfigError, ScaleNetError
from scalenet_gp.inference import Weight
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.options import Size, suggest
from scalenet_gp.pipelines.blockwise import Workers, run
from scalenet_gp.pipelines.config import Config, LearnedVolume, PredictionOptions, Region
from scalenet_gp.pipelines.data import (
    Dataset,
    Source,
    check_inputs,
    check_intensities,
    choose_source,
    record_inputs,
    sample_boxes,
    say_if_small,
)
from scalenet_gp.pipelines.prediction.job import NetworkFile, PredictionJob
from scalenet_gp.pipelines.prediction.task import PredictionTask
from scalenet_gp.training import load_checkpoint
from scalenet_gp.volumes import StrPath, whole_path

__all__ = ["predict"]


def predict(
    config: Config,
    volume: StrPath,
    checkpoint: Path | Mapping[Path, Weight] | Sequence[Path],
    output: Path,
    region: Region | Literal["all"] | None = None,
    *,
    source: str | None = None,
    inputs: Mapping[str, StrPath] | None = None,
    options: PredictionOptions | None = None,
    workers: Workers | None = None,
) -> Path:
    """Predict outputs of a network over a region, each into an OME-Zarr volume with one channel for each class.

    Until it is finished, the prediction is in the folder ``<output>.partial``. The same call resumes where an earlier
    one ended, however that happened. Blocks that are done are not computed again.

    Args:
        config: the run. Its evaluation region is predicted unless ``region`` is given.
        volume: folder, or its URL, that paths of the config start at.
        checkpoint: file of the weights. The predictions of several are averaged, with equal weights or with those given
            for each file: a number above 0, or for each output one number per class.
        output: zarr group to make, whole or not at all; ``output/2_output`` is the multiscale volume of ``"2_output"``.
        region: what to predict; ``"all"`` is the whole volume. The region is shrunk to whole voxels of all outputs
            that are predicted.
        source: name of the source of the run file to predict; the only one unless given.
        inputs: paths of volumes that the network reads beside the raw data, by their names; those of the source unless
            given.
        options: instead of the run's ``config.prediction``.
        workers: processes that predict; this process alone unless given.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at ``output``.
        FileNotFoundError: there is no such volume, checkpoint or mask.
        CheckpointError: a checkpoint is another network's.
        ConfigError: a checkpoint was trained with other classes, padding or intensities; the config does not fit the
            volume; the region reaches beyond it; the network cannot be predicted in blocks; there is no such output or
            input; an input was predicted from other raw data, by other networks than the checkpoint learned from, or
            does not hold all that is read of it; or the unfinished prediction is another one.
        BlockingIOError: another process is making this output.
        UnfinishedBlocksError: some blocks could not be predicted; the others are done.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    net = config.build_network()
    weighed: Mapping[Path, Weight] | Sequence[Path] = {checkpoint: 1.0} if isinstance(checkpoint, Path) else checkpoint
    weights = weighed if isinstance(weighed, Mapping) else dict.fromkeys(weighed, 1.0)
    chosen_source = _with_inputs(choose_source(config.data, volume, source), config, inputs or {})
    dataset = Dataset.open(volume, config, net, chosen_source)
    check_intensities(dataset)
    record = LearnedVolume(
        raw=dataset.fingerprint,
        intensities=_sampled(dataset, next(iter(weights))),
        inputs=record_inputs(dataset),
    )
    chosen = config.prediction if options is None else options
    names = chosen.outputs or tuple(dataset.targets)
    _check_outputs(net, dataset.targets, names)
    if record.inputs and not chosen.allow_other_inputs:
        for path in weights:
            known = [one for learned in _learned_from(path) for one in learned.inputs]
            check_inputs(dataset, record, known, path)
    mask = None if chosen.mask is None else whole_path(chosen.mask)
    resolved = chosen.model_copy(update={"outputs": names, "mask": mask})
    job = PredictionJob(
        config=dataset.run.model_copy(update={"prediction": resolved, "learned_from": (record,)}),
        volume=whole_path(volume),
        raw=dataset.fingerprint,
        networks=tuple(NetworkFile.of(path, weight) for path, weight in weights.items()),
        output=output.absolute(),
        region=_region(
            dataset, dataset.evaluation_region if region is None else region, names, config.training.output_shape
        ),
    )
    processes = workers or Workers()
    return run(job.output, lambda: PredictionTask.open(job.resume(), processes), processes)


def _region(
    dataset: Dataset,
    region: Region | Literal["all"],
    outputs: Sequence[str],
    shape: Size | Mapping[str, Size] | None,
) -> Region:
    """Return the region with all bounds given, in whole voxels of every output; say so if it is less than a sample.

    Raises:
        ConfigError: it reaches beyond the volume; or as :meth:`.Dataset.roi`.
    """
    whole = dataset.extent()
    roi, level = dataset.roi(whole if region == "all" else region, outputs), dataset.raw.levels[0]
    begin, end = (dataset.world.position_in_nm(edge) for edge in (roi.begin, roi.end))
    far = (b + n * size for b, n, size in zip(level.begin, level.shape, level.voxel_size, strict=True))
    predicted = dataset.region(roi)
    if any(b < first or e > past for b, first, e, past in zip(begin, level.begin, end, far, strict=True)):
        raise ConfigError(
            f"the region {predicted} reaches beyond the volume {dataset.raw.path}, which is {whole}; choose one within"
        )
    if region != "all":
        with suppress(ScaleNetError):  # a sample that does not fit the network is no matter here
            sample = sample_boxes(dataset.net, shape, "training.output_shape")[dataset.finest].shape
            say_if_small(dataset.net, roi, sample, f"the region {predicted}")
    return predicted


def _sampled(dataset: Dataset, checkpoint: Path) -> tuple[float, float] | None:
    """Return the intensities of ``auto``: those that the network learned with, if it learned from this volume."""
    if dataset.inputs.intensity_options != "auto":
        return None
    for one in _learned_from(checkpoint):
        if one.intensities is not None and not one.raw.differences(dataset.fingerprint):
            return one.intensities
    window = dataset.inputs.intensities
    return window.low, window.high


def _learned_from(checkpoint: Path) -> list[LearnedVolume]:
    """Return the volumes that a network has learned from, as its checkpoint says; none if it does not say."""
    learned = load_checkpoint(checkpoint).metadata.get("config", {}).get("learned_from", ())
    return list(map(LearnedVolume.model_validate, learned))


def _with_inputs(source: Source, config: Config, inputs: Mapping[str, StrPath]) -> Source:
    """Return the source with other volumes beside the raw data."""
    names = sorted(set(config.network.volumes.values()))
    for name in inputs:
        if name not in names:
            raise ConfigError(f"the network reads no input {name!r}; {suggest(name, names)}")
    paths = {name: whole_path(path) for name, path in inputs.items()}
    return replace(source, config=source.config.model_copy(update={"inputs": {**source.config.inputs, **paths}}))


def _check_outputs(net: LeibNet, taught: Collection[str], names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in net.output_keys]
    if unknown:
        raise ConfigError(
            f"prediction.outputs names {unknown[0]!r}, which is not an output of {net.name}; "
            f"{suggest(unknown[0], net.output_keys)}"
        )
    for name in names:
        if name not in taught:
            raise ConfigError(
                f"prediction.outputs names {name!r}, which is part of a distribution; {suggest(name, taught)}"
            )
