"""How weights are changed: the optimizer, its learning rate over time, and what is done with gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from math import inf

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

from scalenet_gp.errors import ArgumentError

__all__ = ["Optimization", "OptimizerFactory", "SchedulerFactory"]

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""Makes the optimizer of parameters, as ``functools.partial(torch.optim.Adam, lr=1e-4)`` does."""

SchedulerFactory = Callable[[torch.optim.Optimizer], LRScheduler]
"""Makes the schedule of an optimizer's learning rate, as ``functools.partial(ExponentialLR, gamma=0.99)`` does."""

_RADAM = partial(torch.optim.RAdam, lr=1e-3, weight_decay=1e-4, decoupled_weight_decay=True)

_FIRST_RATE = 1e-3
"""Of the full learning rate: where warming up begins."""


@dataclass(frozen=True, slots=True)
class Optimization:
    """How weights are changed.

    Attributes:
        optimizer: makes the optimizer of the parameters that are trained; RAdam (Liu et al. 2020, arXiv 1908.03265)
            with a learning rate of 1e-3 and a decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101) of
            1e-4 unless given.
        scheduler: makes the schedule of its learning rate, which moves on with every step; it stays as it is unless
            given. A :class:`torch.optim.lr_scheduler.ReduceLROnPlateau` moves on with :meth:`TrainingState.judged`.
            The rate of a :class:`torch.optim.lr_scheduler.LambdaLR` is that of its step alone: a run that goes on with
            another one, of more steps say, has that one's rates from then on. Others go on from the rate that was.
        warm_up: steps over which the learning rate rises evenly, from a thousandth of itself, before the schedule
            begins.
        accumulate: batches whose gradients, averaged, make one step.
        clip_norm: the norm above which the gradient of a step is scaled down to it.
        ema_decay: of an exponential moving average of weights and statistics, for each step; none is kept unless given.
        frozen: patterns (as file names have them) of parameters that stay as they are. A module all of whose parameters
            are frozen keeps its statistics too.
        skips_in_a_row: steps in a row that may be skipped because something in them was not finite.

    Raises:
        ValueError: a number is out of its range.
    """

    optimizer: OptimizerFactory = _RADAM
    scheduler: SchedulerFactory | None = None
    warm_up: int = 0
    accumulate: int = 1
    clip_norm: float | None = None
    ema_decay: float | None = None
    frozen: tuple[str, ...] = ()
    skips_in_a_row: int = 10

    def __post_init__(self) -> None:
        for name, value, least, below in (
            ("warm_up", self.warm_up, 0, inf),
            ("accumulate", self.accumulate, 1, inf),
            ("skips_in_a_row", self.skips_in_a_row, 0, inf),
            ("ema_decay", 0 if self.ema_decay is None else self.ema_decay, 0, 1),
        ):
            if not least <= value < below:
                raise ArgumentError(
                    f"{name} has to be from {least}{'' if below == inf else ' to below 1'}, not {value}"
                )
        if self.clip_norm is not None and not 0 < self.clip_norm < inf:
            raise ArgumentError(f"clip_norm has to be a norm above 0, not {self.clip_norm}")

    def freeze(self, net: nn.Module) -> list[nn.Module]:
        """Have the frozen parameters need no gradients.

        Returns:
            The modules with nothing left to train, which are to run as in evaluation.

        Raises:
            ValueError: a pattern matches no parameter, or nothing is left to train.
        """
        parameters = dict(net.named_parameters())
        for pattern in self.frozen:
            matching = [name for name in parameters if fnmatchcase(name, pattern)]
            if not matching:
                raise ArgumentError(f"frozen={pattern!r} matches no parameter; there are {', '.join(parameters)}")
            for name in matching:
                parameters[name].requires_grad_(False)
        if not any(parameter.requires_grad for parameter in parameters.values()):
            raise ArgumentError(f"frozen={self.frozen!r} leaves no parameter to train")
        owners = [module for module in net.modules() if any(True for _ in module.parameters())]
        return [module for module in owners if not any(p.requires_grad for p in module.parameters())]

    def schedules(self, optimizer: torch.optim.Optimizer) -> tuple[LRScheduler | None, ReduceLROnPlateau | None]:
        """What moves on with every step, if anything, and what moves on with every judgement, if anything."""
        warm_up = LinearLR(optimizer, _FIRST_RATE, total_iters=self.warm_up) if self.warm_up else None
        schedule = None if self.scheduler is None else self.scheduler(optimizer)
        if isinstance(schedule, ReduceLROnPlateau):
            return warm_up, schedule
        if warm_up is None or schedule is None:
            return warm_up or schedule, None
        if isinstance(schedule, LambdaLR):
            factors: list[Callable[[int], float]] = []
            factors += (partial(_warmed_up, warm_up=self.warm_up, after=factor) for factor in schedule.lr_lambdas)
            return LambdaLR(optimizer, factors), None
        return SequentialLR(optimizer, [warm_up, schedule], milestones=[self.warm_up]), None


def _warmed_up(step: int, warm_up: int, after: Callable[[int], float]) -> float:
    """What a rate is multiplied by that rises evenly over some steps and goes on as ``after`` says."""
    return after(step - warm_up) if step >= warm_up else _FIRST_RATE + (1 - _FIRST_RATE) * step / warm_up
