"""Eight issuers and two revokers on one ledger, killed with SIGKILL at random instants; afterwards everything that anybody was told must be true.

    report = kills.run(home, folder, kills=20, seed=1)
    PYTHONPATH=src:tests python -m kit.kills 200          # the long run, on a ledger of its own, with its figures

Each worker is a process that types one `gatekey` after the other; what it prints is what somebody was told. A worker that was killed starts again at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gatekey import cli
from gatekey.x509 import pem
from gatekey.x509.crl import read_crl
from kit import administrator, faults

ISSUERS, REVOKERS = 8, 2
_PATHS = os.pathsep.join(str(path) for path in (administrator.SRC, Path(__file__).parent.parent))
#: Every so many kills all workers are killed at the same instant, as by a power cut.
_ALL_AT_ONCE = 10


class Report(NamedTuple):
    """What happened. `unheard`: certificates that the ledger released and nobody was told of; `abandoned`: drafts that were closed."""

    kills: int
    seconds: float
    issued: int
    revoked: int
    unheard: int
    abandoned: int
    hidden: int

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.seconds:.0f} s. {self.issued} certificates and {self.revoked} revocations were acknowledged: all of them are in the"
            f" ledger, the CRLs and the published folder. {self.unheard} more certificates were released before a kill, and are known; {self.abandoned} drafts"
            f" were abandoned; {self.hidden} hidden files were left behind. No serial twice; the ledger is whole"
        )


class Worker:
    """A process that issues or revokes until it is killed. What it has printed lies in a file, so that nothing is lost with it."""

    def __init__(self, kind: str, number: int, home: Path, folder: Path) -> None:
        self.kind = kind
        self._words = [sys.executable, "-m", "kit.kills", kind, str(number), str(home), str(folder)]
        self._said = folder / f"{kind}-{number}.said"
        self._errors = folder / f"{kind}-{number}.errors"
        self._environment = {**os.environ, "PYTHONPATH": _PATHS}
        self.start()

    def start(self) -> None:
        self._before = self._length()
        with self._said.open("ab") as said, self._errors.open("ab") as errors:
            said.write(b"\0")  # what a killed run began to say ends here
            said.flush()
            self.process = subprocess.Popen(self._words, env=self._environment, stdout=said, stderr=errors, stdin=subprocess.DEVNULL)

    def _length(self) -> int:
        return self._said.stat().st_size if self._said.exists() else 0

    @property
    def at_work(self) -> bool:
        """Whether it has told of something since it started; a process that still loads its modules is no victim."""
        assert self.process.poll() is None, f"a worker ended by itself: {self._errors.read_text()[-2000:]}"
        return self._length() > self._before + 1

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL

    def told(self) -> Iterator[Any]:
        """Every whole answer that it gave. A kill may have cut the last one of a run short."""
        decoder = json.JSONDecoder()
        for said in self._said.read_bytes().decode().split("\0"):
            rest = said.lstrip()
            while rest:
                try:
                    value, end = decoder.raw_decode(rest)
                except ValueError:
                    break
                yield value
                rest = rest[end:].lstrip()

    def errors(self) -> str:
        return self._errors.read_text()


def run(home: Path, folder: Path, *, kills: int, seed: int) -> Report:
    """Kills until it was done `kills` times, and looks at everything. `folder`: where the workers write. Raises AssertionError."""
    dice = random.Random(seed)
    began = time.monotonic()
    workers = [Worker(kind, number, home, folder) for kind, many in (("issuer", ISSUERS), ("revoker", REVOKERS)) for number in range(many)]
    done = 0
    try:
        _until(lambda: all(worker.at_work for worker in workers if worker.kind == "issuer"))
        while done < kills:
            time.sleep(dice.uniform(0.0, 0.5))  # the instant is what is random here
            victims = [worker for worker in workers if worker.at_work]
            if not victims:
                continue
            if done % _ALL_AT_ONCE != _ALL_AT_ONCE - 1:
                victims = [dice.choice(victims)]
            for victim in victims:
                victim.process.send_signal(signal.SIGKILL)
            for victim in victims:
                victim.kill()
                victim.start()
            done += len(victims)
    finally:
        for worker in workers:
            with contextlib.suppress(AssertionError):
                worker.kill()
    for worker in workers:
        assert "fault in Gatekey" not in worker.errors(), worker.errors()[-2000:]
        assert "Traceback" not in worker.errors(), worker.errors()[-2000:]
    return _look(home, folder, workers, done + len(workers), time.monotonic() - began)


def _until(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the workers did not begin"
        time.sleep(0.02)


def _look(home: Path, folder: Path, workers: list[Worker], kills: int, seconds: float) -> Report:
    told = [answer for worker in workers for answer in worker.told()]
    issued = {answer["serial"]: answer for answer in told if "files" in answer}
    assert len(issued) == sum("files" in answer for answer in told), "a serial was told twice"
    revoked = [certificate["serial"] for answer in told if "certificates" in answer for certificate in answer["certificates"]]

    typed = administrator.Administrator(home, folder)
    typed.process("people", "add", "the-next-verb")
    assert typed.process("store", "check").out == "the ledger is whole\n"
    with faults.opened(home) as authority:
        known = {record.serial: record for record in authority.reads.certificates("c.state = 'released'")}
        drafts = len(authority.reads.certificates("c.state <> 'released'"))
        assert typed.sql("SELECT serial FROM certificate GROUP BY serial HAVING count(*) > 1") == []
        lost = [serial for serial in issued if serial not in known]
        assert lost == [], f"{lost} were handed out, and the ledger does not know them"
        assert faults.known(home, folder) == []
        for serial, answer in issued.items():
            file = next(Path(name) for name in answer["files"] if name.endswith(".crt") and "chain" not in name)
            assert pem.decode((folder / file).read_bytes())[0][1] == authority.ledger.der(known[serial].id), f"{file} is not what the ledger has"
        newest = {record.name: authority.ledger.newest_crl(record.name) for record in authority.records()}
        listed = {entry.serial for found in newest.values() if found for entry in read_crl(found[1]).entries()}
        published = (home.parent / "published" / "revoked.lst").read_text()
        for serial in revoked:
            assert known[serial].revoked_at is not None, f"the revocation of {serial} was acknowledged and is lost"
            assert serial in listed
            assert known[serial].issuer != "people" or serial in published
    faults.heal(home)
    assert faults.torn(folder) == []
    ours = [record for record in known.values() if record.kind != "authority"]
    hidden = sum(1 for path in folder.rglob(".*") if path.name.endswith(".new"))
    return Report(kills, seconds, len(issued), len(revoked), len(ours) - len(issued), drafts, hidden)


def _issue(number: int, home: Path, folder: Path) -> None:
    """One certificate after the other: people's, and every other time a server's."""
    run_id = f"{number}-{os.getpid()}-{time.monotonic_ns()}"
    count = 0
    while True:
        name = f"{run_id}-{count}"
        words = ["issue", "client", f"p{name}"] if number % 2 else ["issue", "server", f"s{name}.kitty.example"]
        _type(home, *words, "--out", str(folder / "out" / f"{number}"), "--json", "--quiet")
        count += 1


def _revoke(number: int, home: Path, folder: Path) -> None:
    """Takes away what the issuers have handed out, as it comes."""
    dice = random.Random(number)
    seen: set[Path] = set()
    while True:
        found = [path for path in folder.glob("out/*/*.crt") if ".chain." not in path.name and path not in seen]
        if found:
            path = dice.choice(found)
            seen.add(path)
            _type(home, "revoke", str(path), "--json", "--quiet", may_refuse=True)
        else:
            time.sleep(0.02)


def _type(home: Path, *words: str, may_refuse: bool = False) -> None:
    code = cli.run(["--home", str(home), *words])
    sys.stdout.flush()
    if code and not (may_refuse and code == 1):
        sys.exit(code)


def _main(words: list[str]) -> None:
    if words[0] in ("issuer", "revoker"):
        (_issue if words[0] == "issuer" else _revoke)(int(words[1]), Path(words[2]), Path(words[3]))
    with tempfile.TemporaryDirectory(prefix="gatekey-kills-") as place:
        print(run(*prepare(Path(place)), kills=int(words[0]), seed=int(words[1]) if len(words) > 1 else 0))


def prepare(place: Path, template: Path | None = None) -> tuple[Path, Path]:
    """A home that publishes, and a folder for the workers."""
    home, folder = place / "home", place / "work"
    if template:
        administrator.copied(template, home)
    else:
        administrator.found(home)
    with (home / "gatekey.toml").open("a") as file:
        file.write('\npublish = "../published"\n')
    folder.mkdir()
    return home, folder


if __name__ == "__main__":
    _main(sys.argv[1:])
