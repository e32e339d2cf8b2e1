"""The state of training: everything that changes from step to step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.training.adversary import Adversary, AdversaryOptions
from scalenet_gp.training.compute import ComputeConfig
from scalenet_gp.training.distributed import ProcessGroup
from scalenet_gp.training.optimization import Optimization

__all__ = ["TrainingState", "UpdateResult"]


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The change of the weights by one batch.

    Attributes:
        taken: True if the weights were changed: with the last batch of a step, unless the step was skipped.
        skipped: True if a step was skipped with this batch, because its loss or its gradient was not finite.
        gradient_norm: the norm of the gradient before clipping; None within a step of several batches.
        update_ratio: the norm of the change, as a share of the norm of the weights; None unless measured.

    Example:
        >>> UpdateResult(taken=True, skipped=False, gradient_norm=0.5).taken
        True
    """

    taken: bool
    skipped: bool
    gradient_norm: float | None = None
    update_ratio: float | None = None


class TrainingState:
    """A network in training: weights, their average, optimizer, schedule, and the number of steps.

    Each batch calls :meth:`begin`, :meth:`forward`, a loss, and :meth:`advance`, in this order.

    Args:
        net: the network; it is moved to the device.
        optimization: options of how weights are changed.
        compute: options of how the network is computed.
        seed: seed of random numbers that layers draw, as dropout does. Those of iteration i depend on (seed, i) and on
            the rank alone.
        ranks: the processes that train together. By default there is only this one.
        iterations: batches in the whole run, for a schedule that ends with it.
        patience: validations without improvement after which the run stops, for a schedule that waits for them.
        adversary: options of a discriminator that is trained beside the network, or None.

    Attributes:
        iteration: number of batches that were learned from.
        skipped: number of skipped steps since the run began.
        skipped_in_a_row: number of skipped steps since the last one that was taken.
        average: the network with averaged weights, or None.
        adversary: the discriminator, or None.

    Raises:
        ArgumentError: the device is not there, or a pattern matches nothing.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)])
        >>> state = TrainingState(net, Optimization(), ComputeConfig(device="cpu"))
        >>> state.begin()
        >>> inputs = {"input": torch.rand(1, 1, *net.smallest_plan.input_tensors["input"].shape)}
        >>> outputs = state.forward(inputs, net.smallest_plan)
        >>> state.advance(outputs["output"].mean()).taken, state.iteration
        (True, 1)
    """

    def __init__(
        self,
        net: LeibNet,
        optimization: Optimization,
        compute: ComputeConfig,
        seed: int | None = None,
        ranks: ProcessGroup | None = None,
        iterations: int | None = None,
        patience: int | None = None,
        adversary: AdversaryOptions | None = None,
    ) -> None:
        self._ranks = ranks or ProcessGroup()
        self._forward = compute.build_forward(net, self._ranks)
        self.device = self._forward.device
        self.net = self._ranks.synchronize_norms(net.to(self.device).train())
        self.optimization = optimization
        self.compute = compute
        self.seed = seed
        self._still = optimization.freeze(net)
        self._parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
        self._buffers = dict(self.net.named_buffers())  # once: looking through all modules is slow
        self.optimizer = optimization.make_optimizer(self._parameters.values())
        self._schedule, self._plateau = optimization.make_schedules(self.optimizer, iterations, patience)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self._forward.scaled)
        self.average: AveragedModel | None = None
        if optimization.ema_decay is not None:
            averaging = get_ema_multi_avg_fn(optimization.ema_decay)
            self.average = AveragedModel(net, multi_avg_fn=averaging, use_buffers=True)
        self.adversary: Adversary | None = None
        if adversary is not None:
            channels = net.specs[adversary.output].channels
            self.adversary = Adversary(adversary, channels, net.dims, self.device, seed or 0)
        self.iteration = self.skipped = self.skipped_in_a_row = 0
        self._dropped = False
        self._statistics: dict[str, Tensor] = {}
        self._own_statistics: dict[str, Tensor] = {}

    @property
    def learning_rate(self) -> float:
        """The learning rate of the first group of parameters, in the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def loss_scale(self) -> float:
        """The factor of gradients until they are used: 1 except for float16."""
        return float(self._scaler.get_scale())

    @property
    def eval_net(self) -> LeibNet:
        """The network to predict with: the averaged one if there is one."""
        averaged: LeibNet | None = None if self.average is None else self.average.module  # type: ignore[assignment]
        return self.net if averaged is None else averaged

    @property
    def frozen_modules(self) -> list[str]:
        """The names of the modules with nothing to train, which keep their statistics."""
        return [name for name, module in self.net.named_modules() if any(module is still for still in self._still)]

    @contextmanager
    def predicting_with(self, statistics: Mapping[str, Tensor]) -> Iterator[None]:
        """Give :attr:`eval_net` other running statistics within the context, as :func:`estimate_norm_statistics` does.

        A :meth:`state_dict` taken within it holds its own statistics, too, so that a resumed run goes on with these.
        """
        buffers = dict(self.eval_net.named_buffers())
        self._own_statistics = {name: buffers[name].clone() for name in statistics}
        try:
            for name, value in statistics.items():
                buffers[name].copy_(value)
            yield
        finally:
            for name, value in self._own_statistics.items():
                buffers[name].copy_(value)
            self._own_statistics = {}

    def begin(self) -> None:
        """Prepare for the next batch: seed random numbers, and set training mode."""
        if self.seed is not None:
            number = self.iteration * self._ranks.size + self._ranks.rank
            # numpy's mixing makes the streams of neighboring numbers independent
            torch.manual_seed(int(np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0]))
        self.net.train()
        for module in self._still:
            module.eval()
        if self.iteration % self.optimization.accumulate == 0:
            self._dropped = False
            self._statistics = {name: buffer.clone() for name, buffer in self._buffers.items()}

    def forward(self, inputs: Mapping[str, Tensor], plan: Plan, logits: bool = False) -> dict[str, Tensor]:
        """Return the outputs of ``plan``, (B, C, Z, Y, X) each, float32; ``logits`` as for :meth:`.LeibNet.forward`."""
        return self._forward(inputs, plan, logits)

    def advance(self, loss: Tensor, *, measure: bool = False) -> UpdateResult:
        """Learn from the loss of one batch. The last batch of a step changes the weights.

        If a loss or the gradient is not finite, the step is skipped with all its batches: weights, average, schedule,
        optimizer and statistics of layers stay as they were before it.

        Args:
            loss: a scalar.
            measure: True to measure the update ratio, which takes a copy of the weights.
        """
        self.iteration += 1
        ends = self.iteration % self.optimization.accumulate == 0
        self._dropped = self._ranks.any_rank(self._dropped or not bool(torch.isfinite(loss)))
        if not self._dropped:
            self._scaler.scale(loss / self.optimization.accumulate).backward()
        if not ends:
            return UpdateResult(taken=False, skipped=False)
        norm = None if self._dropped else self._gradient_norm()
        if norm is None or self._ranks.any_rank(not bool(norm.isfinite())):
            if norm is not None:
                self._scaler.update()  # takes a smaller scale
            self._drop()
            return UpdateResult(taken=False, skipped=True, gradient_norm=None if norm is None else norm.item())
        if self.optimization.clip_norm is not None:
            clip_grads_with_norm_(self._parameters.values(), self.optimization.clip_norm, norm)
        before = {name: p.detach().clone() for name, p in self._parameters.items()} if measure else {}
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.net)
        if self._schedule is not None:
            self._schedule.step()
        self.skipped_in_a_row = 0
        return UpdateResult(True, False, norm.item(), self._moved(before) if measure else None)

    def update_plateau(self, score: float) -> None:
        """Give the score of a validation to a schedule that waits for a plateau. The lower, the better."""
        if self._plateau is not None:
            self._plateau.step(score)

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the network's weights: plain values and tensors."""
        beside = {} if self.adversary is None else {"adversary": self.adversary.state_dict()}
        return {
            **beside,
            "iteration": self.iteration,
            "seed": self.seed,
            "ranks": self._ranks.size,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
            "plateau": None if self._plateau is None else self._plateau.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            # of the network to predict with, where the weights hold those that were estimated for prediction
            "own_statistics": self._own_statistics,
            # of a step of several batches that has begun
            "dropped": self._dropped,
            "statistics": self._statistics if self._within_a_step else {},
            "gradients": {n: p.grad for n, p in self._parameters.items() if p.grad is not None},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned. The network's weights are restored by the caller.

        Raises:
            ValueError: the state is of another kind of optimizer or schedule, or of another number of processes.
        """
        if state["ranks"] != self._ranks.size:
            raise ArgumentError(
                f"{state['ranks']} processes trained together and {self._ranks.size} do now: a batch has the samples "
                "of all processes, so the run would be another one"
            )
        kept = {"schedule": self._schedule, "plateau": self._plateau, "average": self.average}
        for name, part in kept.items():
            if (part is None) != (state[name] is None):
                had, has = ("none" if part is None else "one" for part in (state[name], part))
                raise ArgumentError(f"the checkpoint was written with {had} where there is {has} now: {name}")
        self.optimizer.load_state_dict(dict(state["optimizer"]))
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"])
        for name, part in kept.items():
            if part is not None:
                part.load_state_dict(dict(state[name]))
        if isinstance(self._schedule, LambdaLR):
            rates = zip(self._schedule.base_lrs, self._schedule.lr_lambdas, strict=True)
            for group, (rate, factor) in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor(self._schedule.last_epoch)  # of the schedule in use now
        self._scaler.load_state_dict(dict(state["scaler"]))
        self.iteration, self.skipped = state["iteration"], state["skipped"]
        self.skipped_in_a_row, self._dropped = state["skipped_in_a_row"], state["dropped"]
        self._statistics = {name: tensor.to(self.device) for name, tensor in state["statistics"].items()}
        for name, gradient in state["gradients"].items():
            self._parameters[name].grad = gradient.to(self._parameters[name])

    @property
    def _within_a_step(self) -> bool:
        return self.iteration % self.optimization.accumulate != 0

    def _gradient_norm(self) -> Tensor:
        self._scaler.unscale_(self.optimizer)
        return get_total_norm([p.grad for p in self._parameters.values() if p.grad is not None])

    def _drop(self) -> None:
        """Skip the step that ends here."""
        self.optimizer.zero_grad(set_to_none=True)
        for name, buffer in self._buffers.items():
            buffer.copy_(self._statistics[name])
        self.skipped += 1
        self.skipped_in_a_row += 1

    def _moved(self, before: Mapping[str, Tensor]) -> float:
        change = get_total_norm([self._parameters[name].detach() - old for name, old in before.items()])
        return (change / get_total_norm(list(before.values())).clamp(min=torch.finfo(torch.float32).tiny)).item()
