import itertools
import logging
import os

import numpy as np
import pytest
from gunpowder import (
    Array,
    ArrayKey,
    ArraySpec,
    Batch,
    BatchFilter,
    BatchProvider,
    BatchRequest,
    Coordinate,
    Roi,
    Scan,
    build,
)
from gunpowder.nodes.scan import ScanCallback
from gunpowder.pipeline import PipelineRequestError, PipelineSetupError

from scalenet_gp.geometry.world import World
from scalenet_gp.nodes.write.ome_zarr_write import OmeZarrWrite
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from tests.scalenet_gp.volumes.ome_zarr_files import position_ramps

RAMP, LABELS = ArrayKey("RAMP"), ArrayKey("RAMP_LABELS")
VOXEL = Coordinate(100, 9, 9)
WORLD = World("1/2", (-25, "586.5", "0.25"))
TOTAL = Roi((200, -18, 90), (400, 72, 108))
BLOCK = Coordinate(200, 36, 36)
SPECS = {
    RAMP: ArraySpec(Roi((0, -90, 0), (1000, 900, 900)), VOXEL, True, dtype=np.dtype(np.float64)),
    LABELS: ArraySpec(Roi((0, -90, 0), (1000, 900, 900)), VOXEL, False, dtype=np.dtype(np.uint8)),
}


class Ramps(BatchProvider):
    """Provides the physical position of every voxel, in the shape of a network's output or without channels."""

    def __init__(self, leading=(3,), fail_at=None):
        self.leading, self.fail_at = leading, fail_at

    def setup(self):
        for key, spec in SPECS.items():
            self.provides(key, spec)

    def provide(self, request):
        batch = Batch()
        for key, asked in request.array_specs.items():
            if self.fail_at is not None and asked.roi.contains(self.fail_at):
                raise KeyError("the network failed")
            spec = self.spec[key].copy()
            spec.roi = asked.roi
            data = expected(asked.roi)
            if key == LABELS:
                data = (data[0] > 0).astype(np.uint8)
            else:
                data = data.reshape(*self.leading, *data.shape[1:]) if self.leading else data[0]
            batch[key] = Array(data, spec)
        return batch


class FailAfter(BatchFilter):
    """Downstream of the writer: fails when a position was written."""

    def __init__(self, position):
        self.position = position

    def process(self, batch, request):
        if request[RAMP].roi.contains(self.position):
            raise KeyError("something downstream failed")


