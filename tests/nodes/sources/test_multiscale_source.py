import numpy as np
import pytest
from gunpowder import ArrayKey, ArraySpec, BatchRequest, Coordinate, MergeProvider, RandomLocation, Roi, build

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.sources.multiscale_source import MultiscaleSource
from scalenet_gp.volumes.stored_array import StoredArray
from tests.scalenet_gp.volumes.ome_zarr_files import VNC, position_ramps, write_multiscale

FINE, COARSE, FINE_MASK = ArrayKey("FINE"), ArrayKey("COARSE"), ArrayKey("FINE_MASK")
VOXEL, SHAPE = (50.0, 4.5, 4.5), (4, 12, 16)


@pytest.fixture
def path(tmp_path):
    """First voxel centre at zero; every voxel holds the position of its centre."""
    corner = tuple(-v / 2 for v in VOXEL)
    return write_multiscale(tmp_path / "v", [position_ramps(SHAPE, VOXEL, corner)], [VOXEL], [(0, 0, 0)], axes="czyx")


WORLD = World("1/2", (-25, "-2.25", "-2.25"))
SIZES = {FINE: (100, 9, 9), COARSE: (100, 36, 36)}


def request_of(**rois):
    request = BatchRequest()
    for name, (offset, shape) in rois.items():
        request[ArrayKey(name)] = ArraySpec(roi=Roi(offset, shape))
    return request


def test_every_scale_shows_the_same_positions(path):
    source = MultiscaleSource(path, SIZES, WORLD)
    with build(source) as pipeline:
        assert pipeline.spec[FINE].roi == pipeline.spec[COARSE].roi == Roi((0, 0, 0), (400, 108, 144))
        assert pipeline.spec[FINE].voxel_size == Coordinate(100, 9, 9)
        assert pipeline.spec[FINE].dtype == np.float64
        assert pipeline.spec[FINE].interpolatable is True
        batch = pipeline.request_batch(
            request_of(FINE=((100, 45, 54), (200, 18, 27)), COARSE=((100, 36, 36), (100, 36, 72)))
        )
    assert batch[FINE].data.shape == (3, 2, 2, 3)
    np.testing.assert_allclose(batch[FINE].data[:, 0, 0, 0], (50, 22.5, 27))
    np.testing.assert_allclose(batch[COARSE].data[:, 0, 0, 0], (50, 18 + 6.75, 18 + 6.75))
    np.testing.assert_allclose(batch[COARSE].data[2, 0, 0, 1], 36 + 6.75)
    assert batch.profiling_stats.get_timing_summary("MultiscaleSource").counts() == 1


def test_padding_unbounds_the_arrays_and_masks_tell_where_it_is(path):
    source = MultiscaleSource(path, SIZES, WORLD, padding="constant", fill_value=-1, masks={FINE: FINE_MASK})
    with build(source) as pipeline:
        assert pipeline.spec[FINE].roi.shape == Coordinate((None,) * 3)
        assert (pipeline.spec[FINE_MASK].dtype, pipeline.spec[FINE_MASK].interpolatable) == (np.uint8, False)
        box = ((-100, 90, 126), (200, 36, 36))
        batch = pipeline.request_batch(request_of(FINE=box, FINE_MASK=box))
    mask = batch[FINE_MASK].data
    expected = np.zeros((1, 2, 4, 4), np.uint8)
    expected[:, 1, :2, :2] = 1
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(batch[FINE].data == -1, np.broadcast_to(mask == 0, (3, 2, 4, 4)))


def test_without_padding_a_mask_is_unbounded_all_the_same(path):
    with build(MultiscaleSource(path, {FINE: SIZES[FINE]}, WORLD, masks={FINE: FINE_MASK})) as pipeline:
        assert not pipeline.spec[FINE].roi.unbounded
        assert pipeline.spec[FINE_MASK].roi.unbounded


