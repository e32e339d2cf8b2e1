"""Files of other programs, written by those programs' own libraries."""

import h5py
import imageio.v3 as imageio
import mrcfile
import nibabel
import numpy as np
import tensorstore as ts
import tifffile

from tests.scalenet_gp.volumes.volume_files import write_n5, write_zarr2

VOXEL = (40, 4.6, 5)


def raw(dtype=np.uint8, shape=(20, 70, 66)):
    """Numbers that no axis shares."""
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


def ids():
    """Labels beyond 32 bits."""
    return raw(np.uint64) // 50 + np.uint64(2**40 + 1)


def plain_tiff(path, array, **options):
    tifffile.imwrite(path, array, photometric="minisblack", **options)
    return path


def tiled_tiff(path, array):
    return plain_tiff(path, array, compression="zlib", tile=(32, 48))


def striped_tiff(path, array):
    return plain_tiff(path, array, compression="zlib", rowsperstrip=9)


def big_endian_tiff(path, array):
    return plain_tiff(path, array, byteorder=">", bigtiff=True)


def imagej_tiff(path, array):
    z, y, x = (v / 1000 for v in VOXEL)
    return plain_tiff(
        path, array, imagej=True, resolution=(1 / x, 1 / y), metadata={"spacing": z, "unit": "um", "axes": "ZYX"}
    )


def ome_tiff(path, array):
    sizes = {f"PhysicalSize{axis}": v / 1000 for axis, v in zip("ZYX", VOXEL, strict=True)}
    return plain_tiff(path, array, ome=True, metadata={"axes": "ZYX"} | sizes)


def cremi(path, array):
    with h5py.File(path, "w") as file:
        file["volumes/raw"] = array
        file["volumes/raw"].attrs["resolution"] = VOXEL
        file["volumes/raw"].attrs["offset"] = (80.0, 46.0, 50.0)
    return path / "volumes" / "raw"


def element_size(path, array):
    with h5py.File(path, "w") as file:
        file["exported_data"] = array
        file["exported_data"].attrs["element_size_um"] = np.array(VOXEL) / 1000
    return path


def mrc(path, array):
    with mrcfile.new(path) as file:
        file.set_data(array)
        file.set_volume()
        file.voxel_size = tuple(v * 10 for v in VOXEL[::-1])
    return path


def nifti(path, array):
    affine = np.diag([*(v / 1000 for v in VOXEL[::-1]), 1])
    image = nibabel.Nifti1Image(array.T, affine)
    image.header.set_xyzt_units("micron")
    nibabel.save(image, path)
    return path


def nifti_picture(path, picture):
    image = nibabel.Nifti1Image(picture.T, np.diag([*(v / 1000 for v in VOXEL[:0:-1]), 1, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, path)
    return path


def slices(write, suffix):
    def made(path, array):
        path.mkdir()
        for z, picture in enumerate(array):
            write(path / f"slice_{z + 5}{suffix}", picture)  # 10 comes after 9, not after 1
        return path

    return made


def plain_zarr(path, array):
    return write_zarr2(path, array, chunk=32)


def n5(path, array):
    return write_n5(path, array, {"resolution": VOXEL[::-1], "offset": (50, 46, 80)}, (16, 16, 16))


def precomputed(path, array):
    specification = {
        "driver": "neuroglancer_precomputed",
        "kvstore": f"file://{path}/",
        "multiscale_metadata": {"type": "image", "data_type": array.dtype.name, "num_channels": 1},
        "scale_metadata": {
            "size": array.shape[::-1],
            "resolution": VOXEL[::-1],
            "voxel_offset": (10, 10, 2),
            "chunk_size": [16] * 3,
            "encoding": "raw",
        },
    }
    ts.open(specification, create=True).result().write(array.T[..., np.newaxis]).result()
    return path


png_slices = slices(imageio.imwrite, ".png")
tiff_slices = slices(plain_tiff, ".tif")
