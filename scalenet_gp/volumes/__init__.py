"""Multiscale images on disk: formats, reading, writing, the CellMap layout."""

from scalenet_gp.volumes.cellmap_annotation import read_annotation
from scalenet_gp.volumes.cellmap_files import Crop, read_class_groups, read_datasplit
from scalenet_gp.volumes.class_volume import ClassVolume
from scalenet_gp.volumes.image_layout import ImageLayout, default_levels
from scalenet_gp.volumes.level_match import Alignment
from scalenet_gp.volumes.location import StrPath, bulk_reads_begun, join, local_path
from scalenet_gp.volumes.metadata import Level, Translation
from scalenet_gp.volumes.multiscale_array_writer import MultiscaleArrayWriter, StoredValues, create_image
from scalenet_gp.volumes.multiscale_image import MultiscaleImage, Padding
from scalenet_gp.volumes.multiscale_writer import MultiscaleWriter
from scalenet_gp.volumes.ome_zarr import is_ome_zarr, multiscale_attributes, multiscale_groups
from scalenet_gp.volumes.reduction import block_majority, block_mean, known_majority
from scalenet_gp.volumes.storage import (
    ChunkCache,
    UnwritableDataError,
    create_array,
    create_group,
    find_node,
    group_attributes,
    open_array,
    update_attributes,
)

__all__ = [
    "Alignment",
    "ChunkCache",
    "ClassVolume",
    "Crop",
    "ImageLayout",
    "Level",
    "MultiscaleArrayWriter",
    "MultiscaleImage",
    "MultiscaleWriter",
    "Padding",
    "StoredValues",
    "StrPath",
    "Translation",
    "UnwritableDataError",
    "block_majority",
    "block_mean",
    "bulk_reads_begun",
    "create_array",
    "create_group",
    "create_image",
    "default_levels",
    "find_node",
    "group_attributes",
    "is_ome_zarr",
    "join",
    "known_majority",
    "local_path",
    "multiscale_attributes",
    "multiscale_groups",
    "open_array",
    "read_annotation",
    "read_class_groups",
    "read_datasplit",
    "update_attributes",
]
