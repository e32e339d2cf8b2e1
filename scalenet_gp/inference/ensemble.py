"""Several networks, each seen through several symmetries, as one prediction that knows how far they agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, get_args

import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor

from scalenet_gp.errors import ArgumentError, UnknownNameError
from scalenet_gp.graph import check_request
from scalenet_gp.inference.member_weights import Weight, member_shares
from scalenet_gp.inference.running_moments import RunningMoments
from scalenet_gp.inference.symmetries import Symmetry
from scalenet_gp.kernels import crop_tensor
from scalenet_gp.layers import Head
from scalenet_gp.leibnet import LeibNet

__all__ = ["Compute", "Ensemble", "Product"]

Compute = Callable[[LeibNet, Mapping[str, Tensor], Mapping[str, Roi]], Mapping[str, Tensor]]
"""Computes outputs of a network, (B, C, Z, Y, X), from inputs that cover exactly ``net.plan(outputs).inputs``."""

Product = Literal["mean", "entropy", "variance"]
"""What is made of the members' predictions; see :class:`Ensemble`."""

_ROUNDING = 0.01
"""How far a probability may be beyond 0 or 1, or a sum of them from 1: what bfloat16 makes of it."""

_PLANS = 4096
"""How many plans' inputs are kept: blocks in the midst of a volume share theirs, those at its borders have others."""

_Request = tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]


