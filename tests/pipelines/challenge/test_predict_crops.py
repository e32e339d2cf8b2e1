"""Crops of the manifest predicted from their raw volumes, against a prediction of the whole volume."""

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import zarr

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.pipelines.challenge import choose_manifest, pack, predict_crops, segment_crops
from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.volumes import ClassPrediction, CropLattice, multiscale_groups
from tests.pipelines.conftest import CLASSES, CORNER, CPU, tiny_config

HEADER = "crop_name,dataset,class_label,voxel_size,translation,shape"
LATTICES = {
    "crop1": CropLattice.of_centres((5, "4.2", 4), ("21.3", 30, "40.7"), (6, 7, 8)),
    "crop2": CropLattice.of_centres((10, 8, 8), (-1, 50, 40), (5, 6, 7)),  # at the volume's face
}


def rows(names):
    for name in names:
        lattice = LATTICES[name]
        parts = (lattice.voxel_size, lattice.translation, lattice.shape)
        lists = (f"[{';'.join(str(float(n) if isinstance(n, Fraction) else n) for n in numbers)}]" for numbers in parts)
        place = ",".join(lists)
        yield from (f"{name.removeprefix('crop')},jrc_a,{label},{place}" for label in CLASSES)


@pytest.fixture(scope="module")
def checkpoint(trained):
    return trained / "checkpoints" / "checkpoint_4.safetensors"


@pytest.fixture(scope="module")
def tree(tmp_path_factory, volume):
    """The raw volume where the challenge's tool puts it, and the manifest."""
    folder = tmp_path_factory.mktemp("challenge")
    shutil.copytree(volume / "em", folder / "jrc_a" / "jrc_a.zarr" / "recon-1" / "em")
    (folder / "manifest.csv").write_text("\n".join([HEADER, *rows(LATTICES)]) + "\n")
    return folder


@pytest.fixture(scope="module")
def made(tree, checkpoint):
    return predict_crops(tiny_config(), tree, checkpoint, tree / "predictions", tree / "manifest.csv", workers=CPU)


def test_crops_have_the_values_of_the_whole_volume(tree, made, checkpoint, volume):
    assert made == tuple(tree / "predictions" / f"{name}.zarr" for name in LATTICES)
    # 5 nm is nearest to the output of 4.5 nm, and 10 nm to that of 9 nm
    assert [multiscale_groups(path) for path in made] == [("1_output",), ("0_output",)]
    whole = predict(tiny_config(), volume, checkpoint, tree / "whole.zarr", "all", workers=CPU)
    for (name, lattice), path in zip(LATTICES.items(), made, strict=True):
        for label in CLASSES:
            crop, all_of_it = (ClassPrediction.find(p, label, lattice.voxel_size) for p in (path, whole))
            assert all(a < b or a == CORNER for a, b in zip(crop.image.levels[0].begin, lattice.corner, strict=True)), (
                name
            )
            threshold = float(np.median(all_of_it.image.read(*roi_of(all_of_it.image))))
            expected = all_of_it.read(lattice, threshold)
            assert 0 < expected.mean() < 1
            np.testing.assert_array_equal(crop.read(lattice, threshold), expected)


def roi_of(image):
    size = image.levels[0].voxel_size
    world = image.world(size)
    voxels = world.size(size)
    return image.roi(voxels, world), voxels, world


def test_predicted_crops_are_packed(tree, made):
    packed = pack(tree / "predictions", tree / "manifest.csv", tree / "submission.zip", layout="{crop}.zarr")
    assert packed.missing == ()
    shutil.unpack_archive(packed.path, tree / "read")
    group = zarr.open_group(str(tree / "read"), mode="r")
    for name, lattice in LATTICES.items():
        for label in CLASSES:
            expected = ClassPrediction.find(tree / "predictions" / f"{name}.zarr", label, lattice.voxel_size).read(
                lattice, 0.5
            )
            np.testing.assert_array_equal(group[f"{name}/{label}"][:], expected)
            assert group[f"{name}/{label}"].attrs["translation"] == [float(t) for t in lattice.translation]


def test_finished_crops_are_kept_unless_they_are_of_another_network(tree, made, checkpoint, trained, tmp_path):
    before = [(path / ".zattrs").stat().st_mtime_ns for path in made]
    assert predict_crops(tiny_config(), tree, [checkpoint], tree / "predictions", tree / "manifest.csv") == made
    assert [(path / ".zattrs").stat().st_mtime_ns for path in made] == before
    other = trained / "checkpoints" / "checkpoint_3.safetensors"
    with pytest.raises(FileExistsError, match="was predicted with other networks"):
        predict_crops(tiny_config(), tree, other, tree / "predictions", tree / "manifest.csv")


