"""Options of optimization: the optimizer, its learning rate over time, and the treatment of gradients."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import torch
from pydantic import Field, GetCoreSchemaHandler, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic_core import CoreSchema, core_schema
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

from scalenet_gp.errors import ArgumentError
from scalenet_gp.options import Options, suggest

__all__ = ["Optimization", "OptimizerFactory", "OptimizerOptions", "ScheduleOptions", "SchedulerFactory"]

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""Makes the optimizer of parameters, as ``functools.partial(torch.optim.Adam, lr=1e-4)`` does."""

SchedulerFactory = Callable[[torch.optim.Optimizer], LRScheduler]
"""Makes the schedule of an optimizer's learning rate, as ``functools.partial(ExponentialLR, gamma=0.99)`` does."""

_FinitePositive = Annotated[PositiveFloat, Field(allow_inf_nan=False)]

_FIRST_RATE = 1e-3
"""The learning rate at the beginning of the warm-up, as a share of the full one."""


class _TorchOptions(Options):
    """Abstract: the name of a class of a module of torch, and its arguments."""

    module: ClassVar[Any]
    base: ClassVar[type[Any]]
    given: ClassVar[tuple[str, ...]]
    """Parameters of the class that are given by the trainer."""

    kind: str
    arguments: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> _TorchOptions:
        name = f"{self.module.__name__}.{self.kind}"
        found = getattr(self.module, self.kind, None)
        if not (isinstance(found, type) and issubclass(found, self.base) and found is not self.base):
            known = {key: each for key, each in vars(self.module).items() if isinstance(each, type) and key[0] != "_"}
            kinds = sorted(key for key, each in known.items() if issubclass(each, self.base) and each is not self.base)
            raise ArgumentError(f"there is no {name}; {suggest(self.kind, kinds)}")
        taken = [key for key in inspect.signature(found).parameters if key not in self.given]
        unknown = [key for key in self.arguments if key not in taken]
        if unknown:
            raise ArgumentError(f"{name} takes no argument {unknown[0]} here; {suggest(unknown[0], taken)}")
        return self

    def make(self, *given: Any, **named: Any) -> Any:
        """Return the object, made with these arguments and those ``given``."""
        return getattr(self.module, self.kind)(*given, **named, **self.arguments)


class OptimizerOptions(_TorchOptions):
    """Any optimizer of ``torch.optim``.

    Attributes:
        kind: the name of its class, such as ``RAdam``, ``AdamW`` or ``SGD``.
        arguments: its arguments, except parameters and learning rate; those of torch unless given.

    Example:
        >>> OptimizerOptions(kind="SGD", arguments={"momentum": 0.9}).arguments
        {'momentum': 0.9}
    """

    module: ClassVar[Any] = torch.optim
    base: ClassVar[type[Any]] = torch.optim.Optimizer
    given: ClassVar[tuple[str, ...]] = ("params", "lr")

    kind: str = "AdamW"


class ScheduleOptions(_TorchOptions):
    """Any schedule of ``torch.optim.lr_scheduler``.

    Attributes:
        kind: the name of its class, such as ``ExponentialLR``.
        arguments: its arguments, except the optimizer.

    Example:
        >>> ScheduleOptions(kind="ExponentialLR", arguments={"gamma": 0.99}).kind
        'ExponentialLR'
    """

    module: ClassVar[Any] = torch.optim.lr_scheduler
    base: ClassVar[type[Any]] = LRScheduler
    given: ClassVar[tuple[str, ...]] = ("optimizer",)


