"""Disks that are full or read-only. Mounted where that is allowed (root); elsewhere the nearest thing that the kernel refuses to everybody."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def may_mount() -> bool:
    """Whether this process may mount: root, and not in a container that was denied it."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False)
        if done.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return done.returncode == 0


@contextlib.contextmanager
def small(place: Path, size: str = "1m") -> Iterator[Path]:
    """A disk of its own of this size, mounted on the folder."""
    with _mounted(place, "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs"):
        yield place


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[dict[str, Any]]:
    """The folder as a file system that is mounted read-only. Gives what a process needs to be told when it is started: nothing."""
    with _mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True, capture_output=True)
        yield {}


@contextlib.contextmanager
def forbidden(place: Path) -> Iterator[dict[str, Any]]:
    """The folder with everything in it belongs to us and may not be written. Gives how a process is started that keeps to this even as root."""
    modes = {path: path.stat().st_mode for path in (place, *place.rglob("*"))}
    for path, mode in modes.items():
        path.chmod(mode & 0o555)
    try:
        yield {"preexec_fn": _obey}
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def _obey() -> None:
    """From the next program on root keeps to the modes of files, too: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH leave the bounding set (capabilities(7))."""
    if os.geteuid() == 0:
        for capability in (1, 2):
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


def files_end_at(size: int) -> Callable[[], None]:
    """For `preexec_fn`: no file may become larger than this (bytes)."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@contextlib.contextmanager
def _mounted(place: Path, *words: str) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", *words, str(place)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)


def ballast(place: Path) -> Path:
    """Takes all the room that is left on the disk of a folder; remove the file to give it back."""
    file = place / "ballast"
    with file.open("wb", buffering=0) as handle:
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    handle.write(b"\0" * size)
    return file
