"""The job that writes the report of many runs: one page, with its figures and numbers beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

from scalenet_gp.errors import ConfigError
from scalenet_gp.options import suggest
from scalenet_gp.pipelines.reports.document import Document
from scalenet_gp.pipelines.reports.found_runs import FoundRun, FoundRuns, find_runs
from scalenet_gp.pipelines.reports.places import Examination, examine
from scalenet_gp.pipelines.reports.sections_of_places import write_calibration, write_places
from scalenet_gp.pipelines.reports.sections_of_runs import (
    write_curves,
    write_efficiency,
    write_fields,
    write_provenance,
    write_scores,
    write_significance,
)
from scalenet_gp.pipelines.reports.training_log import read_log

__all__ = ["report"]


def report(path: Path, output: Path | None = None, reference: str | None = None, *, predictions: bool = True) -> Path:
    """Write ``report.html`` and ``report.md`` on the runs below a folder, with figures (PNG, SVG) and numbers (CSV).

    All numbers come from the files of the runs: scores, logs, facts, checkpoints, predictions. The same files make the
    same report.

    Args:
        path: folder of an experiment, or any folder with folders of runs in it.
        output: folder of the report, which is made anew; ``report`` in ``path`` unless given.
        reference: name of the model that the others are compared with. Unless given, that of the experiment's
            ``match``, or else the first.
        predictions: read predictions and data, for calibration and places. Without, they need not be there.

    Returns:
        The Markdown page.

    Raises:
        FileNotFoundError: there is no such folder, or a prediction or data are missing.
        ConfigError: no run below it was evaluated, there is no such model, or ``output`` is not a report.
    """
    found = find_runs(path)
    chosen = _reference(found, reference)
    folder = output or path / "report"
    if folder.exists() and not (folder / "report.md").exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} holds no report, and would be replaced: choose another folder with --output")
    examined = _examine(found) if predictions else {}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    document = Document(folder, f"Report on {path.resolve().name}")
    logs = {run.folder.path: read_log(run.folder.log, run.config.training.batch_size) for run in found.runs}
    write_scores(document, found)
    write_significance(document, found, chosen, examined)
    write_efficiency(document, found, logs)
    write_curves(document, found, logs)
    write_fields(document, found)
    if predictions:
        write_calibration(document, found, examined)
        write_places(document, found, examined)
    write_provenance(document, found)
    return document.write()


def _reference(found: FoundRuns, given: str | None) -> str:
    if given is None:
        match = None if found.plan is None else found.plan.matrix.match
        given = found.models[0] if match is None or match.reference not in found.models else match.reference
    if given not in found.models:
        raise ConfigError(f"--reference: no run of a model {given!r} was evaluated; {suggest(given, found.models)}")
    return given


def _examine(found: FoundRuns) -> dict[Path, Examination]:
    def one(run: FoundRun) -> Examination | None:
        if not run.folder.prediction.exists():
            raise FileNotFoundError(
                f"{run.folder.prediction} is not there any more; --no-predictions leaves out what needs it"
            )
        return examine(run)

    of_runs = {run.folder.path: one(run) for run in found.runs}
    return {path: examined for path, examined in of_runs.items() if examined is not None}
