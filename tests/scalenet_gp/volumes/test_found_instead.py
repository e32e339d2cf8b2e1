"""If no volume is there, the message says what there is: each format by the first bytes of a file."""

import gzip
import io

import numpy as np
import pytest
from PIL import Image

from scalenet_gp.volumes import MultiscaleImage
from scalenet_gp.volumes.found_instead import describe_absence

IMPORT = "; `scalenet-gp import` makes an OME-Zarr volume of it"


def picture(kind):
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(stream, kind)
    return stream.getvalue()


def numpys():
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


FILES = {
    "a TIFF file": picture("TIFF"),
    "a PNG file": picture("PNG"),
    "a JPEG file": picture("JPEG"),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(500),
    "an MRC file": bytes(208) + b"MAP " + bytes(812),
    "a NIfTI file": gzip.compress(bytes(344) + b"n+1\0" + bytes(4)),
    "a ZIP archive": b"PK\x03\x04" + bytes(30),
    "an array of numpy": numpys(),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_of_other_formats_are_named(tmp_path, kind):
    path = tmp_path / "data"
    path.write_bytes(FILES[kind])
    assert describe_absence(path) == f"it is {kind}{IMPORT}"
    with pytest.raises(FileNotFoundError, match=f"data: no such multiscale group; it is {kind}; `scalenet-gp import`"):
        MultiscaleImage.open(path)
    assert describe_absence(path / "volumes" / "raw") == f"{path} is {kind}, not a folder{IMPORT}"


def test_other_files_are_files(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    assert describe_absence(tmp_path / "notes.txt") == "it is a file"
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8b" + bytes(5))
    assert describe_absence(tmp_path / "broken.gz") == f"it is a compressed file{IMPORT}"


def test_a_folder_of_slices_is_one(tmp_path):
    for number in range(12):
        (tmp_path / f"{number:03}.tif").write_bytes(FILES["a TIFF file"])
    with pytest.raises(ValueError, match=r"without arrays s0, s1, \.\.\.; it is a folder with 12 TIFF files;"):
        MultiscaleImage.open(tmp_path)


def test_of_a_typo_the_nearest_name_is_proposed(tmp_path):
    for name in ("raw", "labels", ".hidden"):
        (tmp_path / "em" / name).mkdir(parents=True)
    listed = f"in {tmp_path / 'em'}, did you mean raw? There are raw, labels"
    assert describe_absence(tmp_path / "em" / "rwa" / "s0") == listed
    assert describe_absence(tmp_path / "em" / "raw") == "it is an empty folder"
    assert describe_absence(tmp_path / "em") == "it is a folder with labels, raw"
    assert describe_absence("https://example.org/volume.zarr") == ""
