"""Targets of each output by itself, and boxes of each: against masks and instances computed by hand."""

import json

import gunpowder as gp
import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi
from scipy.ndimage import label

from scalenet_gp.errors import ConfigError, DataError
from scalenet_gp.losses import BinaryCrossEntropy, CrossEntropy
from scalenet_gp.nodes import ClassTargets
from scalenet_gp.nodes.chains import build_chain, unwrap_errors
from scalenet_gp.nodes.targets import descriptor_names, local_shape_descriptors
from scalenet_gp.nodes.targets.boundary_distance import boundary_distance
from scalenet_gp.nodes.targets.distance_weights import nearest_two
from scalenet_gp.pipelines.data import Dataset, sample_chain
from scalenet_gp.pipelines.data import boxes as boxes_module
from scalenet_gp.pipelines.evaluation import final_evaluation
from scalenet_gp.pipelines.inspection import preview
from scalenet_gp.pipelines.training import train
from scalenet_gp.volumes import MultiscaleImage
from tests.pipelines.conftest import CLASSES, CROPS, SHAPE, tiny_config, tissue, write_array, write_volume

OFFSETS = [[0, 0, 1], [0, -2, 0]]
TARGETS = {
    "0_output": {"kind": "classes", "exclusive": True, "loss": {"kind": "cross_entropy_dice"}},
    "1_output": {"kind": "affinities", "labels": "cells", "offsets": OFFSETS},
}
LSD = {"kind": "lsd", "labels": "cells", "sigma": [9, 9, 13.5]}
BOXES = {"0_output": [54, 72, 72], "1_output": [36, 36, 36]}


def instances():
    """Blobs that are bright, by number, everywhere."""
    _, masks = tissue()
    return label(masks["bright"])[0].astype(np.uint16)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """The tiny volume with instances in the box of the class ``bright``."""
    path = write_volume(tmp_path_factory.mktemp("instances") / "volume.zarr")
    box = tuple(slice(*bounds) for bounds in CROPS["bright"])
    first = [bounds[0] for bounds in CROPS["bright"]]
    write_array(path / "labels" / "crop" / "cells", instances()[box], first, labels=True)
    return path


def sample(config, volume, lattice=1):
    """Dataset and batch of a sample without augmentation that lies on a multiple of ``lattice`` world units."""
    net = config.build_network()
    dataset = Dataset.open(volume, config, net)
    plan = net.plan(dataset.boxes(config.training.output_shape))
    arrays = dict(dataset.arrays.request(plan).array_specs)
    with build_chain(sample_chain(config, dataset)) as pipeline:
        for seed in range(3, 100):
            batch = pipeline.request_batch(gp.BatchRequest(arrays, random_seed=seed))
            if all(n % lattice == 0 for n in placed(dataset, batch)):
                return dataset, batch
    raise AssertionError("no sample lies there")


def placed(dataset, batch):
    """The place of a sample, world units."""
    return Coordinate(json.loads(batch[dataset.arrays.inputs["1_input"]].attrs["location"])["begin"])


def first_voxel(dataset, batch, array):
    """The volume's voxel of 4.5 nm in the corner of an array; samples are delivered where they were asked for."""
    finest = batch[dataset.arrays.targets["1_output"]].spec.roi
    begin = array.spec.roi.begin - finest.begin + placed(dataset, batch)
    corner = dataset.world.position(dataset.raw.levels[0].begin)
    return tuple(int(n) for n in (begin - corner) / dataset.world.size((4.5,) * 3))


def test_exclusive_classes_have_a_background_and_one_mask(labelled):
    config = tiny_config(augmentation=[], training__targets=TARGETS, training__output_shape=BOXES)
    dataset, batch = sample(config, labelled, lattice=18)
    target, mask = (batch[keys["0_output"]] for keys in (dataset.arrays.targets, dataset.arrays.masks))
    assert target.data.shape == (3, 6, 8, 8)
    first = np.array(first_voxel(dataset, batch, target))
    _, masks = tissue()
    share, known = np.zeros((2, 2, *SHAPE))
    for index, (name, crop) in enumerate(CROPS.items()):
        box = tuple(slice(*bounds) for bounds in crop)
        share[index][box], known[index][box] = masks[name][box], 1
    known[..., 22:] = 0  # the training region ends at 99 nm
    for at in np.ndindex(target.data.shape[1:]):
        begin = first + 2 * np.array(at)
        box = tuple(slice(max(0, b), max(0, b + 2)) for b in begin)
        voxels = [share[(c, *box)] for c in range(2)]
        sure = [known[(c, *box)] for c in range(2)]
        whole = [each.size == 8 and each.all() for each in sure]
        present = [bool(w and v.mean() > 0.5) for w, v in zip(whole, voxels, strict=True)]
        annotated = all(whole) or any(present)
        expected = [annotated and not any(present), *present]
        assert list(target.data[(slice(None), *at)] > 0) == expected, at
        assert list(mask.data[(slice(None), *at)]) == [annotated] * 3, at


