"""The manifest of the test crops: rows as the challenge writes them, and every fault by its line."""

from fractions import Fraction

import pytest
from pydantic import ValidationError

from scalenet_gp.errors import VolumeFormatError
from scalenet_gp.volumes import read_crop_manifest

HEADER = "crop_name,dataset,class_label,voxel_size,translation,shape"
ROW = "557,jrc_ctl-id8-1,perox_mem,[1.74;2.0;2.0],[23837.13;7599.0;35999.0],[600;600;600]"


def manifest(folder, *lines):
    path = folder / "test_crop_manifest.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rows_are_read_exactly(tmp_path):
    second = ROW.replace("557", "crop558").replace("perox_mem", "mito")
    entries = read_crop_manifest(manifest(tmp_path, HEADER, ROW, second))
    assert [(entry.crop, entry.label) for entry in entries] == [("crop557", "perox_mem"), ("crop558", "mito")]
    entry = entries[0]
    assert entry.dataset == "jrc_ctl-id8-1"
    assert entry.voxel_size == (Fraction("1.74"), 2, 2)
    assert entry.translation[0] == Fraction("23837.13")
    assert entry.lattice.corner == (Fraction("23836.26"), 7598, 35998)
    assert entry.lattice.translation == entry.translation
    assert entry.lattice.shape == (600, 600, 600)
    with pytest.raises(ValidationError, match="frozen"):
        entry.label = "nuc"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "the first line has to be crop_name,dataset,.*, not nothing"),
        ([ROW], "the first line has to be .*, not 557, jrc"),
        ([HEADER], "there are no crops in it"),
        ([HEADER, ROW, ROW], "line 3: perox_mem of crop557 has a row already"),
        ([HEADER, ROW.rpartition(",")[0]], "line 2: 5 fields"),
        ([HEADER, ROW.replace("[600;600;600]", "600")], r"line 2: '600' has to be three numbers, as \[1.74;2.0;2.0\]"),
        ([HEADER, ROW.replace("600;600;600", "600;600")], "line 2: shape"),
        ([HEADER, ROW.replace("600;600;600", "600;600;0")], "line 2: .*have to be positive"),
        ([HEADER, ROW.replace("1.74", "wide")], "line 2: 'wide' is not a finite length"),
        ([HEADER, ROW.replace("perox_mem", "../mito")], r"line 2: label '\.\./mito'"),
    ],
)
def test_faults_are_named_by_their_line(tmp_path, lines, message):
    with pytest.raises(VolumeFormatError, match=message):
        read_crop_manifest(manifest(tmp_path, *lines))
