"""Choice of sizes: the cheapest position of a box, shapes that tile, and the largest pass that fits into memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from scalenet_gp.analysis.cost import Cost, CostPredictor
from scalenet_gp.errors import GraphError
from scalenet_gp.graph import Graph, Plan

__all__ = ["largest_plan", "smallest_plan", "valid_output_shapes"]

Steps = tuple[int, ...]
"""The shape of a box in multiples of a plan's step, per spatial axis."""


def smallest_plan(graph: Graph, outputs: Iterable[str] | None = None) -> Plan:
    """Return the plan of all outputs, or those named, over the smallest box on which all lattices close.

    The shape of the box is the plan's step, so the plan of a neighboring box is this one, shifted. The number of values
    that the outputs depend on (voxels times channels of all tensors) differs with the position of the box in the coarse
    voxels. The box begins where it is smallest; of several such positions, at the first from the origin on.

    Args:
        graph: the graph.
        outputs: names of outputs; all unless given.

    Raises:
        UnknownNameError: the graph has no such output.
        GraphError: no output is named.

    Example:
        >>> from scalenet_gp import build_unet
        >>> smallest_plan(build_unet((8, 8), base_nc=2).graph).outputs
        {'output': [16:48, 16:48] (32, 32)}
    """
    keys = _named(graph, outputs)
    step = _step(graph, keys)
    begins, sizes = [], []
    lattice = [math.lcm(*axis) for axis in zip(*(graph.voxel_size[key] for key in keys), strict=True)]
    for phase in range(max(s // size for s, size in zip(step, lattice, strict=True))):
        # Axes are independent: one request tells about a position on each of them.
        begins.append([phase * size % s for s, size in zip(step, lattice, strict=True)])
        needed = graph.required_rois(dict.fromkeys(keys, Roi(begins[-1], step)))
        names = sorted(needed)
        sizes.append([needed[name].shape / graph.voxel_size[name] for name in names])
    channels = np.array([graph.specs[name].channels for name in names])
    chosen = _fewest_values(np.array(begins), np.array(sizes), channels)
    return _over(graph, keys, Roi(chosen, step))


def valid_output_shapes(graph: Graph, output: str, at_most: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the sizes (voxels) along each axis with which tiles of an output, side by side, share one plan, shifted.

    Any size along one axis goes with any along the others. They are the multiples of the plan's step.

    Args:
        graph: the graph.
        output: name of the output.
        at_most: the largest size of interest along each axis, in voxels.

    Raises:
        UnknownNameError: the graph has no such output.
        GraphError: ``at_most`` has another number of axes, or is smaller than the smallest such tile.
    """
    smallest = _step(graph, _named(graph, [output])) / graph.voxel_size[output]
    if len(at_most) != graph.dims:
        raise GraphError(f"at_most has {len(at_most)} axes, {tuple(at_most)}; the network has {graph.dims}")
    if any(most < least for most, least in zip(at_most, smallest, strict=True)):
        raise GraphError(
            f"{output!r}: no tile of at most {tuple(at_most)} voxels shares its plan with its neighbors; the smallest "
            f"has {tuple(smallest)}"
        )
    return tuple(tuple(range(least, most + 1, least)) for least, most in zip(smallest, at_most, strict=True))


def largest_plan(
    graph: Graph,
    memory_limit: int,
    *,
    training: bool = False,
    dtype: torch.dtype = torch.float32,
    outputs: Iterable[str] | None = None,
    batch: int = 1,
    activation_checkpointing: Collection[str] = (),
) -> Plan:
    """Return the plan with the most output voxels per unit of work of those that fit into memory.

    Its outputs cover a box that begins where the box of :func:`smallest_plan` does and has a whole number of its steps
    along each axis, so tiles share the plan. Work is multiply-accumulates, memory is that of :func:`predict_cost`.
    Valid convolutions lose the same margin of any box, so large boxes take less work per voxel. The box grows one step
    at a time along the axis on which that gains most, as long as it fits, and then along any axis on which it still
    fits. It is assumed that memory grows with the box. At the end, one more step along any axis does not fit or gains
    nothing.

    Args:
        graph: the graph.
        memory_limit: bytes for everything: weights, inputs, tensors in between, outputs and, in training, gradients.
        training: True if a step of training has to fit, False for inference.
        dtype: as for :func:`predict_cost`.
        outputs: the outputs to compute; all unless given.
        batch: samples per pass.
        activation_checkpointing: as for :func:`predict_cost`.

    Raises:
        UnknownNameError: the graph has no such output.
        GraphError: not even the smallest plan fits; the message says how much it needs.
    """
    smallest = smallest_plan(graph, outputs)
    keys = tuple(smallest.outputs)
    box = next(iter(smallest.outputs.values()))

    def grown(steps: Steps) -> Plan:
        return _over(graph, keys, Roi(box.begin, box.shape * Coordinate(steps)))

    costs = CostPredictor(
        graph, batch=batch, training=training, dtype=dtype, activation_checkpointing=activation_checkpointing
    )
    # A prediction for training has the multiply-accumulates too, but takes longer.
    works = CostPredictor(graph, batch=batch) if training else costs

    @cache
    def cost(steps: Steps) -> Cost:
        return costs.predict(grown(steps))

    def memory(steps: Steps) -> int:
        return cost(steps).peak

    def forward_macs(steps: Steps) -> int:
        return (works.predict(grown(steps)) if training else cost(steps)).total_macs

    start = (1,) * graph.dims
    if memory(start) > memory_limit:
        raise GraphError(
            f"the smallest plan, with outputs of {tuple(box.shape)} world units, needs {memory(start) / 2**20:.1f} MiB "
            f"for a batch of {batch} and {'training' if training else 'inference'}; the limit is "
            f"{memory_limit / 2**20:.1f} MiB"
        )
    work = _polynomial(forward_macs, graph.dims)

    def worth(steps: Steps) -> tuple[Fraction, int]:
        voxels = math.prod(steps)
        return Fraction(voxels, max(1, work(steps))), voxels

    found = {max(_passed(memory, memory_limit, work, graph.dims), key=worth)}
    to_grow = list(found)
    while to_grow:
        steps = to_grow.pop()
        for larger in _larger(steps):
            if larger not in found and worth(larger) > worth(steps) and memory(larger) <= memory_limit:
                found.add(larger)
                to_grow.append(larger)
    return grown(max(found, key=worth))


def _named(graph: Graph, outputs: Iterable[str] | None) -> tuple[str, ...]:
    keys = graph.output_keys if outputs is None else tuple(outputs)
    if not keys:
        raise GraphError(f"name at least one output of {', '.join(graph.output_keys)}")
    graph.check_output(*keys)
    return keys


def _step(graph: Graph, keys: Sequence[str]) -> Coordinate:
    return graph.plan({key: Roi((0,) * graph.dims, graph.voxel_size[key]) for key in keys}).step


def _over(graph: Graph, keys: Sequence[str], box: Roi) -> Plan:
    return graph.plan(dict.fromkeys(keys, box))


def _fewest_values(begins: NDArray[np.int64], sizes: NDArray[np.int64], channels: NDArray[np.int64]) -> list[int]:
    """Return the begin of the box whose plan has the fewest values.

    Args:
        begins: begins of the boxes that were tried, (positions, axes).
        sizes: voxels of the tensors of their plans, (positions, tensors, axes).
        channels: channels of the tensors.
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
    """Return a function with the values of ``value``, interpolated from few of them.

    Every tensor is affine in the steps along each axis. So the work of convolutions is of first degree in each of them.
    The work of attention grows with the square of the voxels, so it is of second degree.
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
    """Return the boxes that are a step larger along one axis."""
    return [tuple(s + (a == axis) for a, s in enumerate(steps)) for axis in range(len(steps))]


def _growing(work: Callable[[Steps], int], dims: int) -> Iterator[Steps]:
    """Yield boxes from one step on, each a step larger along the axis on which the work per voxel falls most.

    Of several equal axes, the one with the fewest steps grows.
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
    """Return the growing boxes up to the last that fits; the first one fits.

    Memory is about proportional to the work. So the last one is guessed from one that fits, and then from the last two
    that were tried, in few guesses.
    """
    growing = _growing(work, dims)
    boxes = [next(growing)]
    fitting, past = 0, None
    tried = [0, 0]
    while past is None or past - fitting > 1:
        first, last = (boxes[index] for index in sorted(tried))
        more = memory(last) - memory(first)
        # work for a byte: none between two boxes that take as much
        slope = (work(last) - work(first)) / more if more > 0 else work(last) / memory(last)
        affordable = work(boxes[fitting]) + slope * (limit - memory(boxes[fitting]))
        guess = fitting + 1
        while past is None or guess + 1 < past:
            if guess + 1 >= len(boxes):
                boxes += itertools.islice(growing, 2)
            if work(boxes[guess + 1]) > affordable:
                break
            guess += 1
        tried = [tried[-1], guess]
        if memory(boxes[guess]) <= limit:
            fitting = guess
        else:
            past = guess
    return boxes[: fitting + 1]