def test_affinities_are_those_of_the_instances(labelled):
    config = tiny_config(augmentation=[], training__targets=TARGETS, training__output_shape=BOXES)
    dataset, batch = sample(config, labelled)
    target, mask = (batch[keys["1_output"]] for keys in (dataset.arrays.targets, dataset.arrays.masks))
    z, y, x = first_voxel(dataset, batch, target)
    cells = np.full(SHAPE, -1, np.int64)
    box = tuple(slice(*bounds) for bounds in CROPS["bright"])
    cells[box] = instances()[box]
    cells[..., 22:] = -1
    assert (mask.data == 0).any()
    assert target.data.any()
    for channel, (dz, dy, dx) in enumerate(OFFSETS):
        for at in np.ndindex(target.data.shape[1:]):
            own = cells[z + at[0], y + at[1], x + at[2]]
            other = cells[z + at[0] + dz, y + at[1] + dy, x + at[2] + dx]
            known = own >= 0 and other >= 0
            assert mask.data[(channel, *at)] == known
            assert target.data[(channel, *at)] == (known and own == other > 0)


def test_affinities_and_descriptors_read_the_instances_once(labelled):
    """The descriptors are those of the cut-out instances; offsets in nm give the same affinities."""
    in_nm = {"kind": "affinities", "labels": "cells", "offsets_nm": [[0, 0, 4.5], [0, -9, 0]]}
    config = tiny_config(
        augmentation=[],
        network__subnets__1__heads={"lsd": {}},
        training__targets={"0_output": TARGETS["0_output"], "1_output": in_nm, "1_lsd": LSD},
        training__output_shape={**BOXES, "1_lsd": BOXES["1_output"]},
    )
    dataset, batch = sample(config, labelled)
    assert dataset.channels["1_output"] == ("affinity 0 0 4.5 nm", "affinity 0 -9 0 nm")
    assert len(dataset.target_chain.label_keys()) == 4  # targets of classes and labels, each with its mask
    target, mask = (batch[keys["1_lsd"]].data for keys in (dataset.arrays.targets, dataset.arrays.masks))
    cells = np.zeros(SHAPE, np.int64)
    box = tuple(slice(*bounds) for bounds in CROPS["bright"])
    cells[box] = instances()[box]
    cells[..., 22:] = 0
    reach = (6, 6, 9)
    first = first_voxel(dataset, batch, batch[dataset.arrays.targets["1_lsd"]])
    padded = np.pad(cells, [(40, 40)] * 3)
    around = tuple(slice(f + 40 - r, f + 40 + n + r) for f, n, r in zip(first, target.shape[1:], reach, strict=True))
    inner = tuple(slice(r, r + n) for n, r in zip(target.shape[1:], reach, strict=True))
    expected, described = local_shape_descriptors(padded[around], (4.5,) * 3, (9, 9, 13.5), inner)
    np.testing.assert_array_equal(target, expected)
    np.testing.assert_array_equal(mask, np.broadcast_to(described, mask.shape))
    assert 0 < mask.mean() < 1
    in_voxels = tiny_config(augmentation=[], training__targets=TARGETS, training__output_shape=BOXES)
    other, batch_of_voxels = sample(in_voxels, labelled)
    np.testing.assert_array_equal(
        batch[dataset.arrays.targets["1_output"]].data, batch_of_voxels[other.arrays.targets["1_output"]].data
    )


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"kind": "affinities", "offsets": [[0, 1]]}, "'0_output': offsets has 2 axes, and the network 3"),
        ({"kind": "lsd", "sigma": [9, 9]}, "'0_output': sigma has 2 axes, and the network 3"),
        (
            {"kind": "affinities", "offsets_nm": [[0, 0, 9], [0, 0, 4.5]]},
            r"offsets_nm has \[0.0, 0.0, 4.5\], .* whole voxels of 9 × 9 × 9 nm; the nearest is \[0.0, 0.0, 9",
        ),
    ],
)
def test_lengths_that_do_not_fit_the_voxels_are_refused_before_a_run(volume, targets, message):
    config = tiny_config(training__targets={"0_output": {"labels": "cells", **targets}, "*": {"kind": "classes"}})
    with pytest.raises(ConfigError, match=f"training.targets of the kind {targets['kind']}, .*{message}"):
        Dataset.open(volume, config, config.build_network())