class Ensemble:
    """The weighted mean of what its members predict, and how uncertain that is.

    A member is a network with a symmetry: it predicts the world as the symmetry shows it, and the prediction is carried
    back. It is given exactly the inputs that this takes, and agrees voxel for voxel with what the network makes of
    the whole world so turned. Members run one after the other, and only the running mean and variance are kept.

    Products of an output, named after it as in ``"output"``, ``"output/entropy"`` and ``"output/variance"``:

    - mean: the weighted mean over the members.
    - entropy: that of the mean, divided by the largest possible: from 0, certain, to 1, undecided. The channels are
      probabilities, each of a class of its own (so in bits); or, if exclusive, of which class of all it is (to the base
      of their number, and one channel).
    - variance: the weighted variance over the members, channel by channel. The members are all there are, so it is
      divided by the sum of the weights.

    Args:
        networks: with the same inputs and outputs; architecture and weights may differ. They are not changed.
        weights: what each network's predictions weigh, all the same unless given; with any symmetry. One number above
            0, or by output one number per channel, 0 for a class in which the network has no say.
        symmetries: each once; the world as it is unless given. See :func:`.lattice_symmetries`.
        products: which of them are made.
        exclusive: whether the channels of an output exclude one another and sum to 1, as those of a softmax do.

    Raises:
        ValueError: the networks differ in inputs, outputs, channels, classes, voxel sizes or world unit; a symmetry
            does not keep their lattices; weights are negative or leave a channel without any; a variance would be that
            of one member; or the arguments contradict each other.
    """

    def __init__(
        self,
        networks: Sequence[LeibNet],
        weights: Sequence[Weight] | None = None,
        symmetries: Sequence[Symmetry] | None = None,
        products: Sequence[Product] = ("mean",),
        exclusive: bool = False,
    ) -> None:
        if not networks:
            raise ArgumentError("an ensemble has at least one network")
        self.networks = tuple(networks)
        self.symmetries = (Symmetry.identity(networks[0].dims),) if symmetries is None else tuple(symmetries)
        self.products = tuple(products)
        self.exclusive = exclusive
        for index, net in enumerate(self.networks):
            _check_alike(self.networks[0], net, index)
            _check_symmetries(self.symmetries, net)
        _check_products(self.products)
        self._first = self.networks[0]
        self._channels = {key: self._first.specs[key].channels for key in self._first.output_keys}
        self._check_exclusive(weights)
        self._members = [(net, symmetry) for net in self.networks for symmetry in self.symmetries]
        self._shares = member_shares(
            [1.0] * len(self.networks) if weights is None else weights,
            self._channels,
            networks=len(self.networks),
            repeats=len(self.symmetries),
            least=2 if "variance" in self.products else 1,
        )
        by_fingerprint = {net.fingerprint: net for net in self.networks}
        self._planned = lru_cache(_PLANS)(lambda network, request: _planned(by_fingerprint[network], request))

    def produced(self, outputs: Iterable[str]) -> dict[str, int]:
        """Name and channels of everything that :meth:`predict` makes of some outputs.

        Raises:
            KeyError: there is no such output.
        """
        made = {}
        for key in outputs:
            if key not in self._channels:
                raise UnknownNameError(f"there is no output {key!r}; there are {', '.join(self._channels)}")
            for product in self.products:
                one = product == "entropy" and self.exclusive
                made[_name(key, product)] = 1 if one else self._channels[key]
        return made

    def inputs(self, outputs: Mapping[str, Roi]) -> dict[str, Roi]:
        """The world ROI to fetch of each input: the bounding box of what the members need of it.

        Raises:
            ValueError: a ROI is off its output's lattice, or as :meth:`scalenet_gp.LeibNet.plan` says otherwise; or
                weights were given by output, and this one has none.
            KeyError: there is no such output.
        """
        return _union(self._needed(outputs))

    @torch.no_grad()
    def predict(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Roi], compute: Compute) -> dict[str, Tensor]:
        """Everything that is made of ``outputs``, named as by :meth:`produced`, (B, C, Z, Y, X) each.

        The mean of one member is the very tensor that ``compute`` made, carried back. All else is float32, or float64
        if predictions are.

        Args:
            inputs: tensors (B, C, Z, Y, X) that cover exactly what :meth:`inputs` says.
            outputs: world ROI of each output.
            compute: runs a network; once for each member.

        Raises:
            ValueError: an input covers another number of voxels, an entropy is asked for of what are no probabilities,
                or as :meth:`inputs` says.
            KeyError: an input is missing, or there is no such output.
        """
        needed = self._needed(outputs)
        whole = _union(needed)
        self._check_covered(inputs, whole)
        moments: dict[str, RunningMoments] = {}
        for index, ((net, symmetry), rois) in enumerate(zip(self._members, needed, strict=True)):
            seen = {key: symmetry.tensor(self._part(key, inputs[key], whole[key], roi)) for key, roi in rois.items()}
            made = compute(net, seen, {key: symmetry.roi(roi) for key, roi in outputs.items()})
            for key in outputs:
                prediction = symmetry.inverse.tensor(made[key])
                if index == 0:
                    moments[key] = RunningMoments(prediction, with_variance="variance" in self.products)
                else:
                    moments[key].add(prediction, self._shares[key][index])
            del seen, made, prediction
        return {
            _name(key, product): self._made(key, moments[key], product) for key in outputs for product in self.products
        }

    def _made(self, key: str, moments: RunningMoments, product: Product) -> Tensor:
        if product == "variance":
            return moments.variance
        return moments.mean if product == "mean" else _entropy(key, moments.mean, self.exclusive)

    def _needed(self, outputs: Mapping[str, Roi]) -> list[dict[str, Roi]]:
        """The world ROI of every input that each member needs. Blocks that lie whole steps apart share a plan."""
        check_request(outputs, {key: self._first.voxel_size[key] for key in self._first.output_keys})
        for key in outputs:
            if key not in self._shares:
                raise ArgumentError(
                    f"weights are given by output, but not for {key!r}; only for {', '.join(self._shares)}"
                )
        needed = []
        for net, symmetry in self._members:
            seen = {key: symmetry.roi(roi) for key, roi in outputs.items()}
            step = Coordinate(math.lcm(*sizes) for sizes in zip(*net.voxel_size.values(), strict=True))
            offset = next(iter(seen.values())).begin // step * step
            request = tuple((key, tuple(roi.begin - offset), tuple(roi.shape)) for key, roi in seen.items())
            planned = self._planned(net.fingerprint, request)
            needed.append({key: symmetry.inverse.roi(roi.shift(offset)) for key, roi in planned.items()})
        return needed

    def _part(self, key: str, tensor: Tensor, whole: Roi, part: Roi) -> Tensor:
        size = self._first.voxel_size[key]
        first, past = (part.begin - whole.begin) / size, (part.end - whole.begin) / size
        return crop_tensor(tensor, tuple((int(f), int(p)) for f, p in zip(first, past, strict=True)))

    def _check_covered(self, inputs: Mapping[str, Tensor], whole: Mapping[str, Roi]) -> None:
        for key, roi in whole.items():
            if key not in inputs:
                raise UnknownNameError(f"the ensemble needs {key!r}; there are only {sorted(inputs)}")
            expected = tuple(int(voxels) for voxels in roi.shape / self._first.voxel_size[key])
            if tuple(inputs[key].shape[2:]) != expected:
                raise ArgumentError(
                    f"{key!r} has shape {tuple(inputs[key].shape)}; what the members need together is {roi}, which is "
                    f"(batch, channels, {', '.join(map(str, expected))})"
                )

    def _check_exclusive(self, weights: Sequence[Weight] | None) -> None:
        if not self.exclusive:
            return
        single = [key for key, channels in self._channels.items() if channels < 2]
        if single:
            raise ArgumentError(
                f"the output {single[0]!r} has one channel, which cannot exclude others: exclusive is False"
            )
        if any(isinstance(weight, Mapping) for weight in weights or ()):
            raise ArgumentError(
                "exclusive probabilities that are weighted channel by channel do not sum to 1; give one weight per "
                "network"
            )