def test_faults_are_told_before_anything_is_predicted(tree, checkpoint, tmp_path):
    def run(manifest=tree / "manifest.csv", folder=tree, network=checkpoint, **options):
        predict_crops(tiny_config(), folder, network, tmp_path / "predictions", manifest, **options)

    with pytest.raises(FileNotFoundError, match=r"no raw volume .* of jrc_a: crop1, crop2; fetch it, say with --raw"):
        run(folder=tmp_path)
    with pytest.raises(ConfigError, match=r"--raw .* names \{crop\}; it can name \{dataset\}"):
        run(raw="{crop}/raw")
    two = tmp_path / "two"
    for name in ("fibsem-uint8", "fibsem-uint16"):
        (two / "jrc_a" / "jrc_a.zarr" / "recon-1" / "em" / name).mkdir(parents=True)
    with pytest.raises(ConfigError, match="matches several volumes of jrc_a: fibsem-uint16, fibsem-uint8; name one"):
        run(folder=two)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        run(network=tmp_path / "none.safetensors")
    sources = [
        {"raw": f"{name}/raw", "labels": "labels", "intensities": window}
        for name, window in (("a", [0, 0.5]), ("b", [0.5, 1]))
    ]
    with pytest.raises(
        ConfigError, match=r"data\.sources differ in intensities, and none of them has .*raw, the raw vol"
    ):
        predict_crops(
            tiny_config(data__sources=sources), tree, checkpoint, tmp_path / "predictions", tree / "manifest.csv"
        )
    far = tmp_path / "far.csv"
    far.write_text(f"{HEADER}\n3,jrc_a,dark,[4;4;4],[1000;0;0],[6;6;6]\n")
    with pytest.raises(DataError, match=r"crop3 spans 998 × 1022 nm along axis 0, and .*raw -2\.25 × 105\.75 nm"):
        run(far)
    assert not (tmp_path / "predictions").exists()


def test_objects_of_crops_are_those_of_their_classes_and_options(tree, made, tmp_path):
    manifest, output = tree / "manifest.csv", tmp_path / "objects"

    def run(classes=("dark",), **options):
        config = tiny_config(segmentation={"classes": {"dark": {"threshold": 0.45, **options}}})
        return segment_crops(config, tree / "predictions", output, manifest, classes=classes)

    with pytest.raises(ConfigError, match=r"no class to segment: of bright, dark none is scored by objects"):
        run(classes=())
    with pytest.raises(ConfigError, match=r"no crop has the class 'drak'; did you mean dark"):
        run(classes=["drak"])
    assert not output.exists()
    done = run()
    assert done == {name: output / f"{name}.zarr" for name in LATTICES}
    assert [multiscale_groups(path) for path in done.values()] == [("dark",), ("dark",)]
    assert run() == done
    with pytest.raises(FileExistsError, match=r"crop1.zarr is a segmentation of another kind.*smallest: 0 and 9"):
        run(smallest=9)
    packed = pack(
        tree / "predictions", manifest, tmp_path / "s.zip", layout="{crop}.zarr", segments=output, threshold=0.45
    )
    assert packed.segmented == (("crop1", "dark"), ("crop2", "dark"))
    with pytest.raises(FileNotFoundError, match=r"none: no such folder"):
        pack(tree / "predictions", manifest, tmp_path / "t.zip", layout="{crop}.zarr", segments=tmp_path / "none")


def test_the_challenges_own_manifest_is_found(tmp_path, monkeypatch):
    name = "test_crop_manifest.csv"
    package = tmp_path / "site" / "cellmap_segmentation_challenge"
    (package / "utils").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert choose_manifest(Path("other.csv"), "--crops") == Path("other.csv")  # whether it exists or not
    with pytest.raises(
        ConfigError, match=rf"--crops test: .* is not at {tmp_path}/{name}, and the package .* not inst"
    ):
        choose_manifest(Path("test"), "--crops")
    (package / "__init__.py").write_text("raise ImportError")  # it is looked for, not imported
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(ConfigError, match=rf"and {package}/utils/{name}; copy it from https://github\.com/"):
        choose_manifest(Path("test"), "--crops")
    for place in (package / "utils" / name, Path(name)):
        place.write_text(HEADER)
        assert choose_manifest(Path("test"), "--crops") == place
    Path("test").write_text(HEADER)
    assert choose_manifest(Path("test"), "--crops") == Path("test")
