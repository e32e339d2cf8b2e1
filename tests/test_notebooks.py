"""The notebooks run from top to bottom."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
FIGURES = {"data.ipynb": 3, "instances.ipynb": 3, "quickstart.ipynb": 4, "trainer.ipynb": 0}
"""The number of pictures that each notebook draws."""


def figures(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTART_STEPS", "3")  # instead of a minute
    notebook = nbformat.read(path, as_version=4)
    # kernels choose this backend before matplotlib is imported, which it is in these processes
    arguments, place = ["--matplotlib=inline"], {"metadata": {"path": tmp_path}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place, extra_arguments=arguments)
    client.execute()
    assert figures(notebook) == FIGURES[path.name]
