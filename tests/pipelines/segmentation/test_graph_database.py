"""The graph of fragments in SQLite and PostgreSQL, against counts voxel by voxel."""

import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from scalenet_gp.pipelines.segmentation import segment
from tests.pipelines.conftest import CORNER, VOXEL
from tests.pipelines.segmentation.predictions import ids_in
from tests.pipelines.segmentation.test_affinity_objects import noisy, segmenting, write_affinities


def graph_of(database, prefix=""):
    cursor = database.cursor()
    found = []
    for table, order in (("nodes", "id"), ("edges", "one, other")):
        cursor.execute(f"SELECT * FROM {prefix}{table} ORDER BY {order}")
        found.append(cursor.fetchall())
    return found


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    return write_affinities(tmp_path_factory.mktemp("predicted") / "prediction.zarr", noisy(shape=(10, 9, 8))[1])


def test_sqlite_has_the_fragments_and_what_is_between_them(predicted, tmp_path):
    made = segment(segmenting(kind="mutex"), predicted, tmp_path / "out.zarr")
    ids, affinities = ids_in(made / "cells_fragments"), noisy(shape=(10, 9, 8))[1]
    with closing(sqlite3.connect(made / "cells_fragments" / "graph.sqlite")) as database:
        nodes, edges = graph_of(database)
    known = np.unique(ids[ids > 0])
    assert [node[0] for node in nodes] == known.tolist()
    centres = (np.array(ndimage.center_of_mass(ids > 0, ids, known)) + 0.5) * VOXEL + CORNER
    np.testing.assert_allclose([node[1:4] for node in nodes], centres)
    assert [node[4] for node in nodes] == [int((ids == one).sum()) for one in known]
    between = {}
    for axis in range(3):
        low, high = (ids.take(range(b, ids.shape[axis] - 1 + b), axis) for b in (0, 1))
        values = affinities[axis].take(range(ids.shape[axis] - 1), axis)
        for one, other, value in zip(low.ravel(), high.ravel(), values.ravel(), strict=True):
            if one and other and one != other:
                between.setdefault((min(one, other), max(one, other)), []).append(value)
    found = {edge[:2]: edge[2:4] for edge in edges if edge[2]}
    assert found == {pair: (len(of), pytest.approx(np.mean(of), abs=1e-5)) for pair, of in between.items()}
    assert any(edge[4] and edge[5] < 0 for edge in edges)  # long offsets part some


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory):
    """The URL of a server that is started here."""
    programs = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.environ["PATH"].split(os.pathsep))]
    folder = next((path for path in programs if (path / "initdb").exists() and (path / "postgres").exists()), None)
    if folder is None:
        pytest.skip("PostgreSQL's initdb and postgres are not on this machine")
    prefix = []
    if os.geteuid() == 0:  # which PostgreSQL refuses
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and setpriv is not here to change the user")
        nobody = pwd.getpwnam("nobody")
        prefix = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pg") as data, closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        if prefix:
            os.chown(data, nobody.pw_uid, nobody.pw_gid)
        run = {"cwd": data, "capture_output": True, "check": True, "timeout": 120}
        database = Path(data, "data")
        subprocess.run([*prefix, folder / "initdb", "-D", database, "-U", "cells", "-A", "trust", "--no-sync"], **run)
        options = f"-p {port} -k {data} -h 127.0.0.1 -F"
        control = [*prefix, folder / "pg_ctl", "-D", database, "-w"]
        subprocess.run([*control, "-l", Path(data, "log"), "-o", options, "start"], **run)
        try:
            yield f"postgresql://cells@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **run)


def test_postgresql_has_the_same_graph(predicted, postgresql, tmp_path):
    import psycopg2

    file = segment(segmenting(kind="mutex"), predicted, tmp_path / "file.zarr")
    for name in ("first", "again"):  # which replaces the first one
        made = segment(segmenting(kind="mutex", graph=postgresql), predicted, tmp_path / f"{name}.zarr")
    with (
        closing(psycopg2.connect(postgresql)) as server,
        closing(sqlite3.connect(file / "cells_fragments" / "graph.sqlite")) as database,
    ):
        assert graph_of(server, "cells_") == graph_of(database)
    assert not (made / "cells_fragments" / "graph.sqlite").exists()
    np.testing.assert_array_equal(ids_in(made / "cells"), ids_in(file / "cells"))


def test_a_database_is_looked_for_before_anything_is_made(predicted, tmp_path):
    config = segmenting(kind="mutex", graph="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(
        ValueError, match=r"objects.cells: graph: postgresql://nobody@127.0.0.1:1/none cannot be reached"
    ):
        segment(config, predicted, tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []
    for wrong in ("postgresql://me:secret@host/graphs", "mysql://host"):
        with pytest.raises(ValueError, match=r"without a password, as it is stored"):
            segmenting(kind="mutex", graph=wrong)
