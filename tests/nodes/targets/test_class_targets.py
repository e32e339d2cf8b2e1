import numpy as np
import pytest
from gunpowder import ArrayKey, ArraySpec, BatchRequest, Coordinate, Roi, build
from hypothesis import given, settings
from hypothesis import strategies as st

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.targets.class_targets import ClassTargets
from scalenet_gp.volumes.class_volume import ClassVolume
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from tests.scalenet_gp.volumes.ome_zarr_files import VNC, write_multiscale

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
    batch, spec = provided(ClassTargets(classes(path), TARGETS, MASKS, World()), FINE_T=box, FINE_M=box)
    target, mask = expected_fine(mito, membrane)
    assert batch[FINE].data.dtype == batch[FINE_MASK].data.dtype == np.uint8
    np.testing.assert_array_equal(batch[FINE].data, target)
    np.testing.assert_array_equal(batch[FINE_MASK].data, mask)
    assert all(length is None for length in spec[FINE].roi.shape)
    assert spec[FINE].interpolatable is False


def test_targets_of_made_levels_are_the_majority_of_membership(crop):
    path, mito, membrane = crop
    box = ((-16,) * 3, (96,) * 3)
    batch, _ = provided(ClassTargets(classes(path), TARGETS, MASKS, World()), COARSE_T=box, COARSE_M=box)
    target, mask = expected_fine(mito, membrane)
    blocks = target.reshape(2, 6, 2, 6, 2, 6, 2).sum((2, 4, 6), dtype=int)
    np.testing.assert_array_equal(batch[COARSE].data, blocks > 4)
    np.testing.assert_array_equal(batch[COARSE_MASK].data, mask[:, ::2, ::2, ::2])


def test_there_is_nothing_outside_the_annotation(crop):
    path, *_ = crop
    box = ((-8000, 0, 8000), (64, 32, 16))
    batch, _ = provided(ClassTargets(classes(path), TARGETS, MASKS, World()), FINE_T=box, FINE_M=box, COARSE_M=box)
    assert batch[FINE].data.shape == (2, 8, 4, 2)
    assert batch[COARSE_MASK].data.shape == (2, 4, 2, 1)
    assert not any(batch[key].data.any() for key in (FINE, FINE_MASK, COARSE_MASK))


def test_arrays_of_several_places_are_parts_of_the_whole(crop):
    path, *_ = crop
    node = ClassTargets(classes(path), TARGETS, MASKS, World())
    whole = ((-16,) * 3, (96,) * 3)
    batch, _ = provided(node, FINE_T=whole, FINE_M=whole)
    parts, _ = provided(node, FINE_T=((16, -8, 24), (32, 40, 8)), FINE_M=((0, 0, 0), (64, 24, 40)))
    np.testing.assert_array_equal(parts[FINE].data, batch[FINE].data[:, 4:8, 1:6, 5:6])
    np.testing.assert_array_equal(parts[FINE_MASK].data, batch[FINE_MASK].data[:, 2:10, 2:5, 2:7])


def test_within_masks_the_rest(crop):
    path, mito, membrane = crop
    node = ClassTargets(classes(path), TARGETS, MASKS, World(), within=Roi((0, 0, 8), (64, 64, 27)))
    box = ((0, 0, 0), (64, 64, 40))
    batch, _ = provided(node, FINE_T=box, FINE_M=box, COARSE_M=((0, 0, 0), (64, 64, 48)))
    target, mask = (array[:, 2:10, 2:10, 2:7].copy() for array in expected_fine(mito, membrane))
    for array in (target, mask):
        array[..., 0] = array[..., 4:] = 0  # 8 to 35 nm hold the whole voxels 1 to 4 of 8 nm
    np.testing.assert_array_equal(batch[FINE].data, target)
    np.testing.assert_array_equal(batch[FINE_MASK].data, mask)
    assert node.annotated(FINE) == Roi((0, 0, 8), (64, 64, 24))
    assert node.annotated(COARSE) == Roi((0, 0, 16), (64, 64, 16))
    coarse = np.zeros((2, 4, 4, 3), np.uint8)
    coarse[0, 1:, 1:, 1], coarse[1, :2, :2, 1] = 1, 1  # of 16 nm only voxel 1 is whole
    np.testing.assert_array_equal(batch[COARSE_MASK].data, coarse)


