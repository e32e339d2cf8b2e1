"""A full disk for tests: a file system of 1 MB that only the process sees that mounts it, without being root."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

NEW_MOUNTS, NEW_USER = 0x20000, 0x10000000
"""CLONE_NEWNS and CLONE_NEWUSER of Linux."""


def small_disks_can_be_mounted(folder: Path) -> bool:
    """Return True if this system lets any user do so, which a process of its own tries."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "none"]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run([*command, str(folder)], check=False, capture_output=True).returncode
    )


def mount_small_disk(folder: str) -> None:
    """Mount one for this process, which has to have one thread only."""
    system, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    _check(system.unshare(NEW_MOUNTS | NEW_USER))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _check(system.mount(b"none", folder.encode(), b"tmpfs", 0, b"size=1m"))


def _check(failed: int) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
