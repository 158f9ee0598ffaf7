"""What each verb does and says when all is well: results on stdout, talk on stderr, files by the names of the story."""

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatekey import app
from gatekey.authority import own
from gatekey.authority.ocsp import Responders
from gatekey.keys import material
from gatekey.model.record import SERVICE
from kit import administrator, town
from kit.administrator import Administrator

SERIAL = re.compile(r"\b[0-9A-F]{32}\b")
DAY = 86_400


def certificate(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def chain(path: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(Path(path).read_bytes())


def names(found: x509.Certificate, kind: Any) -> list[str]:
    alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name) for name in alternatives.get_values_for_type(kind)]


def common_name(found: x509.Certificate) -> str:
    return str(found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def belongs(key_file: str, found: x509.Certificate) -> bool:
    return load_pem_private_key(Path(key_file).read_bytes(), None).public_key() == found.public_key()


def password(heard: str) -> str:
    said = re.search(r"password of \S+:  (\S+)", heard)
    assert said, heard
    return said[1]


def test_issue_client(admin: Administrator) -> None:
    answer = admin("issue", "client", "ann", "--email", "ann@example.com", "--device", "laptop", "--group", "staff", "--group", "ops")
    assert answer.lines == ["ann.key", "ann.crt", "ann.chain.crt", "ann.p12"]
    found = certificate("ann.crt")
    assert (common_name(found), names(found, x509.RFC822Name)) == ("ann", ["ann@example.com"])
    assert list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert belongs("ann.key", found)
    assert chain("ann.chain.crt") == [found, certificate(str(admin.home / "authorities" / "people.crt"))]
    held = pkcs12.load_pkcs12(Path("ann.p12").read_bytes(), password(answer.err).encode())
    assert held.cert is not None
    assert held.cert.certificate == found
    assert [one.certificate for one in held.additional_certs] == chain("ann.chain.crt")[1:]  # the issuing authority, never the root
    assert "shown this once and kept nowhere" in answer.err
    assert (found.not_valid_after_utc - found.not_valid_before_utc).total_seconds() == 365 * DAY + 3600 - 1
    der = found.public_bytes(Encoding.DER)
    assert b"laptop" not in der
    assert b"staff" not in der


def test_issue_client_for_other_targets(admin: Administrator) -> None:
    admin("issue", "client", "bob", "--for", "modern", "--password-file", "bob.pw", "--out", "handover")
    secret = Path("handover/../bob.pw").read_bytes().strip()
    assert pkcs12.load_pkcs12(Path("handover/bob.p12").read_bytes(), secret).key is not None
    admin("issue", "client", "eve", "--for", "pem", "--key-type", "ed25519")
    text = Path("eve.pem").read_text()
    assert text.startswith("-----BEGIN PRIVATE KEY-----")
    assert text.count("BEGIN CERTIFICATE") == 2
    assert not Path("eve.p12").exists()


def test_a_password_is_new_each_time_and_easy_to_type(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    heard = {password(admin("p12", "ann.crt", "--key", "ann.key", "--out", f"{number}.p12").err) for number in range(5)}
    assert len(heard) == 5
    assert all(re.fullmatch(r"[a-z0-9]{5}(-[a-z0-9]{5}){3}", word) for word in heard)


def test_p12_of_what_is_there(admin: Administrator) -> None:
    admin("request", "ann")
    admin("issue", "client", "ann", "--csr", "ann.csr")
    assert not Path("ann.p12").exists()
    answer = admin("p12", "ann.crt", "--key", "ann.key")  # finds ann.chain.crt beside it
    held = pkcs12.load_pkcs12(Path("ann.p12").read_bytes(), password(answer.err).encode())
    assert held.cert is not None
    assert held.cert.certificate == certificate("ann.crt")
    assert [one.certificate for one in held.additional_certs] == chain("ann.chain.crt")[1:]
    admin("p12", "ann.chain.crt", "--key", "ann.key", "--for", "pem", "--out", "files/for-curl.pem")
    assert len(x509.load_pem_x509_certificates(Path("files/for-curl.pem").read_bytes())) == 2


def test_a_key_under_a_password(admin: Administrator) -> None:
    """The key that somebody brings may be encrypted; its password lies in a file that nobody else reads."""
    admin("issue", "client", "ann")
    key = load_pem_private_key(Path("ann.key").read_bytes(), None)
    Path("sealed.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a s\xe9cret")))
    Path("sealed.pw").touch(0o600)
    Path("sealed.pw").write_bytes(b"a s\xe9cret\n")
    with_key = ("--key", "sealed.key", "--key-password-file", "sealed.pw")
    admin("request", "kim", *with_key)
    assert x509.load_pem_x509_csr(Path("kim.csr").read_bytes()).public_key() == key.public_key()
    admin("p12", "ann.crt", *with_key, "--out", "again.p12")
    admin("renew", "ann", *with_key, "--out", "renewed")
    assert belongs("ann.key", certificate("renewed/ann.crt"))


def test_a_p12_without_a_chain_beside_it(admin: Administrator) -> None:
    """The issuing CA is taken from the authority when that is at hand; otherwise it is said that it is missing."""
    admin("issue", "client", "ann")
    Path("away").mkdir()
    Path("ann.crt").rename("away/ann.crt")
    words = ("p12", "away/ann.crt", "--key", "ann.key")
    made = admin(*words, "--out", "here.p12")
    assert "not at hand" not in made.err
    held = pkcs12.load_pkcs12(Path("here.p12").read_bytes(), password(made.err).encode())
    assert [common_name(one.certificate) for one in held.additional_certs] == [f"{administrator.NAME} people"]
    alone = administrator.typed("--home", admin.folder / "nowhere", *words, "--out", "alone.p12")
    assert "CN=Kitty CA people, which issued this one, is not at hand and not in the file; give it with --chain FILE" in alone.err
    assert pkcs12.load_pkcs12(Path("alone.p12").read_bytes(), password(alone.err).encode()).additional_certs == []