def test_the_annotated_box_holds_the_classes_of_the_channels(crop):
    path, *_ = crop
    node = ClassTargets(classes(path), TARGETS, MASKS, World())
    assert node.annotated(FINE) == node.annotated(COARSE) == Roi((0,) * 3, (64,) * 3)
    one = ClassTargets(classes(path), TARGETS, MASKS, World(), groups={"organelles": ["mito"]})
    assert one.annotated(FINE) == Roi((16,) * 3, (48,) * 3)
    with pytest.raises(KeyError, match="FINE_M is not one of the targets: FINE_T, COARSE_T"):
        node.annotated(FINE_MASK)


def test_a_class_too_small_for_a_scale_is_not_annotated_there(crop):
    path, *_ = crop
    targets = {COARSE: (48, 48, 48)}  # mito has voxels 16 to 64 nm, none of 48 whole; so has membrane
    with pytest.raises(ValueError, match=r"no class has a whole voxel annotated; .* are COARSE_T: \(48, 48, 48\)"):
        ClassTargets(classes(path), targets, {}, World())
    node = ClassTargets(classes(path), {FINE: (8, 8, 8), **targets}, {COARSE: COARSE_MASK}, World())
    box = ((0,) * 3, (48,) * 3)
    batch, _ = provided(node, COARSE_T=box, COARSE_M=box)
    assert not any(batch[key].data.any() for key in (COARSE, COARSE_MASK))
    assert [node.annotated(key).empty for key in (FINE, COARSE)] == [False, True]
    label_volume(path / "all", np.ones((6, 6, 6), np.uint8), (0, 0, 0))
    node = ClassTargets({**classes(path), "all": path / "all"}, targets, {COARSE: COARSE_MASK}, World())
    batch, _ = provided(node, COARSE_T=box, COARSE_M=box)
    assert batch[COARSE].data.ravel().tolist() == batch[COARSE_MASK].data.ravel().tolist() == [0, 0, 1]


SIZES = {"a": (8,), "b": (8, 16), "c": (16,)}
ENCODINGS = {"a": {"unknown": 9}, "b": {"absent": 0, "present": 1, "unknown": 255}, "c": {"absent": 1, "unknown": 0}}
STATES = {
    "a": {0: "absent", 5: "present", 6: "present", 9: "unknown"},
    "b": {0: "absent", 1: "present", 255: "unknown", 7: "unknown"},
    "c": {0: "unknown", 1: "absent", 2: "present"},
}


