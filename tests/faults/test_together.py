"""Commands beside each other on one ledger: nobody disturbs anybody, each does what it was asked, and nothing that one took away comes back through another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gatekey import app, files
from gatekey.authority import bundle, check, crl, people, requests
from gatekey.authority.authority import Authority
from gatekey.authority.check import findings
from gatekey.authority.issue import issue
from gatekey.authority.revoke import follow, leave, revoke
from gatekey.errors import Conflict, GatekeyError, Refused, Unavailable
from gatekey.keys import material
from gatekey.model.holder import Holder
from gatekey.store import evidence
from gatekey.store.audit import Logged
from gatekey.store.database import Transaction
from gatekey.store.reads import Reads
from gatekey.x509.crl import encode_entry, encode_tbs_crl, read_crl
from kit import faults
from kit.administrator import COMMAND, Administrator, Answer


def at_once(admin: Administrator, lines: Sequence[str]) -> list[Answer]:
    """Every command line in a process of its own, all of them started before the first is waited for."""
    started = [
        subprocess.Popen([*COMMAND, *line.split()], cwd=admin.folder, env=admin.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for line in lines
    ]
    answers = []
    for process in started:
        out, err = process.communicate(timeout=120)
        answers.append(Answer(process.returncode, out, err.decode()))
    return answers


def all_well(answers: Sequence[Answer]) -> None:
    assert [answer.err for answer in answers if answer.code] == []


@pytest.fixture
def publishing(admin: Administrator) -> Administrator:
    with (admin.home / "gatekey.toml").open("a") as file:
        file.write('\npublish = "../published"\n')
    return admin


@pytest.mark.slow
def test_sixteen_issue_at_once(admin: Administrator) -> None:
    answers = at_once(admin, [f"issue client p{number} --email p{number}@kitty.example --out out --json" for number in range(16)])
    all_well(answers)
    serials = [answer.json["serial"] for answer in answers]
    assert len(set(serials)) == 16
    assert len(list((admin.folder / "out").iterdir())) == 16 * 4
    assert faults.known(admin.home, admin.folder) == []
    assert admin("store", "check").out == "the ledger is whole\n"


@pytest.mark.slow
def test_twelve_revoke_at_once(publishing: Administrator) -> None:
    admin = publishing
    for number in range(12):
        admin("issue", "client", f"p{number}")
    all_well(at_once(admin, [f"revoke p{number}" for number in range(12)]))
    faults.heal(admin.home)
    with admin.open() as authority:
        newest = crl.newest(authority, "people")
        assert newest is not None
        assert (newest.entries, newest.revocation) == (12, 12)
    assert json.loads((admin.home.parent / "published" / "manifest.json").read_text())["number"] == 12


@pytest.mark.slow
def test_everything_at_once(publishing: Administrator) -> None:
    admin = publishing
    for name in ("ann", "bob", "cleo", "dora"):
        admin("issue", "client", name)
    answers = at_once(
        admin,
        ["issue client eve", "issue server app.kitty.example", "renew ann --new-key --out ann2", "revoke bob", "hold cleo", "leave dora --yes",
         "bundle --out bundle", "crl --out people.crl", "people add finn", "people set ann --group staff", "people set ann --group night",
         "store check", "list", "passphrase change --new-passphrase-file missing"],
    )  # fmt: skip
    assert [answer.code for answer in answers] == [0] * 13 + [1], [answer.err for answer in answers]
    faults.heal(admin.home)
    assert admin("people", "show", "ann", "--json").json["groups"] == ["night", "staff"], "two changes of one person: both hold"


@pytest.mark.slow
def test_many_make_the_same_authority(tmp_path: Path) -> None:
    """Of several that found an authority in one place, one does; the others are told, and take nothing with them."""
    admin = Administrator(tmp_path / "home", tmp_path)
    answers = at_once(admin, ["init Kitty --unencrypted-keys"] * 4)
    assert sorted(answer.code for answer in answers) == [0, 1, 1, 1]
    assert all("an authority lives in" in answer.err or "meanwhile" in answer.err for answer in answers if answer.code), [answer.err for answer in answers]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    faults.heal(tmp_path / "home")


def test_inits_inside_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the home is there already and nothing may be made beside it (a service's state folder)."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: path == home)
    outcomes: list[str] = []

    def found() -> None:
        try:
            app.create_authority(home, app.Founding("Kitty", unencrypted_keys=True)).close()
            outcomes.append("")
        except Conflict as refused:
            outcomes.append(refused.code)

    threads = [threading.Thread(target=found) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("") == 1
    assert set(outcomes) <= {"", "home-busy", "home-exists", "home-not-empty"}
    assert sorted(path.name for path in home.iterdir()) == ["audit.key", "authorities", "gatekey.toml", "keys", "ledger.db", "profiles"]
    faults.heal(home)


def test_an_older_bundle_never_replaces_a_newer_one(publishing: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has read before a revocation, and switches after it, must not give the revoked their door back."""
    admin = publishing
    admin("issue", "client", "ann")
    admin("issue", "client", "bob")
    out = admin.home.parent / "published"
    real = files.switch
    slow, revoked = threading.Event(), threading.Event()

    def switching(place: Path, contents: dict[str, bytes], name: str, **more: Any) -> bool:
        if threading.current_thread().name == "slow":
            slow.set()
            revoked.wait(0.5)  # it is asleep with its contents in hand; the other has all the time in the world
        return real(place, contents, name, **more)

    monkeypatch.setattr(files, "switch", switching)

    def publish() -> None:
        with admin.open() as authority:
            bundle.publish(authority, out)

    thread = threading.Thread(target=publish, name="slow")
    thread.start()
    slow.wait(10)
    with admin.open() as authority:
        revoke(authority, authority.reads.by_holder("ann")[0].id)
    revoked.set()
    thread.join()
    assert json.loads((out / "manifest.json").read_text())["number"] == 1
    assert "ann" not in (out / "people.json").read_text()
    faults.heal(admin.home)


