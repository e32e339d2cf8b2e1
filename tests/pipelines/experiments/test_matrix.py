"""The file of an experiment: what it says of each run, and what is refused before anything starts."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scalenet_gp.analysis import predict_cost
from scalenet_gp.errors import ArgumentError, ConfigError
from scalenet_gp.pipelines.experiments import Budget, Cell, ExperimentPlan, Matrix, plan_experiment
from scalenet_gp.pipelines.experiments.matrix import merge_settings
from scalenet_gp.pipelines.experiments.widths import nearest_width, widths_of, with_width
from tests.pipelines.experiments.conftest import UNET, write_matrix

trees = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
    lambda below: st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=8,
)


@given(trees, trees)
def test_merging_twice_is_merging_once_and_changes_nothing_else(there, change):
    merged = merge_settings(there, change)
    assert merge_settings(merged, change) == merged
    if isinstance(there, dict) and isinstance(change, dict):
        assert set(merged) == set(there) | set(change)
        assert all(merged[name] == there[name] for name in set(there) - set(change))


def test_another_kind_replaces_a_mapping_and_the_same_kind_changes_it():
    there = {"network": {"kind": "unet", "base_nc": 4, "padding": "same"}}
    same, other = ({"network": {"kind": kind, "base_nc": 8}} for kind in ("unet", "fpn"))
    assert merge_settings(there, same) == {"network": {"kind": "unet", "base_nc": 8, "padding": "same"}}
    assert merge_settings(there, other) == other


def test_models_change_what_data_changed_and_files_bring_their_folder(tmp_path, volume):
    (tmp_path / "else").mkdir()
    part = {"data": {"folder": "there", "sources": []}, "training": {"batch_size": 3, "workers": 1}}
    (tmp_path / "else" / "part.yaml").write_text(yaml.safe_dump(part))
    models = {"unet": {**UNET, "training": {"batch_size": 5}}}
    matrix = Matrix.read(write_matrix(tmp_path, volume, models=models, data={"here": {}, "other": "else/part.yaml"}))
    other, here = (matrix.settings("unet", name) for name in ("other", "here"))
    assert (other["training"]["batch_size"], other["training"]["workers"]) == (5, 1)
    assert other["data"]["folder"] == str(tmp_path / "else" / "there")
    assert here["data"]["folder"] == str(volume)
    assert matrix.settings("unet", "here")["network"] == UNET["network"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": [1, 1]}, "seeds is .*: a seed is listed twice"),
        ({"models": {"a b": {}}}, "models.a b"),
        ({"match": {"by": "macs", "reference": "unett"}}, "match.reference is 'unett'.*did you mean unet"),
        ({"budget": {"steps": 3, "seconds": 4}}, "one of steps, seconds and macs, and here are steps, seconds"),
        ({"paralel": 2}, "no field paralel; did you mean parallel"),
        ({"version": None}, "version is missing"),
        ({"models": {"unet": "none.yaml"}}, "models.unet names .*none.yaml, which does not exist"),
    ],
)
def test_a_wrong_matrix_is_refused_by_name(tmp_path, volume, fields, message):
    path = write_matrix(tmp_path, volume, **fields)
    with pytest.raises((ConfigError, FileNotFoundError), match=message):
        Matrix.read(path)


def test_a_budget_has_one_measure():
    with pytest.raises(ArgumentError, match="here are none"):
        Budget()


def test_all_faults_of_models_and_data_are_told_before_a_run_starts(matrix_of, folder):
    models = {"unet": UNET, "wrong": {"network": {"base_nc": -1}}, "norm": {"training": {"batchsize": 2}}}
    data = {"data": {}, "gone": {"data": {"folder": "/nowhere"}}}
    with pytest.raises(ConfigError) as told:
        plan_experiment(matrix_of(models=models, data=data))
    message = str(told.value)
    for part in (
        "model wrong on data",
        "base_nc",
        "model norm on data: there is no field training.batchsize",
        "/nowhere",
    ):
        assert part in message, message
    assert "model unet on data:" not in message
    assert not folder.exists()


@pytest.mark.parametrize(
    ("objects", "base", "message"),
    [
        (["brigt"], {}, "no class 'brigt' to compare; did you mean bright"),
        (["dark"], {"segmentation": {"classes": {"bright": {}}}}, "objects has 'dark', and segmentation says"),
        (["dark"], {"evaluation": {}}, "one source to evaluate, and there are 0"),
    ],
)
def test_objects_that_cannot_be_compared_are_refused_before_a_run_starts(matrix_of, objects, base, message):
    with pytest.raises(ConfigError, match=message):
        plan_experiment(matrix_of(objects=objects, base=base))


class TestOnlyAdds:
    def test_models_data_and_seeds_may_be_added(self, matrix_of, folder):
        before = ExperimentPlan(matrix=matrix_of())
        before.check_only_adds(matrix_of(models={"unet": UNET, "b": UNET}, seeds=[0, 3], parallel=2), folder)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"seeds": [1]}, r"seeds: \[0\] there, \[\] here"),
            ({"models": {"other": UNET}}, "models.unet: .* there, nothing here"),
            (
                {"models": {"unet": {"network": {**UNET["network"], "base_nc": 3}}}},
                "models.unet.network.base_nc: 2 there, 3 here",
            ),
            ({"budget": {"steps": 3}}, "budget: null there, .*3.* here"),
            ({"base": {"training__seed": 4}}, "base.training.seed: 1 there, 4 here"),
        ],
    )
    def test_a_change_is_refused_by_name(self, matrix_of, folder, fields, message):
        before = ExperimentPlan(matrix=matrix_of())
        with pytest.raises(ConfigError, match=message):
            before.check_only_adds(matrix_of(**fields), folder)


@given(
    st.integers(1, 40),
    st.floats(1, 3),
    st.floats(1, 1e5),
    st.sets(st.integers(1, 60), max_size=10),
)
def test_the_nearest_width_is_the_nearest_of_all(factor, power, target, refused):
    def measure(width):
        return None if width in refused else factor * width**power

    width, value = nearest_width(measure, target)
    allowed = [n for n in range(1, 4096 + 1) if n not in refused]
    best = min(allowed, key=lambda n: abs(math.log(measure(n) / target)))
    assert value == measure(width)
    assert abs(math.log(value / target)) == pytest.approx(abs(math.log(measure(best) / target)), abs=1e-9)


def test_no_width_fits_a_network_that_refuses_all():
    assert nearest_width(lambda width: None, 10) is None


def test_all_subnets_keep_their_proportion():
    network = {"kind": "scalenet", "subnets": [{"base_nc": 4}, {"base_nc": 8}, {"base_nc": 1}]}
    assert widths_of(with_width(network, 2)) == [2, 4, 1]


class TestPlan:
    def test_widths_and_lengths_are_those_of_the_network(self, matrix_of):
        models = {"scalenet": {}, "unet": UNET}
        match = {"by": "parameters", "reference": "scalenet", "tolerance": 0.2}
        plan = plan_experiment(matrix_of(models=models, match=match, budget={"macs": 1e8}))
        cells = {cell.model: plan.config(cell) for cell in plan.cells}
        counts = {
            name: sum(parameter.numel() for parameter in config.build_network().parameters())
            for name, config in cells.items()
        }
        width = plan.widths["unet"]
        assert (width.reached, width.wanted) == (counts["unet"], counts["scalenet"])
        assert abs(width.difference) <= 0.2
        net = cells["unet"].build_network()
        box = net.plan({"output": net.plan({"output": _box(net, 36)}).outputs["output"]})
        macs = predict_cost(net.graph, box, batch=1, training=True).total_macs
        assert plan.lengths["unet/data"].each == macs
        assert cells["unet"].training.iterations == int(1e8 // macs)
        # what is known is not searched again
        more = plan_experiment(matrix_of(models=models, match=match, budget={"macs": 1e8}, seeds=[0, 5]), plan)
        assert (more.widths, more.lengths) == (plan.widths, plan.lengths)
        assert more.config(Cell("unet", "data", 5)).training.seed == 5

    def test_seconds_are_those_of_a_dry_run(self, matrix_of, monkeypatch):
        measured = SimpleNamespace(device="cpu", processor=0.5, iteration=0.25)
        monkeypatch.setattr("scalenet_gp.pipelines.experiments.plan.dry_run", lambda config, volume, device: measured)
        plan = plan_experiment(matrix_of(budget={"seconds": 3.2}))
        assert plan.lengths["unet/data"].iterations == 6
        with pytest.raises(ConfigError, match=r"the budget 0.4 is less than one iteration of unet on data, .* 0.5"):
            plan_experiment(matrix_of(budget={"seconds": 0.4}))
        measured.device = "cuda:0"  # the processor only waits for it
        assert plan_experiment(matrix_of(budget={"seconds": 3.2})).lengths["unet/data"].iterations == 12

    def test_widths_by_time_are_those_of_dry_runs(self, matrix_of, monkeypatch):
        def measure(config, volume, device):
            width = widths_of(config.network.model_dump())[0]
            return SimpleNamespace(device="cpu", processor=0.1 * width**2 * (3 if config.network.kind == "unet" else 1))

        monkeypatch.setattr("scalenet_gp.pipelines.experiments.plan.dry_run", measure)
        models = {"scalenet": {"network": {"kind": "unet", "top_resolution": [4.5] * 3, "base_nc": 9}}, "unet": UNET}
        models["scalenet"]["network"]["kind"] = "mobile_unet"
        match = {"by": "time", "reference": "scalenet", "tolerance": 0.1}
        plan = plan_experiment(matrix_of(models=models, match=match))
        assert plan.widths["unet"].base_nc == (5,)
        assert plan.widths["unet"].difference == pytest.approx(3 * 25 / 81 - 1)

    def test_a_model_that_comes_not_near_enough_is_refused_with_what_it_reached(self, matrix_of):
        match = {"by": "macs", "reference": "scalenet", "tolerance": 0.001}
        with pytest.raises(ConfigError, match=r"by macs, .* unet comes no nearer than .* \([+-]\d.*base_nc \d"):
            plan_experiment(matrix_of(models={"scalenet": {}, "unet": UNET}, match=match))


CONFIGS = Path(__file__).parents[3] / "pipelines" / "configs"


def _box(net, nm):
    from funlib.geometry import Roi

    from scalenet_gp.geometry import World

    return Roi((0,) * 3, World(net.unit).size((nm,) * 3))


def test_the_shipped_matrix_has_a_network_for_every_model():
    matrix = Matrix.read(CONFIGS / "experiments" / "demo.yaml", "demo.zarr")
    plan = ExperimentPlan(matrix=matrix)
    nets = {cell.model: plan.config(cell).build_network() for cell in plan.cells if cell.seed == 0}
    assert len(nets) == 14
    assert len({str(net.to_spec()) for net in nets.values()}) == 14