class _OrFactory:
    """Annotation of a field: options that a file can hold or, in Python alone, a factory in place of them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        plain = [each for each in get_args(source) if get_origin(each) is not Callable]
        inner = handler.generate_schema(Union[tuple(plain)])  # noqa: UP007 - made of a list
        return core_schema.no_info_wrap_validator_function(
            lambda value, validate: value if callable(value) else validate(value), inner
        )


class Optimization(Options):
    """Options of the optimizer, its learning rate, gradients and averaged weights.

    Attributes:
        optimizer: changes the weights; AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) by default. In Python also
            a function that makes an optimizer of parameters, learning rate included.
        learning_rate: the learning rate at its highest. The default suits networks with batch normalization; those
            without a normalization learn better with a third of it.
        schedule: the learning rate over time. ``cosine`` lets it fall to zero at the end of the run (Loshchilov and
            Hutter 2017, arXiv 1608.03983); by default it stays constant if the trainer does not know how long the run
            is. ``plateau`` divides it by ten wherever validation has not improved for a third of its patience. Others
            are named as ``torch.optim.lr_scheduler`` has them; in Python also a function that makes a schedule of an
            optimizer.
        warm_up: steps over which the learning rate rises evenly, from a thousandth of itself, before the schedule
            begins.
        accumulate: batches whose gradients, averaged, make one step.
        clip_norm: the norm above which the gradient of a step is scaled down to it. By default nothing is clipped.
        ema_decay: decay of an exponential moving average of the weights, for each step. Validation and prediction use
            the average. By default none is kept.
        frozen: patterns (as file names have them) of parameters that stay as they are. A module all of whose
            parameters are frozen keeps its statistics too.
        skips_in_a_row: steps in a row that may be skipped because their loss or gradient is not finite.

    Example:
        >>> Optimization(optimizer={"kind": "SGD"}, learning_rate=0.1, clip_norm=1).learning_rate
        0.1
        >>> Optimization(optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-4)).accumulate
        1
    """

    optimizer: Annotated[OptimizerOptions | OptimizerFactory, _OrFactory()] = Field(default_factory=OptimizerOptions)
    learning_rate: _FinitePositive = 1e-2
    schedule: Annotated[Literal["cosine", "constant", "plateau"] | ScheduleOptions | SchedulerFactory, _OrFactory()] = (
        "cosine"
    )
    warm_up: NonNegativeInt = 0
    accumulate: PositiveInt = 1
    clip_norm: _FinitePositive | None = None
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    frozen: tuple[str, ...] = ()
    skips_in_a_row: NonNegativeInt = 10

    @model_validator(mode="after")
    def _one_learning_rate(self) -> Optimization:
        if not isinstance(self.optimizer, OptimizerOptions) and "learning_rate" in self.model_fields_set:
            raise ArgumentError(
                f"learning_rate is {self.learning_rate}, but optimizer is a function, which sets it itself: give one "
                "of the two"
            )
        return self

    @model_validator(mode="after")
    def _try(self) -> Optimization:
        """Make the optimizer and the schedule once, of a weight of no network, so that torch checks their arguments."""
        if not isinstance(self.optimizer, OptimizerOptions):
            return self
        try:
            optimizer = self.optimizer.make([nn.Parameter(torch.zeros(1, 1))], lr=self.learning_rate)
        except Exception as error:
            raise ArgumentError(f"torch.optim.{self.optimizer.kind} refuses its arguments: {error}") from error
        if isinstance(self.schedule, ScheduleOptions):
            try:
                self.schedule.make(optimizer)
            except Exception as error:
                name = f"torch.optim.lr_scheduler.{self.schedule.kind}"
                raise ArgumentError(f"{name} refuses its arguments: {error}") from error
        return self

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of ``parameters``."""
        if isinstance(self.optimizer, OptimizerOptions):
            made: torch.optim.Optimizer = self.optimizer.make(parameters, lr=self.learning_rate)
            return made
        return self.optimizer(parameters)

    def freeze(self, net: nn.Module) -> list[nn.Module]:
        """Switch off the gradients of the frozen parameters.

        Returns:
            The modules with nothing left to train, which run as in evaluation.

        Raises:
            ArgumentError: a pattern matches no parameter, or nothing is left to train.
        """
        parameters = dict(net.named_parameters())
        for pattern in self.frozen:
            matching = [name for name in parameters if fnmatchcase(name, pattern)]
            if not matching:
                raise ArgumentError(f"frozen={pattern!r} matches no parameter; {suggest(pattern, parameters)}")
            for name in matching:
                parameters[name].requires_grad_(False)
        if not any(parameter.requires_grad for parameter in parameters.values()):
            raise ArgumentError(f"frozen={self.frozen!r} leaves no parameter to train")
        owners = [module for module in net.modules() if any(True for _ in module.parameters())]
        return [module for module in owners if not any(p.requires_grad for p in module.parameters())]

    def make_schedules(
        self, optimizer: torch.optim.Optimizer, iterations: int | None = None, patience: int | None = None
    ) -> tuple[LRScheduler | None, ReduceLROnPlateau | None]:
        """Return the schedule that moves on with every step, and the one that moves on with every validation.

        Args:
            optimizer: the optimizer whose learning rate they change.
            iterations: batches in the whole run, for ``cosine``.
            patience: validations without improvement after which the run stops, for ``plateau``.

        Raises:
            ArgumentError: ``schedule`` is given as ``cosine``, and there are no ``iterations``.
        """
        warm_up = LinearLR(optimizer, _FIRST_RATE, total_iters=self.warm_up) if self.warm_up else None
        schedule = self._make_schedule(optimizer, iterations, patience)
        if isinstance(schedule, ReduceLROnPlateau):
            return warm_up, schedule
        if warm_up is None or schedule is None:
            return warm_up or schedule, None
        if isinstance(schedule, LambdaLR):
            factors: list[Callable[[int], float]] = []
            factors += (partial(_warmed_up, warm_up=self.warm_up, after=factor) for factor in schedule.lr_lambdas)
            return LambdaLR(optimizer, factors), None
        return SequentialLR(optimizer, [warm_up, schedule], milestones=[self.warm_up]), None

    def _make_schedule(
        self, optimizer: torch.optim.Optimizer, iterations: int | None, patience: int | None
    ) -> LRScheduler | None:
        if isinstance(self.schedule, ScheduleOptions):
            made: LRScheduler = self.schedule.make(optimizer)
            return made
        if self.schedule == "plateau":
            return ReduceLROnPlateau(optimizer, factor=0.1, patience=max(1, (patience or 9) // 3))
        if self.schedule == "cosine" and iterations is not None:
            steps = max(1, iterations // self.accumulate - self.warm_up)
            return LambdaLR(optimizer, partial(_cosine, steps=steps))
        if self.schedule == "cosine" and "schedule" in self.model_fields_set:
            raise ArgumentError(
                "schedule is 'cosine', which falls to zero at the end of the run: say by iterations=... when that is, "
                "or write schedule='constant'"
            )
        return None if isinstance(self.schedule, str) else self.schedule(optimizer)


def _warmed_up(step: int, warm_up: int, after: Callable[[int], float]) -> float:
    """Return the factor of a rate that rises evenly over the first steps and goes on as ``after`` says."""
    return after(step - warm_up) if step >= warm_up else _FIRST_RATE + (1 - _FIRST_RATE) * step / warm_up


def _cosine(step: int, steps: int) -> float:
    """Return the factor of a rate that falls from one to zero along a cosine.

    At the end the weights come to rest, and with them the statistics that normalization predicts with.
    """
    return 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))