@pytest.mark.parametrize("when", ["after the entries were read", "after the number was taken"])
def test_a_crl_that_is_behind_never_looks_newer(admin: Administrator, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """A process reads the entries, another revokes and signs, the first goes on: its list is refused and made again."""
    admin("issue", "client", "ann")
    calls: list[bool] = []

    def another_revokes() -> None:
        with admin.open() as other:
            revoke(other, other.reads.by_holder("ann")[0].id)

    def numbered(reads: Reads, issuer: str) -> int:
        calls.append(True)
        if len(calls) == 2:  # the first call is that of `make`, before it reads anything
            another_revokes()
        return newest_crl_number(reads, issuer)

    def encoded(*args: object) -> bytes:
        if not calls:
            calls.append(True)
            another_revokes()
        return encode_tbs_crl(*args)  # type: ignore[arg-type]  # passed on as they came

    newest_crl_number = Reads.newest_crl_number
    if when == "after the entries were read":
        monkeypatch.setattr(Reads, "newest_crl_number", numbered)
    else:
        monkeypatch.setattr(crl, "encode_tbs_crl", encoded)
    with admin.open() as authority:
        serial = int(authority.reads.by_holder("ann")[0].serial, 16)
        made = crl.make(authority, "people")
        assert calls
        assert read_crl(made.der).find(serial) is not None
        numbers = admin.sql("SELECT number, revocation FROM crl WHERE issuer = 'people' AND state = 'released' ORDER BY number")
    assert numbers == sorted(numbers)
    assert [number for _, number in numbers] == sorted(number for _, number in numbers)
    faults.heal(admin.home)


def test_who_is_overtaken_takes_the_other_ones_list(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many revoke at once, nobody has to win a race: a complete list that was signed meanwhile is as good."""
    real = encode_tbs_crl
    depth: list[int] = []

    def overtaken(*args: object) -> bytes:
        made = real(*args)  # type: ignore[arg-type]  # passed on as they came
        if len(depth) < 3:
            depth.append(1)
            with admin.open() as other:
                crl.make(other, "people")
        return made

    monkeypatch.setattr(crl, "encode_tbs_crl", overtaken)
    with admin.open() as authority:
        before = authority.reads.newest_crl_number("people")
        made = crl.make(authority, "people")
        assert made.number == authority.reads.newest_crl_number("people") == before + 1


def test_renewing_does_not_undo_a_revocation(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is revoked, or its holder leaves, between decision and record."""
    from gatekey.authority import issue as issuing

    for name in ("ann", "bob"):
        admin("issue", "client", name)
    real = issuing.draft

    def interrupted(authority: object, *args: object) -> object:
        with admin.open() as other:
            if other.reads.by_holder("ann")[0].revoked_at is None:
                revoke(other, other.reads.by_holder("ann")[0].id)
            else:
                leave(other, "bob")
        return real(authority, *args)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(issuing, "draft", interrupted)
    for name, code in (("ann", "renew-revoked"), ("bob", "holder-left")):
        with admin.open() as authority:
            old = authority.reads.by_holder(name)[0]
            with pytest.raises(Refused) as caught:
                issue(authority, *requests.renewal(authority, old, None))
            assert caught.value.code == code
            assert len(authority.reads.by_holder(name)) == 1
    faults.heal(admin.home)


def test_a_change_does_not_bring_back_who_has_left(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """`people set` has read the person; she leaves; the change is written. She stays gone."""
    admin("issue", "client", "ann")
    real = people.get
    done: list[bool] = []

    def then_she_leaves(authority: Authority, login: str) -> Holder:
        found = real(authority, login)
        if not done:
            done.append(True)
            with admin.open() as other:
                leave(other, "ann")
        return found

    monkeypatch.setattr(people, "get", then_she_leaves)
    with admin.open() as authority:
        people.change(authority, "ann", add_groups=["staff"])
        holder = authority.reads.holder("ann")
        assert holder is not None
        assert holder.left_at
        assert holder.groups == ("staff",)


def test_one_list_that_cannot_be_signed_stops_no_other(publishing: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several CAs are concerned, and the key of one is away: the others' lists and the published folder are written all the same, and it is said."""
    admin = publishing
    monkeypatch.setattr(check, "AT_WORK", 0.0)
    admin("issue", "client", "ann")
    admin("issue", "server", "app.kitty.example")
    key = admin.home / "keys" / "servers.key"
    with admin.open() as authority:
        for record in authority.reads.certificates("h.kind <> 'authority'"):
            authority.ledger.revoke(record.id, "superseded", at=authority.now(), actor="user:test", entry=encode_entry)
        key.rename(admin.home / "away.key")
        with pytest.raises(GatekeyError) as caught:
            follow(authority, {"people", "servers"})
        assert caught.value.message.startswith("it stands in the ledger, but the web servers were not told: the CRL of servers does not know")
        assert "store check --repair" in caught.value.hint
        assert authority.reads.crls_incomplete() == ["servers"]
    assert json.loads((admin.home.parent / "published" / "manifest.json").read_text())["number"] == 2
    assert "the CRL of servers does not hold the newest revocation" in admin("store", "check", code=1).out
    (admin.home / "away.key").rename(key)
    assert "signed the CRL of servers" in admin("people", "add", "cleo").err
    faults.heal(admin.home)


def test_a_folder_that_cannot_be_published_is_heard_of_at_each_verb(publishing: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = publishing
    monkeypatch.setattr(check, "AT_WORK", 0.0)
    admin("issue", "client", "ann")
    published = admin.home.parent / "published"
    shutil.rmtree(published)
    published.write_text("somebody has put a file there")
    assert "it stands in the ledger, but the web servers were not told" in admin("revoke", "ann", code=1).err
    assert admin("list", "--json").json[0]["status"] == "revoked"
    assert "warning: the web servers do not know all that the ledger knows" in admin("people", "add", "cleo", "--quiet").err
    assert "does not hold what the ledger holds" in admin("store", "check", code=1).out
    published.unlink()
    assert "rewrote" in admin("store", "check", "--repair").out
    faults.heal(admin.home)


def test_two_ask_for_the_same_device(admin: Administrator) -> None:
    """One gets it; the other is told that it is being made, and later that it is there."""
    with admin.open() as authority:
        real = authority.ledger.release_many
        heard: list[GatekeyError] = []

        def meanwhile(*args: object, **more: object) -> object:
            with admin.open() as other, pytest.raises(Unavailable) as caught:
                issue(other, *requests.client(other, "ann", material.make("p256").spki, device="laptop"), alone=True)
            heard.append(caught.value)
            return real(*args, **more)  # type: ignore[arg-type]  # passed on as they came

        authority.ledger.release_many = meanwhile  # type: ignore[method-assign,assignment]  # the instant between record and release
        issue(authority, *requests.client(authority, "ann", material.make("p256").spki, device="laptop"), alone=True)
    assert [refused.code for refused in heard] == ["certificate-in-flight"]
    with admin.open() as authority, pytest.raises(Refused):
        issue(authority, *requests.client(authority, "ann", material.make("p256").spki, device="laptop"), alone=True)


def test_a_check_beside_a_revocation(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """`store check` has read a row, and another process changes it before the audit log is read: that is no contradiction."""
    for name in ("ann", "bob"):
        admin("issue", "client", name)
    about = evidence.about
    done: list[bool] = []

    def interrupted(tx: Transaction, subject: str) -> Iterator[Logged]:
        if not done:
            done.append(True)
            with admin.open() as other:
                for name in ("ann", "bob"):
                    revoke(other, other.reads.by_holder(name)[0].id)
        return about(tx, subject)

    monkeypatch.setattr(evidence, "about", interrupted)
    with admin.open() as authority:
        assert findings(authority) == []
    assert done


def test_a_long_transaction(admin: Administrator) -> None:
    """Somebody reads the whole ledger for a while: writers do not wait for readers, and the reader sees one state."""
    for name in ("ann", "bob"):
        admin("issue", "client", name)
    with admin.open() as authority:
        rows = authority.reads.events()
        first = next(rows)
        began = time.monotonic()
        admin("issue", "client", "cleo")
        assert time.monotonic() - began < 5
        rest = list(rows)
    assert [first.number, *(event.number for event in rest)] == list(range(1, len(rest) + 2))
    faults.heal(admin.home)
