import json

import numpy as np
import pytest

from scalenet_gp.nodes.zarr_storage import (
    UnreadableDataError,
    create_array,
    create_group,
    group_attributes,
    open_array,
    read_box,
)

BOX = (slice(0, 8), slice(0, 64))


@pytest.mark.parametrize("kinds", [2, 256], ids=["compressible", "incompressible"])
def test_every_truncation_is_noticed(tmp_path, kinds):
    """blosc stores incompressible chunks as they are; numcodecs then reads on behind the end of a truncated one."""
    data = np.random.default_rng(0).integers(0, kinds, (8, 64)).astype(np.uint8)
    create_array(tmp_path / "a", data.shape, data.shape, data.dtype)[...] = data
    np.testing.assert_array_equal(read_box(open_array(tmp_path / "a"), tmp_path / "a", BOX), data)
    chunk = tmp_path / "a" / "0" / "0"
    whole = chunk.read_bytes()
    for length in (*range(0, len(whole), 7), len(whole) - 1):
        chunk.write_bytes(whole[:length])
        with pytest.raises(UnreadableDataError, match=r"a: voxels \[0:8, 0:64\] cannot be read: \S"):
            read_box(open_array(tmp_path / "a"), tmp_path / "a", BOX)


def test_a_missing_chunk_is_zero(tmp_path):
    create_array(tmp_path / "a", (8, 64), (4, 4), np.dtype(np.int16))
    assert not read_box(open_array(tmp_path / "a"), tmp_path / "a", BOX).any()


def test_groups_and_arrays_are_of_zarr_format_2(tmp_path):
    create_group(tmp_path / "g", {"made_by": [1, 2]})
    create_array(tmp_path / "g" / "s0", (8, 64), (4, 16), np.dtype(np.float32))
    assert group_attributes(tmp_path / "g") == {"made_by": [1, 2]}
    assert json.loads((tmp_path / "g" / ".zgroup").read_text()) == {"zarr_format": 2}
    array = json.loads((tmp_path / "g" / "s0" / ".zarray").read_text())
    assert (array["zarr_format"], array["dtype"], array["chunks"]) == (2, "<f4", [4, 16])
