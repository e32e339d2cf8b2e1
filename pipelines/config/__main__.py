"""``python -m scalenet_gp.pipelines.config``: write the reference of the run file anew, into the docs."""

from pathlib import Path

from scalenet_gp.pipelines.config.schema import reference_text

Path("docs/reference/run_file.md").write_text(reference_text(), encoding="utf-8")
