import numpy as np
import pytest
from gunpowder import ArrayKey, ArraySpec, BatchRequest, Coordinate, RandomLocation, Roi, build

from scalenet_gp.nodes.class_targets import ClassTargets
from scalenet_gp.nodes.multiscale import Multiscale
from scalenet_gp.world import World
from tests.nodes.ome_zarr_files import VNC, write_multiscale

FINE, COARSE, FINE_MASK, COARSE_MASK = map(ArrayKey, ("FINE_T", "COARSE_T", "FINE_M", "COARSE_M"))
TARGETS, MASKS = {FINE: (8, 8, 8), COARSE: (16, 16, 16)}, {FINE: FINE_MASK, COARSE: COARSE_MASK}


def label_volume(path, data, corner):
    return write_multiscale(path, [data], [(8.0,) * 3], [tuple(c + 4.0 for c in corner)])


@pytest.fixture
def crop(tmp_path):
    """Two classes annotated in different boxes: mito voxels 2 to 8, membrane voxels 0 to 4, of 8 nm on each axis."""
    rng = np.random.default_rng(0)
    mito = rng.choice(np.array([0, 0, 5, 900], np.uint16), (6, 6, 6))
    membrane = rng.choice(np.array([0, 1], np.uint8), (4, 4, 4))
    label_volume(tmp_path / "mito", mito, (16, 16, 16))
    label_volume(tmp_path / "membrane", membrane, (0, 0, 0))
    return tmp_path, mito, membrane


def provided(node, **rois):
    request = BatchRequest()
    for name, (offset, shape) in rois.items():
        request[ArrayKey(name)] = ArraySpec(roi=Roi(offset, shape))
    with build(node) as pipeline:
        return pipeline.request_batch(request), pipeline.spec


def classes(path):
    return {"mito": path / "mito", "membrane": path / "membrane"}


def expected_fine(mito, membrane):
    """Target and mask of the voxels -2 to 10 of every axis, by hand."""
    target, mask = np.zeros((2, 12, 12, 12), np.uint8), np.zeros((2, 12, 12, 12), np.uint8)
    target[0, 4:10, 4:10, 4:10], target[1, 2:6, 2:6, 2:6] = mito > 0, membrane > 0
    mask[0, 4:10, 4:10, 4:10], mask[1, 2:6, 2:6, 2:6] = 1, 1
    return target, mask


def test_targets_and_masks_at_the_stored_scale(crop):
    path, mito, membrane = crop
    box = ((-16,) * 3, (96,) * 3)
    batch, spec = provided(ClassTargets(classes(path), TARGETS, MASKS, World(), overhang=16), FINE_T=box, FINE_M=box)
    target, mask = expected_fine(mito, membrane)
    assert batch[FINE].data.dtype == batch[FINE_MASK].data.dtype == np.uint8
    np.testing.assert_array_equal(batch[FINE].data, target)
    np.testing.assert_array_equal(batch[FINE_MASK].data, mask)
    assert spec[FINE].roi == spec[FINE_MASK].roi == Roi((-16,) * 3, (96,) * 3)
    assert spec[FINE].interpolatable is False


def test_targets_of_made_levels_are_the_majority_of_membership(crop):
    path, mito, membrane = crop
    box = ((-16,) * 3, (96,) * 3)
    batch, spec = provided(
        ClassTargets(classes(path), TARGETS, MASKS, World(), overhang=16), COARSE_T=box, COARSE_M=box
    )
    target, mask = expected_fine(mito, membrane)
    blocks = target.reshape(2, 6, 2, 6, 2, 6, 2).sum((2, 4, 6), dtype=int)
    np.testing.assert_array_equal(batch[COARSE].data, blocks > 4)
    np.testing.assert_array_equal(batch[COARSE_MASK].data, mask[:, ::2, ::2, ::2])
    assert spec[COARSE].roi == Roi((-16,) * 3, (96,) * 3)


def test_within_masks_the_rest_and_shrinks_what_is_provided(crop):
    path, mito, membrane = crop
    node = ClassTargets(classes(path), TARGETS, MASKS, World(), within=Roi((0, 0, 8), (64, 64, 27)), overhang=(0, 0, 5))
    box = ((0, 0, 0), (64, 64, 40))
    batch, spec = provided(node, FINE_T=box, FINE_M=box, COARSE_M=((0, 0, 0), (64, 64, 48)))
    target, mask = (array[:, 2:10, 2:10, 2:7].copy() for array in expected_fine(mito, membrane))
    for array in (target, mask):
        array[..., 0] = array[..., 4:] = 0  # 8 to 35 nm hold the whole voxels 1 to 4 of 8 nm
    np.testing.assert_array_equal(batch[FINE].data, target)
    np.testing.assert_array_equal(batch[FINE_MASK].data, mask)
    assert spec[FINE].roi == Roi((0, 0, 0), (64, 64, 40))  # 8 to 32 nm, grown by 5 and to whole voxels
    assert spec[COARSE].roi == Roi((0, 0, 0), (64, 64, 48))
    coarse = np.zeros((2, 4, 4, 3), np.uint8)
    coarse[0, 1:, 1:, 1], coarse[1, :2, :2, 1] = 1, 1  # of 16 nm only voxel 1 is whole
    np.testing.assert_array_equal(batch[COARSE_MASK].data, coarse)


