"""One step of learning: forward pass, losses over all processes, and the update of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.losses import FinalActivation, apply_activation
from scalenet_gp.training.distributed import ProcessGroup
from scalenet_gp.training.output_loss import JointLoss, OutputLoss, match_output
from scalenet_gp.training.step_result import StepResult
from scalenet_gp.training.training_state import TrainingState

__all__ = ["LearningStep"]


@dataclass(frozen=True, slots=True)
class LearningStep:
    """Learns from one batch after the other.

    Attributes:
        net: the network.
        state: its state of training.
        group: the processes that train together.
        losses: the loss of each output.
        joint: the losses that several outputs have together, by name; those count whose outputs are all planned.
        loss_of: returns the loss of an output, as :meth:`.Trainer.loss_of` does.
    """

    net: LeibNet
    state: TrainingState
    group: ProcessGroup
    losses: Mapping[str, OutputLoss]
    joint: Mapping[str, JointLoss]
    loss_of: Callable[..., Tensor]

    def learn(
        self,
        inputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        plan: Plan,
        *,
        measure: bool,
    ) -> StepResult:
        """Learn from one batch; the result lacks the times.

        Args:
            inputs: the data of every input, (B, C, Z, Y, X).
            targets: the true values of every output that has a loss of its own.
            masks: the annotated voxels of outputs; all voxels where there is no mask.
            plan: the plan of a sample.
            measure: measure gradients and weights.
        """
        state, group = self.state, self.group
        state.begin()
        given = {name: inputs[name].to(state.device).float() for name in plan.inputs if name in inputs}
        raw = state.forward(given, plan, logits=True)
        activations = {name: self.net.output_activation(name) for name in raw}
        for output in raw.values():
            if output.requires_grad:  # False if all its layers are frozen
                output.retain_grad()
        weights = {name: loss.weight_at(state.iteration) for name, loss in self.losses.items()}
        weights |= {name: loss.weight_at(state.iteration) for name, loss in self.joint.items()}
        taught = {name: output for name, output in raw.items() if name in self.losses}
        true = {name: match_output("target", name, targets, output) for name, output in taught.items()}
        known = {
            name: match_output("mask", name, masks, output) if name in masks else torch.ones_like(output)
            for name, output in taught.items()
        }
        # of all ranks: the mean over annotated voxels is not the mean of the ranks' means
        joint = group.gather_all(raw), group.gather_all(true), group.gather_all(known)
        losses = {name: self._loss_of(name, *joint, activations) for name in taught}
        together = {name: loss for name, loss in self.joint.items() if all(output in raw for output in loss.outputs)}
        losses |= {name: self._joint_loss(loss, joint[0], activations) for name, loss in together.items()}
        adversary = state.adversary
        judged = None if adversary is None else self._judged(adversary.options.output, *joint, activations)
        if adversary is not None and judged is not None:
            losses["adversarial"] = adversary.loss(judged[0])
            weights["adversarial"] = adversary.weight_at(state.iteration)
        outputs = {
            name: output if (activation := activations[name]) is None else apply_activation(output.detach(), activation)
            for name, output in raw.items()
        }
        total = sum((weights[name] * loss for name, loss in losses.items()), start=torch.zeros((), device=state.device))
        rate = state.learning_rate
        gradient_scale = state.loss_scale * group.size / state.optimization.accumulate
        update = state.advance(total, measure=measure)
        if adversary is not None and judged is not None and not update.skipped:
            losses["discriminator"] = adversary.learn(*judged)
        return StepResult(
            iteration=state.iteration,
            loss=total.item(),
            losses={name: value.item() for name, value in losses.items()},
            learning_rate=rate,
            update=update,
            skipped=state.skipped,
            samples=group.size * len(next(iter(outputs.values()))),
            seconds=0.0,
            waited=0.0,
            plan=plan,
            inputs=given,
            raw_outputs=raw,
            activations=activations,
            outputs=outputs,
            targets=true,
            masks=known,
            loss_of=self.loss_of,
            gradient_scale=gradient_scale,
        )

    @staticmethod
    def _judged(
        name: str,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        activations: Mapping[str, FinalActivation | None],
    ) -> tuple[Tensor, Tensor] | None:
        """Return the prediction and the target that an adversary judges, zero where nothing is annotated.

        None if the output is not planned.
        """
        if name not in targets:
            return None
        prediction, known = outputs[name], masks[name] > 0
        if (activation := activations[name]) is not None:
            prediction = apply_activation(prediction, activation)
        return prediction.masked_fill(~known, 0), targets[name].masked_fill(~known, 0)

    def _loss_of(
        self,
        name: str,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        activations: Mapping[str, FinalActivation | None],
    ) -> Tensor:
        """Return the loss of an output; NaN if the prediction is not finite, which losses refuse."""
        prediction = outputs[name]
        if not torch.isfinite(prediction).all():
            return prediction.new_full((), math.nan)
        return self.loss_of(name, prediction, targets[name], masks[name], activations[name])

    def _joint_loss(
        self, loss: JointLoss, outputs: Mapping[str, Tensor], activations: Mapping[str, FinalActivation | None]
    ) -> Tensor:
        """Return a loss that several outputs have together; NaN if one is not finite."""
        read = [
            outputs[name] if (activation := activations[name]) is None else apply_activation(outputs[name], activation)
            for name in loss.outputs
        ]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in read):
            return read[0].new_full((), math.nan)
        return loss.compute(read)
