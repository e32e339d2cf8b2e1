"""Commands that train a network and evaluate its prediction."""

from __future__ import annotations

import itertools
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scalenet_gp.errors import ConfigError
from scalenet_gp.pipelines.cli.options import (
    ConfigFile,
    Device,
    Overrides,
    SourceName,
    Volume,
    folder_of,
    print_results,
    print_table,
    read_config,
    read_region,
    read_thresholds,
)

__all__ = ["demo", "evaluate", "train"]


class LogForm(StrEnum):
    """Form in which progress is told."""

    BAR = "bar"
    JSON = "json"


def demo(
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Folder for everything; must not exist. demo, demo-2, ... by default."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the generated volume.")] = 0,
    device: Device = None,
    instances: Annotated[
        bool, typer.Option("--instances", help="Neurites instead of cells: find each, by affinities.")
    ] = False,
) -> None:
    """Make a volume, train a ScaleNet and a single U-Net on it, and evaluate both on the held-out part.

    With --instances, the volume is full of neurites, and each is found as an object.
    """
    from scalenet_gp.pipelines import demo as room

    numbered = (Path("demo" if number == 1 else f"demo-{number}") for number in itertools.count(1))
    chosen = folder or next(path for path in numbered if not path.exists())
    if instances:
        found = room.demo_instances(chosen, device=device, seed=seed)
        print_table(room.instances_table(found))
        print_results(
            {
                "volume": found.volume,
                **{f"{title}, segmented OME-Zarr": run.segmentation for title, run in found.runs.items()},
                **{f"{title}, table of objects": run.objects for title, run in found.runs.items()},
                "picture": found.picture,
            }
        )
        return
    result = room.demo(chosen, device=device, seed=seed)
    print_table(room.comparison_table(result))
    print_results(
        {
            "TensorBoard logs": result.volume.parent,
            **{f"{name}, network": run.network for name, run in result.runs.items()},
            **{f"{name}, predicted OME-Zarr": run.prediction for name, run in result.runs.items()},
            "picture": result.picture,
        }
    )


