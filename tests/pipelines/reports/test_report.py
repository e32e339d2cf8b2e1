"""Reports on ordinary runs, whose predictions are the truth with some noise."""

import csv
import json
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.evaluation import evaluate, evaluate_segmentation
from scalenet_gp.pipelines.reports import report
from scalenet_gp.pipelines.reports.document import Document
from scalenet_gp.pipelines.reports.figures import draw_bars
from scalenet_gp.pipelines.reports.found_runs import find_runs
from scalenet_gp.pipelines.reports.places import examine
from scalenet_gp.training import latest_checkpoint
from tests.pipelines.conftest import OUTPUTS, TINY, changed, tiny_config, truth_at, write_prediction

NOISE = {"good": 0.35, "poor": 0.6}


@pytest.fixture(scope="module")
def runs(volume, trained, tmp_path_factory):
    """Two models with two seeds each: ``good/0`` and so on, and a run that was not evaluated."""
    folder = tmp_path_factory.mktemp("many")
    for number, (model, noise) in enumerate(NOISE.items()):
        for seed in (0, 1):
            run = folder / model / str(seed)
            shutil.copytree(trained / "log", run / "log")
            (run / "checkpoints").mkdir()
            shutil.copy(latest_checkpoint(trained / "checkpoints"), run / "checkpoints")
            changes = {"training__seed": seed, "data__folder": str(volume), "training__batch_size": number + 1}
            config = Config.model_validate(changed(TINY, **changes))
            config.write(run / "config.yaml")
            generator = np.random.default_rng(10 * number + seed)
            values = {}
            for name, factor in OUTPUTS.items():
                truth = truth_at(factor)[0]
                values[name] = np.clip(truth + generator.normal(0, noise, truth.shape), 0, 1)
            write_prediction(run / "prediction.zarr", values)
            evaluate(config, volume, run / "prediction.zarr").write(run / "scores.json")
    truth, scores = volume / "labels" / "crop" / "bright", folder / "good" / "0" / "segmentation_scores.json"
    evaluate_segmentation(tiny_config(), volume, truth, output=scores, classes=["bright"])
    shutil.copytree(folder / "good" / "0", folder / "unfinished")
    (folder / "unfinished" / "scores.json").unlink()
    return folder


@pytest.fixture(scope="module")
def made(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "first"
    told = CliRunner().invoke(app, ["report", str(runs), "--output", str(output)])
    assert told.exit_code == 0, told.output
    return output / "report.md"


def rows(made, name):
    return list(csv.DictReader((made.parent / f"{name}.csv").read_text().splitlines()))


def test_runs_that_differ_in_the_seed_alone_are_one_model(runs):
    found = find_runs(runs)
    assert [(run.model, run.seed) for run in found.runs] == [
        *(("good/0", 0), ("good/0", 1), ("poor/0", 0), ("poor/0", 1))
    ]
    assert found.data == ["em/raw"]
    assert found.left_out == {"unfinished": "it was not evaluated"}


def test_every_score_of_the_table_is_the_mean_of_those_in_the_runs(runs, made):
    text = made.read_text()
    for model in NOISE:
        means = [
            json.loads((runs / model / seed / "scores.json").read_text())["outputs"]["1_output"]["mean"]["dice"]
            for seed in "01"
        ]
        cell = f"{np.mean(means):.3f} ± {np.std(means, ddof=1):.3f}"
        assert re.search(rf"^\| {model}/0 \| em/raw \| 2 \| .* \| {cell} \|", text, re.MULTILINE), cell
        of_csv = [
            float(row["value"])
            for row in rows(made, "scores")
            if (row["model"], row["output"], row["class"], row["metric"]) == (f"{model}/0", "1_output", "mean", "dice")
        ]
        assert of_csv == means
    (head,) = re.findall(r"^\| model \| data \| seeds .*$", text, re.MULTILINE)
    names = [name.replace("\\", "").strip() for name in head.split("|")]
    cells = re.search(r"^\| good/0 \| em/raw .*$", text, re.MULTILINE)[0].split("|")
    perfect = {"voi_split": 0, "voi_merge": 0, "average_precision": 1, "boundary_f1 of objects": 1}
    for name, value in perfect.items():  # the truth compared with itself
        assert float(cells[names.index(f"bright: {name}")]) == value
    assert "Left out: unfinished, because it was not evaluated." in text


def test_places_add_up_to_the_scores(runs):
    run = find_runs(runs).runs[0]
    examined = examine(run)
    for label, counts in run.scores["outputs"]["1_output"]["classes"].items():
        whole = sum((place.counts[label] for place in examined.places[1:]), examined.places[0].counts[label])
        for name in ("true_positive", "false_positive", "false_negative"):
            assert getattr(whole, name) == counts[name]
        assert examined.reliability[label].count.sum() == truth_at(1)[1][("bright", "dark").index(label)].sum()


def test_the_tests_say_what_so_few_pairs_can(made):
    of_runs, of_places = (row for row in rows(made, "significance"))
    assert (of_runs["unit"], of_runs["pairs"], of_runs["smallest_p_holm"]) == ("runs", "2", "0.5")
    assert of_places["unit"] == "places"
    assert float(of_places["median_difference"]) < 0
    assert "too few pairs: no p below 0.5 is possible" in made.read_text()


def test_pages_show_the_figures_and_link_the_numbers(made):
    markdown, page = made.read_text(), made.with_suffix(".html").read_text()
    ElementTree.fromstring(re.sub(r"<meta[^>]*>|<img[^>]*>", "", page.partition("\n")[2]))
    pictures = re.findall(r"\]\((\w+\.png)\)", markdown)
    assert {"scores.png", "work.png", "calibration.png", "best_1.png", "worst_1.png"} <= set(pictures)
    assert "loss_over_time.png" in pictures
    for name in pictures:
        with Image.open(made.parent / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10
        ElementTree.parse((made.parent / name).with_suffix(".svg"))
        assert f'src="{name}"' in page
    for name in re.findall(r"\]\((\w+\.csv)\)", markdown):
        assert len((made.parent / name).read_text().splitlines()) > 1
        assert f'href="{name}"' in page


def test_the_same_figure_is_the_same_file(tmp_path):
    written = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        document = Document(tmp_path / name, "Bars")
        document.figure("bars", draw_bars({"a": [0.25, 0.5], "b": [float("nan")]}, "Dice"), "Bars *and* more.")
        text = document.write().read_text()
        written.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert written[0] == written[1]
    assert len(written[0]) == 4
    assert r"Bars \*and\* more. ([SVG](bars.svg))" in text


class TestRefused:
    def test_a_model_that_is_not_there(self, runs):
        with pytest.raises(
            ConfigError, match="--reference: no run of a model 'god/0' was evaluated; did you mean good"
        ):
            report(runs, reference="god/0")

    def test_a_folder_without_runs(self, tmp_path):
        with pytest.raises(ConfigError, match=r"holds no run that was evaluated: there is no config\.yaml in it"):
            report(tmp_path)
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            report(tmp_path / "none")

    def test_an_output_that_holds_something_else(self, runs, tmp_path):
        (tmp_path / "thesis.tex").write_text("mine")
        with pytest.raises(ConfigError, match="holds no report, and would be replaced"):
            report(runs, tmp_path)
        assert (tmp_path / "thesis.tex").read_text() == "mine"
