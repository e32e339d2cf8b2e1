"""The annotation of a CellMap label volume: its attributes ``cellmap.annotation``.

Source of the format: https://github.com/janelia-cellmap/cellmap-schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

from pydantic import BaseModel, NonNegativeInt, ValidationError

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.volumes.location import join
from scalenet_gp.volumes.metadata import malformed_error
from scalenet_gp.volumes.storage import find_node

__all__ = ["Annotation", "read_annotation"]


@final
@dataclass(frozen=True, slots=True)
class Annotation:
    """The meaning of the values of a label volume.

    Args:
        absent: the value of voxels without the class; None if no value says so.
        present: the value of voxels of the class; None if any other positive value is one: instances, for example.
        unknown: the value of voxels that are not annotated; None if all are.
        complement_counts: the numbers of voxels of the finest level that are absent and unknown, as the file gives
            them; either may be missing. None if the file has no counts.
    """

    absent: int | None = 0
    present: int | None = None
    unknown: int | None = None
    complement_counts: Mapping[str, int] | None = None


def read_annotation(path: str, level: str) -> Annotation:
    """Read the annotation of the class whose multiscale group is at ``path``.

    It is in the attributes of the group or of its finest array. In a volume without such attributes 0 is absent and
    every positive value is present.

    In a segmentation of instances whose counts say that nothing is unknown, the value that would be unknown may be the
    number of an instance, and counts as one.

    Args:
        path: the path of the group; its last part is the name of the class.
        level: the path of the finest array, relative to the group.

    Raises:
        VolumeFormatError: malformed attributes, the name of another class, one value for two meanings, or a group and
            an array that contradict each other.
    """
    name = path.rstrip("/").rpartition("/")[-1]
    group, array = (_parsed(where, name) for where in (path, join(path, level)))
    if group is not None and array is not None and group.annotation_type != array.annotation_type:
        raise VolumeFormatError(
            f"{path}: the annotation_type of the group, {group.annotation_type.model_dump()}, contradicts that of "
            f"{level}, {array.annotation_type.model_dump()}"
        )
    stated = array or group
    if stated is None:
        return Annotation()
    encoding = stated.annotation_type.encoding
    counts: dict[str, int] | None = None
    if stated.complement_counts is not None:
        counts = {str(kind): count for kind, count in stated.complement_counts.items()}
    unknown = encoding.get("unknown")
    if stated.annotation_type.type == "instance_segmentation" and counts is not None and counts.get("unknown") == 0:
        unknown = None
    return Annotation(encoding.get("absent"), encoding.get("present"), unknown, counts)


class _Type(BaseModel):
    type: Literal["semantic_segmentation", "instance_segmentation"]
    encoding: dict[Literal["absent", "present", "unknown"], int]


class _Stated(BaseModel):
    class_name: str
    annotation_type: _Type
    complement_counts: dict[Literal["absent", "unknown"], NonNegativeInt] | None = None


def _parsed(path: str, name: str) -> _Stated | None:
    node = find_node(path)
    cellmap: Any = {} if node is None else node.attributes.get("cellmap", {})
    if not isinstance(cellmap, dict) or "annotation" not in cellmap:
        return None
    try:
        stated = _Stated.model_validate(cellmap["annotation"])
    except ValidationError as error:
        raise malformed_error(path, "attributes cellmap.annotation", error) from error
    if stated.class_name != name:
        raise VolumeFormatError(
            f"{path}: the annotation is of the class {stated.class_name!r}, but lies in the folder {name!r}"
        )
    encoding = stated.annotation_type.encoding
    if len(set(encoding.values())) < len(encoding):
        raise VolumeFormatError(
            f"{path}: one value stands for two things in the encoding {encoding}; they have to differ"
        )
    if stated.annotation_type.type == "instance_segmentation" and "present" in encoding:
        raise VolumeFormatError(f"{path}: of instances no single value is 'present', as the encoding {encoding} says")
    return stated