def test_issue_server(admin: Administrator) -> None:
    answer = admin("issue", "server", "app.example", "www.app.example", "192.0.2.1", "--ip", "2001:db8::1")
    assert answer.lines == ["app.example.key", "app.example.crt", "app.example.chain.crt"]
    found = certificate("app.example.crt")
    assert common_name(found) == "app.example"
    assert names(found, x509.DNSName) == ["app.example", "www.app.example"]
    assert names(found, x509.IPAddress) == ["192.0.2.1", "2001:db8::1"]
    assert list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert belongs("app.example.key", found)
    assert (found.not_valid_after_utc - found.not_valid_before_utc).total_seconds() == 375 * DAY + 3600 - 1


@pytest.mark.parametrize(
    ("hosts", "stem"),
    [
        (["*.app.example"], "_wildcard.app.example"),
        (["2001:db8::7"], "2001-db8--7"),
        (["10.0.0.7", "app.internal"], "10.0.0.7"),
        (["localhost"], "localhost"),
        (["APP.Example."], "app.example"),
    ],
)
def test_files_are_named_by_the_first_name(admin: Administrator, hosts: list[str], stem: str) -> None:
    assert admin("issue", "server", *hosts).lines[0] == f"{stem}.key"
    assert {path.name for path in admin.folder.iterdir()} == {f"{stem}.{ending}" for ending in ("key", "crt", "chain.crt")}


def test_a_first_host_that_is_too_long_for_a_common_name(admin: Administrator) -> None:
    host = f"{'a' * 60}.example"
    answer = admin("issue", "server", host, "short.example")
    assert "longer than the 64 characters of a common name, so the subject is empty" in answer.err
    found = certificate(f"{host}.crt")
    assert not list(found.subject)
    assert found.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    assert admin("show", host, "--json").json["alternatives"] == [host, "short.example"]


def test_the_longest_host_can_be_had(admin: Administrator) -> None:
    host = ".".join(["a" * 62] * 4)
    assert len(host) == 251
    admin("issue", "server", host)
    assert len(list(admin.folder.iterdir())) == 3


def test_request_needs_no_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = administrator.typed("request", "ann", "--email", "ann@example.com")
    assert (answer.code, answer.lines) == (0, ["ann.csr"])
    assert answer.err.endswith("which says: gatekey issue client ann --email ann@example.com --csr ann.csr\n")
    asked = x509.load_pem_x509_csr(Path("ann.csr").read_bytes())
    assert asked.is_signature_valid
    assert asked.subject.rfc4514_string() == "CN=ann"
    administrator.typed("request", "--server", "app.example", "192.0.2.1", "--key-type", "rsa-2048", "--out", "deep/er")
    asked = x509.load_pem_x509_csr(Path("deep/er/app.example.csr").read_bytes())
    assert asked.is_signature_valid
    several = administrator.typed("request", "--server", "b.example", "*.b.example", "192.0.2.2")
    assert several.err.endswith("which says: gatekey issue server b.example '*.b.example' 192.0.2.2 --csr b.example.csr\n")
    administrator.typed("request", "bob", "--key", "ann.key")
    again = x509.load_pem_x509_csr(Path("bob.csr").read_bytes())
    assert load_pem_private_key(Path("ann.key").read_bytes(), None).public_key() == again.public_key()
    assert not Path("bob.key").exists()


def test_issue_from_a_request_takes_only_the_key_and_says_so(admin: Administrator) -> None:
    town._odd_requests(admin.folder)
    answer = admin("issue", "client", "ann", "--csr", "ca-wish.csr")
    assert "the request asks for kim; only its public key is taken" in answer.err
    assert "that is the authority's to say" in answer.err
    found = certificate("ann.crt")
    assert common_name(found) == "ann"
    assert not is_ca(found)
    assert not Path("ann.key").exists()


def is_ca(found: x509.Certificate) -> bool:
    return any(isinstance(extension.value, x509.BasicConstraints) and extension.value.ca for extension in found.extensions)


@pytest.mark.parametrize("form", ["PEM", "DER", "stdin", "DER on stdin", "base64"])
def test_a_request_in_every_form(admin: Administrator, form: str) -> None:
    admin("request", "ann")
    text = Path("ann.csr").read_bytes()
    der = x509.load_pem_x509_csr(text).public_bytes(Encoding.DER)
    Path("ann.csr").write_bytes({"DER": der, "base64": base64.b64encode(der)}.get(form, text))
    stdin = {"stdin": text, "DER on stdin": der}.get(form)
    admin("issue", "client", "ann", "--csr", "-" if stdin else "ann.csr", stdin=stdin or b"")
    assert belongs("ann.key", certificate("ann.crt"))


def test_a_request_with_its_private_key_in_one_file(admin: Administrator) -> None:
    """As openssl writes it with `-keyout F -out F`: nothing is wrong with the request, and people should know what they are about to send."""
    admin("request", "ann")
    Path("both.pem").write_bytes(Path("ann.key").read_bytes() + Path("ann.csr").read_bytes())
    answer = admin("issue", "client", "ann", "--csr", "both.pem", "--out", "out")
    assert "both.pem holds a private key beside the request: never send that to anybody" in answer.err
    assert belongs("ann.key", certificate("out/ann.crt"))


