"""Python processes that begin with torch and the package imported: forked from one that has done so.

Importing them takes seconds, which tests that start many processes spend most of their time with. ``WarmPython`` is a
server, and an executable to put in the place of Python's: it hands its arguments, environment, folder and the files
that it inherits (the standard streams, and pipes of multiprocessing) to the server, whose fork runs the program (a
module, a command or a script), passes signals on, and ends as the program does. If it is killed, so is the program.
Tests of the state in which a process starts (heap, imports, session, hashes) take Python itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PRELOADED = (
    "scalenet_gp.pipelines.cli",
    "scalenet_gp.pipelines.experiments.worker",
    "scalenet_gp.pipelines.prediction.worker",
    "scalenet_gp.pipelines.training.train_job",
    *("cc3d", "fastremap", "mwatershed", "numba", "scipy.sparse.csgraph"),  # segmentations import them block by block
    "matplotlib.figure",
    "torch.utils.tensorboard",
    "torch._dynamo",  # optimizers import it when they are made
    "torch.distributed.run",
)

CLIENT = """#!{python} -ISB
import json, os, signal, socket, sys
python, arguments = {python!r}, sys.argv[1:]
program = next((n for n, word in enumerate(arguments) if word in ("-c", "-m") or word.endswith(".py")), None)
if program is None or not {{*arguments[:program]}} <= {{"-u", "-B"}}:  # -B: what multiprocessing makes of a variable
    os.execv(python, [python, *arguments])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
opened = [0, 1, 2]
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        if number > 2 and number != server.fileno() and os.get_inheritable(number):
            opened.append(number)
    except OSError:  # that of the list itself
        pass
request = json.dumps(["-u" in arguments[:program], arguments[program:], os.getcwd(), dict(os.environ), opened]).encode()
socket.send_fds(server, [len(request).to_bytes(8, "little")], opened)
server.sendall(request)
pid = int.from_bytes(server.recv(8, socket.MSG_WAITALL), "little")
def forward(number, frame):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, forward)
for number in opened:
    os.close(number)
status = server.recv(8, socket.MSG_WAITALL)
code = os.waitstatus_to_exitcode(int.from_bytes(status, "little")) if len(status) == 8 else 1
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class WarmPython:
    """A server of processes, and ``executable``, which starts one.

    Args:
        folder: for the executable and the server's socket; a short path.
    """

    def __init__(self, folder: Path) -> None:
        self.executable = folder / "python"
        self._address = folder / "socket"
        self.executable.write_text(CLIENT.format(python=sys.executable, address=str(self._address)))
        self.executable.chmod(0o755)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", __file__, str(self._address), str(self.executable)]
        self._server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)

    def wait(self) -> None:
        """Wait until the server listens."""
        begun = time.monotonic()
        while not self._address.exists():
            if self._server.poll() is not None or time.monotonic() - begun > 120:
                raise RuntimeError("the server of warm processes does not start")
            time.sleep(0.05)

    def close(self) -> None:
        """End the server, and what it has started."""
        assert self._server.stdin is not None
        self._server.stdin.close()  # which it notices
        self._server.wait(20)


def serve(address: str, executable: str) -> None:
    """Fork a process for each connection, until the process that has started this one is gone."""
    import gc
    import importlib
    import select

    sys.modules["pyarrow"] = None  # type: ignore[assignment]  # pandas would import it, which starts a thread
    for name in PRELOADED:
        importlib.import_module(name)
    del sys.modules["pyarrow"]
    gc.collect()
    gc.freeze()  # forks would copy the memory of all objects that their garbage collectors look at
    assert len(os.listdir("/proc/self/task")) == 1, "threads do not survive a fork"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen(64)
    os.rename(f"{address}.new", address)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listening, sys.stdin, *running.values()], [], [], 0.02 if running else None)
        if sys.stdin in ready:
            break
        if listening in ready:
            client, _ = listening.accept()
            request, streams = _request(client)
            pid = os.fork() if request else None
            if pid == 0:
                for connection in (listening, client, *running.values()):
                    connection.close()
                _become(request, streams, executable)
            for stream in streams:
                os.close(stream)
            if pid is None:
                client.close()
            else:
                with suppress(OSError):  # the client is gone: select tells it next, and its program is killed
                    client.sendall(pid.to_bytes(8, "little"))
                running[pid] = client
        for pid, client in [*running.items()]:
            if client in ready:  # it is gone: it never sends anything more
                os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with suppress(OSError):  # the client is gone
                    client.sendall(status.to_bytes(8, "little"))
                client.close()
                del running[pid]
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    os._exit(0)  # there is nothing to tidy up, and torch takes its time


def _request(client: socket.socket) -> tuple[bytes, list[int]]:
    """Return the request of a client and the files that it hands over; none if it was killed before it had asked."""
    streams: list[int] = []
    with suppress(OSError):
        length, streams, _, _ = socket.recv_fds(client, 8, 64)
        size = int.from_bytes(length, "little")
        request = client.recv(size, socket.MSG_WAITALL) if len(length) == 8 else b""
        if size == len(request):
            return request, streams
    return b"", streams


def _become(request: bytes, streams: list[int], executable: str) -> None:
    """Run the program that a client asks for, and end as Python does."""
    import atexit
    import fcntl
    import json
    import runpy
    import threading
    import traceback
    import types
    import warnings

    unbuffered, arguments, folder, environment, opened = json.loads(request)
    apart = [fcntl.fcntl(stream, fcntl.F_DUPFD, 256) for stream in streams]  # none has the number of another then
    for stream in streams:
        os.close(stream)
    for number, stream in zip(opened, apart, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.setpgid(0, 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))
    sys.stdout.reconfigure(line_buffering=unbuffered)
    sys.stderr.reconfigure(line_buffering=True)
    sys.executable = executable
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
    kind, *rest = arguments
    what = rest.pop(0) if kind in ("-c", "-m") else kind
    code = 0
    try:
        if kind not in ("-c", "-m"):
            sys.argv = [what, *rest]
            sys.path.insert(0, os.path.dirname(os.path.abspath(what)))
            runpy.run_path(what, run_name="__main__")
        elif kind == "-m":
            name = what if not hasattr(sys.modules.get(what), "__path__") else f"{what}.__main__"
            sys.modules.pop(name, None)
            sys.argv = [what, *rest]
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["-c", *rest]
            main = types.ModuleType("__main__")
            sys.modules["__main__"] = main
            exec(compile(what, "<string>", "exec"), main.__dict__)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code and not isinstance(error.code, int):
            sys.stderr.write(f"{error.code}\n")
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    with warnings.catch_warnings(action="ignore"):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(*sys.argv[1:])