def test_distances_are_those_of_the_class(volume):
    targets = {"*": {"kind": "boundary_distance", "classes": ["bright"], "maximum": 18}}
    config = tiny_config(augmentation=[], training__targets=targets, training__overhang=None)
    dataset, batch = sample(config, volume)
    target, mask = (batch[keys["1_output"]] for keys in (dataset.arrays.targets, dataset.arrays.masks))
    first = first_voxel(dataset, batch, target)
    _, masks = tissue()
    known = np.zeros(SHAPE, bool)
    known[tuple(slice(*bounds) for bounds in CROPS["bright"])] = True
    known[..., 22:] = False
    size = tuple(dataset.world.size((4.5,) * 3))
    distance, certain = boundary_distance(masks["bright"] > 0, known, size, float(dataset.world.size((18,))[0]))
    here = tuple(slice(f, f + n) for f, n in zip(first, target.data.shape[1:], strict=True))
    np.testing.assert_allclose(target.data[0], distance[here] / dataset.world.size((18,))[0], rtol=1e-6)
    np.testing.assert_array_equal(mask.data[0], certain[here])
    assert target.data.min() < 0 < target.data.max()


@pytest.mark.parametrize("kind", ["distances", "affinities"])
def test_a_run_learns_other_targets_at_each_scale(labelled, tmp_path, kind):
    """Training with validation, prediction, evaluation and preview go through, with the channels of each output.

    With affinities, heads beside the fine output learn exclusive classes and shape descriptors.
    """
    exclusive = TARGETS["0_output"]
    distances = {"0_output": exclusive, "1_output": {"kind": "boundary_distance", "maximum": 18}}
    affinities = {**TARGETS, "1_kinds": exclusive, "1_lsd": LSD}
    boxes = {**BOXES, **dict.fromkeys(("1_kinds", "1_lsd"), BOXES["1_output"])}
    heads = {"kinds": ["background", *CLASSES], "lsd": {}} if kind == "affinities" else None
    config = tiny_config(
        network__subnets__1__heads=heads,
        training__targets=affinities if kind == "affinities" else distances,
        training__output_shape=boxes if kind == "affinities" else None,
        training__region={"begin": [None] * 3, "end": [None, None, 63]},
        training__overhang=None,
        training__iterations=2,
        training__log={"images_every": 1},
        validation={"region": {"begin": [None, None, 63], "end": [None, None, 99]}, "every": 2, "samples": 1},
        prediction__stored="uint8",
    )
    checkpoint = train(config, labelled, tmp_path / "run", "cpu", report="none")
    scores = final_evaluation(config, labelled, tmp_path / "run", checkpoint, "cpu").scores.classes
    expected = {"0_output": list(CLASSES), "1_output": list(CLASSES)}
    if kind == "affinities":
        expected |= {"1_output": ["affinity 0 0 1", "affinity 0 -2 0"], "1_kinds": list(CLASSES)}
        expected["1_lsd"] = list(descriptor_names(3))
    assert {name: list(classes) for name, classes in scores.items()} == expected
    coarse = MultiscaleImage.open(tmp_path / "run" / "prediction.zarr" / "0_output")
    fine = MultiscaleImage.open(tmp_path / "run" / "prediction.zarr" / "1_output")
    assert (coarse.channels, coarse.dtype) == (3, np.uint8)
    assert (fine.channels, fine.dtype) == (2, np.uint8 if kind == "affinities" else np.float32)
    assert preview(config, labelled, tmp_path / "preview.png", samples=1).stat().st_size > 0


def test_boxes_have_a_common_centre(volume):
    config = tiny_config(training__output_shape={"0_output": [81, 36, 90], "1_output": [36, 45, 40.5]})
    dataset = Dataset.open(volume, config, config.build_network())
    boxes = dataset.boxes(config.training.output_shape)
    assert boxes["1_output"].begin == Coordinate((0,) * 3)
    for name, box in boxes.items():
        assert tuple(dataset.world.size_in_nm(box.shape)) == config.training.output_shape[name]
        twice = box.begin * 2 + box.shape - boxes["1_output"].shape
        for distance, size in zip(twice, dataset.net.voxel_size[name], strict=True):
            assert abs(distance) <= size
            assert box.begin[0] % size == 0


def test_by_default_every_scale_has_as_many_voxels(volume, monkeypatch):
    config = tiny_config(training__output_shape=None)
    dataset = Dataset.open(volume, config, config.build_network())
    boxes = dataset.boxes(None)
    voxels = [boxes[name].shape / dataset.net.voxel_size[name] for name in ("0_output", "1_output")]
    assert voxels == [Coordinate((16,) * 3)] * 2
    monkeypatch.setitem(boxes_module._VOXELS, 3, 32**3)
    boxes = dataset.boxes(None)
    voxels = [boxes[name].shape / dataset.net.voxel_size[name] for name in ("0_output", "1_output")]
    assert voxels == [Coordinate((32,) * 3), Coordinate((16, 24, 28))]  # the finest as far as anything is annotated
    monkeypatch.undo()
    supervised = tiny_config(network__subnets__1__deep_supervision=True, network__subnets__1__downsample_factors=None)
    dataset = Dataset.open(volume, supervised, supervised.build_network())
    boxes = dataset.boxes(None)
    assert boxes["1_output_1"] == boxes["1_output"]


