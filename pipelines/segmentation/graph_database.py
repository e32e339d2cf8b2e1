"""The graph of fragments in a database, for proofreading and other programs: SQLite, or PostgreSQL by its URL.

Workers write the rows of each block into files of their own, which need no locks and are the same however often a block
is done. The merging writes them into the database in bulk, in one transaction. funlib.persistence's graphs are of
networkx, one Python object for each node and edge, and write a tenth as many rows in a second.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from scalenet_gp.errors import ConfigError
from scalenet_gp.segmentation import STEPS, AffinityMethod, sum_rows
from scalenet_gp.serialization import atomic_write
from scalenet_gp.volumes import UnwritableDataError

__all__ = ["check_database", "graph_path", "write_graph"]

_NODES = (("id", "BIGINT PRIMARY KEY"), ("z", "FLOAT8"), ("y", "FLOAT8"), ("x", "FLOAT8"), ("size", "BIGINT"))
_EDGES = (
    *((name, "BIGINT NOT NULL") for name in ("one", "other", "pairs")),
    ("affinity", "FLOAT8"),
    ("long_pairs", "BIGINT NOT NULL"),
    ("long_affinity", "FLOAT8"),
)
_ROWS = 100_000
"""Rows that are Python objects at a time."""


def graph_path(volume: Path) -> Path:
    """Return the SQLite file beside a volume of fragments.

    Example:
        >>> graph_path(Path("segmentation.zarr/neurons_fragments")).name
        'graph.sqlite'
    """
    return volume / "graph.sqlite"


def check_database(url: str) -> None:
    """Check that a PostgreSQL database can be written.

    Raises:
        ConfigError: psycopg2 is missing, or the database cannot be reached.
    """
    with closing(_connect(url)):
        pass


def write_graph(
    rows: np.ndarray,
    edges: np.ndarray,
    options: AffinityMethod,
    corner: Sequence[Fraction],
    voxel_size: Sequence[Fraction],
    volume: Path,
    name: str,
) -> None:
    """Write the graph of fragments, in place of an earlier one.

    A node has its id, the centre of its voxels (nm; z is 0 in two dimensions), and its size (voxels). An edge has the
    smaller id first, the pairs of neighbours that its fragments have and their mean affinity, and, for the mutex
    watershed, the pairs at longer offsets and their mean biased affinity.

    Args:
        rows: measures of all fragments.
        edges: of all blocks.
        options: the method; ``options.graph`` says where to write.
        corner: of the region, nm.
        voxel_size: nm.
        volume: the volume of fragments, beside which the SQLite file is: the tables ``nodes`` and ``edges``.
        name: of the objects, which begins the names of the tables in PostgreSQL: ``neurons_nodes``.

    Raises:
        ConfigError: the database cannot be reached.
        UnwritableDataError: the file cannot be written.
    """
    tables = {"nodes": (_NODES, _node_rows(rows, corner, voxel_size)), "edges": (_EDGES, _edge_rows(edges, options))}
    if options.graph is None:
        with atomic_write(graph_path(volume)) as beside, closing(sqlite3.connect(beside)) as database:
            try:
                for table, (columns, found) in tables.items():
                    database.execute(f"CREATE TABLE {table} ({_declared(columns)})")
                    database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", found)
                database.execute("CREATE INDEX edges_of_one ON edges (one)")
                database.execute("CREATE INDEX edges_of_other ON edges (other)")
                database.commit()
            except sqlite3.OperationalError as error:
                raise UnwritableDataError(f"{graph_path(volume)} cannot be written: {error}") from error
        return
    from psycopg2 import sql

    with closing(_connect(options.graph)) as server, server, server.cursor() as cursor:
        for table, (columns, found) in tables.items():
            of_table = sql.Identifier(f"{name}_{table}")
            cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(of_table))
            cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(of_table, sql.SQL(_declared(columns))))
            copy = sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(of_table)
            while part := list(itertools.islice(found, _ROWS)):
                lines = (",".join("" if value is None else repr(value) for value in row) for row in part)
                cursor.copy_expert(copy, StringIO("\n".join(lines)))
            if table == "edges":
                for end in ("one", "other"):
                    cursor.execute(sql.SQL("CREATE INDEX ON {} ({})").format(of_table, sql.Identifier(end)))


def _connect(url: str) -> Any:
    try:
        import psycopg2
    except ImportError:
        raise ConfigError("a graph in PostgreSQL needs the package psycopg2: pip install psycopg2-binary") from None
    try:
        return psycopg2.connect(url)
    except psycopg2.Error as error:
        raise ConfigError(f"graph: {url} cannot be reached: {' '.join(str(error).split())}") from None


def _declared(columns: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns)


def _node_rows(
    rows: np.ndarray, corner: Sequence[Fraction], voxel_size: Sequence[Fraction]
) -> Iterator[tuple[Any, ...]]:
    size, begin = (np.array([float(length) for length in lengths]) for lengths in (voxel_size, corner))
    for first in range(0, len(rows), _ROWS):
        part = rows[first : first + _ROWS]
        places = np.zeros((len(part), 3))
        places[:, 3 - len(size) :] = (part["places"] / part["voxels"][:, None] + 0.5) * size + begin
        yield from zip(part["id"].tolist(), *places.T.tolist(), part["voxels"].tolist(), strict=True)


def _edge_rows(edges: np.ndarray, options: AffinityMethod) -> Iterator[tuple[Any, ...]]:
    long = (edges["level"] > 0) & (options.kind == "mutex")
    edges = edges.copy()
    edges["level"] = long
    rows = sum_rows(edges)
    first = np.ones(len(rows), bool)
    first[1:] = (rows["one"][1:] != rows["one"][:-1]) | (rows["other"][1:] != rows["other"][:-1])
    pair, pairs = np.cumsum(first) - 1, rows[first]
    counts, totals = np.zeros((2, len(pairs)), np.int64), np.zeros((2, len(pairs)), np.int64)
    counts[rows["level"], pair], totals[rows["level"], pair] = rows["count"], rows["total"]
    for begin in range(0, len(pairs), _ROWS):
        part = slice(begin, begin + _ROWS)
        ends = (pairs[name][part].tolist() for name in ("one", "other"))
        for one, other, count, total, long_count, long_total in zip(
            *ends,
            counts[0][part].tolist(),
            totals[0][part].tolist(),
            counts[1][part].tolist(),
            totals[1][part].tolist(),
            strict=True,
        ):
            mean = total / count / STEPS if count else None
            yield one, other, count, mean, long_count, long_total / long_count / STEPS if long_count else None
