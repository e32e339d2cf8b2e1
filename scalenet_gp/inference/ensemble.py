"""Ensembles: several networks, each under several symmetries, as one prediction with an uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import torch
from funlib.geometry import Roi
from torch import Tensor

from scalenet_gp.errors import ArgumentError, UnknownNameError
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
"""A statistic of the members' predictions; see :class:`Ensemble`."""

_ROUNDING = 0.01
"""Tolerance by which a probability may lie beyond 0 or 1, or a sum of them beside 1: the rounding of bfloat16."""


class Ensemble:
    """The weighted mean of the predictions of its members, and their uncertainty.

    A member is a network with a symmetry. It predicts the world transformed by the symmetry, and the prediction is
    transformed back. It gets exactly the inputs that this needs, and agrees voxel for voxel with the prediction of the
    whole transformed world. Members run one after the other, and only the running mean and variance are kept.

    Products of an output, named after it as in ``"output"``, ``"output/entropy"`` and ``"output/variance"``:

    - mean: the weighted mean over the members.
    - entropy: the entropy of the mean, divided by the largest possible: from 0, certain, to 1, undecided. The channels
      are probabilities, each of a class of its own (entropy in bits, per channel). If ``exclusive``, they are the
      probabilities of one class each (entropy to the base of their number, one channel).
    - variance: the weighted variance over the members, per channel, divided by the sum of the weights.

    Args:
        networks: networks with the same inputs and outputs; architecture and weights may differ. They are not changed.
        weights: the weight of each network's predictions, with any symmetry; equal unless given. One number above 0, or
            by output one number per channel, 0 for a class that the network does not know.
        symmetries: symmetries of the world, each once; the identity alone unless given. See
            :func:`.lattice_symmetries`.
        products: the products to compute.
        exclusive: True if the channels of an output exclude one another and sum to 1, as those of a softmax do.

    Raises:
        ArgumentError: the networks differ in inputs, outputs, channels, classes, voxel sizes or world unit; a symmetry
            does not keep their lattices; weights are negative or leave a channel without any; a variance would be that
            of one member; or the arguments contradict each other.

    Example:
        >>> from scalenet_gp import build_unet
        >>> from scalenet_gp.inference import Ensemble, lattice_symmetries
        >>> net = build_unet((8, 8), base_nc=2)
        >>> ensemble = Ensemble([net], symmetries=lattice_symmetries(net), products=("mean", "variance"))
        >>> ensemble.produced(["output"])
        {'output': 1, 'output/variance': 1}
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
        self._graphs = {net.fingerprint: net.graph for net in self.networks}  # networks built alike share plans
        self._shares = member_shares(
            [1.0] * len(self.networks) if weights is None else weights,
            self._channels,
            networks=len(self.networks),
            repeats=len(self.symmetries),
            least=2 if "variance" in self.products else 1,
        )

    def produced(self, outputs: Iterable[str]) -> dict[str, int]:
        """Return name and channels of every product that :meth:`predict` makes of some outputs.

        Raises:
            UnknownNameError: there is no such output.
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
        """Return the world ROI to fetch of each input: the bounding box of the ROIs that the members need.

        Raises:
            GraphError, LatticeError, UnknownNameError: as :meth:`scalenet_gp.LeibNet.plan`.
            ArgumentError: weights were given by output, but not for a requested one.
        """
        return _union(self._needed(outputs))

    @torch.no_grad()
    def predict(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Roi], compute: Compute) -> dict[str, Tensor]:
        """Predict all products of ``outputs``, named as by :meth:`produced`, (B, C, Z, Y, X) each.

        The mean of one member is the tensor that ``compute`` made, transformed back. All other products are float32, or
        float64 if predictions are.

        Args:
            inputs: tensors (B, C, Z, Y, X) that cover exactly the ROIs of :meth:`inputs`.
            outputs: world ROI of each output.
            compute: runs a network; called once per member.

        Raises:
            ArgumentError: an input covers another number of voxels, an entropy is requested of values that are not
                probabilities, or as :meth:`inputs`.
            GraphError, LatticeError: as :meth:`inputs`.
            UnknownNameError: an input is missing, or there is no such output.
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

    def entropy(self, key: str, mean: Tensor) -> Tensor:
        """Return the product "entropy" of an output whose mean is ``mean``, (B, C, Z, Y, X).

        Raises:
            ArgumentError: the mean does not hold probabilities.
        """
        return _entropy(key, mean, self.exclusive)

    def _made(self, key: str, moments: RunningMoments, product: Product) -> Tensor:
        if product == "variance":
            return moments.variance
        return moments.mean if product == "mean" else self.entropy(key, moments.mean)

    def _needed(self, outputs: Mapping[str, Roi]) -> list[dict[str, Roi]]:
        """Return the world ROI of every input that each member needs."""
        self._first.graph.check_request(outputs)
        for key in outputs:
            if key not in self._shares:
                raise ArgumentError(
                    f"weights are given by output, but not for {key!r}; only for {', '.join(self._shares)}"
                )
        needed = []
        for net, symmetry in self._members:
            plan = self._graphs[net.fingerprint].plan({key: symmetry.roi(roi) for key, roi in outputs.items()})
            needed.append({key: symmetry.inverse.roi(roi) for key, roi in plan.inputs.items()})
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
                    f"{key!r} has shape {tuple(inputs[key].shape)}; the members together need {roi}, which is "
                    f"(batch, channels, {', '.join(map(str, expected))})"
                )

    def _check_exclusive(self, weights: Sequence[Weight] | None) -> None:
        if not self.exclusive:
            return
        single = [key for key, channels in self._channels.items() if channels < 2]
        if single:
            raise ArgumentError(
                f"the output {single[0]!r} has one channel, which cannot exclude others: set exclusive to False"
            )
        if any(isinstance(weight, Mapping) for weight in weights or ()):
            raise ArgumentError(
                "exclusive probabilities that are weighted channel by channel do not sum to 1; give one weight per "
                "network"
            )


def _name(key: str, product: Product) -> str:
    return key if product == "mean" else f"{key}/{product}"


def _union(needed: Iterable[Mapping[str, Roi]]) -> dict[str, Roi]:
    whole: dict[str, Roi] = {}
    for rois in needed:
        for key, roi in rois.items():
            whole[key] = whole[key].union(roi) if key in whole else roi
    return whole


def _entropy(key: str, mean: Tensor, exclusive: bool) -> Tensor:
    """Return the relative entropy of probabilities (B, C, Z, Y, X): of each, or, if exclusive, (B, 1, Z, Y, X)."""
    p = mean if mean.dtype == torch.float64 else mean.float()
    low, high = torch.aminmax(p)
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ArgumentError(
            f"{key!r} is {low.item():g} to {high.item():g}; an entropy needs probabilities from 0 to 1, as of a "
            "network that ends in a Sigmoid or a Softmax"
        )
    p = p.clamp(0, 1)
    if not exclusive:
        return (torch.special.entr(p) + torch.special.entr(1 - p)) / math.log(2)
    low, high = torch.aminmax(p.sum(dim=1))
    if not (low >= 1 - _ROUNDING and high <= 1 + _ROUNDING):
        raise ArgumentError(
            f"the channels of {key!r} sum to {low.item():g} to {high.item():g}; those of exclusive classes sum to 1, "
            "as of a network that ends in a Softmax; for classes that a voxel can have together, exclusive is False"
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
    """Refuse a network with other inputs or outputs than the first."""

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
    """Return the names of the channels of the outputs for which they are known."""
    heads = (node for node in net.nodes.values() if isinstance(node, Head))
    return {head.output_keys[0]: head.classes for head in heads if head.output_keys[0] in net.output_keys}