def train(
    config: ConfigFile,
    volume: Volume = None,
    # torchrun takes --run and --log for its own --run-path and --log-dir, cut short
    run: Annotated[
        Path | None, typer.Option("--run", "--run-folder", help="Folder of the run; needed unless --dry-run.")
    ] = None,
    device: Device = None,
    log: Annotated[
        LogForm, typer.Option("--log", "--log-form", help="A progress bar, or lines of JSON for machines.")
    ] = LogForm.BAR,
    only_try: Annotated[
        bool, typer.Option("--dry-run", help="Do a few steps, print what the run will take, and write nothing.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Train a network, or resume a run; then predict and evaluate the evaluation region.

    SIGTERM and SIGUSR1 end it with a checkpoint and the exit code 75: the same command resumes it.
    """
    settings = read_config(config, overrides)
    folder = folder_of(config, settings, volume)
    if only_try:
        from scalenet_gp.pipelines.inspection import dry_run, dry_run_table

        print_table(dry_run_table(dry_run(settings, folder, device)))
        return
    from scalenet_gp.pipelines.data import resolve_sources, sources_of
    from scalenet_gp.pipelines.evaluation import final_evaluation, score_tables
    from scalenet_gp.pipelines.prediction import describe_seam
    from scalenet_gp.pipelines.process import ending_at_once
    from scalenet_gp.pipelines.training import train as run_training

    if run is None:
        raise ConfigError("--run is missing: give the folder of the run, as --run runs/first, or --dry-run")
    checkpoint = run_training(settings, folder, run, device, log.value)
    if int(os.environ.get("RANK", 0)):
        return
    if not sources_of(settings, resolve_sources(settings.data, folder), "evaluate"):
        if log is LogForm.BAR:
            print_results({"TensorBoard log": run / "log", "newest checkpoint": checkpoint})
            typer.echo("nothing is evaluated: the config has neither evaluation.region nor a source to evaluate")
        return
    with ending_at_once(checkpoint):
        end = final_evaluation(settings, folder, run, checkpoint, device)
    if log is LogForm.JSON:
        return
    for table in score_tables(end.scores):
        print_table(table)
    print_results(
        {
            "TensorBoard log": run / "log",
            "newest checkpoint": checkpoint,
            "predicted with": end.network,
            "predicted OME-Zarr": end.prediction,
            "picture": end.picture,
        }
    )
    if seam := describe_seam(end.prediction):
        typer.echo(seam)


def evaluate(
    config: ConfigFile,
    volume: Volume = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of the run; needed unless --prediction and --output are given.")
    ] = None,
    prediction: Annotated[
        Path | None, typer.Option("--prediction", help="Predicted zarr group; prediction.zarr in the run unless given.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder for scores.json and prediction.png; that of the run unless given."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            help="Region to compare: all, or nm from the volume's corner as 0,0,0:800,4096,4096; else the config's "
            "evaluation region.",
        ),
    ] = None,
    source: SourceName = None,
    segmentation: Annotated[
        str | None,
        typer.Option(
            "--segmentation",
            help="Compare objects instead: a volume of ids, or what segment made, with instances of the annotation.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="With --segmentation: classes whose label volumes have a number for each object, as mito,nucleus; by "
            "default that of a source with the encoding instances.",
        ),
    ] = None,
    skeletons: Annotated[
        Path | None,
        typer.Option(
            "--skeletons",
            help="With --segmentation: file or folder of skeletons, SWC or JSON in nm, for the expected run length.",
        ),
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(
            "--outputs",
            help="Outputs to compare, as 2_output; all by default. Those of local shape descriptors take longest.",
        ),
    ] = None,
    choose_thresholds: Annotated[
        bool,
        typer.Option(
            "--choose-thresholds",
            help="Choose the threshold of each class by its Dice, in the validation's region unless --region says "
            "another; evaluate and segment take them from the run. With --segmentation, a volume of objects of "
            "affinities, choose their merge threshold by the variation of information.",
        ),
    ] = False,
    consistency: Annotated[
        bool,
        typer.Option(
            "--consistency",
            help="Compare the prediction with itself: shares of classes in its blocks, planes across their borders. No "
            "annotation is needed.",
        ),
    ] = False,
    other: Annotated[
        Path | None,
        typer.Option("--other", help="With --consistency: another prediction that overlaps this one, or meets it."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace scores and a picture that exist.")] = False,
    overrides: Overrides = None,
) -> None:
    """Compare a prediction with the annotation, and draw both; or compare a segmentation, object by object."""
    from scalenet_gp.pipelines.config import Region
    from scalenet_gp.pipelines.evaluation import (
        check_consistency,
        choose_merge_threshold,
        consistency_table,
        evaluate_segmentation,
        merge_thresholds_table,
        score_tables,
        segmentation_scores_table,
        thresholds_table,
    )
    from scalenet_gp.pipelines.evaluation import choose_thresholds as choose
    from scalenet_gp.pipelines.evaluation import evaluate as compare
    from scalenet_gp.pipelines.plots import draw_prediction
    from scalenet_gp.pipelines.runs import RunFolder

    settings = read_config(config, overrides)
    paths = folder_of(config, settings, volume)
    folder = RunFolder(output or run or Path())
    within = read_region(region)
    if within == "all":
        within = Region.create(**dict.fromkeys(("begin", "end"), [None] * len(settings.prediction.block_shape)))
    if outputs is not None and (segmentation is not None or consistency or choose_thresholds):
        raise ConfigError("--outputs chooses outputs to compare with the annotation: leave it out here")
    if consistency:
        _refuse_beside_consistency(
            segmentation=segmentation, region=region, source=source, thresholds=choose_thresholds
        )
    if segmentation is not None:
        if prediction is not None or (run is None and output is None):
            raise ConfigError(
                "--segmentation needs --run or --output, where scores are written, and takes no --prediction"
            )
        chosen = classes.split(",") if classes else ()
        if choose_thresholds:
            if run is None or output is not None or skeletons is not None:
                raise ConfigError(
                    "--choose-thresholds needs --run, where they are kept, and takes no --output and no --skeletons"
                )
            swept = choose_merge_threshold(
                settings, paths, Path(segmentation), run, within, overwrite=force, source=source, classes=chosen
            )
            print_table(merge_thresholds_table(swept))
            print_results({"thresholds": folder.merge_thresholds, "curves": folder.merge_threshold_curves})
            return
        made = folder.segmentation_scores
        _refuse_existing(made, force=force)
        objects = evaluate_segmentation(
            settings, paths, segmentation, within, made, force, source, classes=chosen, skeletons=skeletons
        )
        print_table(segmentation_scores_table(objects))
        print_results({"scores": made})
        return
    if classes is not None or skeletons is not None:
        raise ConfigError("--classes and --skeletons are for a segmentation: name it with --segmentation")
    if run is None and (prediction is None or output is None):
        raise ConfigError("say with --run whose prediction to take, or with --prediction and --output which, and where")
    predicted = prediction or RunFolder(run or Path()).prediction
    if other is not None and not consistency:
        raise ConfigError("--other is compared with --consistency: give both")
    if consistency:
        thresholds = read_thresholds(run, predicted)
        made = folder.consistency
        alike = check_consistency(settings, predicted, other, made, overwrite=force, thresholds=thresholds)
        print_table(consistency_table(alike))
        print_results({"consistency": made})
        return
    if choose_thresholds:
        if run is None or output is not None:
            raise ConfigError("--choose-thresholds needs --run, where they are kept, and takes no --output")
        chosen_of = choose(settings, paths, predicted, run, within, overwrite=force, source=source)
        print_table(thresholds_table(chosen_of))
        print_results({"thresholds": folder.thresholds, "curves": folder.threshold_curves})
        return
    _refuse_existing(folder.scores, folder.picture, force=force)
    result = compare(
        settings,
        paths,
        predicted,
        within,
        folder.scores,
        overwrite=force,
        source=source,
        thresholds=read_thresholds(run, predicted),
        outputs=outputs.split(",") if outputs else (),
    )
    folder.picture.unlink(missing_ok=True)
    draw_prediction(settings, paths, predicted, folder.picture, within, source)
    for table in score_tables(result):
        print_table(table)
    print_results({"scores": folder.scores, "picture": folder.picture})


def _refuse_beside_consistency(
    segmentation: str | None, region: str | None, source: str | None, *, thresholds: bool
) -> None:
    """Refuse options that say how to compare with the annotation, which --consistency does not read."""
    given = {
        "--segmentation": segmentation is not None,
        "--region": region is not None,
        "--source": source is not None,
        "--choose-thresholds": thresholds,
    }
    if unread := [name for name, is_given in given.items() if is_given]:
        raise ConfigError(f"--consistency compares a prediction with itself, and does not take {', '.join(unread)}")


def _refuse_existing(*files: Path, force: bool) -> None:
    for made in files:
        if made.exists() and not force:
            raise FileExistsError(f"{made} exists; replace it with --force, or choose another folder with --output")