def test_random_locations_reach_into_the_overhang(crop):
    path, *_ = crop
    request = BatchRequest()
    request[FINE] = request[FINE_MASK] = ArraySpec(roi=Roi((0,) * 3, (80,) * 3))
    node = ClassTargets(classes(path), TARGETS, MASKS, World(), overhang=16)
    with build(node + RandomLocation()) as pipeline:
        masks = [pipeline.request_batch(request.copy())[FINE_MASK].data for _ in range(5)]
    assert all(mask.any() and not mask.all() for mask in masks)


def test_a_class_too_small_for_a_scale_is_not_annotated_there(crop):
    path, *_ = crop
    targets = {COARSE: (48, 48, 48)}  # mito has voxels 16 to 64 nm, none of 48 whole; so has membrane
    with pytest.raises(ValueError, match=r"COARSE_T: no class has a whole voxel of \(48, 48, 48\) world units"):
        ClassTargets(classes(path), targets, {}, World())
    label_volume(path / "all", np.ones((6, 6, 6), np.uint8), (0, 0, 0))
    box = ((0,) * 3, (48,) * 3)
    node = ClassTargets({**classes(path), "all": path / "all"}, targets, {COARSE: COARSE_MASK}, World())
    batch, _ = provided(node, COARSE_T=box, COARSE_M=box)
    assert batch[COARSE].data.ravel().tolist() == batch[COARSE_MASK].data.ravel().tolist() == [0, 0, 1]


def test_a_class_without_labels_is_named_with_those_there_are(crop):
    path, *_ = crop
    with pytest.raises(FileNotFoundError, match=r"class 'nucleus' has no labels at .*nucleus; .* membrane, mito$"):
        ClassTargets({"nucleus": path / "nucleus"}, TARGETS, MASKS, World())
    with pytest.raises(FileNotFoundError, match=r"there are: none"):
        ClassTargets({"nucleus": path / "crop7" / "nucleus"}, TARGETS, MASKS, World())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": {}}, "no classes"),
        ({"targets": {FINE: (12, 8, 8)}, "masks": {}}, "no level can give voxels of 12 × 8 × 8 nm"),
        ({"targets": {FINE: (8, 8.5, 8)}, "masks": {}}, "positive whole numbers"),
        ({"masks": {COARSE_MASK: FINE_MASK}}, "FINE_M is to mask COARSE_M, but the arrays are FINE_T, COARSE_T"),
        ({"masks": {FINE: COARSE}}, "COARSE_T: provided twice"),
        ({"within": Roi((800,) * 3, (80,) * 3)}, r"FINE_T: no class has .* annotated within \[800:880"),
        ({"within": Roi((0, 0), (80, 80))}, "of 3 axes"),
        ({"overhang": -8}, "overhang=-8"),
        ({"overhang": (8, 8)}, r"overhang=\(8, 8\)"),
        ({"world": World(1, (4, 4, 4))}, "off the lattice"),
    ],
)
def test_what_cannot_work_fails_before_anything_runs(crop, options, message):
    path, *_ = crop
    arguments = {"classes": classes(path), "targets": TARGETS, "masks": MASKS, "world": World(), **options}
    with pytest.raises(ValueError, match=message):
        ClassTargets(**arguments)


def test_label_volumes_of_other_axes_are_refused(crop, tmp_path):
    path, *_ = crop
    flat = write_multiscale(tmp_path / "flat", [np.zeros((4, 4), np.uint8)], [(8.0, 8.0)], axes="yx")
    with pytest.raises(ValueError, match=r"differ in their number of spatial axes: {'mito': 3, 'flat': 2}"):
        ClassTargets({"mito": path / "mito", "flat": flat}, TARGETS, MASKS, World())
    many = write_multiscale(tmp_path / "many", [np.zeros((2, 4, 4, 4), np.uint8)], [(8.0,) * 3], axes="czyx")
    with pytest.raises(ValueError, match=r"has one channel; these have more: {'many': 2}"):
        ClassTargets({"many": Multiscale.open(many)}, TARGETS, MASKS, World())


@pytest.mark.skipif(not VNC.exists(), reason="the real data ../shared/data/vnc.zarr is absent")
def test_real_classes_are_where_the_crop_is():
    crop = VNC / "recon-1" / "labels" / "groundtruth" / "crop1"
    names = ("mito", "synapse", "membrane", "glia")
    world = Multiscale.open(VNC / "recon-1" / "em" / "tem-uint8").world()
    size = Coordinate(250, 46, 46)
    node = ClassTargets({name: crop / name for name in names}, {FINE: size}, {FINE: FINE_MASK}, world)
    roi = Roi((0, 2944, 2208), (3500, 17664, 20608))
    batch, spec = provided(node, FINE_T=(roi.offset, roi.shape), FINE_M=(roi.offset, roi.shape))
    assert spec[FINE].roi == roi
    assert batch[FINE_MASK].data.all()
    for channel, name in enumerate(names):
        stored = Multiscale.open(crop / name)._arrays[1][:]
        np.testing.assert_array_equal(batch[FINE].data[channel], stored > 0)
