"""`gatekey profile`, and what profiles of one's own do to `issue`, `sign`, `renew` and `show`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gatekey import profiles
from gatekey.model.instants import DAY
from gatekey.policy.rules import RULES
from gatekey.x509 import oids, pem
from gatekey.x509.certificate import Certificate, read_certificate
from kit import administrator
from kit.administrator import Administrator

VISITOR = """\
# Whoever sits in the lobby.
[profile.visitor]
about    = "A visitor's tablet"
usage    = ["client-auth"]
validity = "30d"
keys     = ["p256"]
"""
INTRA = """\
[profile.intra]
about    = "Servers inside"
usage    = ["server-auth"]
validity = "90d"
keys     = ["p256", "rsa-2048"]
names    = { host = ["*.intra.example"], ip = ["10.0.0.0/8"] }
"""
BAD = """\
[profile.visitor]
abuot    = "A visitor's tablet"
usage    = ["client-auht"]
validity = "30"
keys     = ["p25"]
"""


def written(admin: Administrator, text: str, name: str = "visitor.toml") -> Path:
    path = admin.folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path | str) -> Certificate:
    return read_certificate(pem.decode(Path(path).read_bytes())[0][1])


def events(admin: Administrator) -> list[tuple[str, dict[str, str]]]:
    return [(subject, json.loads(facts)) for subject, facts in admin.sql("SELECT subject, facts FROM audit WHERE action = 'profile.add' ORDER BY number")]


# list, show, explain


def test_list_says_what_there_is_and_where_from(admin: Administrator) -> None:
    rows = [line.split("\t") for line in admin("profile", "list").lines]
    assert rows[0] == ["name", "kind", "lives", "origin", "about"]
    assert [row[0] for row in rows[1:]] == list(profiles.NAMES)
    assert {row[3] for row in rows[1:]} == {"built in"}
    assert ["client-short", "client", "10h", "built in"] in [row[:4] for row in rows]


def test_list_has_ones_own_and_the_broken_ones(admin: Administrator) -> None:
    for name, text in [("visitor", VISITOR), ("client", VISITOR.replace("visitor", "client")), ("bad", BAD)]:
        (admin.home / "profiles" / f"{name}.toml").write_text(text, encoding="utf-8")
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in admin("profile", "list").lines}
    assert rows["visitor"] == ["client", "30d", "own", "A visitor's tablet"]
    assert rows["client"][:3] == ["client", "30d", "own, in place of the built-in one"]
    assert rows["bad"][:3] == ["-", "-", "own"]
    assert "gatekey profile check" in rows["bad"][3]
    told = {one["name"]: one for one in admin("profile", "list", "--json").json}
    assert told["visitor"]["validity"] == 30 * DAY
    assert told["visitor"]["holder"] == "person"
    assert told["bad"] == {"name": "bad", "origin": "own", "mistakes": ["[profile.bad] is missing"]}


def test_reading_verbs_need_no_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "visitor.toml").write_text(VISITOR)
    for words in (["list"], ["show", "client"], ["explain", "client"], ["explain", "visitor.toml"], ["check", "visitor.toml"]):
        assert administrator.typed("--home", tmp_path / "nowhere", "profile", *words).code == 0, words
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", profiles.NAMES)
def test_show_is_a_good_file(admin: Administrator, name: str) -> None:
    path = written(admin, admin("profile", "show", name).out, "copy.toml")
    assert profiles.read(path.read_bytes(), source="copy.toml") == profiles.built_in(name)
    told = admin("profile", "show", name, "--json").json
    assert told["sha256"] == profiles.built_in(name).sha256
    assert profiles.read(told["toml"].encode(), source="x.toml") == profiles.built_in(name)


def test_show_shows_ones_own_even_with_mistakes(admin: Administrator) -> None:
    (admin.home / "profiles" / "visitor.toml").write_text(BAD)
    assert admin("profile", "show", "visitor").out == BAD


def test_an_unknown_name_meets_the_nearest(admin: Administrator) -> None:
    for verb in ("show", "explain"):
        assert "did you mean 'client'?" in admin("profile", verb, "clinet", code=1).err
    assert "did you mean 'client'?" in admin("issue", "client", "ann", "--profile", "clinet", code=1).err


def test_explain_tells_every_rule_with_its_source(admin: Administrator) -> None:
    out = admin("profile", "explain", "server").out
    assert len(re.findall(r"^ +\d+ ", out, re.MULTILINE)) == len(re.findall(r"^ +source  \S", out, re.MULTILINE)) == len(RULES)
    assert "375 days by default, 397 days at most" in out
    assert profiles.built_in("server").sha256 in out
    told = admin("profile", "explain", "server", "--json").json
    assert [rule["rule"].replace(" ", "_") for rule in told["rules"]] == [rule.__name__ for rule in RULES]
    assert all(rule["source"] and rule["must"] and rule["says"] for rule in told["rules"])
    assert told["outline"]["issued by"] == "servers"


def test_explain_takes_a_file_that_is_not_in_the_home_yet(admin: Administrator) -> None:
    out = admin("profile", "explain", written(admin, VISITOR)).out
    assert "A visitor's tablet" in out
    assert "30 days by default, 30 days at most" in out


# check


def test_check_says_every_mistake_at_once(admin: Administrator) -> None:
    path, before = written(admin, BAD), admin.print()
    answer = admin("profile", "check", path, code=1)
    assert answer.lines[0] == f"{path}: 5 mistakes"
    for piece in ("did you mean 'about'?", "did you mean 'client-auth'?", "about is missing", "'30'; write a number and a unit", "did you mean 'p256'?"):
        assert any(piece in line for line in answer.lines[1:]), piece
    told = admin("profile", "check", path, "--json", code=1).json
    assert (told["ok"], len(told["mistakes"]), told["profile"]) == (False, 5, None)
    assert admin.print() == before


def test_check_of_good_ones(admin: Administrator) -> None:
    visitor, intra = written(admin, VISITOR, "draft of mine.toml"), written(admin, INTRA, "intra")
    before = admin.print()
    answer = admin("profile", "check", visitor, intra)
    assert re.fullmatch(r".*/draft of mine\.toml: good; profile visitor [0-9a-f]{16}\n.*/intra: good; profile intra [0-9a-f]{16}\n", answer.out)
    assert admin("profile", "check", "-", stdin=VISITOR.encode()).lines[0].startswith("-: good; profile visitor")
    assert [one["ok"] for one in admin("profile", "check", visitor, intra, "--json").json] == [True, True]
    assert admin.print() == before


def test_check_remarks_on_what_is_meant_to_be_noticed(admin: Administrator) -> None:
    text = VISITOR.replace("visitor", "client").replace("30d", "8h") + 'no-revocation = true\nextra = ["1.3.6.1.4.1.311.20.2.2"]\n'
    out = admin("profile", "check", written(admin, text)).out
    assert "the name of a built-in profile" in out
    assert "RFC 9608" in out
    assert "also good for 1.3.6.1.4.1.311.20.2.2" in out


def test_check_knows_the_issuers_of_this_home(admin: Administrator) -> None:
    path = written(admin, VISITOR + 'issuer = "partners"\n')
    assert "issuer may be: people" in admin("profile", "check", path, code=1).out


def test_in_a_flat_home_the_one_authority_issues_everything(flat: Administrator) -> None:
    assert "issuer may be: root" in flat("profile", "check", written(flat, VISITOR + 'issuer = "partners"\n'), code=1).out
    for text in (VISITOR + 'issuer = "people"\n', INTRA):
        flat("profile", "add", written(flat, text))
    flat("issue", "client", "eve", "--profile", "visitor", "--password-file", "pw")
    flat("issue", "server", "a.intra.example", "--profile", "intra")
    assert {one["issuer"] for one in flat("list", "--json").json} == {"root"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "[profile.x] is missing"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"#" * 70000, "is larger than the 64 KiB"),
        (b"[profile.x", "is not TOML"),
        (b"x = " + b"9" * 5000, "is not TOML"),
        (b"x = " + b"[" * 10000, "is nested deeper than 10 levels"),
        (b"x = " + b"[" * 20000, "has 20004 characters; 16384 are the most of a profile"),
        (b"x" + b".x" * 8000 + b" = 1", "has a line with 8000 dots outside of quotes; 20 are the most"),
        (b'[profile."A B"]\n', "'A B' cannot be a profile's name"),
        (b"[client]\n", "client is not a known table"),
        (b"[profile.a]\n[profile.b]\n", "[profile.b] does not belong"),
    ],
)
def test_files_that_are_no_profiles(admin: Administrator, content: bytes, said: str) -> None:
    path = admin.folder / "x.toml"
    path.write_bytes(content)
    assert said in admin("profile", "check", path, code=1).out
    assert said in admin("profile", "add", path, code=1).err
    assert said in admin("profile", "explain", path, code=3).err


def test_a_file_that_is_not_there(admin: Administrator) -> None:
    assert "there is no nothing.toml" in admin("profile", "check", "nothing.toml", code=1).err
    assert "is a folder" in admin("profile", "check", admin.folder, code=1).err


# add


def test_add_keeps_the_file_as_it_is_and_tells_the_audit_log(admin: Administrator) -> None:
    answer = admin("profile", "add", written(admin, VISITOR, "draft.toml"))
    path = admin.home / "profiles" / "visitor.toml"
    assert answer.lines == [str(path)]
    assert "gatekey issue client NAME --profile visitor" in answer.err
    assert path.read_text() == VISITOR
    assert events(admin) == [("visitor", {"sha256": profiles.find("visitor", path.parent).sha256, "replaces": ""})]
    assert admin("store", "check").lines == ["the ledger is whole"]


def test_add_never_takes_anothers_place_without_force(admin: Administrator) -> None:
    admin("profile", "add", written(admin, VISITOR))
    first = profiles.find("visitor", admin.home / "profiles").sha256
    path, before = written(admin, VISITOR.replace("30d", "20d")), admin.print()
    answer = admin("profile", "add", path, code=1)
    assert "there is a profile visitor in this home already" in answer.err
    assert "--force" in answer.err
    assert admin.print() == before
    told = admin("profile", "add", path, "--force", "--json").json
    assert events(admin)[1:] == [("visitor", {"sha256": told["sha256"], "replaces": first})]


def test_add_takes_a_built_in_ones_place_only_by_force(admin: Administrator) -> None:
    path = written(admin, VISITOR.replace("visitor", "client"))
    before = admin.print()
    assert "built in already" in admin("profile", "add", path, code=1).err
    assert admin.print() == before
    admin("profile", "add", path, "--force")
    assert events(admin)[0][1]["replaces"] == profiles.built_in("client").sha256
    admin("issue", "client", "ann", "--password-file", "pw")
    assert (read("ann.crt").not_after - read("ann.crt").not_before) // DAY == 29  # 30 days less the hour of backdating, which counts too


def test_add_refuses_with_all_reasons_and_changes_nothing(admin: Administrator) -> None:
    path, before = written(admin, BAD), admin.print()
    answer = admin("profile", "add", path, code=1)
    assert "refused, for 5 reasons" in answer.err
    assert "did you mean 'about'?" in answer.err
    path.write_text(VISITOR + 'issuer = "partners"\n')
    assert "issuer may be: people" in admin("profile", "add", path, code=3).err
    path.write_text(BAD)
    assert admin.print() == before


def test_add_where_nothing_can_be_written(admin: Administrator, monkeypatch: pytest.MonkeyPatch) -> None:
    from gatekey import files
    from gatekey.errors import Unavailable

    def full(*_: object, **__: object) -> None:
        raise Unavailable("disk-full", "no room is left")

    path, before = written(admin, VISITOR), admin.print()
    monkeypatch.setattr(files, "stage", full)
    admin("profile", "add", path, code=4)
    assert admin.print() == before


# using them


def test_a_persons_certificate_under_ones_own_words(admin: Administrator) -> None:
    admin("profile", "add", written(admin, VISITOR))
    admin("issue", "client", "eve", "--email", "eve@example.com", "--profile", "visitor", "--password-file", "pw")
    eve = read("eve.crt")
    assert eve.extended == ("clientAuth",)
    assert (eve.not_after - eve.not_before + 1) == 30 * DAY
    assert eve.names.emails == ()  # the profile has no room for one; the ledger keeps it
    assert admin("people", "show", "eve", "--json").json["email"] == "eve@example.com"
    assert "rsa-2048" not in profiles.find("visitor", admin.home / "profiles").keys
    assert "the profile visitor takes EC P-256" in admin("issue", "client", "bob", "--profile", "visitor", "--key-type", "rsa-2048", code=1).err
    assert "allows 30 days" in admin("issue", "client", "bob", "--profile", "visitor", "--days", "31", code=1).err
    assert not Path("bob.key").exists()


def test_from_a_request_under_ones_own_words(admin: Administrator) -> None:
    admin("profile", "add", written(admin, VISITOR))
    admin("request", "eve")
    admin("sign", "eve.csr", "--profile", "visitor")
    assert admin("show", "eve", "--json").json["profile"] == "visitor"
    admin("request", "bob", "--out", "b")
    admin("issue", "client", "bob", "--csr", "b/bob.csr", "--profile", "visitor")
    assert admin("show", "bob", "--json").json["profile"] == "visitor"


def test_a_servers_certificate_under_ones_own_words(admin: Administrator) -> None:
    admin("profile", "add", written(admin, INTRA, "intra.toml"))
    admin("issue", "server", "a.intra.example", "10.1.2.3", "--profile", "intra")
    server = read("a.intra.example.crt")
    assert (server.extended, server.names.dns, server.names.ips) == (("serverAuth",), ("a.intra.example",), ("10.1.2.3",))
    assert admin("show", "a.intra.example", "--json").json["issuer"] == "servers"
    answer = admin("issue", "server", "b.example", "--ip", "192.0.2.7", "--profile", "intra", code=1)
    assert "the host 'b.example' is not among what the profile intra gives: *.intra.example" in answer.err
    assert "the address '192.0.2.7' is not among" in answer.err
    admin("request", "c.intra.example", "--server")
    admin("sign", "c.intra.example.csr", "--profile", "intra")
    assert admin("show", "c.intra.example", "--json").json["issuer"] == "servers"


def test_a_profile_is_for_its_own_side(admin: Administrator) -> None:
    before = admin.print()
    assert "the profile server is for servers; one for clients is needed" in admin("issue", "client", "ann", "--profile", "server", code=1).err
    assert "the profile client is for clients; one for servers is needed" in admin("issue", "server", "a.example", "--profile", "client", code=1).err
    assert "is for authorities" in admin("issue", "client", "ann", "--profile", "people", code=1).err
    assert "is for test identities" in admin("issue", "client", "ann", "--profile", "probe", code=1).err
    assert admin.print() == before


def test_machines_get_files_and_no_pkcs12(admin: Administrator) -> None:
    answer = admin("issue", "client", "printer", "--profile", "device")
    assert answer.lines == ["printer.key", "printer.crt", "printer.chain.crt"]
    assert "password" not in answer.err
    assert admin("show", "printer", "--json").json["kind"] == "device"
    assert "is for machines" in admin("issue", "client", "scanner", "--profile", "device", "--for", "modern", code=2).err
    admin("profile", "add", written(admin, VISITOR.replace("visitor", "robot") + 'holder = "service"\n'))
    admin("issue", "client", "bot", "--profile", "robot")
    assert admin("show", "bot", "--json").json["kind"] == "service"
    assert "'printer' is a device already, not a person" in admin("issue", "client", "printer", "--out", "p", "--password-file", "p.pw", code=1).err


def test_a_renewal_follows_the_profile_as_it_is_then(admin: Administrator) -> None:
    admin("profile", "add", written(admin, VISITOR))
    admin("issue", "client", "eve", "--profile", "visitor", "--password-file", "pw")
    admin("profile", "add", written(admin, VISITOR.replace("30d", "20d")), "--force")
    admin("renew", "eve", "--out", "new")
    told = admin("show", "eve", "--json").json
    assert (told["profile"], told["profile_today"]) == ("visitor", "same")
    assert read("new/eve.crt").not_after - read("new/eve.crt").not_before + 1 == 20 * DAY
    (admin.home / "profiles" / "visitor.toml").unlink()
    assert "there is no profile 'visitor'" in admin("renew", "eve", "--out", "newer", code=1).err


def test_show_says_when_the_words_have_changed_since(admin: Administrator) -> None:
    path = admin.home / "profiles" / "visitor.toml"
    admin("profile", "add", written(admin, VISITOR))
    then = profiles.find("visitor", path.parent).sha256
    admin("issue", "client", "eve", "--profile", "visitor", "--password-file", "pw")

    def told(word: str, sentence: str) -> None:
        answer = admin("show", "eve", "--json").json
        assert (answer["profile_sha256"], answer["profile_today"]) == (then, word)
        line = next(line for line in admin("show", "eve").lines if line.startswith("profile "))
        assert f"visitor as {then[:16]}" in line
        assert sentence in line

    told("same", "that is what it says today")
    path.write_text(VISITOR.replace("30d", "20d"))
    told("changed", f"another one ({profiles.find('visitor', path.parent).sha256[:16]})")
    path.write_text(BAD)
    told("broken", "has mistakes")
    path.unlink()
    told("gone", "there is no profile of that name today")
    assert all(one["profile_sha256"] for one in admin("list", "--json").json)


# the short-lived one


def test_a_short_lived_certificate_says_so(admin: Administrator) -> None:
    answer = admin("issue", "client", "eve", "--profile", "client-short", "--password-file", "pw")
    assert re.search(r"valid until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer.err)
    eve = read("eve.crt")
    assert eve.extension(oids.NO_REV_AVAIL) is not None
    assert not eve.crl_urls
    assert not eve.ocsp_urls
    assert eve.not_after - eve.not_before + 1 <= DAY
    assert "no revocation available" in admin("show", "eve").out
    assert "allows 1 days" in admin("issue", "client", "bob", "--profile", "client-short", "--days", "2", code=1).err
    admin("issue", "client", "bob", "--profile", "client-short", "--days", "1", "--password-file", "pw2")
    assert read("bob.crt").not_after - read("bob.crt").not_before + 1 == DAY


def test_a_short_lived_certificate_has_no_crl_address_where_others_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    administrator.found(tmp_path / "home", url="http://ca.example")
    admin = Administrator(tmp_path / "home", tmp_path)
    admin("issue", "client", "ann", "--password-file", "pw")
    admin("issue", "client", "eve", "--profile", "client-short", "--password-file", "pw2")
    assert read("ann.crt").crl_urls
    assert not read("eve.crt").crl_urls
    assert read("eve.crt").issuer_urls


@pytest.mark.interop
def test_a_short_lived_certificate_can_be_taken_away(admin: Administrator, program: Callable[[str], str]) -> None:
    for name in ("eve", "ann"):
        admin("issue", "client", name, "--profile", "client-short", "--password-file", f"{name}.pw")
    serial = admin.serial("eve")
    assert admin("verify", "eve.crt").lines[0] == "eve.crt: yes"
    admin("bundle", "--out", "people")
    assert {one["login"] for one in json.loads(Path("people/people.json").read_text())["people"]} == {"ann", "eve"}
    admin("revoke", "eve")
    assert "revocation" in admin("verify", "eve.crt", code=1).out
    assert admin("verify", "ann.crt").lines[0] == "ann.crt: yes"
    admin("bundle", "--out", "people")
    assert [one["login"] for one in json.loads(Path("people/people.json").read_text())["people"]] == ["ann"]
    for name in ("revoked.map", "revoked.txt", "revoked.lst"):
        assert serial in Path("people", name).read_text(), name
    # Debian's OpenSSL 3.0 does not know RFC 9608: there the CRL shuts the door too.
    said = subprocess.run(
        [program("openssl"), "verify", "-crl_check_all", "-CRLfile", "people/all.crl.pem", "-CAfile", "people/people-chain.pem", "eve.crt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "certificate revoked" in said.stderr


def test_a_short_lived_certificate_is_gone_the_next_day(admin: Administrator, moved_clock: Callable[[int], None]) -> None:
    admin("issue", "client", "eve", "--profile", "client-short", "--password-file", "pw")
    moved_clock(DAY)
    assert "dates" in admin("verify", "eve.crt", code=1).out
    admin("issue", "client", "eve", "--profile", "client-short", "--out", "today", "--password-file", "pw2")
    assert admin("verify", "today/eve.crt").code == 0
    admin("renew", "eve", "--out", "renewed")
    assert [one["renews"] for one in admin("list", "--json").json if one["renews"]] == [read("today/eve.crt").serial]
    moved_clock(3 * DAY)
    admin("renew", "eve", "--out", "later")  # all have expired: the newest is meant
    assert admin("store", "check").lines == ["the ledger is whole"]
