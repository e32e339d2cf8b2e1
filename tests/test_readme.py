"""The README's code runs, in the order in which it is shown."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    code = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(code) == 3
    names = {}
    for block in code:
        exec(compile(block, str(README), "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert 0 < float(printed[0]) < 3  # the loss
    assert "torch.Size([1, 1, 16, 16, 16])" in printed
    assert printed[-1].startswith("{'2_output': ")
    assert (tmp_path / "prediction.zarr" / ".zattrs").is_file()


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", README.read_text(encoding="utf-8")))
def test_the_readmes_links_lead_somewhere(link):
    assert (README.parent / link).exists()
