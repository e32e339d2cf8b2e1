"""The command line: its surface, the whole way through it, and every fault said in one line."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from funlib.geometry import Roi
from typer.testing import CliRunner

from scalenet_gp import build_unet, networks
from scalenet_gp.analysis import predict_cost
from scalenet_gp.errors import WorkerFaultError
from scalenet_gp.metrics.confusion import ConfusionCounts
from scalenet_gp.networks import build_hrnet
from scalenet_gp.pipelines.cli import app, main
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.demo.demo_job import DemoResult, DemoRun
from scalenet_gp.pipelines.evaluation import EvaluationResult
from scalenet_gp.volumes import create_array
from tests.pipelines.cli.surface import surface
from tests.pipelines.conftest import (
    CLASSES,
    OUTPUTS,
    VALIDATED_RUN,
    files_below,
    scalenet,
    tiny_config,
    write_array,
    write_config,
    write_prediction,
    write_volume,
)

COMMANDS = (
    *(
        "demo",
        "preview",
        "train",
        "predict",
        "evaluate",
        "mask",
        "view",
        "inspect",
        "networks",
        "config show",
        "schema",
    ),
    *("pack", "score", "plan", "init"),
)


def run(monkeypatch, *arguments):
    """Run ``scalenet-gp`` with these arguments, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["scalenet-gp", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def said(capsys):
    """The lines of standard output, and those of standard error without progress bars."""
    out, err = capsys.readouterr()
    return out, [line for line in err.splitlines() if line.strip() and not re.search(r"\d+/\d+ \d:\d\d:\d\d", line)]


def test_the_surface_is_what_it_was():
    """``surface.py`` says how the file is written anew."""
    assert surface() == Path(__file__).with_name("surface.txt").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_option(name):
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    part = surface().partition(f"scalenet-gp {name}: ")[2].partition("\n\n")[0]
    options = re.findall(r"(?m)^    ([-\w]+)", part)
    assert options
    assert all(option in text for option in options)


def test_help_imports_nothing_heavy():
    heavy = ("torch", "gunpowder", "daisy", "matplotlib", "skimage", "numba", "scipy", "numpy", "tensorstore", "zarr")
    code = (
        "import sys\n"
        "from scalenet_gp.pipelines.cli import main\n"
        f"for words in ([], ['predict'], ['config', 'show']):\n"
        "    sys.argv = ['scalenet-gp', *words, '--help']\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code\n"
        f"print('found', [name for name in {heavy} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "found []"


@pytest.mark.parametrize(
    "arguments",
    [
        ("learn",),
        ("train",),
        ("train", "run.yaml", "--volume", "v", "--run", "r", "--fast"),
        ("train", "run.yaml", "--volume", "v", "--volume", "w", "--run", "r"),
        ("config", "show", "run.yaml", "other.yaml"),
    ],
    ids=" ".join,
)
def test_a_wrong_call_exits_with_2(arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2
    assert "Usage:" in result.output


@pytest.fixture(scope="module")
def finished(volume, tmp_path_factory):
    """A folder with a config and a run that went all the way through the command line, and what that printed."""
    folder = tmp_path_factory.mktemp("finished")
    config, printed = write_config(folder / "run.yaml"), {}
    for command in ("train", "predict", "evaluate"):
        if command == "predict":  # train has done the same at its end
            shutil.rmtree(folder / "run" / "prediction.zarr")
            (folder / "run" / "scores.json").unlink()
            (folder / "run" / "prediction.png").unlink()
        arguments = [command, str(config), "--volume", str(volume), "--run", str(folder / "run")]
        result = CliRunner().invoke(app, [*arguments, *(["--workers", "0"] if command == "predict" else [])])
        assert result.exit_code == 0, result.output
        printed[command] = result.stdout
    return folder, printed


def test_a_submission_is_packed_and_scored(tmp_path):
    for folder in ("truth", "predictions"):
        array = create_array(tmp_path / folder / "crop1" / "ecs", (4, 4, 4), (4, 4, 4), np.dtype(np.uint8))
        array[:] = 1
        array.attrs.update({"voxel_size": [8, 8, 8], "translation": [4, 4, 4]})
    (tmp_path / "manifest.csv").write_text(
        "crop_name,dataset,class_label,voxel_size,translation,shape\n1,jrc_x,ecs,[8;8;8],[4;4;4],[4;4;4]\n"
    )
    made = ["--manifest", f"{tmp_path}/manifest.csv", "--output", f"{tmp_path}/submission.zip"]
    result = CliRunner().invoke(app, ["pack", f"{tmp_path}/predictions", *made])
    assert result.stdout.splitlines() == [
        "packed 1 arrays of 1 crops; 0 missing",
        f"submission  {tmp_path}/submission.zip",
    ]
    scored = ["--truth", f"{tmp_path}/truth", "--classes", "ecs", "--output", f"{tmp_path}/scores.json"]
    result = CliRunner().invoke(app, ["score", f"{tmp_path}/submission.zip", *scored])
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert ["ecs", "1", "64", "0", "0", "1.000"] in lines
    assert lines[-1] == ["scores", f"{tmp_path}/scores.json"]
    assert json.loads((tmp_path / "scores.json").read_text())["overall_semantic"] == 1


def test_crops_are_predicted_into_a_folder(monkeypatch, tmp_path, capsys):
    config, manifest = write_config(tmp_path / "run.yaml"), tmp_path / "manifest.csv"
    common = ["predict", config, "--volume", tmp_path, "--checkpoint", tmp_path / "c.safetensors"]
    assert run(monkeypatch, *common, "--crops", manifest, "--output", tmp_path / "made") == 1
    assert "no such file" in said(capsys)[1][-1]
    assert run(monkeypatch, *common, "--crops", manifest, "--output", tmp_path / "made", "--region", "all") == 1
    assert "takes no --region, --source or --input" in said(capsys)[1][-1]
    assert run(monkeypatch, *common, "--raw", "{dataset}", "--output", tmp_path / "made") == 1
    assert "leave it out" in said(capsys)[1][-1]
    called = {}
    monkeypatch.setattr("scalenet_gp.pipelines.challenge.predict_crops", lambda *args, **named: called.update(named))
    assert run(monkeypatch, *common, "--crops", manifest, "--raw", "{dataset}", "--output", tmp_path / "made") == 0
    assert called["raw"] == "{dataset}"
    assert said(capsys)[0].split() == ["predicted", "crops", str(tmp_path / "made")]


def test_train_predict_and_evaluate_say_where_everything_is(finished):
    folder, printed = finished
    run_folder = folder / "run"
    lines = {command: [re.split(r"\s{2,}", line) for line in text.splitlines()] for command, text in printed.items()}
    assert lines["train"][-5:] == [
        ["TensorBoard log", str(run_folder / "log")],
        ["newest checkpoint", str(run_folder / "checkpoints" / "checkpoint_4.safetensors")],
        ["predicted with", str(run_folder / "checkpoints" / "checkpoint_4.safetensors")],
        ["predicted OME-Zarr", str(run_folder / "prediction.zarr")],
        ["picture", str(run_folder / "prediction.png")],
    ]
    # the table of scores
    assert lines["train"][:-5] == lines["evaluate"][:-2]
    assert lines["predict"] == [["predicted OME-Zarr", str(run_folder / "prediction.zarr")]]
    assert lines["evaluate"][-2:] == [
        ["scores", str(run_folder / "scores.json")],
        ["picture", str(run_folder / "prediction.png")],
    ]
    assert all(Path(line[-1]).exists() for line in lines["train"][-5:] + lines["predict"] + lines["evaluate"][-2:])
    scores = json.loads((run_folder / "scores.json").read_text())
    for name in OUTPUTS:
        for label in CLASSES:
            dice = scores["outputs"][name]["classes"][label]["dice"]
            assert any(label in line and ("-" if dice is None else f"{dice:.3f}") in line for line in lines["evaluate"])


def test_evaluate_writes_elsewhere_and_replaces_what_exists_only_if_forced(
    finished, volume, tmp_path, capsys, monkeypatch
):
    folder, _ = finished
    made = tmp_path / "made"
    arguments = [
        "evaluate",
        folder / "run.yaml",
        "--volume",
        volume,
        "--prediction",
        folder / "run" / "prediction.zarr",
    ]
    assert run(monkeypatch, *arguments) == 1
    assert "say with --run whose prediction to take" in said(capsys)[1][0]
    arguments += ["--output", made, "--region", "0,0,99:72,200,200"]
    assert run(monkeypatch, *arguments) == 0
    assert files_below(made) == ["prediction.png", "scores.json"]
    picture = made / "prediction.png"
    picture.write_text("of another time")
    before = (made / "scores.json").read_bytes()
    assert run(monkeypatch, *arguments) == 1
    assert run(monkeypatch, *arguments[:-1], "all") == 1
    capsys.readouterr()
    assert run(monkeypatch, *arguments[:-1], "all", "--force") == 1  # refused, and all is as it was
    assert "the region to evaluate, [null, null, null]" in said(capsys)[1][-1]
    assert ((made / "scores.json").read_bytes(), picture.read_text()) == (before, "of another time")
    assert run(monkeypatch, *arguments[:-1], "0,0,99:36,200,200", "--force") == 0
    assert (made / "scores.json").read_bytes() != before
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_train_says_that_it_predicted_with_the_best_network(tmp_path, volume):
    config = write_config(tmp_path / "run.yaml", **VALIDATED_RUN)
    arguments = ["train", str(config), "--volume", str(volume), "--run", str(tmp_path / "run"), "--device", "cpu"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    printed = dict(re.split(r"\s{2,}", line) for line in result.stdout.splitlines()[-5:])
    assert printed["predicted with"] == str(tmp_path / "run" / "best.safetensors")
    assert printed["newest checkpoint"] == str(tmp_path / "run" / "checkpoints" / "checkpoint_4.safetensors")


def test_lines_of_json_are_all_that_train_prints_for_machines(monkeypatch, capsys, tmp_path, volume):
    monkeypatch.setattr(sys, "argv", ["scalenet-gp", "train", str(write_config(tmp_path / "run.yaml"))])
    sys.argv += ["--volume", str(volume), "--run", str(tmp_path / "run"), "--device", "cpu", "--log", "json"]
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["event"] == "begin"
    assert [event["iteration"] for event in events if event["event"] == "step"] == [1, 2, 3, 4]
    assert events[-1]["checkpoint"] == str(tmp_path / "run" / "checkpoints" / "checkpoint_4.safetensors")
    assert (tmp_path / "run" / "scores.json").is_file()


def test_a_dry_run_says_what_a_run_takes_and_writes_nothing(tmp_path, volume):
    config = write_config(tmp_path / "run.yaml")
    done = CliRunner().invoke(app, ["train", str(config), "--volume", str(volume), "--dry-run", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    for row in ("parameters", "memory", "for 4 iterations"):
        assert row in done.stdout
    assert files_below(tmp_path) == ["run.yaml"]


def test_train_needs_a_run_unless_it_only_tries(monkeypatch, capsys, tmp_path, volume):
    assert run(monkeypatch, "train", write_config(tmp_path / "run.yaml"), "--volume", volume) == 1
    assert said(capsys) == (
        "",
        ["error: --run is missing: give the folder of the run, as --run runs/first, or --dry-run"],
    )


def test_preview_says_where_the_picture_is(monkeypatch, capsys, tmp_path, volume):
    config, picture = write_config(tmp_path / "run.yaml"), tmp_path / "new" / "samples.png"
    arguments = ["preview", config, "--volume", volume, "--output", picture, "--samples", 1, "--seed", 2]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"picture  {picture}\n"
    before = picture.read_bytes()
    assert run(monkeypatch, *arguments) == 1
    out, err = said(capsys)
    assert out == ""
    assert err == [f"error: {picture} exists; choose another output, or remove it"]
    assert picture.read_bytes() == before


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_a_volume_may_lie_behind_a_url(monkeypatch, tmp_path, volume):
    config = write_config(tmp_path / "run.yaml")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=volume.parent)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{volume.name}"
        for place, name in ((url, "remote.png"), (volume, "local.png")):
            picture = ("--output", tmp_path / name, "--samples", 1)
            assert run(monkeypatch, "preview", config, "--volume", place, *picture) == 0
        server.shutdown()
    assert (tmp_path / "remote.png").read_bytes() == (tmp_path / "local.png").read_bytes()


def test_preview_writes_where_it_is_called(monkeypatch, tmp_path, volume):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "run.yaml")
    result = CliRunner().invoke(app, ["preview", str(config), "--volume", str(volume), "--samples", "1"])
    assert result.exit_code == 0, result.output
    assert files_below(tmp_path) == ["preview.png", "run.yaml"]


def test_inspect_prints_the_table_and_the_chart(tmp_path):
    config = write_config(tmp_path / "run.yaml")
    cube = CliRunner().invoke(app, ["inspect", str(config), "--size", "8"])
    box = CliRunner().invoke(app, ["inspect", str(config), "--size", "8,8,8"])
    assert cube.exit_code == box.exit_code == 0
    assert cube.stdout == box.stdout
    assert "8 × 8 × 8" in cube.stdout
    assert "flowchart TD" in cube.stdout
    assert "0_input" in cube.stdout


def test_inspect_needs_no_run_file_for_a_kind_of_network(monkeypatch, capsys, tmp_path):
    told = ["inspect", "--network", "hrnet", "--voxel-size", "40,4.6", "--size", "4", "--set", "network.base_nc=2"]
    shown = CliRunner().invoke(app, told)
    assert shown.exit_code == 0, shown.output
    net = build_hrnet((40, "4.6"), base_nc=2)
    assert f"HRNet: {sum(p.numel() for p in net.parameters()):,} weights" in shown.stdout
    assert net.to_mermaid() in shown.stdout
    config = write_config(tmp_path / "run.yaml")
    for arguments, message in (
        ([], "give a run file, or the kind of a network by --network"),
        ([config, "--network", "hrnet"], "one of the two"),
        ([config, "--voxel-size", "8,8"], "--voxel-size is for --network"),
        (["--network", "hrnt"], "there is no kind of network 'hrnt'; did you mean hrnet?"),
        (["--network", "hrnet", "--voxel-size", "8,0"], "--voxel-size has two or three lengths in nm, .* not '8,0'"),
        (["--network", "hrnet", "--set", "training.seed=1"], "without a run file there is the part `network` alone"),
        (["--network", "hrnet", "--set", "network.kind=fpn"], "the kind is that of --network, hrnet"),
        (["--network", "hrnet", "--set", "network.base_nc=x"], "of kind hrnet: base_nc is 'x': it has to be a valid"),
    ):
        assert run(monkeypatch, "inspect", *arguments) == 1
        _, err = said(capsys)
        assert len(err) == 1
        assert re.search("^error: .*" + message, err[0])


def test_networks_lists_kinds_with_what_they_cost(monkeypatch):
    kinds = {name: kind for name, kind in networks.network_kinds().items() if name in ("unet", "cascade")}
    monkeypatch.setattr(networks, "network_kinds", lambda: kinds)
    shown = CliRunner().invoke(app, ["networks", "--voxel-size", "8,8", "--size", "16"]).stdout
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    net = build_unet((8, 8))
    plan = net.plan({"output": Roi((0, 0), (128, 128))})
    macs = sum(predict_cost(net.graph, plan).macs.values()) / 16**2 / 1e3
    assert rows["unet"][1:6] == [f"{sum(p.numel() for p in net.parameters()):,}", f"{macs:,.1f}", "352", "×", "352"]
    assert [rows[name][-1] for name in kinds] == ["yes", "yes"]


def test_inspect_shows_a_training_sample_with_the_box_and_the_cost_of_every_output(tmp_path):
    boxes = {"0_output": [81, 72, 72], "1_output": [36, 36, 36]}
    config = write_config(tmp_path / "run.yaml", training__output_shape=boxes)
    shown = CliRunner().invoke(app, ["inspect", str(config)]).stdout
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "9 × 8 × 8" in rows["0_output"]
    assert "8 × 8 × 8" in rows["1_output"]
    # two channels of a kernel of one voxel, read from two
    assert rows["1_output"].split()[-1] == f"{2 * 2 * 8**3 / 1e6:.1f}"
    assert "a training step" in shown


def test_the_installed_program_runs(tmp_path):
    program = [sys.executable, "-c", "from scalenet_gp.pipelines.cli import main; main()"]
    config = write_config(tmp_path / "run.yaml")
    done = subprocess.run([*program, "inspect", config, "--size", "8"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "flowchart TD" in done.stdout
    assert done.stderr == ""


def test_the_installed_program_says_a_fault_in_one_line(warm_executable, volume, tmp_path):
    program = [warm_executable, "-c", "from scalenet_gp.pipelines.cli import main; main()"]
    config = write_config(tmp_path / "run.yaml", data__sources__0__raw="em/nothing")
    arguments = ["train", config, "--volume", volume, "--run", tmp_path / "run"]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    said = f"{volume / 'em' / 'nothing'}: no such multiscale group; in {volume / 'em'}, there is only raw"
    assert done.stderr == f"error: data.sources.0.raw: {said}\n"
    assert files_below(tmp_path) == ["run.yaml"]


def no_multiscales(volume):
    (volume / "em" / "raw" / ".zattrs").write_text("{}")


def levels_that_disagree(volume):
    attributes = json.loads((volume / "em" / "raw" / ".zattrs").read_text())
    level = attributes["multiscales"][0]["datasets"][1]
    level["coordinateTransformations"][1]["translation"] = [0, 0, 0]
    (volume / "em" / "raw" / ".zattrs").write_text(json.dumps(attributes))


def truncated_chunks(volume):
    for chunk in (volume / "em" / "raw" / "s1").rglob("*"):
        if chunk.is_file() and not chunk.name.startswith("."):
            chunk.write_bytes(chunk.read_bytes()[:30])


def two_dimensions(volume):
    (volume / "em" / "raw").rename(volume / "em" / "deep")
    write_array(volume / "em" / "raw", np.zeros((16, 16), np.uint8))


def nothing(volume):
    pass


COARSE = [
    {"top_resolution": [size] * 3, "base_nc": 2, "downsample_factors": [[2, 2, 2]], "convs_per_level": 1}
    for size in (10, 5)
]
TRAINING_FAULTS = {
    "missing path": (nothing, {"data__sources__0__raw": "em/gone"}, "{volume}/em/gone: no such multiscale group"),
    "no multiscales": (no_multiscales, {}, "{volume}/em/raw/s0: no voxel size: neither OME-Zarr metadata nor"),
    "levels disagree": (
        levels_that_disagree,
        {},
        "{volume}/em/raw: the levels begin at different corners: s0 at -2.25 .* s1 at -4.5 .* read with data",
    ),
    "voxel size": (
        nothing,
        {"network": scalenet(*COARSE), "training__output_shape": [20] * 3, "training__region__end": [None] * 3},
        "no level can give voxels of 10 × 10 × 10 nm: s0: 4.5 × 4.5 × 4.5 nm does not divide it",
    ),
    "off the lattice": (
        nothing,
        {"training__output_shape": [36, 36, 40.5]},
        "training.output_shape 36 × 36 × 40.5 nm has to be a positive multiple of 9 × 9 × 9 nm",
    ),
    "dimensions": (two_dimensions, {}, "{volume}/em/raw has 2 spatial axes, the network has 3"),
    "no labels": (
        nothing,
        {"data__classes": ["bright", "mito"]},
        "class 'mito' has no labels at {volume}/labels/crop/mito; beside it there are: bright, dark",
    ),
    "truncated chunk": (truncated_chunks, {}, "{volume}/em/raw/s1: voxels .* cannot be read: .*blosc"),
    "unknown field": (nothing, {"training__speed": 2}, "run.yaml: there is no field training.speed; "),
    "unknown activation": (nothing, {"network__subnets__0__activation": "Relu"}, "no activation 'Relu'; 'ReLU'"),
    "a device that is not there": (nothing, {}, "'abacus' is not a device; here are cpu"),
}


@pytest.mark.parametrize("fault", TRAINING_FAULTS)
def test_a_fault_in_training_is_one_line(monkeypatch, capsys, tmp_path, fault):
    damage, changes, message = TRAINING_FAULTS[fault]
    volume = write_volume(tmp_path / "volume")
    damage(volume)
    config = write_config(tmp_path / "run.yaml", training__iterations=30, **changes)
    before = files_below(tmp_path)
    device = ["--device", "abacus" if "device" in fault else "cpu"]
    assert run(monkeypatch, "train", config, "--volume", volume, "--run", tmp_path / "run", *device) == 1
    out, err = said(capsys)
    assert out == ""
    err = [line for line in err if not line.startswith("learning from ")]
    assert len(err) == 1, err
    assert err[0].startswith("error: ")
    assert re.search(message.replace("{volume}", re.escape(str(volume))), err[0]), err[0]
    left = [path for path in files_below(tmp_path) if path not in before]
    # a chunk shows when samples are drawn: a run was begun, which goes on once the chunk is mended
    begun = [path for path in left if not path.startswith("run/log/")]
    assert begun == (["run", "run/config.yaml", "run/log"] if fault == "truncated chunk" else [])


def missing_volume(folder):
    return {"volume": folder / "gone"}, {}


def missing_config(folder):
    (folder / "run.yaml").unlink()
    return {}, {}


def no_run(folder):
    return {"run": folder / "other"}, {}


def other_network(folder):
    return {}, {"network__subnets__1__base_nc": 3}


def off_lattice(folder):
    return {}, {"prediction__block_shape": [36, 54, 31.5]}


def no_whole_voxel(folder):
    return {}, {"evaluation__region": {"begin": [0, 0, 1], "end": [9, 9, 17.5]}}


def existing_output(folder):
    (folder / "out.zarr").mkdir()
    return {}, {}


def truncated_volume(folder):
    truncated_chunks(folder / "volume")
    return {}, {}


def truncated_checkpoint(folder):
    checkpoint = folder / "run" / "checkpoints" / "checkpoint_4.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    return {}, {}


PREDICTION_FAULTS = {
    missing_volume: "{folder}/gone/em/raw: no such multiscale group",
    missing_config: "there is no config {folder}/run.yaml",
    no_run: "there is no whole checkpoint in {folder}/other/checkpoints; train first",
    other_network: "checkpoint_4.safetensors is a checkpoint of another network: .* there and .* here",
    off_lattice: "prediction.block_shape 36 × 54 × 31.5 nm has to be a positive multiple of 9 × 9 × 9 nm",
    no_whole_voxel: r"the region \[0, 0, 1\] to \[9, 9, 17.5\] nm holds no whole voxel of 9 × 9 × 9 nm",
    existing_output: "{folder}/out.zarr exists; choose another output, or remove it",
    truncated_volume: "{folder}/volume/em/raw/s1: voxels .* cannot be read: .*blosc",
    truncated_checkpoint: "there is no whole checkpoint in {folder}/run/checkpoints; train first",
}


@pytest.mark.parametrize("fault", PREDICTION_FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_in_prediction_is_one_line_and_leaves_nothing(monkeypatch, capsys, tmp_path, finished, fault):
    volume = write_volume(tmp_path / "volume")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    trained = finished[0] / "run" / "checkpoints" / "checkpoint_4.safetensors"
    (tmp_path / "run" / "checkpoints" / trained.name).write_bytes(trained.read_bytes())
    config = write_config(tmp_path / "run.yaml")
    paths, changes = fault(tmp_path)
    if changes:
        write_config(config, **changes)
    before = files_below(tmp_path)
    paths = {"volume": volume, "run": tmp_path / "run", **paths}
    options = [f"--{name}={path}" for name, path in paths.items()]
    options += ["--output", tmp_path / "out.zarr", "--devices", "cpu", "--workers", "0"]
    assert run(monkeypatch, "predict", config, *options) == 1
    out, err = said(capsys)
    assert out == ""
    assert len(err) == 1, err
    assert re.match("error: .*" + PREDICTION_FAULTS[fault].replace("{folder}", re.escape(str(tmp_path))), err[0]), err[
        0
    ]
    # blocks that can be read are done, and kept
    kept = [path for path in files_below(tmp_path) if path not in before]
    assert {path.split("/")[0] for path in kept} == ({"out.zarr.partial"} if fault is truncated_volume else set())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"--prediction": "gone"}, "gone/0_output: no such multiscale group"),
        ({"--prediction": "small"}, "small/0_output covers .* not all of"),
        ({}, "scores.json exists; replace it with --force, or choose another folder with --output"),
    ],
    ids=["missing", "too small", "exists"],
)
def test_a_fault_in_evaluation_is_one_line_and_leaves_nothing(
    monkeypatch, capsys, tmp_path, volume, arguments, message
):
    shape = {name: (2, 4 // factor, 4 // factor, 4 // factor) for name, factor in OUTPUTS.items()}
    write_prediction(tmp_path / "small", {name: np.zeros(s) for name, s in shape.items()})
    (tmp_path / "run").mkdir()
    if not arguments:
        (tmp_path / "run" / "scores.json").write_text("mine")
    before = files_below(tmp_path)
    options = [f"{name}={tmp_path / value}" for name, value in arguments.items()]
    config = write_config(tmp_path / "run.yaml")
    code = run(monkeypatch, "evaluate", config, "--volume", volume, "--run", tmp_path / "run", *options)
    out, err = said(capsys)
    assert code == 1
    assert out == ""
    assert len(err) == 1
    assert re.search("^error: .*" + message, err[0])
    assert files_below(tmp_path) == sorted([*before, "run.yaml"])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("wide", "--size is a number of voxels, as 64 or 4,128,128, not 'wide'"),
        ("8,8", r"needs 3 positive numbers of voxels, not \(8, 8\)"),
        ("0", "needs 3 positive numbers of voxels"),
        ("7", r"an output of \(7, 7, 7\) voxels .* multiples of \(2, 2, 2\) are, \(8, 8, 8\) for one"),
    ],
)
def test_a_size_that_cannot_be_is_one_line(monkeypatch, capsys, tmp_path, size, message):
    assert run(monkeypatch, "inspect", write_config(tmp_path / "run.yaml"), "--size", size) == 1
    out, err = said(capsys)
    assert out == ""
    assert len(err) == 1
    assert re.search("^error: .*" + message, err[0])


@pytest.mark.parametrize("content", ["data: [", "a: b: c"])
def test_a_config_that_is_no_yaml_is_one_line(monkeypatch, capsys, tmp_path, content):
    """The parser's own message has several."""
    (tmp_path / "run.yaml").write_text(content)
    assert run(monkeypatch, "inspect", tmp_path / "run.yaml", "--size", 8) == 1
    _, err = said(capsys)
    assert len(err) == 1
    assert re.search(r"^error: .*run\.yaml, line 1, column \d: this is not YAML: ", err[0])


def test_square_brackets_in_a_message_are_shown(monkeypatch, capsys, tmp_path):
    """Square brackets are markup to the terminal's printer."""
    assert run(monkeypatch, "inspect", tmp_path / "[bold]run[/bold].yaml", "--size", 8) == 1
    _, err = said(capsys)
    assert err == [f"error: there is no config {tmp_path}/[bold]run[/bold].yaml"]


@pytest.mark.parametrize("kind", [ZeroDivisionError, WorkerFaultError])
def test_a_fault_of_ours_is_shown_whole_with_a_request_to_report_it(monkeypatch, capsys, tmp_path, kind):
    def broken(*arguments):
        raise kind("by mistake")

    monkeypatch.setattr("scalenet_gp.pipelines.inspection.plan_of_shape", broken)
    assert run(monkeypatch, "inspect", write_config(tmp_path / "run.yaml"), "--size", 8) == 1
    out, err = said(capsys)
    assert out == ""
    assert err[0].startswith("Traceback")
    assert any(f"{kind.__name__}: by mistake" in line for line in err)
    assert re.match(r"This is a fault of scalenet_gp \d+\.\d+\S*, not of yours\. Please report it", err[-1])


def test_config_show_prints_a_config_with_its_defaults(tmp_path):
    config = write_config(tmp_path / "run.yaml")
    done = CliRunner().invoke(app, ["config", "show", str(config), "--set", "training.seed=8"])
    assert done.exit_code == 0, done.output
    assert "  seed: 8\n" in done.stdout
    assert "  workers: 0  # default\n" in done.stdout
    (tmp_path / "again.yaml").write_text(done.stdout)
    assert Config.read(tmp_path / "again.yaml") == tiny_config(training__seed=8)


def test_schema_prints_or_writes_the_schema(tmp_path):
    printed = CliRunner().invoke(app, ["schema"])
    assert json.loads(printed.stdout)["title"] == "Run file of scalenet-gp"
    written = CliRunner().invoke(app, ["schema", "--output", str(tmp_path / "run.schema.json")])
    assert written.stdout == f"schema  {tmp_path / 'run.schema.json'}\n"
    assert (tmp_path / "run.schema.json").read_text() == printed.stdout


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "inspect", "preview", "config show"])
def test_set_is_the_same_everywhere(monkeypatch, capsys, tmp_path, command):
    needed = {"inspect": ["--size", "8"], "config show": []}
    arguments = needed.get(command, ["--volume", tmp_path, *([] if command == "preview" else ["--run", tmp_path])])
    config = write_config(tmp_path / "run.yaml")
    assert run(monkeypatch, *command.split(), config, *arguments, "--set", "training.sed=3") == 1
    out, err = said(capsys)
    assert out == ""
    assert err[0].startswith("error: --set training.sed=3: there is no field training.sed; did you mean seed?")


def test_options_of_workers_are_set_beside_those_of_the_run(monkeypatch, capsys, tmp_path):
    config = write_config(tmp_path / "run.yaml")
    paths = ["--volume", tmp_path, "--checkpoint", tmp_path / "c", "--output", tmp_path / "o"]
    assert run(monkeypatch, "predict", config, *paths, "--set", "workers.hst=a") == 1
    _, err = said(capsys)
    assert err[0].startswith("error: --set workers.hst: there is no argument 'hst'; did you mean host?")


def test_demo_prints_the_scores_of_both_networks_and_where_everything_is(monkeypatch, tmp_path):
    asked = []

    def result(folder, device, seed):
        asked.append((folder, device, seed))
        runs = {}
        for name, counts in (("U-Net", ConfusionCounts(6, 2, 4)), ("ScaleNet", ConfusionCounts(9, 1, 1))):
            paths = (folder / f"{part} of {name}" for part in ("network", "prediction"))
            scores = EvaluationResult({"output": {"mito": counts}})
            runs[name] = DemoRun(folder / name, "output", 12.3, *paths, scores)
        return DemoResult(folder / "volume", runs, folder / "picture.png")

    monkeypatch.setattr("scalenet_gp.pipelines.demo.demo", result)
    done = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path), "--device", "cpu", "--seed", "2"])
    assert done.exit_code == 0, done.output
    assert asked == [(tmp_path, "cpu", 2)]
    assert re.search(r"Dice of mito\s+0\.667\s+0\.900", done.stdout)
    for name in ("network of U-Net", "prediction of ScaleNet", "picture.png"):
        assert str(tmp_path / name) in done.stdout


def test_demo_refuses_a_folder_that_exists(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "demo", "--folder", tmp_path) == 1
    _, err = said(capsys)
    assert err == [f"error: {tmp_path} exists; choose another folder, or remove it"]
    assert files_below(tmp_path) == []


def test_the_demo_finds_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = []

    def remember(folder, device, seed):
        folders.append(folder)
        folder.mkdir()
        raise ValueError("only its folder is of interest here")

    monkeypatch.setattr("scalenet_gp.pipelines.demo.demo", remember)
    for _ in range(3):
        CliRunner().invoke(app, ["demo"])
    assert list(map(str, folders)) == ["demo", "demo-2", "demo-3"]
