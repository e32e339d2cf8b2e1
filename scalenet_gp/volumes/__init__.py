"""Multiscale images on disk: formats, reading, writing, the CellMap layout."""

from scalenet_gp.volumes.array_creation import create_array, create_group, create_parents, update_attributes
from scalenet_gp.volumes.cellmap_annotation import read_annotation
from scalenet_gp.volumes.cellmap_files import Crop, read_class_groups, read_datasplit
from scalenet_gp.volumes.cellmap_manifest import ManifestEntry, read_crop_manifest
from scalenet_gp.volumes.cellmap_submission import SubmissionWriter, extract_class, submitted_classes
from scalenet_gp.volumes.class_prediction import ClassPrediction, nearest_voxel_size, stated_place
from scalenet_gp.volumes.class_volume import ClassVolume
from scalenet_gp.volumes.crop_lattice import CropLattice, check_covered, read_on_lattice
from scalenet_gp.volumes.fingerprint import VolumeFingerprint, labels_digest
from scalenet_gp.volumes.formats import volumes_below
from scalenet_gp.volumes.image_layout import ImageLayout, default_levels
from scalenet_gp.volumes.intensity_sample import IntensitySample, sample_intensities, spread_boxes
from scalenet_gp.volumes.label_resampling import ClassVoxels, StoredGrid, class_majority
from scalenet_gp.volumes.level_match import Alignment
from scalenet_gp.volumes.location import StrPath, bulk_reads_begun, join, local_path, parent, whole_path
from scalenet_gp.volumes.metadata import Level, Translation, nanometres, number
from scalenet_gp.volumes.multiscale_array_writer import MultiscaleArrayWriter, StoredValues, create_image
from scalenet_gp.volumes.multiscale_image import MultiscaleImage, Padding
from scalenet_gp.volumes.multiscale_writer import MultiscaleWriter
from scalenet_gp.volumes.ome_zarr import channel_names, is_ome_zarr, multiscale_attributes, multiscale_groups
from scalenet_gp.volumes.points import read_points
from scalenet_gp.volumes.precomputed import create_precomputed, is_precomputed, open_precomputed
from scalenet_gp.volumes.reduction import block_majority, block_mean, known_majority
from scalenet_gp.volumes.separate_reads import read_separately
from scalenet_gp.volumes.skeletons import Skeletons, read_skeletons
from scalenet_gp.volumes.storage import find_node, group_attributes, open_array
from scalenet_gp.volumes.stored_array import ChunkCache, StoredArray, UnwritableDataError

__all__ = [
    "Alignment",
    "ChunkCache",
    "ClassPrediction",
    "ClassVolume",
    "ClassVoxels",
    "Crop",
    "CropLattice",
    "ImageLayout",
    "IntensitySample",
    "Level",
    "ManifestEntry",
    "MultiscaleArrayWriter",
    "MultiscaleImage",
    "MultiscaleWriter",
    "Padding",
    "Skeletons",
    "StoredArray",
    "StoredGrid",
    "StoredValues",
    "StrPath",
    "SubmissionWriter",
    "Translation",
    "UnwritableDataError",
    "VolumeFingerprint",
    "block_majority",
    "block_mean",
    "bulk_reads_begun",
    "channel_names",
    "check_covered",
    "class_majority",
    "create_array",
    "create_group",
    "create_image",
    "create_parents",
    "create_precomputed",
    "default_levels",
    "extract_class",
    "find_node",
    "group_attributes",
    "is_ome_zarr",
    "is_precomputed",
    "join",
    "known_majority",
    "labels_digest",
    "local_path",
    "multiscale_attributes",
    "multiscale_groups",
    "nanometres",
    "nearest_voxel_size",
    "number",
    "open_array",
    "open_precomputed",
    "parent",
    "read_annotation",
    "read_class_groups",
    "read_crop_manifest",
    "read_datasplit",
    "read_on_lattice",
    "read_points",
    "read_separately",
    "read_skeletons",
    "sample_intensities",
    "spread_boxes",
    "stated_place",
    "submitted_classes",
    "update_attributes",
    "volumes_below",
    "whole_path",
]
