"""A worker process of an import or export: ``python -m scalenet_gp.pipelines.exchange.worker JOB --stage NAME``."""

import json
import os
from pathlib import Path

from scalenet_gp.pipelines.blockwise import BlockTask, run_worker
from scalenet_gp.pipelines.exchange.export_task import ExportTask
from scalenet_gp.pipelines.exchange.import_task import ImportTask
from scalenet_gp.pipelines.exchange.jobs import ExportJob, ImportJob


def _open(file: Path) -> BlockTask:
    if json.loads(file.read_bytes())["kind"] == "import":
        return ImportTask(ImportJob.read(file))
    return ExportTask.open(ExportJob.read(file))


if __name__ == "__main__":
    # without the end of the interpreter, which would give another code where the log cannot be written
    os._exit(run_worker(_open))
