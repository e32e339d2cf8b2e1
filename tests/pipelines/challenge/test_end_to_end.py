"""The challenge from its folder to a score, with one run file: train, predict the crops, pack, score."""

import shutil
from fractions import Fraction

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from scalenet_gp.pipelines.challenge import score
from scalenet_gp.pipelines.cli import app
from scalenet_gp.volumes import MultiscaleImage, multiscale_groups
from tests.pipelines.conftest import tissue, write_array, write_config
from tests.pipelines.data.challenge_tree import CLASSES, write_challenge

TRUTH = "recon-1/labels/groundtruth"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Four crops of three data sets, off their lattice; a fifth, not to learn from, is a slice with one class."""
    folder = write_challenge(tmp_path_factory.mktemp("challenge"), crops=4, datasets=3)
    _, masks = tissue()
    top = folder / "set1" / "set1.zarr" / TRUTH
    write_array(top / "crop5" / "dark", masks["dark"][4:5, 5:20, 5:20], (4.25, 5, 5), voxel=2.25, labels=True)
    lines = ["crop_name,dataset,class_label,voxel_size,translation,shape"]
    for crop in sorted(folder.glob(f"*/*.zarr/{TRUTH}/crop*")):
        for label in multiscale_groups(crop):
            level = MultiscaleImage.open(crop / label).levels[0]
            centre = [b + v / 2 for b, v in zip(level.begin, level.voxel_size, strict=True)]
            lists = [
                f"[{';'.join(str(float(n)) if isinstance(n, Fraction) else str(n) for n in part)}]"
                for part in (level.voxel_size, centre, level.shape)
            ]
            lines.append(",".join([crop.name, crop.parts[-6], label, *lists]))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    write_config(
        folder / "run.yaml",
        data__sources=[{"challenge": ".", "crops": [1, 2, 3, 4]}],
        data__classes=list(CLASSES),
        training__region=None,
        training__overhang=None,
        training__iterations=2,
        evaluation={},
    )
    return folder


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_one_run_file_leads_from_the_crops_to_their_score(tree):
    run("train", tree / "run.yaml", "--run", tree / "run", "--device", "cpu")
    crops = ("--crops", tree / "manifest.csv", "--output", tree / "predictions", "--workers", 0, "--devices", "cpu")
    run("predict", tree / "run.yaml", "--run", tree / "run", *crops)
    manifest = ("--manifest", tree / "manifest.csv", "--layout", "{crop}.zarr", "--threshold", 0.45)
    printed = run("pack", tree / "predictions", *manifest, "--output", tree / "submission.zip")
    assert printed.startswith("packed 11 arrays of 5 crops; 0 missing\n")
    printed = run("score", tree / "submission.zip", "--truth", tree, "--output", tree / "scores.json")
    assert [line.split()[0] for line in printed.splitlines() if line.strip()][3:-1] == [
        *("mean", "bright", "dark", "rare", "mean", "overall")
    ]
    # by hand, from the very arrays that are submitted
    shutil.unpack_archive(tree / "submission.zip", tree / "read")
    submission = zarr.open_group(str(tree / "read"), mode="r")
    counts = score(tree / "submission.zip", tree).pooled.semantic
    for label in CLASSES:
        both, either = 0, 0
        for crop in tree.glob(f"*/*.zarr/{TRUTH}/crop*/{label}"):
            true = zarr.open_group(str(crop), mode="r")["s0"][:] > 0
            predicted = submission[f"{crop.parent.name}/{label}"][:] > 0
            assert predicted.shape == true.shape
            both += int((true & predicted).sum())
            either += int((true | predicted).sum())
        assert counts[label].true_positive == both
        assert counts[label].scores["iou"] == pytest.approx(both / either)
    assert any(counts[label].true_positive > 0 for label in CLASSES)
    assert np.isfinite(score(tree / "predictions", tree, layout="{crop}.zarr").pooled.overall_semantic)
