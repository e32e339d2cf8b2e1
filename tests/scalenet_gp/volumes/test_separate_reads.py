"""Reads in a process of their own leave this process free to fork."""

import os

import pytest

from scalenet_gp.errors import DataError
from scalenet_gp.volumes import bulk_reads_begun, location, read_separately


@pytest.fixture
def nothing_read(monkeypatch):
    monkeypatch.setattr(location, "_reading_process", None)


def fail():
    raise DataError("nothing there")


def read():
    location.begin_bulk_reads("a")
    return os.getpid()


@pytest.mark.usefixtures("nothing_read")
def test_another_process_reads():
    assert read_separately(read) != os.getpid()
    assert not bulk_reads_begun()


@pytest.mark.usefixtures("nothing_read")
def test_errors_come_as_they_were_raised():
    with pytest.raises(DataError, match="nothing there"):
        read_separately(fail)


@pytest.mark.usefixtures("nothing_read")
def test_the_death_of_the_process_is_told():
    with pytest.raises(ChildProcessError, match="exit code 3"):
        read_separately(lambda: os._exit(3))


def test_where_reads_have_begun_this_process_reads(monkeypatch):
    monkeypatch.setattr(location, "_reading_process", os.getpid())
    assert read_separately(read) == os.getpid()
