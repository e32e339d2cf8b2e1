"""Commands for the CellMap Segmentation Challenge: pack a submission, and score one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scalenet_gp.pipelines.cli.options import print_results, print_table

__all__ = ["pack", "score"]

Predictions = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="Folder with a prediction of each class of each crop.")
]
Layout = Annotated[
    str,
    typer.Option(
        "--layout",
        help="Path of a prediction below the folder: array or multiscale volume of the class, or with a channel of its "
        "name, or a group of such volumes, as predict makes it. {dataset}, {crop} and {label} stand for names.",
    ),
]
Threshold = Annotated[
    float, typer.Option("--threshold", help="Probability from which on a voxel is of the class; ids have none.")
]
Segments = Annotated[
    Path | None,
    typer.Option(
        "--segments", help="Folder that segment --crops made: classes whose objects are there are taken from there."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]


def pack(
    predictions: Predictions,
    manifest: Annotated[
        Path,
        typer.Option(
            "--manifest",
            help="The challenge's test_crop_manifest.csv: crops, classes, voxels; or test, for its own.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="Zip file to make.")] = Path("submission.zip"),
    layout: Layout = "{crop}/{label}",
    segments: Segments = None,
    threshold: Threshold = 0.5,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Pack what there is, although crops or classes are missing.")
    ] = False,
    force: Force = False,
) -> None:
    """Pack predictions of the CellMap challenge's test crops into the zip file that it takes."""
    from scalenet_gp.pipelines.challenge import choose_manifest
    from scalenet_gp.pipelines.challenge import pack as run

    packed = run(
        predictions,
        choose_manifest(manifest, "--manifest"),
        output,
        layout=layout,
        segments=segments,
        threshold=threshold,
        allow_missing=allow_missing,
        overwrite=force,
    )
    crops = len({crop for crop, _ in packed.packed})
    typer.echo(f"packed {len(packed.packed)} arrays of {crops} crops; {len(packed.missing)} missing")
    if segments is not None:
        typer.echo(f"{len(packed.segmented)} of the arrays are objects of {segments}")
    print_results({"submission": packed.path})


def score(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="Folder of predicted crops, or the zip file that pack made.")
    ],
    truth: Annotated[
        Path,
        typer.Option(
            "--truth", help="Folder of annotated crops: crop<ID>/<class> in it, or the challenge's training data."
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", help="JSON file for counts and scores.")] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Classes to score, as mito,nuc; all that are annotated unless given."),
    ] = None,
    layout: Layout = "{crop}/{label}",
    segments: Segments = None,
    threshold: Threshold = 0.5,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Count what has no prediction as missed, as the challenge does."),
    ] = False,
    force: Force = False,
) -> None:
    """Score predicted crops by the metric of the CellMap challenge, by the rule of 2026-06-30."""
    from scalenet_gp.pipelines.challenge import challenge_table
    from scalenet_gp.pipelines.challenge import score as run

    result = run(
        predictions,
        truth,
        output,
        classes=classes.split(",") if classes else (),
        layout=layout,
        segments=segments,
        threshold=threshold,
        allow_missing=allow_missing,
        overwrite=force,
    )
    print_table(challenge_table(result))
    if result.missing:
        typer.echo(f"without prediction, counted as missed: {len(result.missing)}")
    if output is not None:
        print_results({"scores": output})
