"""The job that shows a prediction in neuroglancer: the viewer's state, a link that opens it, the files it reads.

Each class is a layer, which can be shown, hidden and colored alone, and only layers that are shown are read.
neuroglancer mixes channels within a layer only where one chunk holds all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import numpy as np

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.pipelines.segmentation import LookupTables
from scalenet_gp.pipelines.viewing.file_server import HOST, serve_files
from scalenet_gp.volumes import (
    Level,
    MultiscaleImage,
    StoredValues,
    StrPath,
    Translation,
    find_node,
    group_attributes,
    is_ome_zarr,
    is_precomputed,
    local_path,
)

__all__ = ["PORT", "View", "view", "viewer_link", "viewer_state"]

PORT = 9876
"""Port on which the files are served unless another one is given: a link that was kept works again."""

_APP = "https://neuroglancer-demo.appspot.com/#!"
_STATE = "state"
"""The folder below which a state is served that is too long for a link."""
_LONGEST = 30_000
"""Characters of the longest link that holds the whole state; browsers take more, terminals and mails do not."""
_PIXELS = 600  # of a panel on the screen, about
_SHADER = """#uicontrol invlerp value
#uicontrol vec3 color color
void main() {
  emitRGBA(vec4(color, value()));
}
"""


@dataclass(frozen=True, slots=True)
class View:
    """A prediction in the viewer.

    Attributes:
        state: file with neuroglancer's state.
        link: address that opens it while the files are served; None if it would hold a state that is too long, and
            the files are not served.
    """

    state: Path
    link: str | None


@contextmanager
def view(
    prediction: Path,
    raw: StrPath | None = None,
    output: Path | None = None,
    *,
    serve: bool = True,
    port: int = PORT,
    translation: Translation | None = None,
) -> Iterator[View]:
    """Write neuroglancer's state for a prediction, and serve the files that it reads until the context ends.

    The viewer is neuroglancer's own demonstration page, which reads the files from this machine. Where the Python
    package neuroglancer is installed (the extra "view"), its viewer on this machine is used instead.

    Args:
        prediction: OME-Zarr volume, or a group of volumes as :func:`scalenet_gp.pipelines.prediction.predict` makes;
            finished or not.
        raw: path or URL of the raw volume (OME-Zarr), which is shown below the prediction.
        output: JSON file for the state, which is replaced; ``<prediction>.neuroglancer.json`` by default, beside the
            outermost group for a volume in one: ``cells.mito.neuroglancer.json`` for ``cells.zarr/mito``.
        serve: True to serve the files; False to write only state and link.
        port: port to serve on; 0 for a free one.
        translation: the point of a voxel that the raw volume's file states: see :func:`viewer_state`.

    Raises:
        FileNotFoundError: there is no such prediction or raw volume.
        VolumeFormatError: there is no volume in it, or one that neuroglancer cannot show.
        OSError: the port is taken.
    """
    output = _beside(prediction) if output is None else output
    folders = {"prediction": prediction}
    if raw is not None and (local := local_path(raw)) is not None:
        folders["raw"] = local
    if not serve:
        state = viewer_state(prediction, f"http://{HOST}:{port}", raw, translation)
        link = viewer_link(state)
        yield View(_write(output, state), link if len(link) <= _LONGEST else None)
        return
    with TemporaryDirectory() as folder, serve_files(folders | {_STATE: Path(folder)}, port) as address:
        state = viewer_state(prediction, address, raw, translation)
        viewer = _local_viewer(state)  # ends with its last reference
        link = viewer_link(state)
        if len(link) > _LONGEST:
            _write(Path(folder, "state.json"), state)
            link = f"{_APP}{address}/{_STATE}/state.json"
        yield View(_write(output, state), link if viewer is None else str(viewer))


def viewer_state(
    prediction: Path, address: str, raw: StrPath | None = None, translation: Translation | None = None
) -> dict[str, Any]:
    """Return neuroglancer's state: the raw volume in grey, and above it a layer for each class of each output.

    Volumes of ids are layers of segments. Fragments that a segmentation kept for proofreading are a layer for each
    threshold of its look-up tables, not shown at first, in which those of an object are one segment; the viewer can
    merge and split them. The classes of the finest output are shown. Those of the others can be switched on.

    Args:
        prediction: OME-Zarr volume, or a group of volumes.
        address: address that serves the prediction below "prediction", and a local raw volume below "raw".
        raw: path or URL of the raw volume.
        translation: the point of a voxel that its file states: see :meth:`.MultiscaleImage.open`. Neuroglancer always
            takes positions for voxel centers: with "corner" it shows each level half a voxel too low on every axis.

    Raises:
        FileNotFoundError, ValueError: see :func:`view`.
    """
    paths = sorted(_volumes(prediction))
    if not paths:
        exists = find_node(prediction) is not None
        raise (VolumeFormatError if exists else FileNotFoundError)(f"{prediction}: no OME-Zarr volume here")
    opened = {path: MultiscaleImage.open(path) for path in paths}
    size, finest = min((volume.levels[0].voxel_size, str(path)) for path, volume in opened.items())
    level = opened[Path(finest)].levels[0]
    layers = [] if raw is None else [_raw_layer(raw, address, translation)]
    for path, volume in opened.items():
        relative = "/".join(("prediction", *path.relative_to(prediction).parts))
        shown = volume.levels[0].voxel_size == size
        layers += _class_layers(volume, f"zarr://{address}/{quote(relative)}/", relative.partition("/")[2], shown)
    return {**_navigation(level), "layers": layers, "layout": "4panel" if len(level.shape) == 3 else "xy"}


def viewer_link(state: dict[str, Any]) -> str:
    """Return the link that opens a state in neuroglancer's demonstration page."""
    return _APP + quote(json.dumps(state, separators=(",", ":")), safe="")


