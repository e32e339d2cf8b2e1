import http.server
import json
import pickle
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numcodecs
import numpy as np
import pytest
import tensorstore as ts

from scalenet_gp.volumes.array_creation import create_array, create_group
from scalenet_gp.volumes.location import bulk_reads_begun, key_value_store
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes.storage import find_node, group_attributes, open_array
from scalenet_gp.volumes.stored_array import ChunkCache, UnreadableDataError, UnwritableDataError
from tests.scalenet_gp.volumes.volume_files import (
    multiscale,
    ramps,
    transform,
    write_json,
    write_n5,
    write_zarr2,
    write_zarr3,
)

BOX = (slice(0, 8), slice(0, 64))


def truncations(chunk):
    whole = chunk.read_bytes()
    for length in (*range(0, len(whole), 7), len(whole) - 1):
        chunk.write_bytes(whole[:length])
        yield length


@pytest.mark.parametrize("kinds", [2, 256], ids=["compressible", "incompressible"])
def test_every_truncation_is_noticed(tmp_path, kinds):
    """blosc stores incompressible chunks as they are; numcodecs then reads on behind the end of a truncated one."""
    data = np.random.default_rng(0).integers(0, kinds, (8, 64)).astype(np.uint8)
    create_array(tmp_path / "a", data.shape, data.shape, data.dtype)[...] = data
    np.testing.assert_array_equal(open_array(tmp_path / "a")[BOX], data)
    for _ in truncations(tmp_path / "a" / "0" / "0"):
        with pytest.raises(UnreadableDataError, match=r"a: voxels \[0:8, 0:64\] cannot be read: \S"):
            open_array(tmp_path / "a")[BOX]


ZARR3 = {
    "shape": [8, 64],
    "data_type": "uint8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 64]}},
}
BYTES, SHARDS = {"name": "bytes"}, {"chunk_shape": [4, 8], "codecs": [{"name": "bytes"}, {"name": "gzip"}]}
N5 = {"dimensions": [64, 8], "blockSize": [64, 8], "dataType": "uint8"}


@pytest.mark.parametrize("kinds", [2, 256], ids=["compressible", "incompressible"])
@pytest.mark.parametrize(
    ("driver", "metadata", "chunk"),
    [
        ("zarr3", ZARR3 | {"codecs": [BYTES]}, "c/0/0"),
        ("zarr3", ZARR3 | {"codecs": [BYTES, {"name": "zstd"}]}, "c/0/0"),
        ("zarr3", ZARR3 | {"codecs": [BYTES, {"name": "blosc", "configuration": {"cname": "lz4"}}]}, "c/0/0"),
        ("zarr3", ZARR3 | {"codecs": [{"name": "sharding_indexed", "configuration": SHARDS}]}, "c/0/0"),
        ("n5", N5 | {"compression": {"type": "raw"}}, "0/0"),
        ("n5", N5 | {"compression": {"type": "gzip"}}, "0/0"),
        ("n5", N5 | {"compression": {"type": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1}}, "0/0"),
    ],
)
def test_every_truncation_is_noticed_whatever_the_format(tmp_path, driver, metadata, chunk, kinds):
    data = np.random.default_rng(0).integers(1, kinds + 1, (8, 64)).astype(np.uint8)
    spec = {"driver": driver, "kvstore": f"file://{tmp_path}/a", "metadata": metadata}
    ts.open(spec, create=True).result()[...] = data.T if driver == "n5" else data
    np.testing.assert_array_equal(open_array(tmp_path / "a")[BOX], data)
    for _ in truncations(tmp_path / "a" / chunk):
        with pytest.raises(UnreadableDataError, match=r"a: voxels \[0:8, 0:64\] cannot be read: \S"):
            open_array(tmp_path / "a")[BOX]


