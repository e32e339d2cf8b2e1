"""Files appear whole or not at all."""

import pytest

from scalenet_gp.serialization import atomic_write


def test_a_table_is_written_beside_the_unfinished_output_of_its_name(tmp_path):
    unfinished = tmp_path / "cells.partial"
    unfinished.mkdir()
    with atomic_write(tmp_path / "cells.csv") as beside:
        beside.write_text("id\n")
    assert (tmp_path / "cells.csv").read_text() == "id\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.csv", "cells.partial"]
    assert unfinished.is_dir()


def test_what_is_broken_off_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("old")

    def write():
        with atomic_write(path) as beside:
            beside.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("notes.txt", "old")]
