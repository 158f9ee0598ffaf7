"""Where the passphrase comes from and in which order, what protects the keys at rest, and changing it."""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import re
import select
import shutil
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gatekey import app
from gatekey.keys.files import FileKeyring
from kit import administrator
from kit.administrator import COMMAND, NAME, PASSPHRASE, Administrator, typed

RIGHT, WRONG = PASSPHRASE, "not the passphrase of anything"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose keys are encrypted, for copying."""
    home = tmp_path_factory.mktemp("sealed") / "home"
    app.create_authority(home, app.Founding(NAME), passphrase=RIGHT.encode).close()
    return home


@pytest.fixture
def boss(sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Administrator:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GATEKEY_DEBUG", "1")
    return Administrator(administrator.copied(sealed, tmp_path / "home"), folder)


def secret(path: Path, words: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(words + "\n")
    path.chmod(mode)
    return path


def give(how: str, words: str, boss: Administrator, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gives the passphrase in one of the four ways; answers with what that adds to the command line."""
    file = secret(boss.folder.parent / how / "gatekey-passphrase", words)
    if how == "option":
        return ["--passphrase-file", str(file)]
    if how == "environment":
        monkeypatch.setenv("GATEKEY_PASSPHRASE_FILE", str(file))
    elif how == "credential":
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    else:
        config = boss.home / "gatekey.toml"
        config.write_text(f'name = "{NAME}"\npassphrase-file = "{file}"\n')
    return []


#: Each way outranks those behind it.
ORDER = ("option", "environment", "credential", "config")


