"""Statistics that normalizations predict with, estimated over samples of training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scalenet_gp.errors import DataError
from scalenet_gp.graph import Plan
from scalenet_gp.layers import CalibratedGroupNorm
from scalenet_gp.leibnet import LeibNet

__all__ = ["NormSamples", "estimate_norm_statistics", "norms_with_statistics"]


@dataclass(frozen=True)
class NormSamples:
    """Samples of training over which the statistics of normalizations are estimated.

    Attributes:
        batches: inputs by name, (B, C, Z, Y, X) each, on any device. They are read anew for each estimate, so a list
            will do, or an object that draws the same samples each time; a resumed run needs the same ones, too.
        plan: where the tensors lie. By default it is the network's ``smallest_plan``.

    Example:
        >>> NormSamples([{"input": torch.rand(4, 1, 20, 20)}]).plan is None
        True
    """

    batches: Iterable[Mapping[str, Tensor]]
    plan: Plan | None = None


def norms_with_statistics(net: nn.Module, frozen: Iterable[str] = ()) -> dict[str, _BatchNorm | CalibratedGroupNorm]:
    """Return the normalizations that predict with running statistics, by name, without the ``frozen`` ones."""
    left_out = set(frozen)
    return {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, _BatchNorm | CalibratedGroupNorm)
        and module.running_mean is not None
        and name not in left_out
    }


def estimate_norm_statistics(net: LeibNet, samples: NormSamples, frozen: Iterable[str] = ()) -> dict[str, Tensor]:
    """Return the mean and variance of the input of each normalization over samples (Wu and Johnson 2021).

    A running average over the newest crops of training mixes statistics of several states of the weights, and of few
    voxels where crops are small. Here the weights stay the same: each batch, or each sample of it for group
    normalization, is normalized by its own statistics as in training, but without dropout, and the moments of all
    batches are pooled exactly. See arXiv 2105.07576, section 3.

    The network is left as it was, and so are random generators. No other process takes part.

    Args:
        net: the network.
        samples: the samples. Batches with values that are not finite are left out, as training skips them.
        frozen: names of modules that keep their statistics.

    Returns:
        The ``running_mean`` and ``running_var`` of each layer by their names in ``net.state_dict()``; no batch is read
        and nothing returned if there is no such layer.

    Raises:
        DataError: no batch is finite.

    Example:
        >>> from scalenet_gp import build_unet
        >>> net = build_unet((8, 8), base_nc=2, downsample_factors=[(2, 2)], norm_layer="batch")
        >>> shape = net.smallest_plan.input_tensors["input"].shape
        >>> samples = NormSamples([{"input": torch.rand(2, 1, *shape)} for _ in range(3)])
        >>> statistics = estimate_norm_statistics(net, samples)
        >>> net.load_state_dict(statistics, strict=False).unexpected_keys
        []
    """
    layers = norms_with_statistics(net, frozen)
    if not layers:
        return {}
    moments = {name: _Moments() for name in layers}
    plan = samples.plan or net.smallest_plan
    device = next(net.parameters()).device
    finite = False
    with _normalizing_as_in_training(net, layers, moments), _kept_generators(device), torch.no_grad():
        for batch in samples.batches:
            inputs = {name: batch[name].to(device).float() for name in plan.inputs}
            if all(bool(torch.isfinite(tensor).all()) for tensor in inputs.values()):
                finite = True
                net(inputs, plan)
    if not finite:
        raise DataError("no batch of those that the statistics of normalization are estimated over is finite")
    return {
        f"{name}.{key}": value.to(getattr(layers[name], key))
        for name, each in moments.items()
        if each.count
        for key, value in (("running_mean", each.mean), ("running_var", each.variance))
    }


class _Moments:
    """Mean and variance of the values seen so far, per channel, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self._squares = torch.zeros((), dtype=torch.float64)

    @property
    def variance(self) -> Tensor:
        """The unbiased variance, as torch keeps it."""
        return self._squares / max(1, self.count - 1)

    def add(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Add ``count`` values per channel of this mean and (biased) variance (Chan et al. 1979)."""
        mean, variance, before = mean.double(), variance.double(), self.count
        self.count += count
        change = mean - self.mean.to(mean)
        self._squares = self._squares.to(mean) + count * variance + change**2 * (before * count / self.count)
        self.mean = self.mean.to(mean) + change * (count / self.count)


@contextmanager
def _normalizing_as_in_training(
    net: LeibNet, layers: Mapping[str, _BatchNorm | CalibratedGroupNorm], moments: Mapping[str, _Moments]
) -> Iterator[None]:
    """Let each layer use the statistics of its input, which are added to ``moments``, and all others predict.

    Batch normalizations are in evaluation mode, too, and are given the statistics of each batch: those of several
    processes would wait for one another in training mode.
    """
    training = {module: module.training for module in net.modules()}
    kept = {layer: (layer.running_mean, layer.running_var) for layer in layers.values()}
    names = {layer: name for name, layer in layers.items()}

    def use_own(layer: nn.Module, given: tuple[Any, ...]) -> None:
        x: Tensor = given[0]
        if isinstance(layer, CalibratedGroupNorm):
            mean, variance, count = layer.measure(x)
        else:
            variance, mean = torch.var_mean(x, dim=[0, *range(2, x.dim())], correction=0)
            count = x.numel() // x.shape[1]
            layer.running_mean, layer.running_var = mean, variance
        moments[names[layer]].add(mean, variance, count)  # type: ignore[index]

    hooks = [layer.register_forward_pre_hook(use_own) for layer in layers.values()]
    net.eval()
    for layer in kept:
        if isinstance(layer, CalibratedGroupNorm):
            layer.train()  # which changes its averages in place
            layer.running_mean, layer.running_var = layer.running_mean.clone(), layer.running_var.clone()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, (mean, variance) in kept.items():
            layer.running_mean, layer.running_var = mean, variance
        for module, mode in training.items():
            module.training = mode


@contextmanager
def _kept_generators(device: torch.device) -> Iterator[None]:
    """Restore torch's random generators after the context, as layers may draw in evaluation, too."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
