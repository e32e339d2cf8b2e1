"""The training job: random crops of every scale, varied alike, one step for each batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import gunpowder as gp
import torch

from scalenet_gp.nodes import Prefetch, SampleLocation, Stack, Supervision, Train, TrainingLog
from scalenet_gp.nodes.batches.numbered_batches import batch_seed
from scalenet_gp.nodes.volumes.location import StrPath
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.dataset import Dataset, array_keys
from scalenet_gp.pipelines.progress import progress_bar
from scalenet_gp.pipelines.running import running
from scalenet_gp.pipelines.sampling import places
from scalenet_gp.pipelines.variation import deformation, intensity_variation, section_faults

__all__ = ["sample_chain", "train"]


def train(config: Config, volume: StrPath, run: Path, device: str | None = None) -> Path:
    """Train a network from scratch, or go on with the run in that folder.

    The folder gets ``config.yaml``, ``checkpoints/`` and ``log/`` (TensorBoard).

    Args:
        config: the run.
        volume: folder, or its URL, that holds the raw data and the labels that the config names.
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
    shape = dataset.shape(config.training.output_shape, "training.output_shape")
    prefetch = Prefetch(config.training.workers, seed=config.training.seed)
    chain = sample_chain(config, dataset) + Stack(config.training.batch_size) + prefetch
    wanted = {key: gp.ArraySpec(roi=gp.Roi((0,) * net.dims, shape)) for key in predictions.values()}
    with running(chain + trainer) as pipeline:
        if trainer.iteration > config.training.iterations:
            raise ValueError(
                f"{run} has done {trainer.iteration} iterations already; training.iterations is "
                f"{config.training.iterations}"
            )
        run.mkdir(parents=True, exist_ok=True)
        config.write(run / "config.yaml")
        prefetch.next_batch = trainer.iteration
        iterations = range(trainer.iteration, config.training.iterations)
        with progress_bar("training", len(iterations)) as advance:
            for iteration in iterations:
                # for dropout: a run that goes on draws what one without a break would
                torch.manual_seed(batch_seed(config.training.seed, iteration))
                batch = pipeline.request_batch(gp.BatchRequest(wanted))
                advance(f"loss {batch.loss:.3f}")
    return run / "checkpoints" / f"checkpoint_{trainer.iteration}.pt"


def sample_chain(config: Config, dataset: Dataset, replay: Mapping[str, str] | None = None) -> gp.Pipeline:
    """The node chain that draws samples: ``RAW_...`` for every input, ``TARGET_...`` and ``MASK_...`` for every output.

    Args:
        config: what is drawn.
        dataset: what it is drawn from.
        replay: records of an earlier sample, by their names in ``array.attrs``; the nodes that made them apply them
            again instead of drawing.

    Raises:
        ValueError: the config does not fit the volume.
    """
    net = dataset.net
    raw = array_keys("RAW", net.input_keys)
    targets, masks = array_keys("TARGET", net.output_keys), array_keys("MASK", net.output_keys)
    records = dict(replay or {})
    chain = (
        dataset.source(raw),
        dataset.targets(targets, masks, dataset.roi(config.training.region)),
    ) + gp.MergeProvider()
    chain += deformation(config.augmentation, dataset, records)
    if config.augmentation is not None:
        if config.augmentation.sections is not None:
            labels = (*targets.values(), *masks.values())
            for node in section_faults(config.augmentation.sections, dataset, raw.values(), labels, records):
                chain += node
        for node in intensity_variation(config.augmentation, dataset, raw.values(), records):
            chain += node
    # behind all that asks for more than it delivers: what is placed is the target as it is delivered
    finest = targets[net.output_keys[-1]]
    chain += SampleLocation(finest, places(config, dataset), replay=records.get("location"))
    return dataset.scaled(chain, raw)


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
