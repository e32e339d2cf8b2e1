"""The challenge from its folder to a score, with one run file: check, train, predict, segment, pack, score."""

import shutil
from fractions import Fraction

import numpy as np
import pytest
import zarr
from scipy.ndimage import label
from typer.testing import CliRunner

from scalenet_gp.pipelines.challenge import score
from scalenet_gp.pipelines.cli import app
from scalenet_gp.volumes import ClassPrediction, MultiscaleImage, multiscale_groups, read_crop_manifest
from tests.pipelines.conftest import tissue, write_array, write_config
from tests.pipelines.data.challenge_tree import write_challenge

CLASSES = ("bright", "mito", "rare")
TRUTH = "recon-1/labels/groundtruth"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Four crops of three data sets, off their lattice; a fifth, not to learn from, is a slice with one class."""
    folder = write_challenge(tmp_path_factory.mktemp("challenge"), crops=4, datasets=3, names=CLASSES)
    _, masks = tissue()
    top = folder / "set1" / "set1.zarr" / TRUTH
    write_array(top / "crop5" / "mito", masks["dark"][4:5, 5:20, 5:20], (4.25, 5, 5), voxel=2.25, labels=True)
    lines = ["crop_name,dataset,class_label,voxel_size,translation,shape"]
    for crop in sorted(folder.glob(f"*/*.zarr/{TRUTH}/crop*")):
        for name in multiscale_groups(crop):
            level = MultiscaleImage.open(crop / name).levels[0]
            centre = [b + v / 2 for b, v in zip(level.begin, level.voxel_size, strict=True)]
            lists = [
                f"[{';'.join(str(float(n)) if isinstance(n, Fraction) else str(n) for n in part)}]"
                for part in (level.voxel_size, centre, level.shape)
            ]
            lines.append(",".join([crop.name, crop.parts[-6], name, *lists]))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    write_config(
        folder / "run.yaml",
        data__sources=[{"challenge": ".", "crops": [1, 2, 3, 4]}],
        data__classes=list(CLASSES),
        training__region=None,
        training__overhang=None,
        training__iterations=2,
        evaluation={},
        segmentation={"classes": {"mito": {"threshold": 0.45, "smallest": 20}}},
    )
    return folder


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_one_run_file_leads_from_the_crops_to_their_score(tree):
    run("check", tree / "run.yaml")
    run("train", tree / "run.yaml", "--run", tree / "run", "--device", "cpu")
    crops = ("--crops", tree / "manifest.csv", "--output", tree / "predictions", "--workers", 0, "--devices", "cpu")
    run("predict", tree / "run.yaml", "--run", tree / "run", *crops)
    places = ("--prediction", tree / "predictions", "--output", tree / "objects", "--crops", tree / "manifest.csv")
    printed = run("segment", tree / "run.yaml", *places)
    rows = [line.split() for line in printed.splitlines()]
    objects = {row[0]: int(row[2]) for row in rows if row[1:2] == ["mito"]}
    assert sorted(objects) == [f"crop{number}" for number in range(1, 6)]
    assert run("segment", tree / "run.yaml", *places) == printed  # finished crops stay
    manifest = ("--manifest", tree / "manifest.csv", "--layout", "{crop}.zarr", "--threshold", 0.45)
    manifest += ("--segments", tree / "objects")
    printed = run("pack", tree / "predictions", *manifest, "--output", tree / "submission.zip")
    assert printed.startswith("packed 11 arrays of 5 crops; 0 missing\n5 of the arrays are objects of ")
    printed = run("score", tree / "submission.zip", "--truth", tree, "--output", tree / "scores.json")
    assert [line.split()[0] for line in printed.splitlines() if line.strip()][3:-1] == [
        *("mito", "mean", "bright", "rare", "mean", "overall")
    ]
    # by hand, from the very arrays that are submitted
    shutil.unpack_archive(tree / "submission.zip", tree / "read")
    submission = zarr.open_group(str(tree / "read"), mode="r")
    pooled = score(tree / "submission.zip", tree).pooled
    for name in ("bright", "rare"):
        both, either = 0, 0
        for crop in tree.glob(f"*/*.zarr/{TRUTH}/crop*/{name}"):
            true = zarr.open_group(str(crop), mode="r")["s0"][:] > 0
            predicted = submission[f"{crop.parent.name}/{name}"][:] > 0
            assert predicted.shape == true.shape
            both += int((true & predicted).sum())
            either += int((true | predicted).sum())
        assert pooled.semantic[name].true_positive == both
        assert pooled.semantic[name].scores["iou"] == pytest.approx(both / either)
    assert any(counts.true_positive > 0 for counts in pooled.semantic.values())
    found = 0
    for entry in read_crop_manifest(tree / "manifest.csv"):
        if entry.label == "mito":
            packed = submission[f"{entry.crop}/mito"][:]
            ids = ClassPrediction.find(tree / "objects" / f"{entry.crop}.zarr" / "mito", "mito", entry.voxel_size)
            np.testing.assert_array_equal(packed, ids.read(entry.lattice, 0.5))
            assert packed.max() <= objects[entry.crop]
            found += sum(label(packed == one, np.ones((3, 3, 3)))[1] for one in np.unique(packed[packed > 0]))
    assert found > 0
    mito = pooled.instances["mito"]
    assert mito.true_positive + mito.false_positive == found
    from_folder = score(tree / "predictions", tree, layout="{crop}.zarr", segments=tree / "objects").pooled
    assert from_folder.instances["mito"] == mito
    assert np.isfinite(from_folder.overall_semantic)