def _name(key: str, product: Product) -> str:
    return key if product == "mean" else f"{key}/{product}"


def _planned(net: LeibNet, request: _Request) -> dict[str, Roi]:
    return net.plan({key: Roi(begin, shape) for key, begin, shape in request}).inputs


def _union(needed: Iterable[Mapping[str, Roi]]) -> dict[str, Roi]:
    whole: dict[str, Roi] = {}
    for rois in needed:
        for key, roi in rois.items():
            whole[key] = whole[key].union(roi) if key in whole else roi
    return whole


def _entropy(key: str, mean: Tensor, exclusive: bool) -> Tensor:
    """Entropy of probabilities (B, C, Z, Y, X) relative to the largest possible: of each, or as (B, 1, Z, Y, X)."""
    p = mean if mean.dtype == torch.float64 else mean.float()
    low, high = torch.aminmax(p)
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ArgumentError(
            f"{key!r} is {low.item():g} to {high.item():g}, and an entropy is that of probabilities, 0 to 1: of a "
            "network that ends in a Sigmoid or a Softmax"
        )
    p = p.clamp(0, 1)
    if not exclusive:
        return (torch.special.entr(p) + torch.special.entr(1 - p)) / math.log(2)
    low, high = torch.aminmax(p.sum(dim=1))
    if not (low >= 1 - _ROUNDING and high <= 1 + _ROUNDING):
        raise ArgumentError(
            f"the channels of {key!r} sum to {low.item():g} to {high.item():g}, those of exclusive classes to 1, as of "
            "a network that ends in a Softmax; for classes that a voxel can have together, exclusive is False"
        )
    return torch.special.entr(p).sum(dim=1, keepdim=True) / math.log(p.shape[1])


def _check_products(products: Sequence[Product]) -> None:
    known = get_args(Product)
    if not products or len(set(products)) < len(products) or not set(products) <= set(known):
        raise ArgumentError(f"products are some of {', '.join(known)}, each once, not {products!r}")


def _check_symmetries(symmetries: Sequence[Symmetry], net: LeibNet) -> None:
    if not symmetries or len(set(symmetries)) < len(symmetries):
        raise ArgumentError(
            f"give at least one symmetry, and each once, not {', '.join(map(str, symmetries)) or 'none'}"
        )
    for symmetry in symmetries:
        if symmetry.dims != net.dims:
            raise ArgumentError(f"the symmetry {symmetry} has {symmetry.dims} axes, {net.name} has {net.dims}")
        for key, voxel_size in net.voxel_size.items():
            if not symmetry.keeps(voxel_size):
                raise ArgumentError(
                    f"the symmetry {symmetry} does not keep the lattice of {key!r} of {net.name}, whose voxels are "
                    f"{tuple(voxel_size)} world units; lattice_symmetries gives those that do"
                )


def _check_alike(first: LeibNet, net: LeibNet, index: int) -> None:
    """Refuse a network that reads or makes other than the first."""

    def refuse(what: str, its: object, others: object) -> None:
        raise ArgumentError(
            f"the networks of an ensemble share {what}, but network {index} has {its} and network 0 {others}"
        )

    for what, its, others in (
        ("inputs", net.input_keys, first.input_keys),
        ("outputs", net.output_keys, first.output_keys),
    ):
        if set(its) != set(others):
            refuse(f"their {what}", ", ".join(its), ", ".join(others))
        for key in others:
            if net.specs[key] != first.specs[key]:
                refuse(f"voxel sizes and channels, also of {key!r}", net.specs[key], first.specs[key])
    if net.unit != first.unit:
        refuse("one world unit, in which ROIs are", f"{net.unit} nm", f"{first.unit} nm")
    its_classes, classes = _classes(net), _classes(first)
    for key in its_classes.keys() & classes.keys():
        if its_classes[key] != classes[key]:
            refuse(f"their classes, also of {key!r}", ", ".join(its_classes[key]), ", ".join(classes[key]))


def _classes(net: LeibNet) -> dict[str, tuple[str, ...]]:
    """The names of the channels of outputs, where they are known."""
    heads = (node for node in net.nodes.values() if isinstance(node, Head))
    return {head.output_keys[0]: head.classes for head in heads if head.output_keys[0] in net.output_keys}
