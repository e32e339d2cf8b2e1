"""The job that does an experiment: every model on every data set with every seed, as runs of their own."""

from __future__ import annotations

from pathlib import Path

from scalenet_gp.pipelines.experiments.experiment_folder import ExperimentFolder
from scalenet_gp.pipelines.experiments.followed_runs import follow_runs
from scalenet_gp.pipelines.experiments.matrix import Matrix
from scalenet_gp.pipelines.experiments.outcomes import ExperimentResult, outcome_of
from scalenet_gp.pipelines.experiments.plan import ExperimentPlan, plan_experiment
from scalenet_gp.pipelines.experiments.processes import RunProcess, check_launcher
from scalenet_gp.pipelines.process import folder_lock, stop_requested
from scalenet_gp.pipelines.runs import RunFolder

__all__ = ["experiment"]


def experiment(
    matrix: Matrix, folder: Path, *, parallel: int | None = None, launcher: str = "", device: str | None = None
) -> ExperimentResult:
    """Do all runs of a matrix that are not done yet, each in a process of its own.

    Before the first one, all networks are built and all data sets opened. Runs are ordinary folders of runs,
    ``runs/MODEL/DATA/SEED``; their run files are in ``files/``, and what their processes tell is in ``logs/``. The same
    call resumes an experiment that was ended or killed. A run that fails leaves the others alone.

    Args:
        matrix: the matrix, as :meth:`.Matrix.read` returns it.
        folder: folder of the experiment.
        parallel: runs at a time, instead of the matrix's.
        launcher: command that starts a run elsewhere, such as ``srun -n1 -c4``: it ends when the run does.
        device: name of a torch device; that of the run files unless given.

    Raises:
        ConfigError: a model or data set is wrong, no width matches, or the folder holds an experiment with another
            matrix.
        BlockingIOError: another process does this experiment.
        Interrupted: a signal asked to end. Runs that were going on have a checkpoint.
    """
    check_launcher(launcher)
    place = ExperimentFolder(folder)
    with stop_requested() as received, folder_lock(folder, "being done"):
        before = ExperimentPlan.read(place.plan)
        if before is not None:
            before.check_only_adds(matrix, folder)
        plan = plan_experiment(matrix, before, device)
        runs = {
            cell: RunProcess(cell, place.file(cell), place.run(cell), place.log(cell), device, matrix.objects)
            for cell in plan.cells
        }
        configs = {cell: plan.config(cell) for cell in runs}
        for cell, config in configs.items():
            RunFolder(runs[cell].folder).check_config(config)
        plan.write(place.plan)
        for cell, config in configs.items():
            runs[cell].file.parent.mkdir(parents=True, exist_ok=True)
            config.write(runs[cell].file)
        lengths = {cell: config.training.iterations for cell, config in configs.items()}
        states = follow_runs(
            runs, lengths, parallel or matrix.parallel, matrix.threads, received, launcher, resumed_from=folder
        )
    return ExperimentResult(
        folder, plan, {cell: outcome_of(states[cell], run, lengths[cell]) for cell, run in runs.items()}
    )