def test_sign_takes_names_and_nothing_else(admin: Administrator) -> None:
    admin("request", "--server", "shop.example", "www.shop.example", "192.0.2.9")
    answer = admin("sign", "shop.example.csr", "--profile", "server")
    assert answer.lines == ["shop.example.crt", "shop.example.chain.crt"]
    found = certificate("shop.example.crt")
    assert names(found, x509.DNSName) == ["shop.example", "www.shop.example"]
    assert names(found, x509.IPAddress) == ["192.0.2.9"]
    town._odd_requests(admin.folder)
    answer = admin("sign", "ca-wish.csr", "--profile", "client", "--device", "laptop")
    assert "it was not followed" in answer.err
    assert admin("show", "kim", "--json").json["device"] == "laptop"
    assert not is_ca(certificate("kim.crt"))
    answer = admin("sign", "-", "--profile", "device", "--out", "-", stdin=town.csr("printer", town._key()))
    assert common_name(x509.load_pem_x509_certificate(answer.stdout)) == "printer"
    assert not Path("-").exists()


def test_a_machine_has_one_live_certificate_at_every_door(admin: Administrator) -> None:
    Path("printer.csr").write_bytes(town.csr("printer", town._key()))
    admin("issue", "client", "printer", "--profile", "device")
    for words in ("sign printer.csr --profile device --out again.crt", "issue client printer --profile device --csr printer.csr --out again"):
        assert "renew" in admin(*words.split(), code=1).err
    assert len(admin("list", "--holder", "printer", "--json").json) == 1


def test_renew_with_the_same_key(admin: Administrator) -> None:
    admin("issue", "client", "ann", "--email", "ann@example.com")
    before = certificate("ann.crt")
    answer = admin("renew", "ann", "--out", "second")
    assert answer.lines == ["second/ann.crt", "second/ann.chain.crt"]
    after = certificate("second/ann.crt")
    assert (after.public_key(), after.subject) == (before.public_key(), before.subject)
    assert after.serial_number != before.serial_number
    assert f"the one before ({before.serial_number:032X}) stays valid until" in answer.err
    shown = admin("show", "ann", "--json").json
    assert (shown["serial"], shown["renews"]) == (f"{after.serial_number:032X}", f"{before.serial_number:032X}")
    assert admin("revoke", f"{before.serial_number:032X}", "--reason", "superseded").code == 0
    assert admin("verify", "second/ann.crt").code == 0
    assert "revoked" in admin("verify", "ann.crt", code=1).out


