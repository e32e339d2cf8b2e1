"""Volumes of other programs: TIFF, slices, HDF5, MRC, NIfTI and stores of chunks, opened alike, and written."""

from scalenet_gp.exchange.opening import file_state, open_volume_file
from scalenet_gp.exchange.outputs import VolumeOutput, output_of
from scalenet_gp.exchange.stored_volume import volume_of
from scalenet_gp.exchange.volume_file import Stated, VolumeFile

__all__ = ["Stated", "VolumeFile", "VolumeOutput", "file_state", "open_volume_file", "output_of", "volume_of"]
