"""The folder of a run: one run at a time, also when processes die, and one config."""

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from operator import attrgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.process import locks
from scalenet_gp.pipelines.runs.run_folder import MAY_CHANGE, RunFolder
from tests.pipelines.conftest import TINY, VALIDATED_RUN, changed, files_below, tiny_config

HOLD = """
    with folder_lock(Path(sys.argv[1]), "being trained"):
        print("locked", flush=True)
        sys.stdin.read()
"""
HOLD_AND_FORK = """
    with folder_lock(Path(sys.argv[1]), "being trained"):
        if os.fork():
            sys.stdin.read()
        else:
            print(os.getpid(), flush=True)
            signal.alarm(60)
            signal.pause()
"""
FORK_AND_RETURN = """
    with folder_lock(Path(sys.argv[1]), "being trained"):
        child = os.fork()
        if not child:
            other = os.open("/dev/null", os.O_RDONLY)  # gets the number that the lock had
    if not child:
        os.fstat(other)
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def process(script, *arguments):
    """A process that runs a script and has said its first line, and that line."""
    # from its file: importing it would import torch, which takes seconds
    begin = "import os, runpy, signal, sys; from pathlib import Path\n"
    begin += "folder_lock = runpy.run_path(sys.argv.pop())['folder_lock']"
    command = [sys.executable, "-c", begin + textwrap.dedent(script), *map(str, arguments), locks.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            yield other, other.stdout.readline().strip()
        finally:
            other.kill()


def is_free(path):
    try:
        with RunFolder(path).training():
            return True
    except BlockingIOError:
        return False


def test_everything_has_its_place(tmp_path):
    folder = RunFolder(tmp_path)
    names = ("config", "checkpoints", "log", "best", "prediction", "scores", "picture")
    assert [getattr(folder, name).name for name in names] == [
        "config.yaml",
        "checkpoints",
        "log",
        "best.safetensors",
        "prediction.zarr",
        "scores.json",
        "prediction.png",
    ]
    assert {getattr(folder, name).parent for name in names} == {tmp_path}
    assert files_below(tmp_path) == []


def test_two_runs_in_one_folder_are_refused_until_the_first_ends(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with process(HOLD, folder.path) as (first, said):
        assert said == "locked"
        message = (
            rf"^{re.escape(str(folder.path))} is being trained by pid {first.pid} on host {socket.gethostname()} "
            r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}; wait for its end, or choose another folder$"
        )
        for _ in range(2):  # being refused does not harm the lock
            with pytest.raises(BlockingIOError, match=message), folder.training():
                pass
        folder.config.write_text("mine")  # files are as ever
        assert folder.config.read_text() == "mine"
        first.communicate()
        assert first.returncode == 0
        assert files_below(folder.path) == ["config.yaml"]
        assert is_free(folder.path)


def test_after_sigkill_the_folder_is_free_at_once(tmp_path):
    with process(HOLD, tmp_path) as (first, _):
        assert not is_free(tmp_path)
        first.kill()
        first.wait()
        assert files_below(tmp_path) == [".lock"]
        with process(HOLD, tmp_path) as (second, said):
            assert said == "locked"
            with pytest.raises(BlockingIOError, match=f"pid {second.pid} "), RunFolder(tmp_path).training():
                pass


def test_a_forked_child_that_outlives_the_run_does_not_keep_the_folder(tmp_path):
    with process(HOLD_AND_FORK, tmp_path) as (parent, said):
        child = int(said)
        try:
            assert not is_free(tmp_path)
            parent.kill()
            parent.wait()
            os.kill(child, 0)  # it lives
            assert is_free(tmp_path)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_forked_child_that_dies_does_not_free_the_folder(tmp_path):
    with process(HOLD_AND_FORK, tmp_path) as (_, child):
        os.kill(int(child), signal.SIGKILL)
        assert not is_free(tmp_path)


def test_a_forked_child_that_leaves_closes_no_file_of_its_own(tmp_path):
    with process(FORK_AND_RETURN, tmp_path) as (_, said):
        assert said == "7"


def test_within_a_process_too_a_folder_is_taken_once(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.training():
        with pytest.raises(BlockingIOError, match=f"pid {os.getpid()} "), folder.training():
            pass
        assert files_below(tmp_path) == [".lock"]
        with RunFolder(tmp_path / "other").training():
            pass
    assert is_free(tmp_path)


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_that_wrote_nothing_leaves_nothing(tmp_path, fails):
    folder = RunFolder(tmp_path / "run")
    try:
        with folder.training():
            assert folder.path.is_dir()
            if fails:
                raise ArithmeticError
    except ArithmeticError:
        pass
    assert files_below(tmp_path) == []
    folder.path.mkdir()
    with folder.training():
        pass
    assert files_below(tmp_path) == ["run"]


def test_a_lock_that_its_holder_removes_meanwhile_is_none(tmp_path, monkeypatch):
    """Between opening the file and locking it: the lock would be on a file that nobody else finds."""
    path, original = tmp_path / ".lock", fcntl.flock
    calls = []

    def late(descriptor, how):
        if not calls:
            path.unlink()
        calls.append(how)
        original(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with RunFolder(tmp_path).training():
        monkeypatch.undo()
        assert len(calls) == 2
        assert not is_free(tmp_path)


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def unsupported(descriptor, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    message = r"run/\.lock: the file system has no locks \(No locks available\); nothing keeps others out"
    with pytest.warns(RuntimeWarning, match=message) as caught, RunFolder(tmp_path / "run").training():
        pass
    assert caught[0].filename == __file__
    assert files_below(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileExistsError, match="run"), RunFolder(tmp_path / "run").training():
        pass


def folder_of(path, config):
    """Return the folder of a run with that config, which has a checkpoint."""
    folder = RunFolder(path)
    folder.checkpoints.mkdir(exist_ok=True)
    (folder.checkpoints / "checkpoint_2.safetensors").touch()
    config.write(folder.config)
    return folder


def refusal(tmp_path, there, here):
    """The message when a run that was begun with ``there`` is to go on with ``here``."""
    folder = folder_of(tmp_path, there)
    before = folder.config.read_bytes()
    with pytest.raises(ValueError, match="choose another folder than") as caught:
        folder.check_config(here)
    assert folder.config.read_bytes() == before
    said = re.fullmatch(
        r"choose another folder than (.*) for .*? one: (.*)\. Of .* only (.*) may change", str(caught.value)
    )
    assert said[1] == str(tmp_path)
    free = MAY_CHANGE if there.validation else (*MAY_CHANGE, "evaluation.threshold")
    assert said[3] == f"{', '.join(free)} and the paths of the same data"
    return said[2].split("; ")


def test_what_may_change_may_change(tmp_path):
    folder = RunFolder(tmp_path)
    folder.check_config(tiny_config())  # there is no run yet
    folder = folder_of(tmp_path, tiny_config())
    folder.check_config(tiny_config())
    other = {
        "training.compute.device": "cpu",
        "data.folder": "/elsewhere",
        "training.checkpoints": {"every": 7},
        "training.log": {"images_every": 9},
        "prediction": {"block_shape": [72, 72, 72], "stored": "float16"},
        "evaluation.region": {"begin": [0, None, 108], "end": [9, None, None]},
        "evaluation.allow_training_region": True,
        "evaluation.groups": {"kind": ["bright", "dark"]},
        "segmentation": {"classes": {"dark": {"smallest": 100}}},
    }
    changes = {name: other.get(name) or (attrgetter(name)(tiny_config()) or 0) + 1 for name in MAY_CHANGE}
    larger = {name.replace(".", "__"): value for name, value in changes.items()}
    assert tiny_config(**larger) != tiny_config()
    folder.check_config(tiny_config(**larger))


def test_the_threshold_may_change_where_no_validation_compares_by_it(tmp_path):
    other = tiny_config(evaluation__threshold=0.25)
    folder_of(tmp_path, tiny_config()).check_config(other)
    validated, other = (tiny_config(**VALIDATED_RUN, evaluation__threshold=value) for value in (0.5, 0.25))
    assert refusal(tmp_path, validated, other) == ["evaluation.threshold: 0.5 there, 0.25 here"]


def test_a_run_without_a_checkpoint_does_not_hold_its_folder(tmp_path):
    folder, other = RunFolder(tmp_path), tiny_config(training__seed=2)
    tiny_config().write(folder.config)
    folder.check_config(other)
    folder.checkpoints.mkdir()
    (folder.checkpoints / "checkpoint_1.partial").touch()  # by a process that was killed
    folder.check_config(other)
    folder.best.touch()
    with pytest.raises(ValueError, match=r"has another one: training\.seed: 1 there, 2 here"):
        folder.check_config(other)


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        (
            {"training__optimization__learning_rate": 0.0003},
            ["training.optimization.learning_rate: 0.01 there, 0.0003 here"],
        ),
        (
            {"training__optimization__learning_rate": 0.5, "training__workers": 3},
            ["training.optimization.learning_rate: 0.01 there, 0.5 here"],
        ),
        (
            {"training__seed": 2, "evaluation__allow_training_region": True, "training__batch_size": 2},
            ["training.batch_size: 1 there, 2 here", "training.seed: 1 there, 2 here"],
        ),
        ({"data__classes": ["dark"]}, ['data.classes: ["bright", "dark"] there, ["dark"] here']),
        ({"network__subnets__1__base_nc": 5}, ["network.subnets.1.base_nc: 2 there, 5 here"]),
        (
            {"network__subnets__0__top_resolution": [9, 9, "27/2"]},
            ["network.subnets.0.top_resolution: [9, 9, 9] there, [9, 9, 13.5] here"],
        ),
        ({"network__subnets": TINY["network"]["subnets"][:1]}, ["network.subnets: 2 entries there, 1 entries here"]),
        (
            {"training__targets": {"*": {"kind": "classes", "weight": [{"iteration": 4, "weight": 1}]}}},
            ["training.targets.*.weight: 1.0 there, 1 entries here"],
        ),
        (
            {"augmentation__1": {"kind": "blur", "sigma": [0, 9]}},
            [
                'augmentation.1.kind: "intensity" there, "blur" here',
                "augmentation.1.scale: [0.8, 1.2] there, nothing here",
                "augmentation.1.shift: [-0.1, 0.1] there, nothing here",
                "augmentation.1.gamma: [1.0, 1.0] there, nothing here",
                "augmentation.1.clip: true there, nothing here",
                "augmentation.1.sigma: nothing there, [0, 9] here",
            ],
        ),
        (
            {"data__classes": {"bright": "bright", "dark": ["a", "b"]}},
            ['data.classes: ["bright", "dark"] there, {"bright": "bright", "dark": ["a", "b"]} here'],
        ),
    ],
)
def test_another_config_is_refused_with_the_difference(tmp_path, changes, differences):
    assert refusal(tmp_path, tiny_config(), tiny_config(**changes)) == differences


REGION = TINY["evaluation"]["region"]
OTHER = {
    "data.sources.0.raw": "em/other",
    "data.intensities": [20, 230],
    "data.cache": 7,
    "network.subnets.0.base_nc": 3,
    "network.subnets.1.dropout_prob": 0.5,
    "augmentation.0.jitter_sigma": [2, 2, "7/3"],
    "augmentation.1.gamma": [0.5, 2],
    "training.region.end": [None, None, 90],
    "training.iterations": 99,
    "training.batch_size": 2,
    "training.optimization.learning_rate": 0.5,
    "training.workers": 2,
    "training.log.images_every": 9,
    "training.sampler": {"kind": "stratified", "strata": {"far": {"weight": 1, "regions": [REGION]}}},
    "evaluation.region.begin": [None, 9, 99],
    "evaluation.threshold": 0.75,
}
"""A second value for fields of all kinds."""


@settings(deadline=None, max_examples=40)
@given(st.sets(st.sampled_from(sorted(OTHER)), min_size=1))
def test_a_refusal_names_the_fields_that_differ_and_no_others(tmp_path_factory, fields):
    path = tmp_path_factory.mktemp("run")
    other = tiny_config().model_dump(mode="json")
    other = Config.model_validate(changed(other, **{field.replace(".", "__"): OTHER[field] for field in fields}))
    expected = fields - {*MAY_CHANGE, "data.sources.0.raw", "evaluation.region.begin", "evaluation.threshold"}
    if "training.sampler" in expected:
        expected -= {"training.sampler"}
        expected |= {f"training.sampler.{field}" for field in ("kind", "regions", "strata")}
    if "training.log.images_every" in expected:  # a part of a section that may change
        expected -= {"training.log.images_every"}
    if expected:
        assert {entry.partition(":")[0] for entry in refusal(path, tiny_config(), other)} == expected
    else:
        folder_of(path, tiny_config()).check_config(other)


def test_a_begun_config_that_cannot_be_read_is_named(tmp_path):
    folder_of(tmp_path, tiny_config()).config.write_text("training: [1")
    with pytest.raises(ValueError, match=r"config\.yaml, line 1, column \d+: this is not YAML"):
        RunFolder(tmp_path).check_config(tiny_config())