def expected(roi):
    size, corner = WORLD.size_in_nm(VOXEL), WORLD.position_in_nm(roi.begin)
    return position_ramps(roi.shape // VOXEL, tuple(map(float, size)), tuple(map(float, corner)))


def request_of(roi, *keys):
    request = BatchRequest()
    for key in keys or (RAMP,):
        request[key] = ArraySpec(roi=roi)
    return request


def tiles(total=TOTAL):
    steps = [range(b, e, s) for b, e, s in zip(total.begin, total.end, BLOCK, strict=True)]
    return [Roi(begin, BLOCK) for begin in itertools.product(*steps)]


def run(pipeline, rois, *keys):
    with build(pipeline) as built:
        for roi in rois:
            built.request_batch(request_of(roi, *keys))


def node(path, **options):
    return OmeZarrWrite({RAMP: path}, {RAMP: TOTAL}, WORLD, **options)


@pytest.mark.parametrize("leading", [(3,), (1, 3)])
def test_blocks_become_a_volume_in_its_place(tmp_path, leading):
    path = tmp_path / "v"
    run(Ramps(leading) + node(path, channels={RAMP: "zyx"}, levels=2, attributes={"step": 7}), tiles())
    volume = MultiscaleImage.open(path)
    np.testing.assert_array_equal(volume.read(TOTAL, VOXEL, WORLD), expected(TOTAL))
    assert (volume.channels, len(volume.levels)) == (3, 2)
    assert volume.levels[0].begin == WORLD.position_in_nm(TOTAL.begin)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["v"]


def test_one_channel_is_written_without_a_channel_axis(tmp_path):
    run(Ramps(()) + node(tmp_path / "v"), tiles())
    assert MultiscaleImage.open(tmp_path / "v")._arrays[0].ndim == 3
    np.testing.assert_array_equal(MultiscaleImage.open(tmp_path / "v").read(TOTAL, VOXEL, WORLD), expected(TOTAL)[:1])


def test_arrays_that_are_not_interpolatable_are_reduced_as_labels(tmp_path):
    keys = (RAMP, LABELS)
    writer = OmeZarrWrite({key: tmp_path / str(key) for key in keys}, dict.fromkeys(keys, TOTAL), WORLD, levels=3)
    run(Ramps() + writer, tiles(), *keys)
    labels = MultiscaleImage.open(tmp_path / "RAMP_LABELS")
    assert set(np.unique(labels._arrays[2][:])) <= {0, 1}
    assert labels.dtype == np.uint8
    assert MultiscaleImage.open(tmp_path / "RAMP").channels == 3


def test_scan_drives_it(tmp_path):
    with build(Ramps() + node(tmp_path / "v") + Scan(request_of(tiles()[0]), progress_callback=ScanCallback())) as p:
        p.request_batch(request_of(TOTAL))
    np.testing.assert_array_equal(MultiscaleImage.open(tmp_path / "v").read(TOTAL, VOXEL, WORLD), expected(TOTAL))


def test_batches_without_the_array_pass_through(tmp_path):
    with build(Ramps() + node(tmp_path / "v")) as pipeline:
        batch = pipeline.request_batch(request_of(tiles()[0], LABELS))
        assert batch[LABELS].data.shape == (2, 4, 4)
        for roi in tiles():
            batch = pipeline.request_batch(request_of(roi))
            np.testing.assert_array_equal(batch[RAMP].data, expected(roi))


@pytest.mark.parametrize(
    ("upstream", "downstream"), [(TOTAL.end - 1, TOTAL.end), (TOTAL.end, TOTAL.begin)], ids=["upstream", "downstream"]
)
def test_a_failure_on_either_side_leaves_nothing(tmp_path, upstream, downstream):
    with pytest.raises(PipelineRequestError, match="failed"):
        run(Ramps(fail_at=upstream) + node(tmp_path / "v") + FailAfter(downstream), tiles())
    assert not list(tmp_path.iterdir())


def test_an_incomplete_volume_is_discarded_and_that_is_said(tmp_path, caplog):
    with caplog.at_level(logging.ERROR):
        run(Ramps() + node(tmp_path / "v"), tiles()[:-2])
    assert not list(tmp_path.iterdir())
    assert "v: RAMP lacks 64 voxels" in caplog.text


def test_nothing_is_finished_if_one_of_several_is_incomplete(tmp_path, caplog):
    keys = (RAMP, LABELS)
    writer = OmeZarrWrite({key: tmp_path / str(key) for key in keys}, dict.fromkeys(keys, TOTAL), WORLD)
    run(Ramps() + writer, tiles())
    assert not list(tmp_path.iterdir())
    assert "RAMP_LABELS lacks 384 voxels" in caplog.text


def test_overlapping_blocks_are_refused(tmp_path):
    second = tiles()[0].shift(Coordinate(0, 9, 0))
    with pytest.raises(PipelineRequestError, match=r"RAMP: the block of voxels \(0, 1, 0\) .* \(2, 4, 4\), written"):
        run(Ramps() + node(tmp_path / "v"), [tiles()[0], second])
    assert not list(tmp_path.iterdir())


def test_an_error_after_the_last_block_leaves_nothing(tmp_path):
    with pytest.raises(PipelineRequestError, match="overlaps"):
        run(Ramps() + node(tmp_path / "v"), [*tiles(), tiles()[0]])
    assert not list(tmp_path.iterdir())


def test_a_block_outside_is_refused(tmp_path):
    with pytest.raises(PipelineRequestError, match=r"RAMP: the block .* is outside"):
        run(Ramps() + node(tmp_path / "v"), [tiles()[0].shift(Coordinate(-100, 0, 0))])


@pytest.mark.parametrize(
    ("leading", "channels", "message"),
    [((3,), "zy", r"2 channel names \('z', 'y'\) for 3 channels"), ((3, 1), None, "cannot be written: it has to be")],
)
def test_channels_that_do_not_fit_are_refused(tmp_path, leading, channels, message):
    options = {} if channels is None else {"channels": {RAMP: channels}}
    with pytest.raises(PipelineRequestError, match=message):
        run(Ramps(leading) + node(tmp_path / "v", **options), tiles())
    assert not list(tmp_path.iterdir())


def test_another_process_is_refused(tmp_path, monkeypatch):
    with build(Ramps() + node(tmp_path / "v")) as pipeline:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(PipelineRequestError, match="in another process than the pipeline was built in"):
            pipeline.request_batch(request_of(tiles()[0]))


def test_several_numbered_channels(tmp_path):
    run(Ramps() + node(tmp_path / "v"), tiles())
    assert MultiscaleImage.open(tmp_path / "v").channels == 3


def cause_of_setup_error(pipeline):
    with pytest.raises(PipelineSetupError) as caught, build(pipeline):
        pass
    return caught.value.__cause__


def test_what_cannot_work_fails_when_the_pipeline_is_built(tmp_path):
    (tmp_path / "v").mkdir()
    error = cause_of_setup_error(Ramps() + node(tmp_path / "v"))
    assert isinstance(error, FileExistsError)
    assert "v exists; choose another path for RAMP" in str(error)
    other = ArrayKey("OTHER")
    error = cause_of_setup_error(Ramps() + OmeZarrWrite({other: tmp_path / "w"}, {other: TOTAL}, WORLD))
    assert isinstance(error, KeyError)
    assert "OTHER is to be written" in str(error)
    for roi, message in [
        (TOTAL.shift(Coordinate(0, 0, 1)), "off the lattice of its voxels of (100, 9, 9); the nearest on it is [200:"),
        (TOTAL.shift(Coordinate(0, 900, 0)), "is not within"),
        (Roi((0, 0), (9, 9)), "is not within"),
    ]:
        error = cause_of_setup_error(Ramps() + OmeZarrWrite({RAMP: tmp_path / "w"}, {RAMP: roi}, WORLD))
        assert isinstance(error, ValueError)
        assert message in str(error)
    assert [entry.name for entry in tmp_path.iterdir()] == ["v"]


def test_rois_have_to_match_the_paths(tmp_path):
    with pytest.raises(ValueError, match="the arrays written are RAMP; there are ROIs for RAMP_LABELS"):
        OmeZarrWrite({RAMP: tmp_path / "v"}, {LABELS: TOTAL}, WORLD)
