"""Choosing sizes: where a box is cheapest, which shapes tile, and how large a pass fits into memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.analysis.cost import predict_cost
from scalenet_gp.errors import GraphError, UnknownNameError
from scalenet_gp.graph import Plan

if TYPE_CHECKING:
    from scalenet_gp.leibnet import LeibNet

__all__ = ["largest_plan", "smallest_plan", "valid_output_shapes"]

Steps = tuple[int, ...]
"""The shape of a box in multiples of a plan's step, per spatial axis."""


def smallest_plan(net: LeibNet, outputs: Iterable[str] | None = None) -> Plan:
    """All outputs, or those named, over one box as small as every tensor's lattice closes on.

    The box has the plan's step for its shape, so plans of neighbouring boxes are this one, shifted. How much its
    outputs depend on differs with where the box begins in the coarse voxels: it begins where the plan has the fewest
    values (voxels times channels of all its tensors), and where several are equal at the first of them from the origin
    on.

    Raises:
        KeyError: the network has no such output.
        ValueError: no output is named.
    """
    keys = _named(net, outputs)
    step = _step(net, keys)
    begins, sizes = [], []
    lattice = [math.lcm(*axis) for axis in zip(*(net.voxel_size[key] for key in keys), strict=True)]
    for phase in range(max(s // size for s, size in zip(step, lattice, strict=True))):
        # What happens along one axis is no matter to the others: one plan tells about a place on each of them.
        begins.append([phase * size % s for s, size in zip(step, lattice, strict=True)])
        plan = _over(net, keys, Roi(begins[-1], step))
        sizes.append([tensor.shape for tensor in plan.tensors])
    channels = np.array([tensor.channels for tensor in plan.tensors])
    chosen = _fewest_values(np.array(begins), np.array(sizes), channels)
    return _over(net, keys, Roi(chosen, step))


def valid_output_shapes(net: LeibNet, output: str, at_most: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The sizes (voxels) along each axis with which tiles of an output, laid side by side, all share one plan, shifted.

    Any size along one axis goes with any along the others. They are the multiples of the plan's step.

    Args:
        net: the network.
        output: name of the output.
        at_most: the largest size of interest along each axis, in voxels.

    Raises:
        KeyError: the network has no such output.
        ValueError: ``at_most`` has another number of axes, or is smaller than the smallest such tile.
    """
    smallest = _step(net, _named(net, [output])) / net.voxel_size[output]
    if len(at_most) != net.dims:
        raise GraphError(f"at_most has {len(at_most)} axes, {tuple(at_most)}; the network has {net.dims}")
    if any(most < least for most, least in zip(at_most, smallest, strict=True)):
        raise GraphError(
            f"{output!r}: no tile of at most {tuple(at_most)} voxels shares its plan with its neighbours; the smallest "
            f"has {tuple(smallest)}"
        )
    return tuple(tuple(range(least, most + 1, least)) for least, most in zip(smallest, at_most, strict=True))


def largest_plan(
    net: LeibNet,
    memory_limit: int,
    *,
    training: bool = False,
    dtype: torch.dtype = torch.float32,
    outputs: Iterable[str] | None = None,
    batch: int = 1,
    activation_checkpointing: Collection[str] = (),
) -> Plan:
    """The plan that makes the most output per unit of work of those that fit into memory.

    Its outputs cover a box that begins where that of :func:`smallest_plan` does, of a whole number of its steps along
    each axis: so tiles share the plan. Work is multiply-accumulates, memory is that of
    :func:`scalenet_gp.analysis.cost.predict_cost`. As valid convolutions lose the same margin of any box, large boxes
    take less
    work per voxel: the box grows one step at a time along the axis on which that gains most, as long as it fits, and
    then along any on which it still does. That memory grows with the box is taken for granted. No step along one axis
    more fits, or none would gain anything.

    Args:
        net: the network.
        memory_limit: bytes for everything: weights, inputs, what is in between, outputs and, in training, gradients.
        training: whether a step of training has to fit, or inference.
        dtype: as for :func:`scalenet_gp.analysis.cost.predict_cost`.
        outputs: the outputs that are wanted; all unless given.
        batch: samples per pass.
        activation_checkpointing: as for :func:`scalenet_gp.analysis.cost.predict_cost`.

    Raises:
        KeyError: the network has no such output.
        ValueError: not even the smallest plan fits; the message says what that needs.
    """
    smallest = smallest_plan(net, outputs)
    keys = tuple(smallest.outputs)
    box = next(iter(smallest.outputs.values()))

    def grown(steps: Steps) -> Plan:
        return _over(net, keys, Roi(box.begin, box.shape * Coordinate(steps)))

    @cache
    def memory(steps: Steps) -> int:
        plan = grown(steps)
        return predict_cost(
            net, plan, batch=batch, training=training, dtype=dtype, activation_checkpointing=activation_checkpointing
        ).peak

    start = (1,) * net.dims
    if memory(start) > memory_limit:
        raise GraphError(
            f"the smallest plan, with outputs of {tuple(box.shape)} world units, needs {memory(start) / 2**20:.1f} MiB "
            f"for a batch of {batch} and {'training' if training else 'inference'}; the limit is "
            f"{memory_limit / 2**20:.1f} MiB"
        )
    work = _polynomial(lambda steps: predict_cost(net, grown(steps)).total_macs, net.dims)

    def worth(steps: Steps) -> tuple[Fraction, int]:
        voxels = math.prod(steps)
        return Fraction(voxels, max(1, work(steps))), voxels

    found = {max(_passed(memory, memory_limit, work, net.dims), key=worth)}
    to_grow = list(found)
    while to_grow:
        steps = to_grow.pop()
        for larger in _larger(steps):
            if larger not in found and worth(larger) > worth(steps) and memory(larger) <= memory_limit:
                found.add(larger)
                to_grow.append(larger)
    return grown(max(found, key=worth))


def _named(net: LeibNet, outputs: Iterable[str] | None) -> tuple[str, ...]:
    keys = net.output_keys if outputs is None else tuple(outputs)
    if not keys:
        raise GraphError(f"name at least one output of {', '.join(net.output_keys)}")
    for key in keys:
        if key not in net.output_keys:
            raise UnknownNameError(f"there is no output {key!r}; there are {', '.join(net.output_keys)}")
    return keys


def _step(net: LeibNet, keys: Sequence[str]) -> Coordinate:
    return net.plan({key: Roi((0,) * net.dims, net.voxel_size[key]) for key in keys}).step


def _over(net: LeibNet, keys: Sequence[str], box: Roi) -> Plan:
    return net.plan(dict.fromkeys(keys, box))


def _fewest_values(begins: NDArray[np.int64], sizes: NDArray[np.int64], channels: NDArray[np.int64]) -> list[int]:
    """Where the box with the fewest values begins.

    Args:
        begins: where boxes were tried, (places, axes).
        sizes: voxels of the tensors of the plans for them, (places, tensors, axes).
        channels: of the tensors.
    """
    distinct = []
    for axis in range(begins.shape[1]):
        order = np.argsort(begins[:, axis], kind="stable")
        options, first = np.unique(sizes[order, :, axis], axis=0, return_index=True)
        other = options[:, None]
        worse = np.any(np.all(other >= options, axis=-1) & np.any(other > options, axis=-1), axis=1)
        distinct.append((options[~worse], begins[order, axis][first][~worse]))
    grids = np.meshgrid(*(np.arange(len(options)) for options, _ in distinct), indexing="ij")
    values = channels * math.prod(options[grid] for (options, _), grid in zip(distinct, grids, strict=True))
    total = values.sum(axis=-1)
    from_origin = sum(begin[grid] for (_, begin), grid in zip(distinct, grids, strict=True))
    best = np.lexsort((np.ravel(from_origin), np.ravel(total)))[0]
    where = np.unravel_index(best, total.shape)
    return [int(begin[index]) for (_, begin), index in zip(distinct, where, strict=True)]


def _polynomial(value: Callable[[Steps], int], dims: int) -> Callable[[Steps], int]:
    """What ``value`` gives, from few values of it.

    Every tensor is affine in the steps along each axis. So the work of convolutions is of first degree in each of them;
    that of attention, which grows with the square of the voxels, is of second degree.
    """
    for degree in (1, 2):
        points = range(1, degree + 2)
        values = {steps: value(steps) for steps in itertools.product(points, repeat=dims)}

        def at(steps: Steps, points: Sequence[int] = points, values: dict[Steps, int] = values) -> int:
            weights = [
                [math.prod((Fraction(s - q, p - q) for q in points if q != p), start=Fraction(1)) for p in points]
                for s in steps
            ]
            return int(sum(math.prod(w) * values[p] for w, p in zip(itertools.product(*weights), values, strict=True)))

        beyond = (degree + 2,) * dims
        if at(beyond) == value(beyond):
            break
    return at


def _larger(steps: Steps) -> list[Steps]:
    """The boxes that are a step larger along one axis."""
    return [tuple(s + (a == axis) for a, s in enumerate(steps)) for axis in range(len(steps))]


def _growing(work: Callable[[Steps], int], dims: int) -> Iterator[Steps]:
    """Boxes from one step on, each a step larger along the axis on which the work per voxel falls most for its size.

    Where several are equal it is the one with the fewest steps.
    """
    steps = (1,) * dims
    while True:
        yield steps
        larger = _larger(steps)
        gain = [
            -math.log(max(1, work(other)) / max(1, work(steps))) / math.log(math.prod(other) / math.prod(steps))
            for other in larger
        ]
        axis = max(range(dims), key=lambda axis: (round(gain[axis], 9), -steps[axis]))
        steps = larger[axis]


def _passed(memory: Callable[[Steps], int], limit: int, work: Callable[[Steps], int], dims: int) -> list[Steps]:
    """The growing boxes up to the last that fits; the first one does.

    Memory goes about with the work: so where the last one lies is guessed from one that fits, which takes few guesses.
    """
    growing = _growing(work, dims)
    boxes = [next(growing)]
    fitting, past = 0, None
    while past is None or past - fitting > 1:
        affordable = work(boxes[fitting]) * limit / memory(boxes[fitting])
        guess = fitting + 1
        while past is None or guess + 1 < past:
            if guess + 1 >= len(boxes):
                boxes += itertools.islice(growing, 2)
            if work(boxes[guess + 1]) > affordable:
                break
            guess += 1
        if memory(boxes[guess]) <= limit:
            fitting = guess
        else:
            past = guess
    return boxes[: fitting + 1]
