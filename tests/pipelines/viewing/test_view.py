"""Neuroglancer's state of a prediction, and the files that it reads served to it."""

import http.client
import json
import socket
import struct
import sys
import threading
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
from typer.testing import CliRunner

from scalenet_gp.pipelines.cli import app
from scalenet_gp.pipelines.segmentation import LookupTables
from scalenet_gp.pipelines.viewing.file_server import serve_files
from scalenet_gp.pipelines.viewing.view_job import view, viewer_link, viewer_state
from scalenet_gp.volumes import Level, create_precomputed
from scalenet_gp.volumes.array_creation import create_array, create_group
from scalenet_gp.volumes.image_layout import ImageLayout
from scalenet_gp.volumes.multiscale_array_writer import MultiscaleArrayWriter, create_image
from scalenet_gp.volumes.multiscale_writer import MultiscaleWriter
from tests.pipelines.conftest import positions_of_corners

ADDRESS = "http://127.0.0.1:9876"
CORNER, VOXEL, SHAPE = (-50, 100, "2.5"), (50, 8, 8), (10, 64, 40)


def write_volume(path, factor=1, classes=("mito", "er-mem"), **options):
    layout = ImageLayout(
        tuple(v * factor for v in VOXEL),
        CORNER,
        tuple(n // factor for n in SHAPE),
        channels=classes,
        **{"stored": "uint8", **options},
    )
    create_image(path, layout)
    MultiscaleArrayWriter.open(path).write(
        (0, 0, 0), np.full((*([len(classes)] * bool(classes)), *layout.shape), 0.5, np.float32)
    )
    return path


@pytest.fixture
def prediction(tmp_path):
    group = tmp_path / "out" / "prediction.zarr"
    create_group(group, {"classes": ["mito", "er-mem"]})
    write_volume(group / "2_output")
    write_volume(group / "1_output", factor=2)
    create_array(group / "skipped", (2, 2), (2, 2), np.dtype(np.uint8))
    return group


@pytest.fixture
def raw(tmp_path):
    with MultiscaleWriter(
        tmp_path / "raw data", voxel_size=VOXEL, corner=CORNER, shape=SHAPE, dtype="uint8", levels=2
    ) as writer:
        writer.write((0, 0, 0), np.full(SHAPE, 7, np.uint8))
    return writer.path


def test_every_class_of_every_output_is_a_layer(prediction, raw):
    state = viewer_state(prediction, ADDRESS, raw)
    assert [layer["name"] for layer in state["layers"]] == [
        "raw",
        "1_output mito",
        "1_output er-mem",
        "2_output mito",
        "2_output er-mem",
    ]
    assert state["layers"][0] == {"type": "image", "name": "raw", "source": f"zarr://{ADDRESS}/raw/"}
    assert [layer.get("visible", True) for layer in state["layers"]] == [True, False, False, True, True]
    layer = state["layers"][4]
    assert layer["source"] == f"zarr://{ADDRESS}/prediction/2_output/"
    assert (layer["localDimensions"], layer["localPosition"]) == ({"c'": [1, ""]}, [1])
    assert layer["shaderControls"] == {"color": "#ff7f0e", "value": {"range": [0, 255]}}
    assert json.dumps(layer["shaderControls"]["value"]) == '{"range": [0, 255]}'  # floats would be refused


def test_the_middle_of_the_finest_volume_is_shown(prediction):
    state = viewer_state(prediction, ADDRESS)
    assert state["dimensions"] == {"x": [8e-9, "m"], "y": [8e-9, "m"], "z": [5e-8, "m"]}
    assert list(state["dimensions"]) == ["x", "y", "z"]
    middle = [2.5 + 40 * 8 / 2, 100 + 64 * 8 / 2, -50 + 10 * 50 / 2]
    scales = [1e9 * scale for scale, _ in state["dimensions"].values()]
    np.testing.assert_allclose(np.multiply(state["position"], scales), middle)
    on_screen = state["crossSectionScale"] * 8 * 600  # nm: 600 pixels of this many 8 nm voxels
    assert on_screen == pytest.approx(64 * 8)


def test_the_viewers_own_package_understands_the_state(prediction, raw):
    neuroglancer = pytest.importorskip("neuroglancer")
    state = viewer_state(prediction, ADDRESS, raw)
    parsed = neuroglancer.ViewerState(state)
    layer = parsed.layers["2_output er-mem"]
    assert isinstance(layer.layer, neuroglancer.ImageLayer)
    assert layer.source[0].url == f"zarr://{ADDRESS}/prediction/2_output/"
    assert list(layer.shader_controls["value"].range) == [0, 255]
    assert layer.local_position.tolist() == [1]
    assert parsed.dimensions.names == ("x", "y", "z")
    np.testing.assert_allclose(parsed.position, state["position"])
    assert neuroglancer.parse_url(viewer_link(state)).to_json() == state


@pytest.mark.parametrize("classes", [("mito",), ()])
def test_one_volume_alone(tmp_path, classes):
    path = write_volume(tmp_path / "v", classes=classes, stored="float32")
    (layer,) = viewer_state(path, ADDRESS)["layers"]
    assert layer["name"] == (classes or ("0",))[0]
    assert layer["source"] == f"zarr://{ADDRESS}/prediction/"
    assert layer["shaderControls"].get("value") == ({"range": [0, 1]} if classes else None)
    assert ("localDimensions" in layer) == bool(classes)


def test_labels_are_segments(tmp_path):
    layout = ImageLayout(VOXEL, CORNER, SHAPE, stored="uint8", kind="labels")
    create_image(tmp_path / "mask", layout)
    (layer,) = viewer_state(tmp_path / "mask", ADDRESS)["layers"]
    assert (layer["type"], layer["name"]) == ("segmentation", "mask")


def write_fragments(path, *objects):
    """Fragments beyond 2**53, with tables of their objects for as many thresholds."""
    layout = ImageLayout(VOXEL, CORNER, SHAPE, (), "uint64", "labels")
    create_image(path, layout, {"fragments of": path.name.removesuffix("_fragments")})
    ids = np.arange(len(objects[0]), dtype=np.uint64) + np.uint64(2**60)
    thresholds = tuple(0.2 * number for number in range(1, len(objects) + 1))
    LookupTables(ids, thresholds, tuple(map(np.array, objects))).write(path)
    return path


def test_fragments_have_their_objects_as_equivalences(tmp_path):
    group = tmp_path / "seg.zarr"
    create_group(group, {})
    create_image(group / "mito", ImageLayout(VOXEL, CORNER, SHAPE, (), "uint8", "labels"))
    write_fragments(group / "mito_fragments", [2, 0, 1, 2, 3, 0, 3, 3], [1] * 8)
    state = viewer_state(group, ADDRESS)
    assert [(layer["name"], layer["visible"], "equivalences" in layer) for layer in state["layers"]] == [
        ("mito", True, False),
        ("mito_fragments 0.2", False, True),
        ("mito_fragments 0.4", False, True),
    ]
    one, other = ([str(2**60 + number) for number in numbers] for numbers in ((0, 3), (4, 6, 7)))
    assert state["layers"][1]["equivalences"] == [one, other]
    assert state["layers"][2]["equivalences"] == [[str(2**60 + number) for number in range(8)]]
    viewer = pytest.importorskip("neuroglancer").ViewerState(state)
    found = viewer.layers["mito_fragments 0.2"].equivalences.to_json()
    assert found == [[*map(int, one)], [*map(int, other)]]


def test_a_long_state_is_served_and_not_in_the_link(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    path = write_fragments(tmp_path / "mito_fragments", np.arange(4000) // 2 + 1)
    with view(path, port=0) as shown:
        assert len(shown.link) < 200
        served = shown.link.partition("#!")[2]
        with urlopen(served) as answer:
            assert json.load(answer) == json.loads(shown.state.read_text())
    result = CliRunner().invoke(app, ["view", str(path), "--no-serve"])
    assert result.exit_code == 0, result.output
    assert "too long for a link: leave --no-serve out, or load" in result.stdout
    assert len(result.stdout) < 500


def test_the_state_of_a_volume_in_a_group_is_beside_the_group(tmp_path):
    group = tmp_path / "seg.zarr"
    create_group(group, {})
    create_image(group / "mito", ImageLayout(VOXEL, CORNER, SHAPE, (), "uint8", "labels"))
    with view(group / "mito", serve=False) as shown:
        assert shown.state == tmp_path / "seg.mito.neuroglancer.json"
    assert sorted(path.name for path in group.iterdir() if path.suffix == ".json") == []


def test_raw_data_may_lie_elsewhere(prediction, raw):
    with serve_files({"em": raw}, 0) as address:
        layer = viewer_state(prediction, ADDRESS, f"{address}/em")["layers"][0]
    assert layer["source"] == f"zarr://{address}/em"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda path: None, FileNotFoundError, "v: no OME-Zarr volume here"),
        (lambda path: create_group(path, {}), ValueError, "v: no OME-Zarr volume here"),
        (lambda path: write_volume(path, stored="float16"), ValueError, "v: neuroglancer cannot show float16; predict"),
    ],
)
def test_what_cannot_be_shown_is_said(tmp_path, make, error, message):
    make(tmp_path / "v")
    with pytest.raises(error, match=message), view(tmp_path / "v", serve=False):
        pass
    assert not list(tmp_path.glob("*.json"))


