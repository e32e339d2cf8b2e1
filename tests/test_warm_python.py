"""The server of warm processes outlives clients that are killed at any time."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

SLEEP = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"


@pytest.mark.parametrize("sent", ["nothing", "its files", "half", "all"])
def test_a_client_that_is_gone_ends_its_program_and_not_the_server(
    warm_executable: str, tmp_path: Path, sent: str
) -> None:
    started = tmp_path / "started"
    request = json.dumps([True, ["-c", SLEEP, str(started)], str(tmp_path), dict(os.environ), [0, 1, 2]]).encode()
    with socket.socket(socket.AF_UNIX) as client, open(os.devnull, "r+") as null:
        client.connect(str(Path(warm_executable).with_name("socket")))
        if sent != "nothing":
            socket.send_fds(client, [len(request).to_bytes(8, "little")], [null.fileno()] * 3)
        if sent in ("half", "all"):
            client.sendall(request[: None if sent == "all" else len(request) // 2])
    done = subprocess.run([warm_executable, "-c", "print('here')"], capture_output=True, text=True, check=True)
    assert done.stdout == "here\n"
    if started.exists():
        assert sent == "all"
        _wait_for_the_end_of(int(started.read_text()))


def _wait_for_the_end_of(pid: int) -> None:
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} runs on")
