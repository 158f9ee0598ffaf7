"""An administrator at the keyboard: `gatekey` typed in this process or in one of its own, and prints of everything that must not have changed.

    admin("issue", "client", "ann")                     in this process: fast; exit code 0 is asserted
    admin("revoke", "nobody", code=1).err               what was said on stderr
    admin.process("list", "--json").json                as a process of its own, exactly as a person would
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gatekey import app, cli
from gatekey.authority.authority import Authority
from gatekey.ports import Clock

SRC = Path(__file__).parent.parent.parent / "src"
NAME = "Kitty CA"
PASSPHRASE = "a passphrase for the tests"
#: How a process is started without an installed command.
COMMAND = (sys.executable, "-c", "from gatekey.cli import main; main()")


class Answer(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    stdout: bytes
    err: str

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Administrator:
    """Somebody who types. `home`: the authority; `folder`: where the commands are typed."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder

    def __call__(self, *words: object, stdin: bytes = b"", code: int = 0) -> Answer:
        """Types in this process. Relative paths are those of the test's working folder."""
        answer = typed("--home", self.home, *words, stdin=stdin)
        assert answer.code == code, f"{words} ended with {answer.code}, not {code}\n{answer.out}{answer.err}"
        return answer

    def process(self, *words: object, stdin: bytes = b"", code: int | None = 0, env: Mapping[str, str] | None = None, **more: Any) -> Answer:
        """Types in a process of its own, with GATEKEY_HOME."""
        done = subprocess.run(
            [*COMMAND, *map(str, words)], input=stdin, capture_output=True, cwd=self.folder, env=self.environment(env), timeout=60, check=False, **more
        )
        answer = Answer(done.returncode, done.stdout, done.stderr.decode())
        assert code is None or answer.code == code, f"{words} ended with {answer.code}, not {code}\n{answer.out}{answer.err}"
        return answer

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, "GATEKEY_HOME": str(self.home), "PYTHONPATH": str(SRC), **(more or {})}

    @contextlib.contextmanager
    def open(self, clock: Clock | None = None, passphrase: bytes | None = None) -> Iterator[Authority]:
        """The authority as the program sees it, for looking inside."""
        authority = app.open_authority(self.home, clock=clock, passphrase=(lambda: passphrase) if passphrase else None)
        try:
            yield authority
        finally:
            authority.close()

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Behind the program's back: one statement in the ledger, committed."""
        with contextlib.closing(sqlite3.connect(self.home / "ledger.db")) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def serial(self, ref: str) -> str:
        """The serial of the certificate that `ref` means."""
        return str(self("show", ref, "--json").json["serial"])

    def print(self) -> dict[str, str]:
        """Everything in home and folder, as one value: equal means that nothing was changed."""
        return {**fingerprint(self.home), **fingerprint(self.folder)}

    def print_of_ledger(self) -> str:
        """The same for the ledger alone."""
        return _print(self.home / "ledger.db")


def typed(*words: object, stdin: bytes = b"") -> Answer:
    """One command line in this process."""
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", write_through=True) for data in (stdin, b"", b""))
    try:
        code = cli.run([str(word) for word in words])
        out, err = (stream.buffer.getvalue() for stream in (sys.stdout, sys.stderr))
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
    return Answer(code, out, err.decode())


def found(home: Path, **more: Any) -> None:
    """An authority with keys of P-256 that are not encrypted: made in a tenth of a second."""
    app.create_authority(home, app.Founding(NAME, unencrypted_keys=True, **more)).close()


def fingerprint(folder: Path) -> dict[str, str]:
    """Path -> what stands there, for everything in a folder: kind, mode and content. A ledger counts by its rows; locks do not count."""
    return {str(path.relative_to(folder.parent)): _print(path) for path in (folder, *sorted(folder.rglob("*"))) if not _passing(path)}


def copied(template: Path, home: Path) -> Path:
    """A home of one's own, from a template."""
    shutil.copytree(template, home)
    return home


def _passing(path: Path) -> bool:
    return path.name in (".lock", "ledger.db-wal", "ledger.db-shm") or "__pycache__" in path.parts


def _print(path: Path) -> str:
    mode = f"{path.lstat().st_mode:o}"
    if path.is_symlink():
        return f"{mode} -> {path.readlink()}"
    if path.is_dir():
        return mode
    content = _rows(path) if path.name == "ledger.db" else path.read_bytes()
    return f"{mode} {hashlib.sha256(content).hexdigest()}"


def _rows(ledger: Path) -> bytes:
    with contextlib.closing(sqlite3.connect(ledger)) as connection:
        connection.text_factory = lambda data: data.decode(errors="backslashreplace")
        return "\n".join(connection.iterdump()).encode()