class RandomClasses:
    """Three classes of 8 and 16 nm voxels, every level of every class noise of its own."""

    def __init__(self, path, seed):
        rng = np.random.default_rng(seed)
        self.begin, self.levels, self.volumes = {}, {}, {}
        for name, sizes in SIZES.items():
            shape, values = rng.integers(4, 7, 2) * 2, [*STATES[name]]
            self.begin[name] = rng.integers(0, 3, 2) * (8 if name == "a" else 16)
            weights = rng.dirichlet(np.ones(len(values)))
            self.levels[name] = {s: rng.choice(np.array(values, np.uint8), shape * 8 // s, p=weights) for s in sizes}
            file = write_multiscale(
                path / name,
                [*self.levels[name].values()],
                [(float(size),) * 2 for size in sizes],
                [tuple(self.begin[name] + size / 2) for size in sizes],
                axes="yx",
            )
            self.volumes[name] = ClassVolume(MultiscaleImage.open(file), **ENCODINGS[name])
        self.volumes["nowhere"] = ClassVolume(None)

    def state(self, name, voxel, size):
        """Present, absent or unknown: what a target of ``size`` makes of an 8 nm voxel."""
        if name == "nowhere":
            return "unknown"
        level = max(stored for stored in SIZES[name] if size % stored == 0)
        begin, end = self.begin[name], self.begin[name] + np.multiply(self.levels[name][level].shape, level)
        whole = voxel * 8 // size * size
        if (whole < begin).any() or (whole + size > end).any():
            return "unknown"
        return STATES[name][int(self.levels[name][level][tuple((voxel * 8 - begin) // level)])]

    def expected(self, names, box, size):
        """Target and mask of a group: a loop over the voxels of the target and those within."""
        target, mask = np.zeros((2, *np.array(box) // size), np.uint8)
        for voxel in np.ndindex(target.shape):
            votes = []
            for inner in np.ndindex((size // 8,) * 2):
                states = [self.state(name, np.array(voxel) * size // 8 + inner, size) for name in names]
                votes.append("present" if "present" in states else "unknown" if "unknown" in states else "absent")
            known = len(votes) - votes.count("unknown")
            if 2 * known >= len(votes):
                mask[voxel], target[voxel] = 1, votes.count("present") > votes.count("absent")
        return target, mask


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([16, 32]))
def test_groups_are_joined_before_the_majority(tmp_path_factory, seed, size):
    made, box = RandomClasses(tmp_path_factory.mktemp("classes"), seed), (128, 96)
    groups = {"ab": ["a", "b"], "c": ["c"], "all": ["c", "a", "b", "a"], "a": ["a"], "open": ["b", "nowhere"]}
    node = ClassTargets(made.volumes, {FINE: (size,) * 2}, {FINE: FINE_MASK}, World(), groups=groups)
    batch, _ = provided(node, FINE_T=((0, 0), box), FINE_M=((0, 0), box))
    for channel, names in enumerate(groups.values()):
        target, mask = made.expected(names, box, size)
        np.testing.assert_array_equal(batch[FINE].data[channel], target)
        np.testing.assert_array_equal(batch[FINE_MASK].data[channel], mask)


@pytest.mark.parametrize(
    ("dtype", "encoding", "states"),
    [
        (np.uint8, {}, {0: 0, 1: 1, 255: 1}),
        (np.int16, {}, {0: 0, 1: 1, -1: None}),
        (np.uint8, {"unknown": 255}, {0: 0, 3: 1, 255: None}),
        (np.uint8, {"present": 1, "unknown": 255}, {0: 0, 1: 1, 2: None, 255: None}),
        (np.uint64, {"absent": 2, "unknown": 0}, {0: None, 1: 1, 2: 0, 2**64 - 1: 1}),
        (np.uint8, {"absent": None, "present": 0}, {0: 1, 1: None}),
        (np.uint8, {"unknown": 2**40}, {0: 0, 1: 1}),
    ],
)
def test_what_values_mean(dtype, encoding, states):
    present, known = ClassVolume(None, **encoding).read(np.array([*states], dtype))
    assert present.tolist() == [state == 1 for state in states.values()]
    assert known.tolist() == [state is not None for state in states.values()]


@pytest.mark.parametrize("encoding", [{"unknown": 0}, {"present": 0}, {"present": 3, "unknown": 3}])
def test_a_value_has_one_meaning(encoding):
    with pytest.raises(ValueError, match="one value stands for two of"):
        ClassVolume(None, **encoding)


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
        ({"within": Roi((800,) * 3, (80,) * 3)}, r"no class has a whole voxel annotated within \[800:880"),
        ({"within": Roi((0, 0), (80, 80))}, "of 3 axes"),
        ({"groups": {}}, "no groups"),
        ({"groups": {"organelles": []}}, "'organelles' has no classes"),
        ({"groups": {"organelles": ["mito", "nucleus"]}}, "'organelles' names nucleus; the classes are mito, membrane"),
        ({"classes": {"mito": ClassVolume(None)}}, "no class has a label volume"),
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
    with pytest.raises(ValueError, match=r"many: the label volume of a class has one channel, not 2"):
        ClassTargets({"many": MultiscaleImage.open(many)}, TARGETS, MASKS, World())


@pytest.mark.skipif(not VNC.exists(), reason="the real data ../shared/data/vnc.zarr is absent")
def test_real_classes_are_where_the_crop_is():
    crop = VNC / "recon-1" / "labels" / "groundtruth" / "crop1"
    names = ("mito", "synapse", "membrane", "glia")
    world = MultiscaleImage.open(VNC / "recon-1" / "em" / "tem-uint8").world()
    size = Coordinate(250, 46, 46)
    node = ClassTargets({name: crop / name for name in names}, {FINE: size}, {FINE: FINE_MASK}, world)
    roi = Roi((0, 2944, 2208), (3500, 17664, 20608))
    batch, _ = provided(node, FINE_T=(roi.offset, roi.shape), FINE_M=(roi.offset, roi.shape))
    assert node.annotated(FINE) == roi
    assert batch[FINE_MASK].data.all()
    for channel, name in enumerate(names):
        stored = MultiscaleImage.open(crop / name)._arrays[1][:]
        np.testing.assert_array_equal(batch[FINE].data[channel], stored > 0)
