"""Skeletons of neurites from files: SWC, and graphs as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scalenet_gp.errors import VolumeFormatError

__all__ = ["Skeletons", "read_skeletons"]

_SWC_COLUMNS = 7


@dataclass(frozen=True, slots=True, eq=False)
class Skeletons:
    """Nodes and edges of skeletons; those that edges connect belong to one.

    Attributes:
        positions: of the nodes, nm, (node, axis), with the axes z, y, x.
        edges: the two nodes of each edge, as indices of ``positions``, (edge, 2).

    Example:
        >>> Skeletons(np.zeros((2, 3)), np.array([[0, 1]])).edges.shape
        (1, 2)
    """

    positions: np.ndarray
    edges: np.ndarray


def read_skeletons(path: Path) -> Skeletons:
    """Return the skeletons in a file, or in all files of a folder that end in ``.swc`` or ``.json``.

    - SWC has a line for each node: its number, its type, x, y, z, its radius, and the number of its parent, below 0
      for none. Lines that begin with ``#`` are comments. Positions have to be nm: SWC names no unit.
    - JSON is a graph in networkx' node-link form: ``{"nodes": [{"id": 1, "position": [z, y, x]}, ...], "edges":
      [{"source": 1, "target": 2}, ...]}``, with positions in nm; ``links`` counts as ``edges``.

    Raises:
        FileNotFoundError: there is no such file, or none in the folder.
        VolumeFormatError: a file is of another form. The message says where and what is wrong.
    """
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".swc", ".json"))
        if not files:
            raise FileNotFoundError(f"{path} has no skeletons: no file in it ends in .swc or .json")
    positions, edges, count = [np.empty((0, 3))], [np.empty((0, 2), np.int64)], 0
    for file in files:
        nodes, pairs = _read_json(file) if file.suffix.lower() == ".json" else _read_swc(file)
        numbers = {number: count + index for index, (number, _) in enumerate(nodes)}
        if len(numbers) < len(nodes):
            raise VolumeFormatError(f"{file} has two nodes of the same number")
        for pair in pairs:
            if unknown := [number for number in pair if number not in numbers]:
                raise VolumeFormatError(f"{file}: an edge or a parent names the node {unknown[0]!r}, and there is none")
        positions.append(np.array([place for _, place in nodes], float).reshape(-1, 3))
        edges.append(np.array([[numbers[one] for one in pair] for pair in pairs], np.int64).reshape(-1, 2))
        count += len(nodes)
    return Skeletons(np.concatenate(positions), np.concatenate(edges))


def _read_swc(file: Path) -> tuple[list[tuple[Any, list[float]]], list[tuple[Any, Any]]]:
    nodes, pairs = [], []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        columns = line.partition("#")[0].split()
        if not columns:
            continue
        try:
            if len(columns) < _SWC_COLUMNS:
                raise ValueError
            node, parent = int(columns[0]), int(columns[6])
            place = _position([columns[4], columns[3], columns[2]])
        except ValueError:
            raise VolumeFormatError(
                f"{file}, line {number}: {line.strip()!r} is not a node of SWC, as in '2 3 120.0 80.5 40.0 1.0 1'"
            ) from None
        nodes.append((node, place))
        if parent >= 0:
            pairs.append((node, parent))
    return nodes, pairs


def _read_json(file: Path) -> tuple[list[tuple[Any, list[float]]], list[tuple[Any, Any]]]:
    try:
        graph = json.loads(file.read_text(encoding="utf-8"))
        nodes = [(node["id"], _position(node["position"])) for node in graph["nodes"]]
        edges = graph["edges"] if "edges" in graph else graph["links"]
        return nodes, [(edge["source"], edge["target"]) for edge in edges]
    except (ValueError, KeyError, TypeError) as error:
        raise VolumeFormatError(
            f"{file} is not a graph in node-link form ({type(error).__name__}: {error}); it has to be "
            '{"nodes": [{"id": 1, "position": [z, y, x]}], "edges": [{"source": 1, "target": 2}]}, positions in nm'
        ) from None


def _position(values: Iterable[Any]) -> list[float]:
    """Return a position of three finite numbers.

    Raises:
        ValueError: it is not.
    """
    place = [float(value) for value in values]
    if len(place) != 3 or not all(map(math.isfinite, place)):
        raise ValueError(f"{place} is not a position of three finite numbers")
    return place