def test_raw_data_may_be_precomputed(prediction, tmp_path):
    level = Level("s0", (4, 4, 4), (Fraction(8),) * 3, (Fraction(0),) * 3)
    create_precomputed(tmp_path / "em", [level], 1, np.dtype(np.uint8), labels=False)
    layer = viewer_state(prediction, ADDRESS, tmp_path / "em")["layers"][0]
    assert (layer["type"], layer["source"]) == ("image", f"precomputed://{ADDRESS}/raw/")


def test_raw_data_that_is_no_ome_zarr_is_refused(prediction, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such volume"):
        viewer_state(prediction, ADDRESS, tmp_path / "nowhere")
    create_array(tmp_path / "array", (4, 4, 4), (4, 4, 4), np.dtype(np.uint8))
    with pytest.raises(ValueError, match="array is not an OME-Zarr or precomputed volume; neuroglancer"):
        viewer_state(prediction, ADDRESS, tmp_path / "array")


def request(address, method, path):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def test_files_are_served_to_any_page_and_to_this_machine_only(prediction, raw):
    with serve_files({"prediction": prediction, "raw": raw}, 0) as address:
        assert address.startswith("http://127.0.0.1:")
        for path, file in [
            ("/prediction/2_output/s0/1/0/0/0", prediction / "2_output" / "s0" / "1" / "0" / "0" / "0"),
            ("/raw/.zattrs", raw / ".zattrs"),
        ]:
            status, headers, body = request(address, "GET", path)
            assert (status, body) == (200, file.read_bytes())
            assert headers["Access-Control-Allow-Origin"] == "*"
            assert request(address, "HEAD", path)[0] == 200
        for path in (
            "/prediction/2_output/s0/1/0/0/7",
            "/prediction/2_output/",
            "/prediction/2_output",
            "/",
            "/other/.zattrs",
            "/prediction/../../raw%20data/.zattrs",
            "/prediction/%2e%2e/%2e%2e/raw%20data/.zattrs",
            "//etc/passwd",
        ):
            status, headers, _ = request(address, "GET", path)
            assert status == 404, path
            assert headers["Access-Control-Allow-Origin"] == "*"  # else the page reads a failure from it
        status, headers, _ = request(address, "OPTIONS", "/raw/.zattrs")
        assert (status, headers["Access-Control-Allow-Methods"]) == (204, "GET, HEAD, OPTIONS")
        assert request(address, "POST", "/raw/.zattrs")[0] == 501
        port = int(address.rpartition(":")[2])
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 cannot be served on: Address already in use"):
            serve_files({}, port).__enter__()
    with pytest.raises(OSError, match="refused"):
        request(address, "GET", "/raw/.zattrs")


def test_nothing_is_said_of_a_browser_that_goes_away(prediction, capfd):
    before = threading.enumerate()
    with serve_files({"prediction": prediction}, 0) as address:
        with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)) as browser:
            # without a linger, it is reset and not closed
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            browser.sendall(b"GET /prediction/.zgroup HTTP/1.1\r\n\r\n")
            assert browser.recv(8) == b"HTTP/1.1"
        with urlopen(f"{address}/prediction/.zgroup", timeout=20) as answer:
            assert answer.status == 200
    for handler in set(threading.enumerate()) - set(before):
        handler.join(20)
    assert capfd.readouterr() == ("", "")