def test_a_missing_chunk_is_the_fill_value(tmp_path):
    create_array(tmp_path / "zero", (8, 64), (4, 4), np.dtype(np.int16))
    assert not open_array(tmp_path / "zero")[:].any()
    metadata = write_zarr2(tmp_path / "seven", np.zeros((8, 64), "<i2")) / ".zarray"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"fill_value": 7}))
    (tmp_path / "seven" / "1.2").unlink()
    expected = np.zeros((8, 64))
    expected[3:6, 6:9] = 7
    np.testing.assert_array_equal(open_array(tmp_path / "seven")[:], expected)
    write_n5(tmp_path / "n5", np.ones((8, 64), np.int16))
    (tmp_path / "n5" / "0" / "0").unlink()
    assert not open_array(tmp_path / "n5")[0:4, 0:5].any()


@pytest.mark.parametrize("write", [write_zarr2, write_zarr3, write_n5])
def test_boxes_are_written_where_numpy_has_them(tmp_path, write):
    data = np.random.default_rng(0).integers(0, 100, (3, 7, 8, 9)).astype(np.int16)
    array = open_array(write(tmp_path / "a", data))
    box = (slice(1, 3), slice(2, 7), slice(0, 8), slice(5, 6))
    array.write(box, -data[box])
    data[box] *= -1
    np.testing.assert_array_equal(array[:], data)
    array.at({0: 2, 2: 5}).write((slice(1, 4), slice(2, 8)), np.full((3, 6), 1000, np.int16))
    data[2, 1:4, 5, 2:8] = 1000
    np.testing.assert_array_equal(open_array(tmp_path / "a")[:], data)
    with pytest.raises(UnwritableDataError, match=r"a: voxels \[0:3, 0:7, 0:8, 0:9\] cannot be written: "):
        array.write((slice(None),) * 4, data[:2])


def test_a_truncated_chunk_is_not_merged_with(tmp_path):
    create_array(tmp_path / "a", (8, 64), (8, 64), np.dtype(np.uint8))
    array = open_array(tmp_path / "a")
    array.write(BOX, np.random.default_rng(0).integers(0, 9, (8, 64)).astype(np.uint8))
    chunk = tmp_path / "a" / "0" / "0"
    cut = chunk.read_bytes()[:-5]
    chunk.write_bytes(cut)
    with pytest.raises(UnwritableDataError, match=r"a: voxels \[0:4, 0:64\] cannot be written: "):
        array.write((slice(0, 4), slice(0, 64)), np.ones((4, 64), np.uint8))
    assert chunk.read_bytes() == cut
    array.write(BOX, np.ones((8, 64), np.uint8))  # nothing of it is needed
    assert array[:].all()


def test_groups_and_arrays_are_of_zarr_format_2(tmp_path):
    create_group(tmp_path / "g", {"made_by": [1, 2]})
    create_array(tmp_path / "g" / "s0", (8, 64), (4, 16), np.dtype(np.float32))
    assert group_attributes(tmp_path / "g") == {"made_by": [1, 2]}
    assert json.loads((tmp_path / "g" / ".zgroup").read_text()) == {"zarr_format": 2}
    array = json.loads((tmp_path / "g" / "s0" / ".zarray").read_text())
    assert (array["zarr_format"], array["dtype"], array["chunks"]) == (2, "<f4", [4, 16])


@pytest.mark.parametrize("write", [write_zarr2, write_zarr3, write_n5])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "f4", "f8"])
def test_boxes_are_where_numpy_has_them(tmp_path, write, dtype):
    data = np.random.default_rng(0).integers(0, 100, (3, 7, 8, 9)).astype(dtype)
    array = open_array(write(tmp_path / "a", data))
    assert (array.shape, array.ndim, array.dtype) == (data.shape, 4, data.dtype)
    for box in (
        (slice(1, 3), slice(2, 7), slice(0, 8), slice(5, 6)),
        (slice(None, 2),),
        (slice(2, 2), slice(-3, None)),
    ):
        np.testing.assert_array_equal(array[box], data[box])
    assert array[:].flags.c_contiguous
    fixed = array.at({0: 2, 2: 5})
    assert (fixed.shape, fixed.chunks) == ((7, 9), (array.chunks[1], array.chunks[3]))
    np.testing.assert_array_equal(fixed[1:4, 2:8], data[2, 1:4, 5, 2:8])
    np.testing.assert_array_equal(fixed.at({0: 6})[3:5], data[2, 6, 5, 3:5])


