"""The ``Train`` node of a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes import Supervision, Train
from scalenet_gp.pipelines.config import Config, LossWeights
from scalenet_gp.pipelines.data import Dataset
from scalenet_gp.pipelines.runs import RunFolder
from scalenet_gp.training import ProcessGroup, TensorBoardLog

__all__ = ["build_trainer"]


def build_trainer(
    config: Config,
    dataset: Dataset,
    device: str | None = None,
    folder: RunFolder | None = None,
    ranks: ProcessGroup | None = None,
) -> Train:
    """Return the node that trains the network of a dataset, with a prediction ``PREDICTION_...`` for each output.

    Args:
        config: the run file.
        dataset: the volume, and the network.
        device: name of a torch device, instead of ``config.training.compute.device``.
        folder: the folder of the run, for checkpoints and the log. By default none are written.
        ranks: the processes that train together.

    Raises:
        ConfigError: the config does not fit the network.
    """
    settings, net = config.training, dataset.net
    if settings.optimization.schedule == "plateau" and config.validation is None:
        raise ConfigError(
            "training.optimization.schedule is 'plateau', which waits for validations: write a validation"
        )
    log = None
    if folder is not None and (ranks is None or ranks.is_main):
        log = TensorBoardLog(folder.log, settings.log, intensities=(-1.0, 1.0), classes=config.data.class_names)
    return Train(
        net,
        dataset.arrays.raw,
        _supervision(config, dataset),
        optimization=settings.optimization,
        compute=settings.compute if device is None else settings.compute.model_copy(update={"device": device}),
        iterations=settings.iterations,
        patience=None if config.validation is None else config.validation.patience,
        seed=settings.seed,
        process_group=ranks,
        start_from=settings.start_from,
        checkpoints=None if folder is None else folder.checkpoints,
        checkpoint_options=settings.checkpoints,
        best=None if folder is None else folder.best,
        log=log,
        metadata={"learned": config.data.learned, "config": config.model_dump(mode="json")},
    )


def _supervision(config: Config, dataset: Dataset) -> dict[str, Supervision]:
    """Return the supervision of every output by the targets of its scale."""
    names, settings, arrays = dataset.net.output_keys, config.training, dataset.arrays
    weights = _loss_weights(config, names)
    classes = settings.class_weights
    if classes is not None and len(classes) != len(config.data.classes):
        raise ConfigError(
            f"training.class_weights has {len(classes)} entries for the classes {', '.join(config.data.class_names)}"
        )
    return {
        name: Supervision(
            arrays.predictions[name],
            arrays.targets[name],
            arrays.masks[name],
            loss=settings.loss.build_loss([float(size) for size in dataset.net.specs[name].voxel_size]),
            weight=weight,
            class_weights=classes,
        )
        for name, weight in zip(names, weights, strict=True)
    }


def _loss_weights(config: Config, names: Sequence[str]) -> list[float | Callable[[int], float]]:
    """Return the weight of every output, or the function that returns it for an iteration."""
    given = config.training.loss_weights or (1.0,) * len(names)
    rows = [entry.weights if isinstance(entry, LossWeights) else given for entry in given]
    if any(len(row) != len(names) for row in rows):
        raise ConfigError(f"training.loss_weights is {given}; write one for each of the outputs {', '.join(names)}")
    scheduled = [entry for entry in given if isinstance(entry, LossWeights)]
    if not scheduled:
        return [weight for weight in given if not isinstance(weight, LossWeights)]
    times = [entry.iteration for entry in scheduled]
    if times != sorted(set(times)):
        raise ConfigError(f"training.loss_weights are given for iterations {times}; write them in order")
    return [
        partial(np.interp, xp=times, fp=[entry.weights[output] for entry in scheduled]) for output in range(len(names))
    ]
