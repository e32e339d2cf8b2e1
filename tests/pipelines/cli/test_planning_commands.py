"""``plan`` and ``init`` on the command line."""

import pytest

from scalenet_gp.pipelines.config import Config
from tests.pipelines.cli.test_cli import run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "8"], "--memory is a number above 0 with one of the units"),
        (["--context", "5"], "as 5um, not '5'"),
        (["data.yaml", "--raw", "a"], "data.yaml says the data, and so does --raw"),
        (["--raw", "a"], "give --raw and --labels, or a file"),
        (["--raw", "a", "--labels", "b"], "there is no volume or group at"),
    ],
)
def test_faults_of_plan_are_told_in_a_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "plan", *arguments) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_init_writes_a_file(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "init") == 0
    assert "run.yaml" in capsys.readouterr().out
    assert Config.read(tmp_path / "run.yaml").version == 1
    assert run(monkeypatch, "init") == 1
    assert "--force" in capsys.readouterr().err
