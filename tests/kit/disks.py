"""Disks that are full or read-only. Mounted where that is allowed (root); elsewhere the nearest thing that the kernel refuses to everybody."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


def may_mount() -> bool:
    """Whether this process may mount: root, and not in a container that was denied it."""
    return os.geteuid() == 0 and shutil.which("mount") is not None and _mounts()


def _mounts() -> bool:
    import tempfile

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
def read_only(place: Path) -> Iterator[Path]:
    """The folder as a file system that is mounted read-only."""
    with _mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True, capture_output=True)
        yield place


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
