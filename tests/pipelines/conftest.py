"""A volume of 24 x 40 x 40 voxels of 4.5 nm whose first voxel's *centre* is at zero, and a run that takes a second.

Two classes are annotated in crops of different height: of ``bright`` voxels 4 to 20 along z, of ``dark`` 4 to 12; both
voxels 8 to 32 along y and 6 to 34 along x. The evaluation region begins at voxel 22 along x.
"""

import json
import shutil
import signal
import subprocess
from copy import deepcopy
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from scalenet_gp.pipelines.config import Config, PredictionOptions
from scalenet_gp.pipelines.prediction import Workers, predict
from scalenet_gp.pipelines.training.train_job import train
from scalenet_gp.volumes.multiscale_writer import MultiscaleWriter

VOXEL = 4.5
CORNER = -VOXEL / 2
SHAPE = (24, 40, 40)
CLASSES = ("bright", "dark")
CROPS = {"bright": ((4, 20), (8, 32), (6, 34)), "dark": ((4, 12), (8, 32), (6, 34))}
EVALUATED = ((4, 20), (8, 32), (22, 34))  # voxels from the volume's corner
OUTPUTS = {"0_output": 2, "1_output": 1}  # voxels of 4.5 nm along an edge of its own

TINY = {
    "version": 1,
    "data": {"sources": [{"raw": "em/raw", "labels": "labels/crop"}], "classes": list(CLASSES)},
    "network": {
        "kind": "scalenet",
        "subnets": [
            {
                "top_resolution": [size] * 3,
                "base_nc": 2,
                "downsample_factors": [[2, 2, 2]],
                "convs_per_level": 1,
                "norm_layer": None,
            }
            for size in (9, 4.5)
        ],
    },
    "augmentation": [
        {
            "kind": "deform",
            "control_point_spacing": [36, 36, 36],
            "jitter_sigma": [2, 2, 2],
            "rotation_axes": [1, 2],
            "mirror_axes": [0, 1, 2],
        },
        {"kind": "intensity", "scale": [0.8, 1.2], "shift": [-0.1, 0.1]},
        {"kind": "noise", "sigma": sqrt(0.001)},
    ],
    "training": {
        "region": {"begin": [None] * 3, "end": [None, None, 99]},
        "output_shape": [36, 36, 36],
        "overhang": [18, 36, 36],
        "batch_size": 1,
        "sampler": {"kind": "uniform"},
        "iterations": 4,
        "seed": 1,
        "checkpoints": {"every": 3},
        "log": {"scalars_every": 1, "images_every": 2},
    },
    "evaluation": {"region": {"begin": [None, None, 99], "end": [None] * 3}},
    "prediction": {"block_shape": [36, 54, 36], "stored": "float32"},
}

CPU = Workers(devices=("cpu",))
"""This process alone, on the processor."""

VALIDATED_RUN = {
    "validation": {"region": {"begin": [None, None, 63], "end": [None, None, 99]}, "every": 2, "samples": 2},
    "training__region": {"begin": [None] * 3, "end": [None, None, 63]},
    "training__overhang": None,
}
"""Changes to the config that add a validation."""


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Compute with one thread: more of them wait for each other where several processes share few cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def changed(settings, **changes):
    """A copy of plain settings with values set at paths such as ``training__iterations``; sections are made."""
    settings = deepcopy(settings)
    for path, value in changes.items():
        *parents, name = path.split("__")
        place = settings
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
        place[int(name) if isinstance(place, list) else name] = value
    return settings


def tiny_config(**changes):
    return Config.model_validate(changed(TINY, **changes))


def options_with(config, **changes):
    """The config's options of prediction with some of them changed."""
    return PredictionOptions.model_validate({**config.prediction.model_dump(), **changes})


def scalenet(*subnets):
    """The network of a config with these subnets."""
    return {"kind": "scalenet", "subnets": list(subnets)}


def write_config(path, **changes):
    """The tiny config as a YAML file."""
    path.write_text(yaml.safe_dump(changed(TINY, **changes)))
    return path