def test_other_faults_of_the_server_are_told(prediction, capfd, monkeypatch):
    monkeypatch.setattr(SimpleHTTPRequestHandler, "guess_type", lambda *_: 1 / 0)
    before = threading.enumerate()
    with serve_files({"prediction": prediction}, 0) as address, pytest.raises(http.client.RemoteDisconnected):
        request(address, "GET", "/prediction/.zgroup")
    for handler in set(threading.enumerate()) - set(before):
        handler.join(20)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_what_the_state_names_is_served_while_it_is_viewed(prediction, raw, monkeypatch):
    monkeypatch.setitem(sys.modules, "neuroglancer", None)  # as if it were not installed
    with view(prediction, raw, port=0) as shown:
        state = json.loads(shown.state.read_text())
        prefix = "https://neuroglancer-demo.appspot.com/#!"
        assert shown.link.startswith(prefix)
        assert json.loads(unquote(shown.link.removeprefix(prefix))) == state
        for layer in state["layers"]:
            with urlopen(layer["source"].removeprefix("zarr://") + ".zattrs", timeout=10) as answer:
                assert "multiscales" in json.load(answer)
    assert shown.state == prediction.parent / "prediction.neuroglancer.json"


def test_where_the_package_is_installed_the_viewer_is_local(prediction):
    neuroglancer = pytest.importorskip("neuroglancer")
    try:
        with view(prediction, port=0) as shown:
            assert shown.link.startswith("http://127.0.0.1:")
            with urlopen(shown.link, timeout=20) as page:
                assert b"neuroglancer" in page.read().lower()
    finally:
        neuroglancer.stop()