@pytest.mark.parametrize("how", ORDER)
def test_every_way_of_giving_it(boss: Administrator, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    boss("issue", "client", "ann", *give(how, RIGHT, boss, monkeypatch))


@pytest.mark.parametrize(("first", "second"), list(itertools.pairwise(ORDER)))
def test_their_order(boss: Administrator, first: str, second: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*give(first, WRONG, boss, monkeypatch), *give(second, RIGHT, boss, monkeypatch)]
    before = boss.print()
    answer = boss("issue", "client", "ann", *words, code=3)
    assert "the passphrase does not open the key 'people'" in answer.err
    assert boss.print() == before
    words = [*give(first, RIGHT, boss, monkeypatch), *give(second, WRONG, boss, monkeypatch)]
    boss("issue", "client", "ann", *words)


@pytest.mark.parametrize(
    "words",
    [
        ["issue", "client", "ann"],
        ["issue", "server", "app.example"],
        ["sign", "bob.csr", "--profile", "client"],
        ["crl"],
        ["hold", "carl"],
        ["revoke", "carl"],
        ["leave", "carl", "--yes"],
        ["renew", "carl", "--out", "new"],
    ],
    ids=" ".join,
)
def test_without_it_nothing_happens(boss: Administrator, words: list[str], tmp_path: Path) -> None:
    right = secret(tmp_path / "right", RIGHT)
    boss("issue", "client", "carl", "--passphrase-file", right, "--out", "carl")
    boss("request", "bob")
    before = boss.print()
    answer = boss(*words, code=3)
    assert "the keys need a passphrase and nothing gives it" in answer.err
    assert "--passphrase-file FILE, GATEKEY_PASSPHRASE_FILE, a systemd credential called gatekey-passphrase, or passphrase-file in gatekey.toml" in answer.err
    assert boss.print() == before
    answer = boss(*words, "--passphrase-file", secret(tmp_path / "wrong", WRONG), code=3)
    assert "the passphrase does not open the key" in answer.err
    assert boss.print() == before
    boss(*words, "--passphrase-file", right)


READING = [["list"], ["show", "carl"], ["people", "list"], ["people", "add", "gus"], ["trust"], ["authority", "list"], ["verify", "carl.crt"]]


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_reading_needs_none(boss: Administrator, words: list[str], tmp_path: Path) -> None:
    boss("issue", "client", "carl", "--passphrase-file", secret(tmp_path / "right", RIGHT))
    assert boss(*words).code == 0


def test_a_fresh_bundle_needs_none(boss: Administrator) -> None:
    assert boss("bundle", "--out", "bundle").code == 0


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_a_file_that_others_may_read_is_refused(boss: Administrator, tmp_path: Path, mode: int) -> None:
    file = secret(tmp_path / "open", RIGHT, mode)
    answer = boss("issue", "client", "ann", "--passphrase-file", file, code=3)
    assert f"others may read the passphrase file {file}" in answer.err
    assert f"chmod 600 {file}" in answer.err


@pytest.mark.parametrize("text", [f"{RIGHT}\n", RIGHT, f"{RIGHT}\r\n", f"{RIGHT}\nthe second line says something else\n"])
def test_the_first_line_counts(boss: Administrator, tmp_path: Path, text: str) -> None:
    file = secret(tmp_path / "file", "")
    file.write_bytes(text.encode())
    boss("issue", "client", "ann", "--passphrase-file", file)


def test_a_passphrase_beyond_ascii(tmp_path: Path) -> None:
    words = "fünf Wörter sind ein Schlüßel 🔑"
    file = secret(tmp_path / "pass", words)
    home = tmp_path / "home"
    assert typed("--home", home, "init", "X", "--passphrase-file", file).code == 0
    load_pem_private_key((home / "keys" / "people.key").read_bytes(), words.encode())


def test_keys_at_rest(boss: Administrator) -> None:
    for key in (boss.home / "keys").glob("*.key"):
        text = key.read_bytes()
        assert text.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        with pytest.raises(TypeError):
            load_pem_private_key(text, None)
        with pytest.raises(ValueError, match=r".*"):
            load_pem_private_key(text, WRONG.encode())
        load_pem_private_key(text, RIGHT.encode())


@pytest.mark.interop
def test_openssl_reads_the_keys_at_rest(boss: Administrator, program: Callable[[str], str], tmp_path: Path) -> None:
    right = secret(tmp_path / "right", RIGHT)
    shown = subprocess.run(
        [program("openssl"), "pkey", "-in", boss.home / "keys" / "people.key", "-passin", f"file:{right}", "-noout", "-text"], capture_output=True, text=True
    )
    assert "prime256v1" in shown.stdout


def test_unencrypted_keys_are_said_audited_and_remembered(tmp_path: Path) -> None:
    home = tmp_path / "home"
    answer = typed("--home", home, "init", "X", "--unencrypted-keys")
    assert "the keys are not encrypted: whoever can read the disk is the authority" in answer.err
    admin = Administrator(home, tmp_path)
    assert ("keys.unencrypted",) in admin.sql("SELECT action FROM audit")
    assert "unencrypted-keys = true" in (home / "gatekey.toml").read_text()


class TestChange:
    def test_every_key_has_the_new_one(self, boss: Administrator, tmp_path: Path) -> None:
        old, new = secret(tmp_path / "old", RIGHT), secret(tmp_path / "new", "a quite different one")
        answer = boss("passphrase", "change", "--passphrase-file", old, "--new-passphrase-file", new)
        assert answer.lines == ["changed the passphrase of people, people-root, servers, servers-root"]
        assert "keys that are kept elsewhere (a locked-up root) still have the old one" in answer.err
        for key in (boss.home / "keys").glob("*.key"):
            load_pem_private_key(key.read_bytes(), b"a quite different one")
        boss("issue", "client", "ann", "--passphrase-file", old, "--out", "x", code=3)
        boss("issue", "client", "ann", "--passphrase-file", new)
        assert ("passphrase.change",) in boss.sql("SELECT action FROM audit")

    @pytest.mark.parametrize("at", ["_settle", "changes", "noted"])
    def test_one_that_is_interrupted_stands_in_the_audit_log_once(
        self, boss: Administrator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
    ) -> None:
        """Killed when the journal stands, before the event is written, or before that is known: the next verb, whichever it is, writes what is missing."""
        old, new = secret(tmp_path / "old", RIGHT), secret(tmp_path / "new", "a quite different one")
        real = FileKeyring._settle

        def killed(ring: FileKeyring, *_: str) -> list[tuple[str, str]]:
            if at != "_settle" or (ring._folder / ".passphrase-change").exists():
                raise KeyboardInterrupt
            real(ring)
            return []

        with boss.open(passphrase=RIGHT.encode()) as authority, monkeypatch.context() as patch:
            patch.setattr(FileKeyring, at, killed)
            with pytest.raises(KeyboardInterrupt):
                app.change_passphrase(authority, b"a quite different one")
        for _ in range(2):
            boss("list")
            assert boss.sql("SELECT count(*) FROM audit WHERE action = 'passphrase.change'") == [(1,)]
        assert [path for path in (boss.home / "keys").iterdir() if path.name.startswith(".passphrase")] == []
        boss("passphrase", "change", "--passphrase-file", new, "--new-passphrase-file", old)
        assert boss.sql("SELECT count(*) FROM audit WHERE action = 'passphrase.change'") == [(2,)]
        assert boss("store", "check", "--passphrase-file", old).lines == ["the ledger is whole"]

    def test_the_old_one_must_be_right(self, boss: Administrator, tmp_path: Path) -> None:
        wrong, new = secret(tmp_path / "wrong", WRONG), secret(tmp_path / "new", "a quite different one")
        before = boss.print()
        assert "does not open the key" in boss("passphrase", "change", "--passphrase-file", wrong, "--new-passphrase-file", new, code=3).err
        assert boss.print() == before

    def test_one_key_that_does_not_open_and_none_is_changed(self, boss: Administrator, tmp_path: Path, sealed: Path) -> None:
        shutil.copy(boss.home / "keys" / "people.key", tmp_path / "spare")
        (boss.home / "keys" / "servers.key").write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        old, new = secret(tmp_path / "old", RIGHT), secret(tmp_path / "new", "a quite different one")
        before = boss.print()
        boss("passphrase", "change", "--passphrase-file", old, "--new-passphrase-file", new, code=3)
        assert boss.print() == before

    def test_unencrypted_keys_become_encrypted(self, admin: Administrator, tmp_path: Path) -> None:
        new = secret(tmp_path / "new", "a quite different one")
        admin("passphrase", "change", "--new-passphrase-file", new)
        assert "unencrypted-keys" not in (admin.home / "gatekey.toml").read_text().replace("# ", "")
        assert "nothing gives it" in admin("issue", "client", "ann", code=3).err
        admin("issue", "client", "ann", "--passphrase-file", new)

    def test_a_short_one_is_refused(self, boss: Administrator, tmp_path: Path) -> None:
        old, new = secret(tmp_path / "old", RIGHT), secret(tmp_path / "new", "")
        assert "the first line of" in boss("passphrase", "change", "--passphrase-file", old, "--new-passphrase-file", new, code=3).err


class Terminal:
    """A person at a terminal: waits for a prompt, types a line."""

    def __init__(self, admin: Administrator, *words: str) -> None:
        ours, theirs = pty.openpty()
        self.screen, self._heard = ours, ""
        environment = {**admin.environment(), "TERM": "xterm", "COLUMNS": "120"}
        self.process = subprocess.Popen(
            [*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, cwd=admin.folder, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  its own terminal, so that Ctrl-C is a signal
        )  # fmt: skip
        os.close(theirs)

    def answers(self, prompt: str, line: str) -> None:
        """Types `line` when `prompt` has appeared after all that was typed before."""
        self._until(lambda: prompt in self._heard)
        self._heard = self._heard.partition(prompt)[2]
        os.write(self.screen, line.encode() + b"\n")

    def ends(self) -> tuple[int, str]:
        """Exit code, and what was on the screen since the last line that was typed."""
        self._until(lambda: self._gone)
        os.close(self.screen)
        return self.process.wait(20), self._heard.replace("\r\n", "\n")

    _gone = False

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, self._heard
            if select.select([self.screen], [], [], 0.2)[0]:
                try:
                    data = os.read(self.screen, 65536)
                except OSError:  # EIO: the other end is closed
                    data = b""
                self._gone = not data
                self._heard += data.decode(errors="replace")
            if self._gone and not condition():
                raise AssertionError(f"it ended; the screen says: {self._heard}")


class TestAtATerminal:
    def test_init_asks_twice(self, tmp_path: Path) -> None:
        admin = Administrator(tmp_path / "home", tmp_path)
        person = Terminal(admin, "init", "Kitty CA")
        person.answers("new passphrase for the keys: ", RIGHT)
        person.answers("once more: ", RIGHT)
        code, screen = person.ends()
        assert code == 0
        assert RIGHT not in screen
        load_pem_private_key((admin.home / "keys" / "people.key").read_bytes(), RIGHT.encode())

    @pytest.mark.parametrize(
        ("first", "second", "words"),
        [("short", "", "the passphrase has 5 characters; 12 or more are needed"), (RIGHT, WRONG, "the two passphrases are not the same")],
    )
    def test_init_refuses(self, tmp_path: Path, first: str, second: str, words: str) -> None:
        person = Terminal(Administrator(tmp_path / "home", tmp_path), "init", "Kitty CA")
        person.answers("new passphrase for the keys: ", first)
        if second:
            person.answers("once more: ", second)
        code, screen = person.ends()
        assert code == 1
        assert words in screen
        assert not list(tmp_path.iterdir())

    def test_issuing_asks_for_it(self, boss: Administrator) -> None:
        person = Terminal(boss, "issue", "client", "ann")
        person.answers("passphrase of the authority's keys: ", RIGHT)
        code, screen = person.ends()
        assert code == 0, screen
        assert "password of ann.p12:" in screen
        assert RIGHT not in screen

    def test_ctrl_c_at_the_prompt_is_130_and_nothing_happened(self, boss: Administrator) -> None:
        before = boss.print()
        person = Terminal(boss, "issue", "client", "ann")
        person.answers("passphrase of the authority's keys: ", "\x03")
        code, screen = person.ends()
        assert code == 130
        assert "gatekey: stopped" in screen
        assert boss.print() == before

    def test_a_wrong_one_can_be_tried_again_at_once(self, boss: Administrator) -> None:
        person = Terminal(boss, "issue", "client", "ann")
        person.answers("passphrase of the authority's keys: ", WRONG)
        assert person.ends()[0] == 3
        person = Terminal(boss, "issue", "client", "ann")
        person.answers("passphrase of the authority's keys: ", RIGHT)
        assert person.ends()[0] == 0

    def test_leave_shows_and_asks(self, admin: Administrator) -> None:
        admin("issue", "client", "ann", "--device", "laptop")
        person = Terminal(admin, "leave", "ann")
        person.answers("ann leaves, and all of this is taken away", "n")
        assert person.ends()[0] == 130
        assert admin("list", "--json").json[0]["status"] == "valid"
        person = Terminal(admin, "leave", "ann")
        person.answers("ann leaves, and all of this is taken away", "y")
        assert person.ends()[0] == 0
        assert admin("list", "--json").json[0]["status"] == "revoked"

    def test_key_compromise_shows_and_asks(self, admin: Administrator) -> None:
        admin("issue", "client", "ann")
        admin("renew", "ann", "--out", "second")
        person = Terminal(admin, "revoke", "ann", "--reason", "key-compromise")
        person.answers("go on", "n")
        assert person.ends()[0] == 130
        assert [account["status"] for account in admin("list", "--json").json] == ["valid", "valid"]
        person = Terminal(admin, "revoke", "ann", "--reason", "key-compromise", "--yes")
        assert person.ends()[0] == 0
        assert [account["status"] for account in admin("list", "--json").json] == ["revoked", "revoked"]

    def test_tables_are_drawn(self, admin: Administrator) -> None:
        admin("issue", "client", "ann", "--device", "laptop")
        code, screen = Terminal(admin, "list").ends()
        assert code == 0
        assert "\x1b[" in screen  # colour
        assert admin.serial("ann") in re.sub(r"\x1b\[[0-9;]*m", "", screen)

    def test_a_key_is_never_printed(self, admin: Administrator) -> None:
        admin("issue", "client", "ann")
        _, screen = Terminal(admin, "show", "ann.key").ends()
        assert "PRIVATE KEY" not in screen
        assert Path("ann.key").read_text().splitlines()[1] not in screen

    def test_a_crl_in_der_is_not_for_a_terminal(self, admin: Administrator) -> None:
        code, screen = Terminal(admin, "crl").ends()
        assert code == 1
        assert "a CRL in DER is not for a terminal" in screen
        assert "say --pem, or --out FILE" in screen
