"""The ``Train`` node of a config."""

from __future__ import annotations

from collections.abc import Collection

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes import Supervision, Train
from scalenet_gp.pipelines.config import Config, joint_losses
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
    log, joint = None, joint_losses(settings.targets, net.output_keys)
    if folder is not None and (ranks is None or ranks.is_main):
        log = TensorBoardLog(folder.log, settings.log, intensities=(-1.0, 1.0), channels=dataset.channels)
    return Train(
        net,
        dataset.arrays.inputs,
        _supervision(dataset, [name for loss in joint.values() for name in loss.outputs]),
        joint_losses=joint,
        adversary=settings.adversary,
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
        metadata={"learned": config.learned(net.output_keys), "config": config.model_dump(mode="json")},
    )


def _supervision(dataset: Dataset, joint: Collection[str]) -> dict[str, Supervision]:
    """Return the supervision of every output by its targets; those of joint losses have none."""
    arrays = dataset.arrays
    supervision = {name: Supervision(arrays.predictions[name]) for name in joint}
    for name, options in dataset.targets.items():
        supervision[name] = Supervision(
            arrays.predictions[name],
            arrays.targets[name],
            arrays.masks[name],
            loss=options.build_loss([float(size) for size in dataset.net.specs[name].voxel_size]),
            weight=options.weight_function,
            class_weights=options.channel_weights(dataset.channels[name]),
        )
    return supervision