def test_the_command_writes_the_state_and_prints_the_link(prediction, tmp_path):
    output = tmp_path / "made" / "state.json"
    result = CliRunner().invoke(app, ["view", str(prediction), "--no-serve", "--output", str(output), "--port", "1234"])
    assert result.exit_code == 0, result.output
    where, link = result.stdout.splitlines()
    assert where.split() == ["neuroglancer", "state", str(output)]
    assert link == viewer_link(viewer_state(prediction, "http://127.0.0.1:1234"))
    assert json.loads(output.read_text())["layers"][0]["source"].startswith("zarr://http://127.0.0.1:1234/")


def test_positions_of_raw_data_may_be_those_of_corners(prediction, raw, tmp_path):
    positions_of_corners(raw)
    output = tmp_path / "state.json"
    command = ["view", str(prediction), "--no-serve", "--output", str(output), "--raw", str(raw)]
    result = CliRunner().invoke(app, command)
    assert "with translation='corner' they would agree" in str(result.exception)
    assert not output.exists()
    result = CliRunner().invoke(app, [*command, "--translation", "corner"])
    assert result.exit_code == 0, result.output
    assert json.loads(output.read_text())["layers"][0]["name"] == "raw"


CONTENT = bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [("0-0", 0, 1), ("100-299", 100, 300), ("10000-", 10000, 10240), ("-36", 10204, 10240), ("5-99999", 5, 10240)],
)
def test_parts_of_a_file_are_served_as_shards_are_read(tmp_path, asked, begin, end):
    (tmp_path / "0").write_bytes(CONTENT)
    with serve_files({"shard": tmp_path}, 0) as address:
        request = Request(f"{address}/shard/0", headers={"Range": f"bytes={asked}"})
        with urlopen(request) as answer:
            assert answer.status == 206
            assert answer.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{len(CONTENT)}"
            assert answer.headers["Content-Length"] == str(end - begin)
            assert answer.read() == CONTENT[begin:end]


def test_a_connection_goes_on_after_parts_and_requests_that_name_none(tmp_path):
    (tmp_path / "0").write_bytes(CONTENT)
    with serve_files({"shard": tmp_path}, 0) as address:
        host = urlsplit(address)
        connection = http.client.HTTPConnection(host.hostname, host.port)
        answers = []
        for asked in ("bytes=1-2", "bytes=20000-", "bytes=-0", "bytes=3-1", "bytes=0-1,4-5", "lines=1-2", None):
            connection.request("GET", "/shard/0", headers={} if asked is None else {"Range": asked})
            answer = connection.getresponse()
            answers.append((answer.status, len(answer.read()), answer.headers["Accept-Ranges"]))
        connection.request("HEAD", "/shard/0", headers={"Range": "bytes=5-9"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Length"], answer.read()) == (206, "5", b"")
        connection.request("GET", "/shard/1", headers={"Range": "bytes=5-9"})
        assert connection.getresponse().status == 404
        connection.close()
    whole = (200, len(CONTENT), "bytes")
    assert answers == [(206, 2, "bytes"), (416, 0, "bytes"), (416, 0, "bytes"), whole, whole, whole, whole]
