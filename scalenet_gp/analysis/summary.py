"""The tensors of a plan and their cost, as a table."""

from __future__ import annotations

import html
import math
import textwrap
from dataclasses import dataclass

from funlib.geometry import Coordinate

from scalenet_gp.analysis.cost import Cost, predict_cost
from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Graph, Plan, SpecializedNet

__all__ = ["Summary", "summarize"]

_HEADER = ("tensor", "made by", "voxel size (nm)", "begin", "shape", "channels", "MAC", "memory")


@dataclass(frozen=True)
class Summary:
    """A table of the tensors of a plan and their cost, for terminals (``str``) and notebooks.

    Sizes are in voxels, begins in world units. Multiply-accumulates are those of the forward pass of the node that
    makes the tensor. Memory is that of one ``float32`` sample.

    Attributes:
        name: the network's name.
        plan: the plan.
        rows: for each tensor its name, the kind of its maker, voxel size, begin, shape, channels, MACs and memory.
        inference: predicted cost of a forward pass of one ``float32`` sample.
        training: predicted cost of a step of training on one ``float32`` sample, without loss and optimizer.
        parameters: number of weights of the plan's nodes.
        whole_tensor: the nodes of the plan whose result depends on the whole tensor, with their kinds.

    Example:
        >>> from scalenet_gp import build_unet
        >>> build_unet((8, 8), base_nc=2).summary().parameters
        1989
    """

    name: str
    plan: Plan
    rows: tuple[tuple[str, ...], ...]
    inference: Cost
    training: Cost
    parameters: int
    whole_tensor: tuple[tuple[str, str], ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """The totals, a line each, and a warning if tiles will not agree."""
        macs = self.inference.total_macs
        voxels = {
            key: math.prod(roi.shape / Coordinate(self.plan.tensor(key).voxel_size))
            for key, roi in self.plan.outputs.items()
        }
        output = max(voxels, key=lambda key: voxels[key])
        lines = [
            f"{_scaled(macs)}MAC per sample, {_scaled(macs / voxels[output])}MAC per voxel of {output!r}",
            f"{self.parameters:,} parameters; {_bytes(self.inference.weights)} of weights",
            f"predicted peak with weights: {_bytes(self.inference.peak)} for inference, {_bytes(self.training.peak)} "
            "for training without optimizer",
        ]
        if self.whole_tensor:
            nodes = ", ".join(f"{name} ({kind})" for name, kind in self.whole_tensor)
            lines.append(f"tiles will not agree exactly: these nodes depend on the whole tensor: {nodes}")
        return tuple(lines)

    def __str__(self) -> str:
        table = (_HEADER, *self.rows)
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            )
            for cells in table
        ]
        rule = "-" * len(lines[0])
        notes = (textwrap.fill(note, 120, subsequent_indent="  ") for note in self.notes)
        return "\n".join([self.name, lines[0], rule, *lines[1:], rule, *notes])

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            aligned = (f'<{tag} style="text-align: {"left" if i < 2 else "right"}">' for i in range(len(cells)))
            return (
                "<tr>" + "".join(f"{a}{html.escape(c)}</{tag}>" for a, c in zip(aligned, cells, strict=True)) + "</tr>"
            )

        body = "".join(line(cells, "td") for cells in self.rows)
        notes = "<br>".join(map(html.escape, self.notes))
        return (
            f"<table><caption>{html.escape(self.name)}</caption><thead>{line(_HEADER, 'th')}</thead>"
            f"<tbody>{body}</tbody></table><p>{notes}</p>"
        )


def summarize(graph: Graph, plan: Plan) -> Summary:
    """Summarize the tensors and the cost of ``plan``; nothing is computed, and the graph is left as it is.

    Raises:
        GraphError: the plan is another graph's.
    """
    inference = predict_cost(graph, plan)
    module = SpecializedNet(graph, plan)
    maker = {name: step.node for step in plan.steps for name, _ in step.keeps}
    kinds = {step.node: type(graph.nodes[step.node]).__name__ for step in plan.steps}
    rows, counted = [], set()
    for tensor in plan.tensors:
        node = maker.get(tensor.name)
        macs = 0 if node is None or node in counted else inference.macs[node]
        counted.add(node)
        rows.append(
            (
                tensor.name,
                "(input)" if node is None else kinds[node],
                format_size(graph.specs[tensor.name].voxel_size),
                ", ".join(map(str, tensor.begin)),
                " × ".join(map(str, tensor.shape)),
                str(tensor.channels),
                _scaled(macs) if macs else "",
                _bytes(tensor.numbytes()),
            )
        )
    return Summary(
        name=graph.name,
        plan=plan,
        rows=tuple(rows),
        inference=inference,
        training=predict_cost(graph, plan, training=True),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        whole_tensor=tuple((name, kind) for name, kind in kinds.items() if not graph.nodes[name].tileable),
    )


def _scaled(count: float) -> str:
    """Return a count with three digits and a unit, as ``17.9 G``."""
    return _in_units(count, 1000, ("", "k", "M", "G", "T", "P"))


def _bytes(count: float) -> str:
    """Return bytes with three digits and a unit, as ``17.9 MiB``."""
    return _in_units(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _in_units(count: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / base, power + 1
    return f"{count:.{max(0, 2 - len(str(int(count))) + 1) if power else 0}f} {units[power]}"