def write_array(path, data, first=None, voxel=VOXEL, **options):
    """A pyramid of ``data`` whose first voxel is the one ``first`` of the volume, in several chunks along each axis."""
    dims = data.ndim - bool(options.get("channels"))
    corner = [CORNER + voxel * f for f in first or (0,) * dims]
    shape = data.shape[-dims:]
    chunk = 8 if max(shape) < 60 else 32  # each chunk is a file
    options = {"chunks": (chunk,) * dims, "dtype": data.dtype, **options}
    with MultiscaleWriter(path, voxel_size=(voxel,) * dims, corner=corner, shape=shape, **options) as writer:
        writer.write((0,) * dims, data)
    return path


def positions_of_corners(path):
    """Make the file of a volume name the corner of every level, zero, as some writers do."""
    attributes = json.loads((path / ".zattrs").read_text())
    for dataset in attributes["multiscales"][0]["datasets"]:
        for transformation in dataset["coordinateTransformations"]:
            if transformation["type"] == "translation":
                transformation["translation"] = [0] * len(transformation["translation"])
    (path / ".zattrs").write_text(json.dumps(attributes))


def tissue(shape=SHAPE):
    """Raw data, uint8, and the masks of the classes, everywhere: blobs, the brightest and the darkest third."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    waves = sum(np.sin(place / pitch) for place, pitch in zip(places, (3, 4, 5), strict=False))
    noise = np.random.default_rng(0).normal(0, 0.2, shape)
    raw = np.clip(128 + 35 * (waves + noise), 0, 255).astype(np.uint8)
    return raw, {"bright": (waves > 0.8).astype(np.uint8), "dark": (waves < -0.8).astype(np.uint8)}


def write_volume(path):
    raw, masks = tissue()
    write_array(path / "em" / "raw", raw, levels=3)
    for name, crop in CROPS.items():
        box = tuple(slice(*bounds) for bounds in crop)
        first = [bounds[0] for bounds in crop]
        write_array(path / "labels" / "crop" / name, masks[name][box], first, labels=True)
    return path


def write_prediction(path, values, first=None, classes=CLASSES):
    """A prediction of both scales: ``values[output]`` (class, z, y, x), its first voxel given in fine voxels."""
    for name, factor in OUTPUTS.items():
        begin = [CORNER + VOXEL * f for f in first or [bounds[0] for bounds in EVALUATED]]
        data = values[name].astype(np.float32)
        with MultiscaleWriter(
            path / name,
            voxel_size=(VOXEL * factor,) * 3,
            corner=begin,
            shape=data.shape[1:],
            dtype=data.dtype,
            channels=classes if len(classes) == len(data) else [*map(str, range(len(data)))],
        ) as writer:
            writer.write((0, 0, 0), data)
    return path


def truth_at(factor):
    """Return masks of classes and of annotated voxels in the evaluation region, by hand: two (2, z, y, x) arrays."""
    _, masks = tissue()
    truth, annotated = np.zeros((2, len(CLASSES), *SHAPE), dtype=float)
    for index, (name, crop) in enumerate(CROPS.items()):
        box = tuple(slice(*bounds) for bounds in crop)
        truth[index][box] = masks[name][box]
        annotated[index][box] = 1
    box = (slice(None), *(slice(*bounds) for bounds in EVALUATED))
    shape = [n for size in truth[box].shape[1:] for n in (size // factor, factor)]
    share, known = (a[box].reshape(len(CLASSES), *shape).mean(axis=(2, 4, 6)) for a in (truth, annotated))
    return share > 0.5, known == 1


@pytest.fixture
def python_interrupts():
    """Ctrl-C does what it does in a terminal, also where tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes root, and is not permitted everywhere then")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def resize_disk(folder, size):
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


@pytest.fixture(scope="session")
def volume(tmp_path_factory):
    return write_volume(tmp_path_factory.mktemp("data") / "volume.zarr")


@pytest.fixture(scope="session")
def trained(volume, tmp_path_factory):
    """The folder of a finished run of the tiny config."""
    run = tmp_path_factory.mktemp("runs") / "run"
    train(tiny_config(), volume, run, "cpu")
    return run


@pytest.fixture(scope="session")
def predicted(volume, trained):
    """The prediction of the evaluation region by that run."""
    return predict(
        tiny_config(), volume, trained / "checkpoints" / "checkpoint_4.safetensors", trained / "prediction.zarr"
    )
