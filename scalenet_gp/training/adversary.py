"""Adversarial training: a discriminator that learns to tell targets from predictions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from scalenet_gp.errors import ArgumentError
from scalenet_gp.losses import WeightOptions, weight_function
from scalenet_gp.options import Options, Whole

__all__ = ["Adversary", "AdversaryOptions", "check_adversary"]

_BETAS = (0.5, 0.999)
"""Averages of the gradient in Adam, as Radford et al. 2016 (arXiv 1511.06434) have them for adversarial training."""

_SLOPE = 0.2


class AdversaryOptions(Options):
    """Options of adversarial training: a discriminator, and the weight of the loss that it makes.

    Attributes:
        output: name of the output whose predictions it judges.
        weight: factor of the adversarial loss in the sum over outputs: a number, or a list of weights at iterations.
        base_nc: channels of the discriminator's first convolution; each further one has twice as many.
        depth: number of its convolutions that halve the voxels along each axis.
        learning_rate: of its optimizer, Adam.

    Example:
        >>> AdversaryOptions(output="output", weight=0.01).depth
        2
    """

    output: str = "output"
    weight: WeightOptions = 0.01
    base_nc: Whole = 16
    depth: Whole = 2
    learning_rate: float = Field(2e-4, gt=0, allow_inf_nan=False)


class Adversary:
    """A discriminator with its optimizer (Goodfellow et al. 2014, arXiv 1406.2661).

    It judges patches, as that of Isola et al. 2017 (arXiv 1611.07004) does: convolutions of 3³ voxels, of which
    ``depth`` halve the voxels, end in a logit for each place. It sees probabilities and targets with zeros where
    nothing is annotated, so it cannot tell them apart by that. Luc et al. 2016 (arXiv 1611.08408) train networks for
    segmentation so.

    The network's loss is the cross-entropy of calling its predictions targets; the discriminator's is the mean of those
    of calling each what it is. It learns after the network in each step, from the same batch. A step in which the
    network does not learn leaves it as it was.

    Args:
        options: its options.
        channels: channels of the output.
        dims: number of spatial axes.
        device: device of the network.
        seed: seed of its first weights.

    Example:
        >>> adversary = Adversary(AdversaryOptions(), channels=1, dims=2, device=torch.device("cpu"))
        >>> round(adversary.learn(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)).item(), 1)
        0.7
    """

    def __init__(
        self, options: AdversaryOptions, channels: int, dims: int, device: torch.device, seed: int = 0
    ) -> None:
        self.options = options
        self._weight = weight_function(options.weight)
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        layers: list[nn.Module] = []
        nc = channels
        with torch.random.fork_rng(devices=[]):  # the first weights of networks do not depend on it
            torch.manual_seed(seed)
            for level in range(options.depth):
                made = options.base_nc * 2**level
                layers += [convolution(nc, made, 3, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
                nc = made
            layers.append(convolution(nc, 1, 3, padding=1))
        self.discriminator = nn.Sequential(*layers).to(device)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), options.learning_rate, _BETAS)

    def weight_at(self, iteration: int) -> float:
        """Return the weight of the network's loss after ``iteration`` batches."""
        return float(self._weight(iteration) if callable(self._weight) else self._weight)

    def loss(self, predicted: Tensor) -> Tensor:
        """Return the network's loss, a scalar, of probabilities (B, C, Z, Y, X); the discriminator gets no gradient."""
        self.discriminator.requires_grad_(False)
        try:
            judged = self._judge(predicted)
        finally:
            self.discriminator.requires_grad_(True)
        return functional.binary_cross_entropy_with_logits(judged, torch.ones_like(judged))

    def learn(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Learn to tell predictions from targets, (B, C, Z, Y, X) each; return the loss before, a scalar."""
        self.optimizer.zero_grad(set_to_none=True)
        false, true = self._judge(predicted.detach()), self._judge(target)
        loss = functional.binary_cross_entropy_with_logits(false, torch.zeros_like(false))
        loss = (loss + functional.binary_cross_entropy_with_logits(true, torch.ones_like(true))) / 2
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the discriminator's weights and the state of its optimizer."""
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            ArgumentError: it is the state of another discriminator.
        """
        try:
            self.discriminator.load_state_dict(dict(state["discriminator"]))
        except RuntimeError as error:
            raise ArgumentError(f"the checkpoint holds another discriminator: {error}") from error
        self.optimizer.load_state_dict(dict(state["optimizer"]))

    def _judge(self, values: Tensor) -> Tensor:
        with torch.autocast(values.device.type, enabled=False):
            made: Tensor = self.discriminator(values.float())
        return made


def check_adversary(options: AdversaryOptions, taught: Collection[str], accumulate: int, *, alone: bool) -> None:
    """Refuse an adversary of an output without targets, or beside what its steps do not fit.

    Args:
        options: its options.
        taught: the outputs that have targets.
        accumulate: batches of each step.
        alone: there is one process.

    Raises:
        ArgumentError: it does not fit.
    """
    if options.output not in taught:
        raise ArgumentError(
            f"adversary.output is {options.output!r}, which learns from no targets; those that do are "
            f"{', '.join(taught)}"
        )
    if not alone or accumulate > 1:
        raise ArgumentError(
            "an adversary learns once for each batch, in one process: train with one, and leave out "
            "optimization.accumulate"
        )