def test_classes_that_overlap_are_not_exclusive():
    whole, part = np.ones((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    part[:2] = 1
    voxels = {"cell": whole, "mito": part}
    classes = {name: MultiscaleImage.from_arrays([values], [(8, 8, 8)]) for name, values in voxels.items()}
    target, mask = gp.ArrayKey("TARGET"), gp.ArrayKey("MASK")
    source = ClassTargets(classes, {target: (8, 8, 8)}, {target: mask}, classes["cell"].world(), exclusive=True)
    request = gp.BatchRequest({target: gp.ArraySpec(roi=Roi((0, 0, 0), (32, 32, 32)))})
    message = "32 of 32 voxels of 'mito' belong to cell"
    with build_chain(source) as pipeline, pytest.raises(DataError, match=message), unwrap_errors():
        pipeline.request_batch(request)


def test_a_class_may_not_be_called_background_where_classes_are_exclusive(volume, tmp_path):
    config = tiny_config(
        data__classes={"bright": "bright", "background": "dark"},
        training__targets={"*": {"kind": "classes", "exclusive": True}},
    )
    with pytest.raises(ConfigError, match="leave 'background' out of the classes"):
        train(config, volume, tmp_path / "run", "cpu")


def test_exclusive_classes_have_the_cross_entropy_of_exclusive_classes_also_in_a_sum():
    parts = {"both": {"kind": "cross_entropy_dice"}, "edge": {"kind": "dice"}}
    summed = {"kind": "classes", "exclusive": True, "loss": {"kind": "weighted_sum", "losses": parts}}
    for targets, expected in ((summed, CrossEntropy), ({**summed, "exclusive": False}, BinaryCrossEntropy)):
        options = tiny_config(training__targets={"*": targets}).training.targets["*"]
        assert isinstance(options.build_loss((8.0, 8.0, 8.0)).losses[0].cross_entropy, expected)


def test_gaps_between_instances_weigh_more(labelled):
    """Masks are those without weights, times the weights; one volume serves two outputs of different voxels."""
    slabs = np.zeros(SHAPE, np.uint16)
    for number, begin in enumerate(range(4, SHAPE[2], 4), start=1):
        slabs[..., begin : begin + 3] = number  # gaps of one voxel
    box = tuple(slice(*bounds) for bounds in CROPS["bright"])
    first = [bounds[0] for bounds in CROPS["bright"]]
    write_array(labelled / "labels" / "crop" / "slabs", slabs[box], first, labels=True)
    few = {"augmentation": [], "training__output_shape": BOXES}
    plain = sample(tiny_config(**few, training__targets=TARGETS), labelled)[1]
    gaps = {"labels": "slabs", "sigma": 9, "w0": 4}
    weighed = {name: {**options, "gap_weights": gaps} for name, options in TARGETS.items()}
    dataset, batch = sample(tiny_config(**few, training__targets=weighed), labelled)
    assert set(dataset.label_volumes()) == {*CLASSES, "cells", "slabs"}
    masks = {name: batch[key] for name, key in dataset.arrays.masks.items()}
    known = {name: plain[key].data > 0 for name, key in dataset.arrays.masks.items()}
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask.data > 0, known[name])
        assert (mask.data[known[name]] >= 1).all()
    fine, begin = masks["1_output"].data, first_voxel(dataset, batch, masks["1_output"])
    seen = np.zeros_like(slabs)
    seen[box] = slabs[box]
    seen[..., 22:] = 0  # the training region ends at 99 nm
    weights = 1 + 4 * np.exp(-(sum(nearest_two(seen, (4.5,) * 3, 36)) ** 2) / (2 * 9**2))
    expected = weights[tuple(slice(b, b + n) for b, n in zip(begin, fine.shape[1:], strict=True))]
    np.testing.assert_allclose(fine, known["1_output"] * expected, rtol=1e-6)
    assert np.ptp(fine[known["1_output"]]) > 1


def test_gap_weights_need_a_length():
    wrong = {"*": {"kind": "classes", "gap_weights": {"labels": "cells", "sigma": 0}}}
    with pytest.raises(ValueError, match=r"(?s)gap_weights.sigma.* above 0"):
        tiny_config(training__targets=wrong)