def test_renew_with_another_key(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    admin("renew", "ann", "--new-key", "--out", "new", "--password-file", "new.pw")
    assert {path.name for path in Path("new").iterdir()} == {"ann.key", "ann.crt", "ann.chain.crt", "ann.p12"}
    assert certificate("new/ann.crt").public_key() != certificate("ann.crt").public_key()
    assert belongs("new/ann.key", certificate("new/ann.crt"))
    admin("request", "ann", "--out", "own", "--key-type", "p384")
    admin("renew", "ann", "--csr", "own/ann.csr", "--out", "own")
    assert belongs("own/ann.key", certificate("own/ann.crt"))
    answer = admin("renew", "ann", "--key", "ann.key", "--out", "given")
    assert {path.name for path in Path("given").iterdir()} == {"ann.crt", "ann.chain.crt", "ann.p12"}
    assert belongs("ann.key", certificate("given/ann.crt"))
    assert pkcs12.load_pkcs12(Path("given/ann.p12").read_bytes(), password(answer.err).encode()).key is not None
    assert len({account["serial"] for account in admin("list", "--json").json}) == 4


def test_renewing_takes_the_e_mail_on_record_now(admin: Administrator) -> None:
    admin("issue", "client", "ann", "--email", "ann@example.com")
    admin("people", "set", "ann", "--email", "ann@example.org")
    admin("renew", "ann", "--out", "second")
    assert names(certificate("second/ann.crt"), x509.RFC822Name) == ["ann@example.org"]


def test_renew_a_server(admin: Administrator) -> None:
    admin("issue", "server", "app.example", "www.app.example", "--ip", "192.0.2.1")
    admin("renew", "app.example", "--out", "second", "--days", "30")
    before, after = certificate("app.example.crt"), certificate("second/app.example.crt")
    kind = x509.SubjectAlternativeName
    assert after.extensions.get_extension_for_class(kind).value == before.extensions.get_extension_for_class(kind).value
    assert (after.not_valid_after_utc - after.not_valid_before_utc).days == 30


def test_a_validity_is_cut_to_the_issuers(admin: Administrator, moved_clock: Callable[[int], None]) -> None:
    moved_clock(3500 * DAY)
    answer = admin("issue", "client", "ann")
    end = certificate(str(admin.home / "authorities" / "people.crt")).not_valid_after_utc
    assert f"valid until {end:%Y-%m-%d} only, not until" in answer.err
    assert "the authority people ends then" in answer.err
    assert certificate("ann.crt").not_valid_after_utc == end


def test_revoke_says_what_follows(admin: Administrator) -> None:
    admin("issue", "client", "ann", "--device", "laptop")
    answer = admin("revoke", "ann", "--reason", "superseded")
    serial = f"{certificate('ann.crt').serial_number:032X}"
    assert answer.lines == [f"revoked (superseded)  {serial}  ann (laptop)"]
    assert "the CRL is signed anew; now bring it to the web servers: gatekey bundle --out DIR" in answer.err
    listed = admin("crl", "--pem").stdout
    entry = x509.load_pem_x509_crl(listed).get_revoked_certificate_by_serial_number(int(serial, 16))
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.superseded


REFS = ["serial", "small serial", "serial with colons", "0x", "fingerprint", "fingerprint with colons", "login", "LOGIN", "e-mail", "file", "chain"]


@pytest.mark.parametrize("how", REFS)
def test_every_kind_of_ref(admin: Administrator, how: str) -> None:
    admin("issue", "client", "ann", "--email", "ann@example.com")
    shown = admin("show", "ann", "--json").json
    serial, print_ = shown["serial"], shown["fingerprint"]
    ref = {
        "serial": serial,
        "small serial": serial.lower(),
        "serial with colons": ":".join(serial[i : i + 2] for i in range(0, 32, 2)),
        "0x": f"0x{serial}",
        "fingerprint": print_,
        "fingerprint with colons": ":".join(print_[i : i + 2] for i in range(0, 64, 2)),
        "login": "ann",
        "LOGIN": "ANN",
        "e-mail": "Ann@Example.com",
        "file": "ann.crt",
        "chain": "ann.chain.crt",
    }[how]
    assert serial in admin("revoke", ref).out
    assert admin("show", serial, "--json").json["status"] == "revoked"


def test_what_is_still_in_force_is_heard_even_when_quiet(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    first = admin.serial("ann")
    admin("renew", "ann", "--out", "second")
    second = admin.serial("ann")
    answer = admin("revoke", "ann", "--quiet")
    assert second in answer.out
    assert f"still in force: {first}" in answer.err
    assert f"gatekey revoke {first} takes it too" in answer.err


def test_hold_and_unhold(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    serial = admin.serial("ann")
    assert admin("hold", "ann").lines == [f"held  {serial}  ann"]
    assert admin("list", "--status", "held", "--json").json[0]["reason"] == "certificate-hold"
    assert "on hold" in admin("verify", "ann.crt", code=1).out
    back = admin("unhold", "ann")
    assert back.lines == [f"in force again  {serial}  ann"]
    assert "now bring it to the web servers" in back.err
    assert admin("verify", "ann.crt").code == 0
    listed = x509.load_pem_x509_crl(admin("crl", "--pem").stdout)
    assert listed.get_revoked_certificate_by_serial_number(int(serial, 16)) is None
    admin("hold", "ann")
    assert admin("revoke", "ann", "--reason", "privilege-withdrawn").code == 0


def test_key_compromise_takes_every_certificate_with_the_key(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    admin("renew", "ann", "--out", "second")
    admin("issue", "client", "bob")
    answer = admin("revoke", "ann", "--reason", "key-compromise")
    assert len(answer.lines) == 2
    assert "this key is never certified again" in answer.err
    assert {account["holder"]: account["status"] for account in admin("list", "--json").json} == {"ann": "revoked", "bob": "valid"}
    admin("request", "ann", "--key", "ann.key")
    assert "never certified again" in admin("issue", "client", "ann", "--csr", "ann.csr", "--out", "third", code=1).err


def test_leave_and_come_back(admin: Administrator) -> None:
    admin("issue", "client", "ann", "--device", "laptop", "--out", "one")
    admin("issue", "client", "ann", "--device", "phone", "--out", "two")
    answer = admin("leave", "ann", "--yes")
    assert "ann (ann) has 2 live certificates:" in answer.err
    assert [line.split("  ")[0] for line in answer.lines] == ["revoked (affiliation-changed)"] * 2
    assert admin("people", "list").out == ""
    assert admin("people", "list", "--all", "--json").json[0]["left_at"]
    assert admin("bundle", "--out", "bundle").code == 0
    assert json.loads(Path("bundle/people.json").read_text())["people"] == []
    admin("people", "set", "ann", "--back")
    admin("issue", "client", "ann", "--device", "laptop", "--out", "three")
    assert sorted(account["status"] for account in admin("list", "--holder", "ann", "--json").json) == ["revoked", "revoked", "valid"]


def test_what_goes_beside_the_certificates_is_shown_before(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    admin("people", "set", "ann", "--role", "auditor", "--role", "operator")
    token = admin("token", "add", "ann", "--scope", "read", "--about", "the nightly report", "--json").json["id"]
    preview = admin("leave", "ann", code=1)
    assert "and the roles auditor, operator" in preview.err
    assert f"and the token {token} (read), the nightly report" in preview.err
    told = admin("leave", "ann", "--json", code=1).json
    assert told == {"would_revoke": [admin.serial("ann")], "roles": ["auditor", "operator"], "tokens": [token]}
    done = admin("leave", "ann", "--yes", "--json").json
    assert (done["roles"], done["tokens"], len(done["certificates"])) == (["auditor", "operator"], [token], 1)
    assert admin("people", "show", "ann", "--json").json["roles"] == []


def test_one_who_has_nothing_leaves_too(admin: Administrator) -> None:
    admin("people", "add", "gus")
    answer = admin("leave", "gus", "--yes")
    assert "gus is marked as gone; there was no certificate to take away" in answer.err


def test_the_last_administrator_leaves_with_a_warning(admin: Administrator) -> None:
    for login in ("ann", "bob"):
        admin("people", "add", login)
        admin("people", "set", login, "--role", "administrator")
    assert "only administrator" not in admin("leave", "bob", "--yes").err
    warning = "ann is the only administrator: afterwards nobody can manage the authority through the service, only on this machine"
    assert warning in admin("leave", "ann", code=1).err
    assert "administrator" in admin("people", "show", "ann").out
    answer = admin("leave", "ann", "--yes", "--quiet")
    assert warning in answer.err
    assert "there is no administrator any more; gatekey people set LOGIN --role administrator makes somebody one" in answer.err
    admin("people", "set", "ann", "--back")
    admin("people", "set", "ann", "--role", "administrator")


def test_people(admin: Administrator) -> None:
    admin("people", "add", "ann", "--name", "Änn Öberg", "--email", "ann@example.com", "--group", "staff", "--device", "laptop")
    answer = admin("people", "set", "ann", "--group", "ops", "--no-group", "staff", "--device", "phone", "--no-device", "laptop", "--json")
    assert answer.json["groups"] == ["ops"]
    assert answer.json["devices"] == ["phone"]
    assert answer.json["name"] == "Änn Öberg"
    assert admin("people", "show", "ann@example.com", "--json").json["login"] == "ann"
    assert admin("people", "list", "--group", "staff").out == ""
    assert "Änn Öberg" in admin("people", "list", "--group", "ops").out


def test_a_group_or_device_that_is_said_twice_is_one(admin: Administrator) -> None:
    twice = ("--group", "staff", "--group", "ops", "--group", "staff")
    added = admin("people", "add", "ann", *twice, "--device", "laptop", "--device", "laptop", "--json").json
    assert (added["groups"], added["devices"]) == (["ops", "staff"], ["laptop"])
    admin("issue", "client", "bob", *twice)
    assert admin("people", "show", "bob", "--json").json["groups"] == ["ops", "staff"]


def test_list_filters(admin: Administrator, moved_clock: Callable[[int], None]) -> None:
    town.build(admin)

    def listed(*words: str) -> list[str]:
        return [account["holder"] for account in admin("list", *words, "--json").json]

    assert sorted(listed()) == ["ann", "app.example", "bob", "carl", "dora", "eve", "eve", "fay"]
    assert sorted(listed("--status", "valid")) == ["ann", "app.example", "eve", "eve"]
    assert listed("--status", "held") == ["bob"]
    assert listed("--holder", "ann@example.com") == ["ann"]
    assert listed("--group", "staff") == ["ann"]
    assert sorted(listed("--authorities"))[-4:] == ["dora", "eve", "eve", "fay"]
    assert len(listed("--authorities")) == 12
    assert listed("--expiring", "364") == []
    assert sorted(listed("--expiring", "365")) == ["ann", "eve", "eve"]
    moved_clock(366 * DAY)
    assert "expired" in admin("list", "--holder", "ann").out
    assert sorted(listed("--expiring", "20")) == ["app.example"]


def test_list_hides_what_the_service_issues_to_itself(admin: Administrator) -> None:
    admin("issue", "server", "localhost")
    service = app.open_authority(admin.home, who=SERVICE)
    own.server_certificate(service, (), lambda: material.make("p256"))
    Responders(service, material.make).renew()
    service.close()
    assert [one["holder"] for one in admin("list", "--json").json] == ["localhost"]
    shown = admin("list", "--services", "--json").json
    assert sorted(one["holder"] for one in shown) == ["gatekey-ocsp"] * 4 + ["gatekey-service", "localhost"]


def test_a_whole_token_is_revoked_by_its_short_name(admin: Administrator) -> None:
    admin("people", "add", "ann")
    admin("people", "set", "ann", "--role", "auditor")
    for _ in range(2):
        admin("token", "add", "ann", "--scope", "read", "--out", "t")
        secret = Path("t").read_text().strip()
        assert admin("token", "revoke", secret).out == f"revoked  {secret.split('_')[1]}\n"
        Path("t").unlink()
    refused = admin("token", "revoke", secret, code=1)
    assert secret.split("_")[2] not in refused.out + refused.err


def test_a_token_takes_the_place_of_a_file_with_force_only(admin: Administrator) -> None:
    admin("people", "add", "ann")
    admin("people", "set", "ann", "--role", "auditor")
    words = ("token", "add", "ann", "--scope", "read", "--out", "t")
    admin(*words)
    Path("t").chmod(0o644)
    before = Path("t").read_text()
    assert "or say --force" in admin(*words, code=1).err
    assert Path("t").read_text() == before
    admin(*words, "--force")
    assert Path("t").read_text() != before
    assert Path("t").stat().st_mode & 0o777 == 0o600
    assert "--force goes with --out" in admin(*words[:-2], "--force", code=2).err


@pytest.mark.parametrize("option", ["--name", "--display"])
def test_a_display_name_has_two_spellings(admin: Administrator, option: str) -> None:
    """One of them is in each help."""
    for words in ("issue client ann", "people add bob", "people set bob"):
        admin(*words.split(), option, f"Nöämi {words}")
        assert admin("people", "show", words.split()[-1], "--json").json["name"] == f"Nöämi {words}"
        shown = admin(*words.split()[:2], "--help").out
        assert ("--name TEXT" in shown) != ("--display TEXT" in shown)
    admin("people", "set", "bob", option, "")
    assert admin("people", "show", "bob", "--json").json["name"] == ""


def test_a_renewed_person_is_told_how_it_reaches_the_browser(admin: Administrator) -> None:
    admin("issue", "client", "bob miller")
    admin("issue", "server", "app.example")
    said = admin("renew", "bob miller", "--out", "r1").err
    line = "gatekey p12 'r1/bob miller.crt' --key 'bob miller.key' --out 'r1/bob miller.p12'"
    assert f"next: {line}, for the browser" in said
    admin(*shlex.split(line)[1:])
    assert Path("r1/bob miller.p12").is_file()
    for words in ("renew app.example --out r1", "renew {bob} --new-key --out r2", "renew {bob} --out r3 --quiet"):
        serial = admin.serial("r1/bob miller.crt")
        assert "next:" not in admin(*words.format(bob=serial).split()).err


def test_another_live_certificate_of_a_server_is_told(admin: Administrator) -> None:
    first = admin("issue", "server", "app.example", "--json").json["serial"]
    said = admin("issue", "server", "app.example", "--out", "second").err
    assert f"app.example has another live certificate: {first} until " in said
    assert f"gatekey revoke {first} --reason superseded" in said
    third = admin("issue", "server", "app.example", "--out", "third").err
    assert "and 1 more (gatekey list --holder app.example)" in third
    for place in (first, "second/app.example.crt", "third/app.example.crt"):
        admin("revoke", place)
    assert "another" not in admin("issue", "server", "app.example", "--out", "fourth").err


def test_list_for_programs_and_for_people(admin: Administrator) -> None:
    assert admin("list") == administrator.Answer(0, b"", "no certificates\n")
    admin("issue", "client", "ann", "--device", "laptop")
    head, line = admin("list").lines
    assert head.split("\t") == ["serial", "name", "kind", "device", "status", "until", "issuer"]
    assert line.split("\t")[1:5] == ["ann", "person", "laptop", "valid"]


def test_show_knows_every_kind_of_file(admin: Administrator) -> None:
    town.build(admin)
    for file, words in {
        "ann.crt": "a certificate for a client",
        "app.example.crt": "a certificate for a server",
        "bob.csr": "request",
        "people.crl": "a list of revoked certificates (CRL)",
        "ann.p12": "a PKCS#12 file",
        "ann.key": "a private key, NOT encrypted",
        "sealed.key": "encrypted",
    }.items():
        answer = admin("show", file)
        assert words in answer.out, answer.out
        assert isinstance(admin("show", file, "--json").json, dict)
        assert "PRIVATE KEY" not in answer.out
    inside = admin("show", "ann.p12", "--password-file", "ann.pw").out
    assert "CN=ann" in inside
    assert "private key" in inside
    assert len(admin("show", "ann.chain.crt", "--json").json) == 2
    assert "in our ledger" in admin("show", "ann.crt").out
    assert "in our ledger" not in admin("show", "foreign.crt").out


@pytest.mark.parametrize(("name", "label"), [("bob.csr", "CERTIFICATE REQUEST"), ("people.crl", "X509 CRL"), ("ann.chain.crt", "CERTIFICATE")])
def test_show_prints_what_is_no_secret(admin: Administrator, name: str, label: str) -> None:
    admin("issue", "client", "ann")
    admin("request", "bob")
    admin("crl", "--out", "people.crl")
    assert set(re.findall("BEGIN ([A-Z0-9 ]+)-", admin("show", name, "--pem").out)) == {label}


def test_everything_that_has_one_text_goes_to_stdout(admin: Administrator) -> None:
    assert admin("crl", "--out", "-", "--pem").out.startswith("-----BEGIN X509 CRL")
    assert admin("authority", "export", "people", "--out", "-").out.startswith("-----BEGIN CERTIFICATE")
    assert admin("authority", "export", "--out", "-").out.count("BEGIN CERTIFICATE") == 4
    assert not Path("-").exists()


def test_show_a_file_without_any_authority(tmp_path: Path, admin: Administrator) -> None:
    admin("issue", "client", "ann")
    assert "CN=ann" in administrator.typed("--home", tmp_path / "nowhere", "show", "ann.crt").out


def test_show_a_file_says_how_the_ledger_stands_to_it(admin: Administrator) -> None:
    """The file of a revoked certificate still says that its dates are good; the ledger knows better, in words and in JSON."""
    admin("issue", "client", "ann", "--device", "laptop")
    assert admin("show", "ann.crt", "--json").json["ledger"]["status"] == "valid"
    admin("revoke", "ann", "--reason", "superseded")
    told = admin("show", "ann.crt", "--json").json["ledger"]
    assert (told["status"], told["reason"], told["holder"], told["device"], told["issuer"]) == ("revoked", "superseded", "ann", "laptop", "people")
    assert f"revoked since {told['revoked_at']} (superseded), holder ann, device laptop" in admin("show", "ann.crt").out
    assert administrator.typed("--home", admin.folder / "nowhere", "show", "ann.crt", "--json").json["ledger"] is None


def test_show_one_of_ours(admin: Administrator) -> None:
    town.build(admin)
    out = admin("show", "ann").out
    assert "Änn Öberg (ann), person, device laptop" in out
    assert "staff" in out
    assert admin("show", "ann", "--pem").stdout == Path("ann.crt").read_bytes()
    assert "revoked since" in admin("show", "carl").out
    assert "(superseded)" in admin("show", "carl").out
    assert "login    gus" in admin("show", "gus").out
    assert f"{admin.serial('eve-phone/eve.crt')}  eve  phone  valid until" in admin("show", "eve", code=1).err


def test_crl(admin: Administrator) -> None:
    first = x509.load_der_x509_crl(admin("crl").stdout)
    second = x509.load_pem_x509_crl(admin("crl", "--pem").stdout)
    number = x509.CRLNumber
    assert second.extensions.get_extension_for_class(number).value.crl_number == first.extensions.get_extension_for_class(number).value.crl_number + 1
    assert admin("crl", "--authority", "servers-root", "--out", "deep/root.crl").lines == ["deep/root.crl"]
    root = x509.load_der_x509_crl(Path("deep/root.crl").read_bytes())
    assert root.next_update_utc is not None
    assert (root.next_update_utc - root.last_update_utc).days == 400
    admin("crl", "--authority", "servers-root", "--out", "deep/root.crl")  # a CRL replaces the one before
    told = admin("crl", "--json").json
    assert x509.load_pem_x509_crl(told["pem"].encode()).extensions.get_extension_for_class(number).value.crl_number == told["number"]


def test_bundle(admin: Administrator) -> None:
    town.build(admin)
    answer = admin("bundle", "--out", "bundle")
    assert answer.lines == ["bundle"]
    assert re.search(r"good until \d{4}-\d\d-\d\d: run this again before \d{4}-\d\d-\d\d", answer.err)
    people = json.loads(Path("bundle/people.json").read_text())["people"]
    assert sorted((known["login"], known["device"]) for known in people) == [("ann", "laptop"), ("eve", "phone"), ("eve", "tablet")]
    assert {known["issuer_dn"] for known in people} == {f"CN={administrator.NAME} people"}
    ann = next(known for known in people if known["login"] == "ann")
    assert (ann["name"], ann["email"], ann["groups"]) == ("Änn Öberg", "ann@example.com", ["staff"])
    denied = Path("bundle/revoked.map").read_text()
    assert sorted(SERIAL.findall(denied)) == sorted(admin.serial(ref) for ref in ("bob", "carl", "dora", "fay"))
    assert len(x509.load_pem_x509_certificates(Path("bundle/people-chain.pem").read_bytes())) == 2
    assert Path("bundle/all.crl.pem").read_text().count("BEGIN X509 CRL") == 2
    manifest = json.loads(Path("bundle/manifest.json").read_text())
    assert set(manifest["files"]) == {path.name for path in Path("bundle").iterdir() if not path.name.startswith(".")} - {"manifest.json"}


@pytest.mark.interop
def test_the_timer_is_a_unit_that_systemd_reads(admin: Administrator, program: Callable[[str], str]) -> None:
    text = admin("bundle", "--timer", "--out", "/srv/a folder/100%").out
    service, timer = re.split(r"^# /etc/systemd/system/gatekey-bundle\.timer\n", text, flags=re.MULTILINE)
    assert f"--home {admin.home} bundle --out \"/srv/a folder/100%%\"" in service
    Path("gatekey-bundle.service").write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", service, flags=re.MULTILINE))
    Path("gatekey-bundle.timer").write_text(timer)
    judged = subprocess.run([program("systemd-analyze"), "verify", "./gatekey-bundle.timer", "./gatekey-bundle.service"], capture_output=True, text=True)
    assert "gatekey-bundle" not in judged.stderr, judged.stderr


def test_authority_verbs(admin: Administrator) -> None:
    accounts = admin("authority", "list", "--json").json
    assert [(account["name"], account["role"], account["key_here"]) for account in accounts] == [
        ("people-root", "root", True),
        ("people", "issuing", True),
        ("servers-root", "root", True),
        ("servers", "issuing", True),
    ]
    assert "CN=Kitty CA people" in admin("authority", "show", "people").out
    assert x509.load_pem_x509_certificate(admin("authority", "show", "people", "--json").json["pem"].encode()) == certificate(
        str(admin.home / "authorities" / "people.crt")
    )
    admin("authority", "export", "--out", "all.pem")
    assert len(chain("all.pem")) == 4
    admin("authority", "export", "people", "--out", "people.der", "--der")
    assert x509.load_der_x509_certificate(Path("people.der").read_bytes()) == chain("all.pem")[1]
    Path("each").mkdir()
    admin("authority", "export", "--out", "each")
    assert sorted(path.name for path in Path("each").iterdir()) == ["people-root.crt", "people.crt", "servers-root.crt", "servers.crt"]


def test_trust(admin: Administrator) -> None:
    out = admin("trust").out
    told = admin("trust", "--json").json
    root = certificate(str(admin.home / "authorities" / "servers-root.crt"))
    print_ = root.fingerprint(SHA256()).hex().upper()
    assert told["fingerprint"] == print_
    assert ":".join(print_[i : i + 2] for i in range(0, 64, 2)) in out
    for system in ("Debian", "Fedora", "macOS", "Windows", "Firefox"):
        assert system in out
    assert certificate(told["file"]) == root


class TestTrustInstall:
    """`trust --install` into a store of the test's own: never into that of the machine."""

    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        from gatekey.cli import publish

        folder, programs = tmp_path / "ca-certificates", tmp_path / "bin"
        folder.mkdir()
        programs.mkdir()
        (programs / "update-it").write_text(f"#!/bin/sh\n[ -e {tmp_path}/broken ] && {{ echo out of order >&2; exit 3; }}\ntouch {tmp_path}/updated\n")
        (programs / "update-it").chmod(0o755)
        monkeypatch.setattr(publish, "_STORES", ((tmp_path / "none", "update-it"), (folder, "update-it")))
        monkeypatch.setenv("PATH", str(programs), prepend=":")
        return folder

    def test_installed(self, admin: Administrator, store: Path) -> None:
        answer = admin("trust", "--install")
        (installed,) = store.iterdir()
        assert certificate(str(installed)) == certificate(str(admin.home / "authorities" / "servers-root.crt"))
        assert f"installed    {installed}" in answer.out
        assert (store.parent / "updated").exists()
        assert "Firefox and Chrome on Linux keep stores of their own" in answer.err
        admin("trust", "--install")
        assert len(list(store.iterdir())) == 1

    def test_a_store_that_fails(self, admin: Administrator, store: Path) -> None:
        (store.parent / "broken").touch()
        answer = admin("trust", "--install", code=1)
        assert "update-it failed: out of order" in answer.err
        assert "take " in answer.err

    def test_a_system_without_one(self, admin: Administrator, store: Path) -> None:
        store.rmdir()
        assert "this system has no store that --install knows" in admin("trust", "--install", code=1).err


def test_verify(admin: Administrator, moved_clock: Callable[[int], None]) -> None:
    town.build(admin)
    assert admin("verify", "ann.crt").lines[0] == "ann.crt: yes"
    for file, check, words in [
        ("carl.crt", "revocation", "it is revoked since"),
        ("bob.crt", "revocation", "it is on hold since"),
        ("app.example.crt", "usage", "it is not for a client: its extended key usage is serverAuth"),
        ("foreign.crt", "path", ""),
        ("foreign.crt", "revocation", "our ledger does not know it"),
    ]:
        out = admin("verify", file, code=1).out
        assert out.startswith(f"{file}: no\n")
        assert re.search(rf"^  {check} +{re.escape(words)}", out, re.MULTILINE), out
    assert admin("verify", "--server", "app.example.crt").code == 0
    assert admin("verify", "--server", "ann.crt", code=1).out.startswith("ann.crt: no")
    assert "it has expired on" in admin("verify", "ann.crt", "--at", "2099-01-01", code=1).out
    assert admin("verify", "ann.crt", "eve-phone/eve.crt", "carl.crt", code=1).out.count(": yes") == 2
    told = admin("verify", "carl.crt", "--json", code=1).json
    assert told["file"] == "carl.crt"


def test_verify_says_whose_date_it_is(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    out = admin("verify", "ann.crt", "--at", "2099-01-01", code=1).lines
    said = [line.split(maxsplit=1)[1] for line in out if line.split()[0] == "dates"]
    assert len(said) == len(set(said)) == 3
    assert said[0].startswith("it has expired on ")
    assert said[1].startswith(f"CN={administrator.NAME} people: it has expired on ")
    assert said[2].startswith(f"CN={administrator.NAME} people root: it has expired on ")


def test_one_file_that_cannot_be_read_leaves_the_others_judged(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    told = admin("verify", "ann.crt", "nothing.crt", "--json", code=1).json
    assert [(one["file"], one["ok"]) for one in told] == [("ann.crt", True), ("nothing.crt", False)]
    assert told[1]["error"] == {"code": "no-file", "message": "there is no nothing.crt"}
    assert admin("verify", "nothing.crt", "ann.crt", code=1).lines[:3] == ["nothing.crt: no", "  there is no nothing.crt", "ann.crt: yes"]


def test_warnings_before_a_crl_runs_out(admin: Administrator, moved_clock: Callable[[int], None]) -> None:
    admin("issue", "client", "ann")
    assert admin("list").err == ""
    moved_clock(21 * DAY)
    for words in (["list"], ["verify", "ann.crt"], ["authority", "list"]):
        heard = admin(*words, "--quiet").err
        assert "the CRL of people expires in 8 days; web servers that use it will then refuse everybody (gatekey crl --authority people)" in heard, words
    admin("bundle", "--out", "bundle")
    assert "CRL of people" not in admin("list").err
    moved_clock(61 * DAY)
    assert "the CRL of people has expired or expires today" in admin("list").err


def test_flat(flat: Administrator) -> None:
    flat("issue", "client", "ann")
    flat("issue", "server", "app.example")
    assert Path("ann.crt").read_bytes() == Path("ann.chain.crt").read_bytes()
    assert [account["name"] for account in flat("authority", "list", "--json").json] == ["root"]
    assert flat("verify", "ann.crt").code == 0
    assert flat("verify", "--server", "app.example.crt").code == 0
    assert flat("verify", "app.example.crt", code=1).code == 1
    flat("bundle", "--out", "bundle")
    assert len(chain("bundle/people-chain.pem")) == 1
    assert Path("bundle/all.crl.pem").read_text().count("BEGIN X509 CRL") == 1
    assert flat("store", "check").lines == ["the ledger is whole"]


def test_force_overwrites_files_but_never_a_password(admin: Administrator) -> None:
    admin("issue", "client", "ann", "--device", "laptop")
    first = Path("ann.crt").read_bytes()
    admin("issue", "client", "ann", "--device", "phone", "--force", "--password-file", "ann.pw")
    assert Path("ann.crt").read_bytes() != first
    assert belongs("ann.key", certificate("ann.crt"))
    assert pkcs12.load_pkcs12(Path("ann.p12").read_bytes(), Path("ann.pw").read_bytes().strip()).key is not None


def test_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", {"gatekey": "1.2.3"}.__getitem__)
    assert administrator.typed("--version") == administrator.Answer(0, b"gatekey 1.2.3\n", "")


def test_one_that_is_held_and_past_its_end_is_in_nobodys_way(admin: Administrator, moved_clock: Callable[[int], None]) -> None:
    admin("issue", "client", "ann", "--days", "5", "--out", "first")
    admin("hold", "ann")
    assert "has a live certificate already" in admin("issue", "client", "ann", code=1).err
    moved_clock(6 * DAY)
    admin("issue", "client", "ann")
    assert "ann (ann) has 1 live certificate:" in admin("leave", "ann", "--yes").err
