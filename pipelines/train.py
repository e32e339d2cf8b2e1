"""The training job: random crops of every scale, varied alike, one step for each batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import gunpowder as gp
import numpy as np
import torch
from funlib.geometry import Coordinate

from scalenet_gp.nodes import DeformAugment, IntensityAugment, Supervision, Train, TrainingLog
from scalenet_gp.pipelines.config import AugmentationConfig, Config
from scalenet_gp.pipelines.dataset import Dataset, array_keys
from scalenet_gp.pipelines.progress import progress_bar
from scalenet_gp.pipelines.running import running
from scalenet_gp.world import format_size

__all__ = ["sample_chain", "train"]


def train(config: Config, volume: Path, run: Path, device: str | None = None) -> Path:
    """Train a network from scratch, or go on with the run in that folder.

    The folder gets ``config.yaml``, ``checkpoints/`` and ``log/`` (TensorBoard).

    Args:
        config: the run.
        volume: folder that holds the raw data and the labels that the config names.
        run: folder of the run.
        device: name of a torch device; the first GPU unless given, the processor where there is none.

    Returns:
        The newest checkpoint.

    Raises:
        FileNotFoundError: there is no such volume, or a class has no labels.
        ValueError: the config does not fit the volume, or the folder holds a run with another config; only the number
            of iterations may differ.
    """
    _check_config(config, run)
    torch.manual_seed(config.training.seed)
    net = config.build_network()
    dataset = Dataset.open(volume, config.data, net)
    predictions = array_keys("PREDICTION", net.output_keys)
    trainer = Train(
        net,
        array_keys("RAW", net.input_keys),
        _supervision(config, predictions),
        optimizer=partial(torch.optim.RAdam, lr=config.training.learning_rate),
        schedule=partial(_cosine, iterations=config.training.iterations),
        device=device,
        checkpoints=run / "checkpoints",
        checkpoint_every=config.training.checkpoint_every,
        log=TrainingLog(run / "log", images_every=config.training.images_every, intensities=(-1.0, 1.0)),
        metadata={"learned": config.data.learned},
    )
    chain = sample_chain(config, dataset)
    shape = _sample_shape(config, dataset)
    wanted = {key: gp.ArraySpec(roi=gp.Roi((0,) * net.dims, shape)) for key in predictions.values()}
    with running(chain + trainer) as pipeline:
        if trainer.iteration > config.training.iterations:
            raise ValueError(
                f"{run} has done {trainer.iteration} iterations already; training.iterations is "
                f"{config.training.iterations}"
            )
        run.mkdir(parents=True, exist_ok=True)
        config.write(run / "config.yaml")
        iterations = range(trainer.iteration, config.training.iterations)
        with progress_bar("training", len(iterations)) as advance:
            for iteration in iterations:
                seed = _seed(config.training.seed, iteration)
                torch.manual_seed(seed)  # for dropout: a run that goes on draws what one without a break would
                # under a seed, workers would give the same batch for ever
                batch = pipeline.request_batch(
                    gp.BatchRequest(wanted, random_seed=None if config.training.workers else seed)
                )
                advance(f"loss {batch.loss:.3f}")
    return run / "checkpoints" / f"checkpoint_{trainer.iteration}.pt"


def sample_chain(config: Config, dataset: Dataset) -> gp.Pipeline:
    """The node chain that draws batches: ``RAW_...`` for every input, ``TARGET_...`` and ``MASK_...`` for every output.

    Raises:
        ValueError: the config does not fit the volume.
    """
    net, settings, augmentation = dataset.net, config.training, config.augmentation
    raw = array_keys("RAW", net.input_keys)
    targets, masks = array_keys("TARGET", net.output_keys), array_keys("MASK", net.output_keys)

    chain = (
        dataset.source(raw),
        dataset.targets(targets, masks, dataset.roi(settings.region), _overhang(config, dataset)),
    )
    chain += gp.MergeProvider()
    chain += gp.RandomLocation()
    if augmentation is not None:
        chain += _deformation(augmentation, dataset)
    for key in raw.values():
        chain += gp.Normalize(key)
    if augmentation is not None:
        chain += IntensityAugment(list(raw.values()), scale=augmentation.contrast, shift=augmentation.brightness)
        for key in raw.values():
            chain += gp.NoiseAugment(key, var=augmentation.noise_variance)
    chain = dataset.scaled(chain, raw)
    chain += gp.Stack(settings.batch_size)
    if settings.workers:
        chain += gp.PreCache(cache_size=4 * settings.workers, num_workers=settings.workers)
    return chain


def _overhang(config: Config, dataset: Dataset) -> Coordinate:
    size, dims = config.training.overhang, dataset.net.dims
    if size is None:
        return Coordinate((0,) * dims)
    if len(size) != dims or min(size) < 0:
        raise ValueError(f"training.overhang {format_size(size)} nm has to be {dims} lengths of at least 0 nm")
    return dataset.world.size(size, "training.overhang")


def _sample_shape(config: Config, dataset: Dataset) -> Coordinate:
    """What every output of a sample covers, world units.

    Raises:
        ValueError: it is not whole voxels, or larger than what there is to learn from.
    """
    settings = config.training
    shape = dataset.shape(settings.output_shape, "training.output_shape")
    overhang = _overhang(config, dataset)
    room = dataset.annotated(settings.region).grow(overhang, overhang).shape
    reach = _reach(shape, config.augmentation)
    if any(length > there for length, there in zip(reach, room, strict=True)):
        needed = format_size(math.ceil(length) * dataset.world.unit for length in reach)
        raise ValueError(
            f"training.output_shape {format_size(settings.output_shape)} nm needs up to {needed} nm, but what is "
            f"annotated of training.region has {format_size(dataset.world.size_in_nm(room))} nm with training.overhang"
        )
    return shape


def _reach(shape: Coordinate, augmentation: AugmentationConfig | None) -> list[float]:
    """What a sample of that shape is read from at most, before its elastic deformation."""
    if augmentation is None:
        return [*map(float, shape)]
    reaches = []
    for order in itertools.permutations(augmentation.transpose_axes):
        reach = [*map(float, shape)]
        for axis, other in zip(augmentation.transpose_axes, order, strict=True):
            reach[axis] = float(shape[other])
        diagonal = math.hypot(*(reach[axis] for axis in augmentation.rotation_axes))
        for axis in augmentation.rotation_axes:
            reach[axis] = diagonal
        reaches.append(reach)
    return [augmentation.scale_interval[1] * max(lengths) for lengths in zip(*reaches, strict=True)]


def _supervision(config: Config, predictions: Mapping[str, gp.ArrayKey]) -> dict[str, Supervision]:
    """Every output is trained on the targets of its scale."""
    names = tuple(predictions)
    targets, masks = array_keys("TARGET", names), array_keys("MASK", names)
    weights = config.training.loss_weights or (1.0,) * len(names)
    if len(weights) != len(names):
        raise ValueError(f"training.loss_weights has {len(weights)} entries, the network has the outputs {names}")
    return {
        name: Supervision(predictions[name], targets[name], masks[name], weight=weight)
        for name, weight in zip(names, weights, strict=True)
    }


def _deformation(augmentation: AugmentationConfig, dataset: Dataset) -> DeformAugment:
    return DeformAugment(
        dataset.world.size(augmentation.control_point_spacing, "augmentation.control_point_spacing"),
        [float(sigma / dataset.world.unit) for sigma in augmentation.jitter_sigma],
        rotation_axes=augmentation.rotation_axes,
        mirror_axes=augmentation.mirror_axes,
        transpose_axes=augmentation.transpose_axes,
        scale_interval=augmentation.scale_interval,
    )


def _check_config(config: Config, run: Path) -> None:
    """Refuse to go on with a run that was begun with another config; it may be made longer."""
    path = run / "config.yaml"
    if not path.exists():
        return
    begun = Config.read(path)
    same_length = config.training.model_copy(update={"iterations": begun.training.iterations})
    if begun != config.model_copy(update={"training": same_length}):
        raise ValueError(
            f"{run} holds a run with another config, {path}, of which only training.iterations may change; choose "
            "another folder for this one"
        )


def _cosine(iteration: int, iterations: int) -> float:
    """From one to zero along a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983).

    At the end the weights come to rest, and with them the statistics that batch normalisation predicts with.
    """
    return 0.5 * (1 + math.cos(math.pi * min(iteration / iterations, 1)))


def _seed(seed: int, iteration: int) -> int:
    """The seed of one request, far from those of its neighbours: gunpowder derives the nodes' seeds by counting up."""
    return int(np.random.default_rng([seed, iteration]).integers(2**31))