def test_gunpowders_nodes_go_with_it(path):
    sources = (
        MultiscaleSource(path, {FINE: SIZES[FINE]}, WORLD),
        MultiscaleSource(path, {COARSE: SIZES[COARSE]}, WORLD),
    )
    request = request_of(FINE=((0, 36, 36), (100, 36, 36)), COARSE=((0, 0, 0), (100, 108, 108)))
    with build(sources + MergeProvider() + RandomLocation()) as pipeline:
        for _ in range(5):
            batch = pipeline.request_batch(request.copy())
            np.testing.assert_allclose(batch[COARSE].data[:, 0, 1, 1], batch[FINE].data.mean((1, 2, 3)))


def test_all_boxes_are_started_before_any_is_waited_for(path, monkeypatch):
    events = []

    def spy(array, box):
        finish = start(array, box)
        events.append("start")
        return lambda: (events.append("wait"), finish())[1]

    start = StoredArray.start
    monkeypatch.setattr(StoredArray, "start", spy)
    source = MultiscaleSource(path, SIZES, WORLD, padding="constant", masks={FINE: FINE_MASK})
    with build(source) as pipeline:
        box = ((0, 36, 36), (100, 36, 36))
        pipeline.request_batch(request_of(FINE=box, FINE_MASK=box, COARSE=((-100, 0, 0), (300, 108, 108))))
    assert events == ["start", "start", "wait", "wait"]


def test_labels_are_not_interpolatable(path):
    with build(MultiscaleSource(path, {FINE: SIZES[FINE]}, WORLD, labels=True)) as pipeline:
        assert pipeline.spec[FINE].interpolatable is False


@pytest.mark.parametrize(
    ("voxel_sizes", "options", "message"),
    [
        ({FINE: (100, 13, 9)}, {}, "no level can give voxels of 50 × 6.5 × 4.5 nm"),
        ({FINE: (100, 9.5, 9)}, {}, "positive whole numbers of world units"),
        ({FINE: (500, 9, 9)}, {}, r"holds no whole voxel of the \(500, 9, 9\) world units of FINE"),
        ({FINE: (100, 9, 9)}, {"masks": {COARSE: FINE_MASK}}, "FINE_MASK is to mask COARSE, but the arrays are FINE"),
        ({FINE: (100, 9, 9)}, {"masks": {FINE: FINE}}, "FINE: provided twice"),
        ({FINE: (100, 9, 9)}, {"padding": "edge"}, "padding='edge' has to be"),
        ({FINE: (100, 9, 9)}, {"world": World("1/2")}, r"World\(unit='1/2', origin=\('-25', '-9/4', '-9/4'\)\) would"),
    ],
)
def test_what_cannot_work_fails_before_anything_runs(path, voxel_sizes, options, message):
    with pytest.raises(ValueError, match=message):
        MultiscaleSource(path, voxel_sizes, **{"world": WORLD, **options})


def test_a_missing_volume_fails_before_anything_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing: no such multiscale group"):
        MultiscaleSource(tmp_path / "nothing", SIZES)


@pytest.mark.skipif(not VNC.exists(), reason="the real data ../shared/data/vnc.zarr is absent")
def test_real_data_flows():
    source = MultiscaleSource(
        VNC / "recon-1" / "em" / "tem-uint8",
        {FINE: (250, 23, 23), COARSE: (250, 184, 184)},
        World("1/5", (-25, "-2.3", "-2.3")),
        padding="reflect",
    )
    with build(source) as pipeline:
        batch = pipeline.request_batch(
            request_of(FINE=((0, 0, 0), (500, 184, 184)), COARSE=((-250, -184, 0), (1000, 552, 184)))
        )
    fine, coarse = batch[FINE].data, batch[COARSE].data
    assert (fine.shape, coarse.shape) == ((1, 2, 8, 8), (1, 4, 3, 1))
    np.testing.assert_allclose(fine.mean((2, 3)), coarse[:, 1:3, 1, 0], atol=1.5)  # rounded three times
    np.testing.assert_array_equal(coarse[:, 0], coarse[:, 1])
