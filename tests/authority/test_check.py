"""`store check` calls the ledger whole or names what is not, each kind of damage in its words; --repair mends what it says, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gatekey.authority import access
from gatekey.keys import material
from gatekey.store.audit import ORIGIN
from kit import administrator
from kit.administrator import Administrator, typed

DAY = 86_400


class Damage(NamedTuple):
    """What somebody does behind our back, what `store check` says of it, and whether --repair makes it whole again."""

    done: str | Callable[[Administrator], object]
    said: tuple[str, ...]
    mended: bool = False


def key_of_another(admin: Administrator) -> None:
    path = admin.home / "keys" / "people.key"
    path.unlink()
    path.touch(0o600)
    path.write_bytes(material.make("p256").pkcs8())


def torn_key(admin: Administrator) -> None:
    (admin.home / "keys" / "people.key").write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def flipped(column: str, where: str, at: int = -1) -> Callable[[Administrator], object]:
    """One bit of a BLOB turned over."""

    def turn(admin: Administrator) -> None:
        table = "crl" if "number" in where else "certificate"
        (value,) = admin.sql(f"SELECT {column} FROM {table} WHERE {where}")[0]
        changed = bytearray(value)
        changed[at] ^= 1
        admin.sql(f"UPDATE {table} SET {column} = ? WHERE {where}", bytes(changed))

    return turn


def new_bytes(admin: Administrator) -> None:
    """A certificate whose bytes are those of another one, with its signature: good in itself, but not what was recorded."""
    admin.sql(
        "UPDATE certificate SET tbs = (SELECT tbs FROM certificate WHERE holder = 'bob'), signature = (SELECT signature FROM certificate WHERE holder = 'bob')"
        " WHERE holder = 'ann'"
    )


ANN = "holder = 'ann'"
PEOPLE_CRL = "issuer = 'people' AND number = (SELECT max(number) FROM crl WHERE issuer = 'people')"

DAMAGES = {
    "a bit of the certificate": Damage(
        flipped("tbs", ANN),
        ("people/{ann}: the row does not say what the certificate says", "people/{ann}: the signature is not that of people"),
    ),
    "the certificate's first byte": Damage(flipped("tbs", ANN, 0), ("people/{ann} cannot be read",)),
    "a bit of the key in the certificate": Damage(flipped("tbs", ANN, 200), ("people/{ann}",)),
    "a bit of the signature": Damage(flipped("signature", ANN), ("people/{ann}: the signature is not that of people",)),
    "the bytes of another": Damage(new_bytes, ("people/{ann}: the row does not say what the certificate says",)),
    "the serial": Damage(
        "UPDATE certificate SET serial = '00112233445566778899AABBCCDDEEFF' WHERE holder = 'ann'",
        ("the row does not say what the certificate says",),
    ),
    "the end": Damage(
        "UPDATE certificate SET not_after = not_after + 86400 WHERE holder = 'ann'",
        ("people/{ann}: the row does not say what the certificate says",),
    ),
    "the beginning": Damage("UPDATE certificate SET not_before = 0 WHERE holder = 'ann'", ("people/{ann}: the row does not say",)),
    "the common name": Damage("UPDATE certificate SET common_name = 'eve' WHERE holder = 'ann'", ("people/{ann}: the row does not say",)),
    "the alternative names": Damage("UPDATE certificate SET alternatives = '[]' WHERE holder = 'ann'", ("people/{ann}: the row does not say",)),
    "the key's hash": Damage("UPDATE certificate SET spki_sha256 = 'ff' WHERE holder = 'ann'", ("people/{ann}: the row does not say",)),
    "the fingerprint": Damage("UPDATE certificate SET fingerprint = 'FF' WHERE holder = 'ann'", ("people/{ann}: the row does not say",)),
    "the issuer": Damage("UPDATE certificate SET issuer = 'servers' WHERE holder = 'ann'", ("servers/{ann}: the signature is not that of servers",)),
    "who holds it": Damage("UPDATE certificate SET holder = 'bob' WHERE holder = 'ann'", ("people/{ann}: the row does not say what the audit log says",)),
    "under which words of the profile": Damage(
        "UPDATE certificate SET profile_sha256 = 'ff' WHERE holder = 'ann'", ("people/{ann}: the row does not say what the audit log says",)
    ),
    "what it renews": Damage("UPDATE certificate SET renews = '' WHERE renews <> ''", ("the row does not say what the audit log says", "its lineage is not")),
    "that it renews": Damage(
        "UPDATE certificate SET renews = (SELECT issuer || '/' || serial FROM certificate WHERE holder = 'bob') WHERE holder = 'ann'",
        ("people/{ann}: the row does not say what the audit log says",),
    ),
    "whose successor it is": Damage("UPDATE certificate SET lineage = 'people/00' WHERE holder = 'ann'", ("people/{ann}: its lineage is not",)),
    "for which device": Damage("UPDATE certificate SET device = 'phone' WHERE holder = 'ann'", ("people/{ann}: the row does not say what the audit log says",)),
    "under which profile": Damage(
        "UPDATE certificate SET profile = 'server' WHERE holder = 'ann'",
        ("people/{ann}: the row does not say what the audit log says",),
    ),
    "a certificate taken out": Damage("DELETE FROM certificate WHERE holder = 'ann'", ("people/{ann} is gone: the audit log knows it, the ledger does not",)),
    "a certificate put in": Damage(
        "INSERT INTO certificate (issuer, serial, state, tbs, profile, profile_sha256, holder, device, common_name, alternatives, not_before, not_after,"
        " spki_sha256, key_type, lineage, requester, door, request_sha256, owner, lease_until, recorded_at)"
        " SELECT issuer, '00' || substr(serial, 3), 'recorded', tbs, profile, profile_sha256, holder, device, common_name, alternatives, not_before, not_after,"
        " spki_sha256, key_type, lineage, requester, door, request_sha256, owner, CAST(strftime('%s', 'now') AS INTEGER) + 3600,"
        " recorded_at FROM certificate WHERE holder = 'ann'",
        ("stands in the ledger, and the audit log does not know it",),
    ),
    "a revocation taken back": Damage(
        "UPDATE certificate SET revoked_at = NULL, revoked_reason = NULL, revocation = NULL, entry = NULL WHERE holder = 'carl'",
        ("people/{carl}: the row says in force, the audit log says revoked (superseded)",),
    ),
    "a revocation taken back, and its log": Damage(
        lambda admin: (
            admin.sql("UPDATE certificate SET revoked_at = NULL, revoked_reason = NULL, revocation = NULL, entry = NULL WHERE holder = 'carl'"),
            admin.sql("DELETE FROM revocation_log"),
        ),
        ("people/{carl}: the row says in force, the audit log says revoked (superseded)",),
    ),
    "another reason": Damage(
        "UPDATE certificate SET revoked_reason = 'certificate-hold' WHERE holder = 'carl'",
        ("people/{carl}: the row says held, the audit log says revoked (superseded)",),
    ),
    "a revocation put in": Damage(
        "UPDATE certificate SET revoked_at = 1, revoked_reason = 'superseded', revocation = 77, entry = x'00' WHERE holder = 'ann'",
        ("people/{ann}: the row says revoked (superseded), the audit log says in force",),
    ),
    "the list of revocations": Damage("DELETE FROM revocation_log", ("people/{carl}: the list of revocations does not know it",)),
    "a missing CRL": Damage("DELETE FROM crl WHERE issuer = 'servers'", ("there is no CRL of servers (--repair signs one)",), mended=True),
    "a CRL that is behind": Damage(
        "UPDATE crl SET revocation = 0 WHERE issuer = 'people'",
        ("the CRL of people does not hold the newest revocation (--repair signs another)",),
        mended=True,
    ),
    "a bit of the CRL": Damage(flipped("tbs", PEOPLE_CRL), ("the signature of the CRL of people does not hold",)),
    "the CRL's first byte": Damage(flipped("tbs", PEOPLE_CRL, 0), ("the CRL of people cannot be read",)),
    "a bit of the CRL's signature": Damage(flipped("signature", PEOPLE_CRL), ("the signature of the CRL of people does not hold",)),
    "an audit event": Damage(
        "UPDATE audit SET actor = 'user:eve' WHERE number = 3",
        ("the audit log does not hold: audit event 3 or one before it was changed",),
    ),
    "an audit event taken out": Damage("DELETE FROM audit WHERE number = 4", ("the audit log does not hold: audit event 4 is missing",)),
    "the end of the audit log taken out": Damage(
        "DELETE FROM audit WHERE action = 'certificate.record' AND number = (SELECT max(number) FROM audit WHERE action = 'certificate.record')",
        ("the audit log does not hold", "people/{bob} stands in the ledger, and the audit log does not know it"),
    ),
    "the newest audit events": Damage(
        "DELETE FROM audit WHERE number > (SELECT max(number) - 4 FROM audit)",
        ("people/{bob} stands in the ledger, and the audit log does not know it", "bob stands among the people, and the audit log does not know it"),
    ),
    "when it was taken away": Damage(
        "UPDATE certificate SET revoked_at = revoked_at - 86400 WHERE holder = 'carl'", ("people/{carl}: the row says revoked (superseded) at ",)
    ),
    "the entry for the CRL": Damage(
        "UPDATE certificate SET entry = (SELECT entry FROM certificate WHERE holder = 'old.example') WHERE holder = 'carl'",
        ("people/{carl}: its entry for the CRL does not say what the row says (--repair writes it anew)",),
        mended=True,
    ),
    "a move in the list": Damage(
        "UPDATE revocation_log SET move = 'unhold' WHERE number = 1", ("revocation 1 ({carl}): the list of revocations does not say what the audit log says",)
    ),
    "a reason in the list": Damage("UPDATE revocation_log SET reason = 'unspecified' WHERE number = 1", ("revocation 1 ({carl}): the list of revocations",)),
    "a time in the list": Damage("UPDATE revocation_log SET at = at - 9 WHERE number = 2", ("revocation 2 (",)),
    "a line put into the list": Damage(
        "INSERT INTO revocation_log VALUES (3, 'eve', 'AB', 'revoke', 'superseded', 1, 'x')",
        ("revocation 3 (AB) is in the list of revocations, and the audit log does not know it",),
    ),
    "the newest line of the list": Damage(
        "DELETE FROM revocation_log WHERE number = 2",
        ("revocation 2 (", "is gone from the list of revocations", "the list of revocations does not know it"),
    ),
    "an authority's side": Damage(
        "UPDATE authority SET side = 'both' WHERE name = 'people'", ("the authority people is not what the audit log says: the side",)
    ),
    "an authority's role": Damage(
        "UPDATE authority SET role = 'flat' WHERE name = 'people'", ("the authority people is not what the audit log says: the role",)
    ),
    "an authority's parent": Damage(
        "UPDATE authority SET parent = 'servers-root' WHERE name = 'people'",
        (
            "the authority people is not what the audit log says: the parent",
            "the certificate of the authority people cannot be read",
            "the CRL of people cannot be read",
        ),
    ),
    "an authority taken out": Damage("DELETE FROM authority WHERE name = 'servers-root'", ("the authority servers-root is gone",)),
    "a role put in": Damage("INSERT INTO role VALUES ('bob', 'administrator')", ("the roles of bob are administrator, the audit log says none",)),
    "a role taken out": Damage("DELETE FROM role", ("the roles of ann are none, the audit log says operator",)),
    "a token put in": Damage(
        "INSERT INTO token SELECT 'ffff', secret_sha256, login, scopes, about, created_at, expires_at, NULL, NULL FROM token",
        ("the token ffff stands in the ledger, and the audit log does not know it",),
    ),
    "what a token may": Damage("UPDATE token SET scopes = 'read manage'", ("the token ", "is not what the audit log says")),
    "whose a token is": Damage("UPDATE token SET login = 'bob'", ("the token ", "is not what the audit log says")),
    "a token's secret": Damage("UPDATE token SET secret_sha256 = '00'", ("the token ", "is not what the audit log says")),
    "a token's end": Damage("UPDATE token SET expires_at = expires_at + 1", ("the token ", "is not what the audit log says")),
    "a token given back": Damage("UPDATE token SET revoked_at = NULL", ("the token ", "is not what the audit log says")),
    "a token taken out": Damage("DELETE FROM token", ("the token ", "is gone")),
    "a compromised key taken out": Damage("DELETE FROM compromised_key", ("is gone from the list of compromised keys",)),
    "a compromised key put in": Damage(
        "INSERT INTO compromised_key VALUES ('00', 1, 'x')", ("the key 00... is not what the audit log says in the list of compromised keys",)
    ),
    "who has left": Damage("UPDATE holder SET left_at = NULL WHERE login = 'dora'", ("dora: the row does not say what the audit log says of the leaving",)),
    "an e-mail": Damage(
        "UPDATE holder SET email = 'boss@example.com' WHERE login = 'ann'", ("ann: the row does not say what the audit log says of the e-mail",)
    ),
    "a group put in": Damage("INSERT INTO membership VALUES ('bob', 'staff')", ("bob: the row does not say what the audit log says of the groups",)),
    "a group taken out": Damage("DELETE FROM membership", ("ann: the row does not say what the audit log says of the groups",)),
    "a person put in": Damage(
        "INSERT INTO holder (login, kind, created_at) VALUES ('eve', 'person', 1)", ("eve stands among the people, and the audit log does not know it",)
    ),
    "a person taken out": Damage("DELETE FROM holder WHERE login = 'dora'", ("dora is gone: the audit log knows it, the ledger does not",)),
    "the newest CRL taken out": Damage(f"DELETE FROM crl WHERE {PEOPLE_CRL}", ("the CRL of people is gone: the audit log knows number",), mended=True),
    "how far a CRL goes": Damage(f"UPDATE crl SET revocation = 99 WHERE {PEOPLE_CRL}", ("the CRL of people: the row does not say what",), mended=True),
    "how long a CRL is good": Damage(
        f"UPDATE crl SET next_update = next_update + 86400 WHERE {PEOPLE_CRL}", ("the CRL of people: the row does not say what the CRL says",), mended=True
    ),
    "since when a CRL is good": Damage(f"UPDATE crl SET this_update = 0 WHERE {PEOPLE_CRL}", ("the CRL of people: the row does not say",), mended=True),
    "who asked": Damage(
        "UPDATE certificate SET requester = 'holder:eve' WHERE holder = 'ann'", ("people/{ann}: the row does not say what the audit log says",)
    ),
    "names that are no list": Damage(
        "UPDATE certificate SET alternatives = '[' WHERE holder = 'ann'", ("the row people/{ann} cannot be read: alternatives is not a list of names",)
    ),
    "text in place of bytes": Damage(
        "UPDATE certificate SET tbs = 'abc' WHERE holder = 'ann'", ("the row people/{ann} cannot be read: tbs is text, not bytes",)
    ),
    "bytes in place of text": Damage(
        "UPDATE certificate SET device = x'00' WHERE holder = 'ann'", ("the row people/{ann} cannot be read: device is bytes, not text",)
    ),
    "text in place of a number": Damage(
        "UPDATE certificate SET not_after = 'soon' WHERE holder = 'ann'", ("the row people/{ann} cannot be read: not_after is text, not a number",)
    ),
    "text that is none": Damage(
        "UPDATE certificate SET common_name = CAST(x'c328' AS TEXT) WHERE holder = 'ann'", ("the row people/{ann} cannot be read: common_name is not UTF-8",)
    ),
    "text that is none, elsewhere": Damage(
        "UPDATE holder SET name = CAST(x'c328' AS TEXT) WHERE login = 'ann'", ("ann: the row does not say what the audit log says of the name",)
    ),
    "facts that are none": Damage(
        "UPDATE audit SET facts = '[' WHERE action = 'holder.add' AND subject = 'ann'",
        ("the audit log does not hold", "ann: the row does not say what the audit log says of"),
    ),
    "the key of an issuing authority": Damage(
        lambda admin: (admin.home / "keys" / "people.key").unlink(), ("the key of people is missing: nothing can be issued or revoked with it",)
    ),
    "another key in its place": Damage(key_of_another, ("the key that is kept for people is not the key of its certificate",)),
    "a torn key file": Damage(torn_key, ("the key of people:", "holds no usable key")),
    "a key file that others may read": Damage(
        lambda admin: (admin.home / "keys" / "people.key").chmod(0o644),
        ("the key of people:", "others than its owner may use it"),
    ),
}


@pytest.fixture(scope="module")
def lived_in_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a past, for copying; what was handed out lies in its folder `work`."""
    place = tmp_path_factory.mktemp("lived-in")
    (place / "work").mkdir()
    admin = Administrator(administrator.copied(template, place / "home"), place / "work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(admin.folder)
        admin("people", "add", "ann", "--group", "staff")
        admin("people", "add", "dora")
        admin("leave", "dora", "--yes")
        admin("issue", "client", "ann", "--email", "ann@example.com", "--device", "laptop", "--out", "ann")
        with admin.open() as authority:
            access.set_roles(authority, "ann", add=["operator"])
            token, _ = access.make_token(authority, "ann", ["read"])
            access.revoke_token(authority, token.id)
        admin("issue", "client", "carl", "--out", "carl")
        admin("issue", "server", "app.example", "--out", "site")
        admin("renew", "app.example", "--out", "again")
        admin("issue", "server", "old.example", "--out", "site")
        admin("revoke", "carl", "--reason", "superseded")
        admin("revoke", "old.example", "--reason", "key-compromise")
        admin("issue", "client", "bob", "--out", "bob")
    return place


@pytest.fixture
def lived_in(lived_in_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Administrator:
    monkeypatch.setenv("GATEKEY_DEBUG", "1")
    place = administrator.copied(lived_in_template, tmp_path / "copy")
    monkeypatch.chdir(place / "work")
    return Administrator(place / "home", place / "work")


def test_whole(lived_in: Administrator) -> None:
    before = lived_in.print()
    assert lived_in("store", "check").lines == ["the ledger is whole"]
    assert lived_in("store", "check", "--json").json == {"whole": True, "findings": [], "repaired": []}
    assert lived_in("store", "check", "--repair").lines == ["the ledger is whole"]
    assert lived_in.print() == before


@pytest.mark.parametrize("name", DAMAGES)
def test_each_kind_of_damage_is_named(lived_in: Administrator, name: str, moved_clock: Callable[[int], None]) -> None:
    damage = DAMAGES[name]
    moved_clock(60)  # whoever revoked a moment ago is given some seconds to sign the CRL
    serials = {login: lived_in.serial(login) for login in ("ann", "bob", "carl")}
    if isinstance(damage.done, str):
        lived_in.sql(damage.done)
    else:
        damage.done(lived_in)
    before = lived_in.print()
    answer = lived_in("store", "check", code=1)
    for words in damage.said:
        assert words.format(**serials) in answer.out, answer.out
    assert all(line.startswith("found: ") for line in answer.lines)
    assert len(answer.lines) <= len(damage.said) + 2, answer.out  # one damage is not told as ten
    assert lived_in.print() == before  # looking changes nothing
    told = lived_in("store", "check", "--json", code=1).json
    assert told["whole"] is False
    assert [f"found: {finding}" for finding in told["findings"]] == answer.lines

    mended = lived_in("store", "check", "--repair", code=0 if damage.mended else 1)
    if damage.mended:
        assert mended.lines[0].startswith(("mended: signed", "mended: wrote the entry"))
        assert any(line.startswith("mended: signed the CRL of ") for line in mended.lines)
        assert mended.lines[-1] == "the ledger is whole"
        assert lived_in("store", "check").lines == ["the ledger is whole"]
    else:
        assert [line for line in mended.lines if line.startswith("found: ")] == answer.lines
        assert "mended: " not in mended.out
        assert lived_in.print() == before  # and so does a repair that can do nothing


def test_a_crl_number_is_never_given_twice(lived_in: Administrator) -> None:
    """Also when its row is gone: the log still knows it."""
    def number() -> int:
        return int(lived_in.sql("SELECT max(number) FROM crl WHERE issuer = 'people'")[0][0])

    before = number()
    lived_in.sql(f"DELETE FROM crl WHERE {PEOPLE_CRL}")
    lived_in("store", "check", "--repair")
    assert number() == before + 1
    lived_in.sql("DELETE FROM crl WHERE issuer = 'people'")
    lived_in("crl", "--authority", "people")
    assert number() > before + 1
    before = number()
    lived_in.sql(f"UPDATE crl SET revocation = 99 WHERE {PEOPLE_CRL}")  # until that is mended no list may follow: it would be behind and look newer
    lived_in("store", "check", "--repair")
    lived_in("revoke", "bob")
    assert number() > before + 1
    assert lived_in("store", "check").lines == ["the ledger is whole"]


def test_an_authority_that_was_put_in(lived_in: Administrator) -> None:
    lived_in.sql("INSERT INTO authority SELECT 'eve', role, side, parent, 9, serial, created_at FROM authority WHERE name = 'people'")
    assert "the authority eve stands in the ledger, and the audit log does not know it" in lived_in("store", "check", code=1).out


def test_roots_that_are_away_with_crls_that_ran_out(lived_in: Administrator, tmp_path: Path, moved_clock: Callable[[int], None]) -> None:
    """What --repair cannot do without their keys is not promised: the key that must come back is named."""
    shutil.move(lived_in.home / "keys" / "people-root.key", tmp_path)
    moved_clock(401 * DAY)
    lived_in("store", "check", "--repair", code=1)
    (line,) = lived_in("store", "check", code=1).lines
    assert "the CRL of people-root has expired (its key is away: bring people-root.key back into " in line
    assert "gatekey crl --authority people-root" in line
    assert "--repair" not in line
    shutil.move(tmp_path / "people-root.key", lived_in.home / "keys")
    lived_in("crl", "--authority", "people-root")
    assert lived_in("store", "check").lines == ["the ledger is whole"]


def test_an_entry_is_written_anew_only_where_the_log_confirms_the_revocation(lived_in: Administrator) -> None:
    lived_in.sql("UPDATE certificate SET revoked_at = revoked_at - 86400, entry = x'3000' WHERE holder = 'carl'")
    answer = lived_in("store", "check", "--repair", code=1)
    assert "mended: wrote" not in answer.out
    assert lived_in.sql("SELECT entry FROM certificate WHERE holder = 'carl'") == [(b"0\0",)]


def test_a_ledger_of_old(lived_in: Administrator) -> None:
    """Its log does not tell places of authorities and secrets of tokens: it is whole all the same, and what can be seen without them is seen."""
    last = ORIGIN
    events = [event for event in lived_in.sql("SELECT number, at, actor, action, subject, facts FROM audit ORDER BY number") if event[3] != "authority.found"]
    lived_in.sql("DELETE FROM audit")
    for number, (_, at, actor, action, subject, text) in enumerate(events, start=1):
        facts = json.loads(text)
        facts.pop("secret", None)
        told = json.dumps(facts, separators=(",", ":"), sort_keys=True)
        last = hashlib.sha256(json.dumps([last, number, at, actor, action, subject, told], separators=(",", ":")).encode()).hexdigest()
        lived_in.sql("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", number, at, actor, action, subject, told, last)
    assert lived_in("store", "check").lines == ["the ledger is whole"]
    lived_in.sql("UPDATE authority SET serial = (SELECT serial FROM authority WHERE name = 'servers-root') WHERE name = 'people-root'")
    assert "the authority people-root has no certificate" in lived_in("store", "check", code=1).out
    lived_in.sql("DELETE FROM authority WHERE name = 'people-root'")
    assert "the authority people-root is gone" in lived_in("store", "check", code=1).out


def test_a_page_of_the_file_is_damaged(lived_in: Administrator) -> None:
    for number in range(100):
        lived_in.sql("INSERT INTO compromised_key VALUES (?, 1, ?)", f"{number:064}", "x" * 500)
    ledger = lived_in.home / "ledger.db"
    lived_in.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(ledger.read_bytes())
    data[-4096 * 3 : -4096 * 2] = bytes(4096)
    for path in lived_in.home.glob("ledger.db-*"):
        path.unlink()
    ledger.write_bytes(data)
    assert "found: the database file is damaged" in lived_in("store", "check", code=1).out


def interrupted(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> str:
    """The power fails between recording and signing; answers with the serial that was never signed."""
    with monkeypatch.context() as patch:
        patch.setattr("gatekey.authority.issue.sign", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            typed("--home", admin.home, "issue", "client", "gus", "--out", "gus")
    return str(admin.sql("SELECT serial FROM certificate WHERE state = 'recorded'")[0][0])


def test_interrupted_drafts_are_found_and_closed(
    lived_in: Administrator, moved_clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = interrupted(lived_in, monkeypatch)
    assert not Path("gus").exists()
    assert lived_in("store", "check").lines == ["the ledger is whole"]  # it may be under way at this moment
    moved_clock(300)
    answer = lived_in("store", "check", code=1)
    assert answer.lines == ["found: 1 draft of an interrupted run is not closed yet (--repair does it)"]
    answer = lived_in("store", "check", "--repair")
    assert answer.lines[0] == f"mended: closed {serial} of people: recorded, never signed"
    assert answer.lines[-1] == "the ledger is whole"
    assert lived_in("show", serial, "--json").json["status"] == "abandoned"
    assert lived_in("crl", "--json").json["entries"] == 2
    lived_in("issue", "client", "gus", "--out", "again")  # the name is free again


def test_the_next_verb_that_writes_closes_them_too(lived_in: Administrator, moved_clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    serial = interrupted(lived_in, monkeypatch)
    moved_clock(300)
    answer = lived_in("people", "add", "hal")
    assert f"an issuance that was interrupted was closed: {serial} of people was never signed" in answer.err
    assert lived_in("store", "check").lines == ["the ledger is whole"]


def test_a_crl_that_ran_out(lived_in: Administrator, moved_clock: Callable[[int], None]) -> None:
    moved_clock(40 * DAY)
    answer = lived_in("store", "check", code=1)
    assert answer.lines == [f"found: the CRL of {name} has expired (--repair signs another)" for name in ("people", "servers")]
    answer = lived_in("store", "check", "--repair")
    assert answer.lines[-1] == "the ledger is whole"


def test_roots_that_are_away_are_no_damage(lived_in: Administrator, tmp_path: Path) -> None:
    for root in ("people-root", "servers-root"):
        shutil.move(lived_in.home / "keys" / f"{root}.key", tmp_path)
    assert lived_in("store", "check").lines == ["the ledger is whole"]


def test_a_certificate_that_never_left_us_is_not_let_in(lived_in: Administrator) -> None:
    """The serial is ours, the signature is ours, but the ledger knows other bytes."""
    lived_in.sql("UPDATE certificate SET fingerprint = 'FF' WHERE holder = 'ann'")
    assert "its serial is ours, but this certificate never left us" in lived_in("verify", "ann/ann.crt", code=1).out
