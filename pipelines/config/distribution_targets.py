"""Targets of outputs that describe a distribution: another distribution, and no annotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.losses import KullbackLeibler, WeightOptions, weight_function
from scalenet_gp.options import Options, suggest
from scalenet_gp.training import JointLoss

__all__ = ["DistributionTargetsOptions", "joint_losses"]


class DistributionTargetsOptions(Options):
    """Keep a normal distribution near another: the output is its mean, and other outputs have what else describes it.

    Its loss is :class:`scalenet_gp.losses.KullbackLeibler`. The outputs that it names have no targets of their own.

    Attributes:
        kind: ``distribution``.
        log_variance: name of the output with the logarithm of the variance.
        prior: names of the outputs with mean and logarithm of the variance of the distribution to stay near; N(0, 1)
            unless given.
        weight: factor of the loss in the sum over outputs: a number, or a list of weights at iterations.

    Example:
        >>> DistributionTargetsOptions.create(log_variance="log_variance", weight=0.01).outputs("mean")
        ('mean', 'log_variance')
    """

    kind: Literal["distribution"] = "distribution"
    log_variance: str
    prior: tuple[str, str] | None = None
    weight: WeightOptions = 1.0

    @field_validator("prior")
    @classmethod
    def _of_others(cls, prior: tuple[str, str] | None, info: ValidationInfo) -> tuple[str, str] | None:
        if prior is not None and len({*prior, info.data.get("log_variance")}) < 3:
            raise ConfigError(f"{list(prior)} and log_variance have to be three different outputs")
        return prior

    @property
    def weight_function(self) -> float | Callable[[int], float]:
        """The weight, or the function that returns it for an iteration."""
        return weight_function(self.weight)

    def outputs(self, mean: str) -> tuple[str, ...]:
        """Return the names of the outputs that the loss reads, in its order, the output ``mean`` first."""
        return (mean, self.log_variance, *(self.prior or ()))


def joint_losses(targets: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, JointLoss]:
    """Return the losses that several outputs have together, by the names ``kl_<output>``.

    Args:
        targets: the part ``training.targets`` of a run file.
        outputs: names of the network's outputs.

    Raises:
        ConfigError: one names an output that does not exist.
    """
    losses = {}
    for name, options in targets.items():
        if not isinstance(options, DistributionTargetsOptions):
            continue
        read = options.outputs(name)
        for output in read:
            if output not in outputs:
                raise ConfigError(
                    f"training.targets.{name} is a distribution of the outputs {', '.join(read)}, and the network has "
                    f"no {output!r}; {suggest(output, outputs, 'the outputs')}"
                )
        losses[f"kl_{name}"] = JointLoss(KullbackLeibler(), read, options.weight_function, f"kl_{name}")
    return losses
