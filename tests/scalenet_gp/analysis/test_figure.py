"""The picture of nested fields of view: what is drawn lies where the plan says."""

from __future__ import annotations

import io
import sys

import pytest
from funlib.geometry import Roi
from matplotlib.figure import Figure

from scalenet_gp import build_scalenet, build_unet
from scalenet_gp.analysis.figure import fields_of_view_figure


def boxes(axes, unit: float) -> set[tuple[float, ...]]:
    """The drawn boxes, as (y, x, height, width) in nm."""
    return {
        tuple(round(v / unit, 6) for v in (p.get_y(), p.get_x(), p.get_height(), p.get_width())) for p in axes.patches
    }


def expected(rois: list[Roi], nm: float, down: int, across: int) -> set[tuple[float, ...]]:
    return {
        tuple(round(float(v) * nm, 6) for v in (r.begin[down], r.begin[across], r.shape[down], r.shape[across]))
        for r in rois
    }


def test_each_column_holds_its_scale_and_all_finer_ones():
    net = build_scalenet([{"top_resolution": (r,) * 3, "base_nc": 1} for r in (128, 32, 8)])
    plan = net.smallest_plan
    figure = fields_of_view_figure(net.graph, plan)
    assert len(figure.axes) == 3 * 3
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == [f"{r} × {r} × {r} nm voxels" for r in (128, 32, 8)]
    for column in range(3):
        finer = range(column, 3)
        rois = [*(plan.inputs[f"{i}_input"] for i in finer), *(plan.outputs[f"{i}_output"] for i in finer)]
        for row, (down, across) in enumerate(((1, 2), (0, 2))):
            axes = figure.axes[3 * row + column]
            unit = 1e-3 if "µm" in axes.get_xlabel() else 1
            assert boxes(axes, unit) == expected(rois, 1, down, across)
            assert axes.get_aspect() == 1
            left, right = axes.get_xlim()
            assert all(left <= p.get_x() and p.get_x() + p.get_width() <= right for p in axes.patches)
            bottom, top = axes.get_ylim()
            assert all(top <= p.get_y() and p.get_y() + p.get_height() <= bottom for p in axes.patches)
        labels = [text.get_text() for text in figure.axes[6 + column].get_legend().get_texts()]
        shapes = [plan.tensor(f"{column}_{end}").shape for end in ("input", "output")]
        assert all(" × ".join(map(str, shape)) in label for shape, label in zip(shapes, labels, strict=True))


def test_two_dimensions_and_fractions():
    net = build_unet((8, "4.6"), base_nc=1, heads={"er": ["er"], "mito": ["a", "b"]})
    plan = net.plan({"er": Roi((0, 0), (80, 46)), "mito": Roi((0, 0), (40, 23))})
    figure = fields_of_view_figure(net.graph, plan)
    axes, names = figure.axes
    assert boxes(axes, 1) == expected([plan.inputs["input"], *plan.outputs.values()], 0.2, 0, 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (nm)", "y (nm)")
    labels = [text.get_text() for text in names.get_legend().get_texts()]
    assert [label.split(":")[0] for label in labels] == ["input", "er", "mito"]
    assert labels[1] == "er: 2 × 2 voxels\n16 × 9.2 nm"


@pytest.mark.parametrize("voxel_size", [(8, 8), (40, 4, 4)])
def test_nothing_overlaps(voxel_size):
    net = build_unet(voxel_size, base_nc=1)
    figure = fields_of_view_figure(net.graph, net.smallest_plan)
    figure.savefig(io.BytesIO(), format="png")
    drawn = [axes.get_tightbbox() for axes in figure.axes if axes.axison]
    drawn += [axes.get_legend().get_window_extent() for axes in figure.axes if axes.get_legend()]
    assert not any(a.overlaps(b) for i, a in enumerate(drawn) for b in drawn[:i])
    assert all(figure.bbox.x0 <= b.x0 and b.x1 <= figure.bbox.x1 and figure.bbox.y0 <= b.y0 for b in drawn)


def test_it_is_no_part_of_a_global_state():
    net = build_unet((8, 8), base_nc=1)
    figure = fields_of_view_figure(net.graph, net.smallest_plan)
    assert isinstance(figure, Figure)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