def _beside(prediction: Path) -> Path:
    """Return the file for the state of a prediction, outside of the groups that it is in."""
    names, top = [prediction.stem], prediction.absolute()
    while (node := find_node(top.parent)) is not None and node.driver != "n5":  # any folder is a group of N5
        top = top.parent
        names.append(top.stem)
    if len(names) == 1:
        return prediction.with_name(f"{prediction.stem}.neuroglancer.json")
    return top.with_name(".".join([*reversed(names), "neuroglancer.json"]))


def _volumes(folder: Path) -> Iterator[Path]:
    """Yield the OME-Zarr volumes at ``folder`` and below it."""
    node = find_node(folder)
    if node is None or node.array is not None:
        return
    if is_ome_zarr(node):
        yield folder
    for entry in folder.iterdir():
        if entry.is_dir() and (entry / ".zgroup").exists():
            yield from _volumes(entry)


def _navigation(level: Level) -> dict[str, Any]:
    """Return the view of all of ``level``: coordinates in its voxels, its middle, and scales."""
    names = "zyx"[-len(level.shape) :]
    extent = max(n * v for n, v in zip(level.shape, level.voxel_size, strict=True)) / min(level.voxel_size)
    middle = (b / v + n / 2 for b, v, n in zip(level.begin, level.voxel_size, level.shape, strict=True))
    return {
        # x first: the panel "xy" shows the first two
        "dimensions": {
            name: [float(v / 10**9), "m"] for name, v in zip(names[::-1], level.voxel_size[::-1], strict=True)
        },
        "position": [float(x) for x in middle][::-1],
        "crossSectionScale": float(extent) / _PIXELS,
        "projectionScale": 1.5 * float(extent),
    }


def _raw_layer(raw: StrPath, address: str, translation: Translation | None) -> dict[str, Any]:
    node = find_node(raw)
    if node is None:
        raise FileNotFoundError(f"{raw}: no such volume")
    if not (is_ome_zarr(node) or is_precomputed(node)):
        raise VolumeFormatError(f"{raw} is not an OME-Zarr or precomputed volume; neuroglancer cannot place others")
    _check_shown(MultiscaleImage.open(raw, translation))
    where = f"{address}/raw/" if local_path(raw) is not None else os.fspath(raw)
    return {"type": "image", "name": "raw", "source": f"{'zarr' if is_ome_zarr(node) else 'precomputed'}://{where}"}


def _class_layers(volume: MultiscaleImage, source: str, group: str, shown: bool) -> list[dict[str, Any]]:
    """Return a layer for each channel of a volume."""
    _check_shown(volume)
    attributes = group_attributes(volume.path)
    if StoredValues.of(volume.path, attributes).kind == "labels":
        layer: dict[str, Any] = {"type": "segmentation", "name": group or Path(volume.path).name, "source": source}
        if "fragments of" not in attributes:
            return [layer | {"visible": shown}]
        tables = LookupTables.read(Path(volume.path))
        several = len(tables.thresholds) > 1
        return [
            layer
            | {
                "name": f"{layer['name']} {threshold:g}" if several else layer["name"],
                "visible": False,  # the objects lie in a layer of their own
                "equivalences": _equivalences(tables.fragments, objects),
            }
            for threshold, objects in zip(tables.thresholds, tables.objects, strict=True)
        ]
    channels = attributes.get("omero", {}).get("channels", [])
    layers = []
    for index in range(volume.channels):
        channel = channels[index] if index < len(channels) else {}
        window = channel.get("window", {})
        controls: dict[str, Any] = {"color": f"#{channel.get('color', 'FFFFFF').lower()}"}
        if "start" in window and "end" in window:
            controls["value"] = {"range": [_number(window["start"]), _number(window["end"])]}
        layers.append(
            {
                "type": "image",
                "name": " ".join(part for part in (group, channel.get("label") or str(index)) if part),
                "source": source,
                "shader": _SHADER,
                "shaderControls": controls,
                "opacity": 0.5,
                "visible": shown and channel.get("active", True),
            }
        )
        if channels:  # the viewer names the axis so
            layers[-1] |= {"localDimensions": {"c'": [1, ""]}, "localPosition": [index]}
    return layers


def _equivalences(fragments: np.ndarray, objects: np.ndarray) -> list[list[str]]:
    """Return the fragments of each object that has several; object 0 is none."""
    order = np.argsort(objects, kind="stable")
    order = order[objects[order] > 0]
    parts = np.split(fragments[order], np.flatnonzero(np.diff(objects[order])) + 1)
    return [[*map(str, part.tolist())] for part in parts if len(part) > 1]  # text: a browser's numbers end at 2**53


def _check_shown(volume: MultiscaleImage) -> None:
    if volume.dtype.name in ("float16", "float64", "bool"):
        raise VolumeFormatError(
            f"{volume.path}: neuroglancer cannot show {volume.dtype}; predict with prediction.stored uint8 or float32, "
            "or use napari"
        )


def _number(number: float) -> float:
    """Return whole numbers as integers, which the range of an integer volume requires."""
    return int(number) if float(number).is_integer() else number


def _write(output: Path, state: dict[str, Any]) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    return output


def _local_viewer(state: dict[str, Any]) -> Any | None:
    """Return a viewer on this machine that shows the state, whose str is its address; None without the package."""
    try:
        neuroglancer = import_module("neuroglancer")
    except ImportError:
        return None
    neuroglancer.set_server_bind_address(HOST)
    viewer: Any = neuroglancer.Viewer()
    viewer.set_state(state)
    return viewer