def test_bytes_come_in_native_order_and_zstd_of_zarr_2_is_read(tmp_path):
    data = np.arange(24, dtype=">i4").reshape(4, 6)
    path = write_zarr2(tmp_path / "a", data, chunk=6)
    (path / "0.0").write_bytes(numcodecs.Zstd().encode(np.pad(data, ((0, 2), (0, 0)))))
    metadata = json.loads((path / ".zarray").read_text())
    compressor = {"id": "zstd", "level": 0, "checksum": False}  # as numcodecs writes it
    (path / ".zarray").write_text(json.dumps(metadata | {"compressor": compressor}))
    assert open_array(path).dtype == np.dtype(np.int32)
    np.testing.assert_array_equal(open_array(path)[:], data)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (".zarray", {"compressor": {"id": "lz4", "acceleration": 1}}, r'a: no readable zarr array: .*"lz4" is not'),
        (".zarray", {"dtype": "<c8"}, r"its dtype is '<c8'; volumes hold whole numbers, floats or booleans"),
        (".zarray", {"compressor": "zstd"}, r"a: no readable zarr array: .*zstd"),
        (".zarray", {"compressor": [1]}, r"a: no readable zarr array"),
        (".zarray", {"shape": None}, r"a: no readable zarr array"),
        ("zarr.json", {"data_type": "r16"}, r"a: no readable zarr3 array"),
        ("zarr.json", {"codecs": []}, r"a: no readable zarr3 array: its list of codecs is empty"),
        ("zarr.json", {"chunk_grid": {}}, r"a: no readable zarr3 array: 'configuration' is missing"),
        ("attributes.json", {"blockSize": [1]}, r"a: no readable n5 array"),
        ("attributes.json", {"dataType": "object"}, r"its dtype is 'object'"),
    ],
)
def test_arrays_that_cannot_be_read_are_refused_when_opened(tmp_path, file, changes, message):
    write = {".zarray": write_zarr2, "zarr.json": write_zarr3, "attributes.json": write_n5}[file]
    path = write(tmp_path / "a", np.zeros((4, 4)))
    (path / file).write_text(json.dumps(json.loads((path / file).read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        open_array(path)


@pytest.mark.parametrize(
    ("write", "file", "name"),
    [
        (write_zarr2, ".zarray", "compressor"),
        (write_zarr2, ".zarray", "fill_value"),
        (write_zarr3, "zarr.json", "codecs"),
        (write_zarr3, "zarr.json", "data_type"),
        (write_n5, "attributes.json", "compression"),
    ],
)
def test_metadata_that_are_not_complete_are_not_guessed(tmp_path, write, file, name):
    path = write(tmp_path / "a", np.zeros((4, 4)))
    metadata = json.loads((path / file).read_text())
    del metadata[name]
    (path / file).write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=f"a: no readable .* array: {name} missing in its metadata"):
        open_array(path)


def test_what_is_no_array_or_group_is_named(tmp_path):
    assert find_node(tmp_path / "nothing") is None
    with pytest.raises(FileNotFoundError, match="nothing: no such array"):
        open_array(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="nothing: no such group"):
        group_attributes(tmp_path / "nothing")
    with pytest.raises(ValueError, match=f"{tmp_path}: a group, not an array"):
        open_array(tmp_path)
    with pytest.raises(ValueError, match="a: an array, not a group"):
        group_attributes(write_n5(tmp_path / "a", np.zeros((4, 4))))
    write_json(tmp_path / "list", ".zattrs", [])
    with pytest.raises(ValueError, match=r"list: .zattrs has to hold a JSON object, not \[\]"):
        find_node(tmp_path / "list")
    (tmp_path / "list" / ".zattrs").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"list/.zattrs: not readable as JSON"):
        find_node(tmp_path / "list")


def test_attributes_of_zarr_3_that_are_no_object_are_named(tmp_path):
    group = {"zarr_format": 3, "node_type": "group"}
    for attributes in ([], [1], 5):
        write_json(tmp_path / "a", "zarr.json", group | {"attributes": attributes})
        with pytest.raises(ValueError, match=r"a: the attributes in zarr.json have to be a JSON object, not "):
            find_node(tmp_path / "a")
    write_json(tmp_path / "a", "zarr.json", group | {"attributes": None})
    assert find_node(tmp_path / "a").attributes == {}


def test_zarr_goes_before_n5_and_zarr_3_before_zarr_2(tmp_path):
    for write, expected in ((write_n5, "n5"), (write_zarr2, "zarr"), (write_zarr3, "zarr3")):
        write(tmp_path / "a", np.zeros((4, 4)))
        assert find_node(tmp_path / "a").driver == expected


class TestCache:
    def remove_chunks(self, path):
        for chunk in path.glob("*.*"):
            if not chunk.name.startswith("."):
                chunk.unlink()

    def test_chunks_are_kept_and_shared(self, tmp_path):
        data = np.random.default_rng(0).random((6, 6))
        cache, path = ChunkCache(10**6), write_zarr2(tmp_path / "a", data)
        arrays = [open_array(path, cache), open_array(path, cache)]
        np.testing.assert_array_equal(arrays[0][:], data)
        uncached = open_array(path)
        np.testing.assert_array_equal(uncached[:], data)
        self.remove_chunks(path)
        np.testing.assert_array_equal(arrays[0][1:5, :], data[1:5])
        assert not uncached[:].any()

    def test_no_more_than_the_limit_is_kept(self, tmp_path):
        path = write_zarr2(tmp_path / "a", np.ones((60, 60)))
        array = open_array(path, ChunkCache(4000))  # of 28800 bytes
        array[:]
        array[:3, :3]
        self.remove_chunks(path)
        assert array[:3, :3].all()  # used last
        assert array[:].sum() * 8 <= 4000

    def test_it_is_sent_empty_and_stays_shared(self, tmp_path):
        path, cache = write_zarr2(tmp_path / "a", np.ones((6, 6))), ChunkCache(10**6)
        arrays = [open_array(path, cache), open_array(path, cache)]
        arrays[0][:]
        sent = pickle.loads(pickle.dumps(arrays))
        assert sent[0].cache is sent[1].cache
        assert sent[0].cache.limit == 10**6
        self.remove_chunks(path)
        assert arrays[0][:].all()
        assert not sent[0][:].any()

    def test_a_negative_limit_is_refused(self):
        with pytest.raises(ValueError, match="a chunk cache of -1 bytes"):
            ChunkCache(-1)


def test_arrays_are_read_by_many_threads_at_once(tmp_path):
    data = np.random.default_rng(0).random((60, 60))
    array = open_array(write_zarr2(tmp_path / "a", data))
    with ThreadPoolExecutor(8) as pool:
        for i, rows in enumerate(pool.map(lambda i: array[i : i + 5], range(50))):
            np.testing.assert_array_equal(rows, data[i : i + 5])


PROCESSES = """
import multiprocessing, os, pickle, sys
from scalenet_gp.volumes.multiscale_image import MultiscaleImage
from scalenet_gp.volumes import ChunkCache, bulk_reads_begun

def read(volume, queue=None):
    world = volume.world()
    size = world.size(volume.levels[0].voxel_size)
    mean = float(volume.read(volume.roi(size, world), size, world).mean())
    return mean if queue is None else queue.put(mean)

def forked(volume):
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.write(writing, str(read(volume)).encode())
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    return os.read(reading, 10000).decode()

if __name__ == "__main__":
    volume = MultiscaleImage.open(sys.argv[1], cache=ChunkCache(10**6))
    print(bulk_reads_begun(), forked(volume))
    print(read(volume), bulk_reads_begun())
    print(forked(volume))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=read, args=(volume, queue))
    process.start()
    print(queue.get(timeout=60))
    process.join()
"""


def test_volumes_go_to_other_processes_by_fork_before_reading_and_by_spawn_after(tmp_path, warm_executable):
    path, script = write_n5(tmp_path / "v", ramps(), {"transform": transform()}), tmp_path / "script.py"
    script.write_text(PROCESSES)
    ran = subprocess.run([warm_executable, script, path], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    before, here, after, spawned = ran.stdout.splitlines()
    mean = float(here.split()[0])
    assert mean == pytest.approx(ramps().mean())
    assert (before, here, float(spawned)) == (f"False {mean}", f"{mean} True", mean)
    assert after == (
        f"{path}: this process was forked after its parent had read volumes, and tensorstore cannot be used here; "
        'start worker processes by "spawn", or before anything is read'
    )


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def end_headers(self):
        self.send_header("ETag", '"1"')  # S3 answers with one
        super().end_headers()


@pytest.fixture
def server(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path)) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()
        thread.join()


def write_volume(path, write):
    if write is write_n5:
        return write(path / "s0", ramps(), {"transform": transform()}).parent
    image = {"multiscales": [multiscale([[8.0] * 3], [[4.0] * 3])]}
    if write is write_zarr2:
        write_json(path, ".zattrs", image)
    else:
        write_json(path, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": {"ome": image}})
    return write(path / "s0", ramps()).parent


def read_volume(volume):
    world = volume.world()
    size = world.size(volume.levels[0].voxel_size)
    return volume.read(volume.roi(size, world), size, world)


@pytest.mark.parametrize("write", [write_zarr2, write_zarr3, write_n5])
def test_volumes_behind_urls(tmp_path, server, monkeypatch, write):
    write_volume(tmp_path / "bucket" / "a volume", write)
    here = MultiscaleImage.open(tmp_path / "bucket" / "a volume")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    for url in (f"{server}/bucket/a%20volume/", f"file://{tmp_path}/bucket/a%20volume", "s3://bucket/a%20volume"):
        there = MultiscaleImage.open(url)
        assert (there.path, there.levels) == (url, here.levels)
        np.testing.assert_array_equal(read_volume(there), ramps())
    assert bulk_reads_begun()


def test_what_is_missing_behind_a_url(tmp_path, server):
    write_volume(tmp_path / "v", write_zarr3)
    (tmp_path / "v" / "s0" / "c" / "0" / "0" / "0" / "0").unlink()
    expected = ramps()
    expected[:3, :3, :3, :3] = 0
    np.testing.assert_array_equal(read_volume(MultiscaleImage.open(f"{server}/v")), expected)
    with pytest.raises(FileNotFoundError, match=f"{server}/nothing: no such multiscale group"):
        MultiscaleImage.open(f"{server}/nothing")
    (tmp_path / "v" / "s0" / "zarr.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"{server}/v/s0: no such array"):
        MultiscaleImage.open(f"{server}/v")


def test_a_dead_server_and_an_unknown_scheme_are_named():
    with pytest.raises(OSError, match=r"http://127.0.0.1:9/v: cannot be read: .*Could not connect"):
        MultiscaleImage.open("http://127.0.0.1:9/v")
    with pytest.raises(ValueError, match=r"ftp://host/v: not a URL that can be read"):
        MultiscaleImage.open("ftp://host/v")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a/b", {"driver": "s3", "bucket": "bucket", "path": "a/b/"}),
        ("gs://bucket/a/b/", {"driver": "gcs", "bucket": "bucket", "path": "a/b/"}),
        ("https://host/a/b", {"driver": "http", "base_url": "https://host", "path": "/a/b/"}),
        ("file:///a/b%20c", {"driver": "file", "path": "/a/b c/"}),
        ("/a/b c", {"driver": "file", "path": "/a/b c/"}),
    ],
)
def test_every_kind_of_url_has_its_store(monkeypatch, url, expected):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    made = key_value_store(url)
    assert {key: made[key] for key in expected} == expected
