"""The Python API: the example at the head of the package really runs; each verb does what the command line does; and the kit for other people's tests."""

from __future__ import annotations

import contextlib
import inspect
import re
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

import gatekey
import gatekey.testing
from gatekey.testing import CA, FakeClock, FakeEntropy
from kit import town

WORDS = "five words are a passphrase"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gatekey.Authority]:
    with gatekey.Authority.create(tmp_path_factory.mktemp("api") / "home", "Kitty CA", unencrypted_keys=True) as ca:
        yield ca


def example(module: Any) -> str:
    """The code in a module's docstring: its indented lines, or the lines from `with` on."""
    text = inspect.getdoc(module) or ""
    code = "\n".join(line for line in text.splitlines() if line.startswith("    "))
    return textwrap.dedent(code) if "import" in code else text[text.index("\nwith ") + 1 :]


def test_the_example_of_the_package_runs(tmp_path: Path) -> None:
    """Everything in it but the one path is taken as it stands."""
    code = example(gatekey)
    assert len(code.splitlines()) >= 7
    code = code.replace('"/etc/gatekey"', "bundle")
    names: dict[str, Any] = {"home": tmp_path / "home", "bundle": tmp_path / "bundle"}
    exec(compile(code, "the docstring of gatekey", "exec"), names)
    assert pkcs12.load_pkcs12(names["p12"], names["password"].encode()).key is not None
    assert (tmp_path / "bundle" / "people-chain.pem").exists()
    with gatekey.Authority.open(tmp_path / "home") as ca:
        status = {record.holder: record.revoked_reason for record in ca.certificates()}
    assert status == {"app.example": None, "ann": "unspecified"}


def test_the_example_of_the_test_kit_runs() -> None:
    code = example(gatekey.testing)
    names: dict[str, Any] = {"gatekey": gatekey}
    exec(compile(code, "the docstring of gatekey.testing", "exec"), names)
    assert isinstance(names["server"], ssl.SSLContext)
    assert isinstance(names["ann"], ssl.SSLContext)
    assert not names["ca"].folder.exists()


def test_few_names_each_of_them_there() -> None:
    assert len(gatekey.__all__) < 15
    for name in gatekey.__all__:
        assert getattr(gatekey, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gatekey.nothing


def test_importing_it_costs_next_to_nothing() -> None:
    code = "import sys; import gatekey; print([m for m in ('cryptography', 'click', 'sqlite3', 'ssl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(Path(gatekey.__file__).parent.parent)})
    assert done.stdout == "[]\n"


def test_create_and_open(tmp_path: Path) -> None:
    with gatekey.Authority.create(str(tmp_path / "home"), "Kitty CA", passphrase=WORDS) as ca:
        ca.issue_client("ann")
    assert b"ENCRYPTED" in (tmp_path / "home" / "keys" / "people.key").read_bytes()
    with gatekey.Authority.open(tmp_path / "home", passphrase=WORDS) as ca:
        ca.issue_client("bob")
    with gatekey.Authority.open(tmp_path / "home") as ca:  # reading needs none
        assert [holder.login for holder in ca.people()] == ["ann", "bob"]
        with pytest.raises(gatekey.Misconfigured):
            ca.issue_client("carl")
    with gatekey.Authority.open(tmp_path / "home", passphrase="wrong") as ca, pytest.raises(gatekey.Misconfigured) as raised:
        ca.issue_client("carl")
    assert raised.value.code == "wrong-passphrase"
    with gatekey.Authority.open(tmp_path / "home", passphrase=WORDS) as ca:
        assert [holder.login for holder in ca.people()] == ["ann", "bob"]
        ca.issue_client("carl")


@pytest.mark.parametrize(
    ("act", "kind", "code"),
    [
        (lambda place: gatekey.Authority.create(place / "home", "X"), gatekey.Refused, "no-passphrase"),
        (lambda place: gatekey.Authority.create(place / "home", "", unencrypted_keys=True), gatekey.Refused, "bad-name"),
        (lambda place: gatekey.Authority.create(place, "X", unencrypted_keys=True), gatekey.Conflict, "home-not-empty"),
        (lambda place: gatekey.Authority.create(place / "home", "X", unencrypted_keys=True, url="ftp://x"), gatekey.Refused, "bad-url"),
        (lambda place: gatekey.Authority.create(place / "home", "X", unencrypted_keys=True, permit_domains=["a b"]), gatekey.Refused, "bad-host"),
        (lambda place: gatekey.Authority.open(place / "nowhere"), gatekey.Misconfigured, "no-home"),
        (lambda place: gatekey.Authority.create(place / "home", "X", unencrypted_keys=True, days=0), gatekey.Refused, "days-too-few"),
    ],
)
def test_founding_refused(tmp_path: Path, act: Any, kind: type[gatekey.GatekeyError], code: str) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(kind) as raised:
        act(tmp_path)
    assert raised.value.code == code
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_a_client(shared: gatekey.Authority) -> None:
    issued = shared.issue_client("ann", email="ann@example.com", name="Ann", device="laptop", groups=("staff",), days=30)
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    assert f"{certificate.serial_number:032X}" == issued.serial
    assert load_pem_private_key(issued.key, None).public_key() == certificate.public_key()
    assert x509.load_pem_x509_certificates(issued.chain)[0] == certificate
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 30
    for target in ("any", "modern"):
        data, password = issued.pkcs12(target=target)
        held = pkcs12.load_pkcs12(data, password.encode())
        assert held.cert is not None
        assert held.cert.certificate == certificate
    holder = next(holder for holder in shared.people() if holder.login == "ann")
    assert (holder.name, holder.email, holder.groups, holder.devices) == ("Ann", "ann@example.com", ("staff",), ("laptop",))
    with pytest.raises(gatekey.Refused) as raised:
        shared.issue_client("ann", device="laptop")
    assert raised.value.code == "device-has-one"


def test_a_secret_is_not_shown_by_accident(shared: gatekey.Authority) -> None:
    issued = shared.issue_client("secret")
    assert "PRIVATE KEY" not in repr(issued)
    assert "key=" not in repr(issued)


def test_a_client_with_her_own_request(shared: gatekey.Authority) -> None:
    key = town._key()
    issued = shared.issue_client("bob", csr=town.csr("whoever", key))
    assert issued.key == b""
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=bob"
    with pytest.raises(gatekey.Refused) as raised:
        issued.pkcs12()
    assert raised.value.code == "no-key"
    for wrong in (b"", b"hello", issued.certificate, town._forged(town.csr("kim", town._key()))):
        with pytest.raises(gatekey.Malformed):
            shared.issue_client("carl", csr=wrong)


def test_a_server_and_a_request_signed(shared: gatekey.Authority) -> None:
    issued = shared.issue_server("app.example", "192.0.2.1", key_type="p384")
    names = x509.load_pem_x509_certificate(issued.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["app.example"]
    signed = shared.sign(town.csr("", town._key(), x509.DNSName("shop.example")), "server")
    assert signed.key == b""
    with pytest.raises(gatekey.Refused) as raised:
        shared.issue_server("a_b.example", "c_d.example")
    assert [reason.code for reason in raised.value.reasons] == ["bad-host", "bad-host"]
    with pytest.raises(gatekey.NotFound):
        shared.sign(town.csr("kim", town._key()), "klient")


def test_a_machine_has_one_live_certificate(shared: gatekey.Authority) -> None:
    first = shared.sign(town.csr("lamp", town._key()), "device")
    with pytest.raises(gatekey.Refused, match="live certificate"):
        shared.sign(town.csr("lamp", town._key()), "device")
    assert [one.serial for one in shared.certificates() if one.holder == "lamp"] == [first.serial]


def test_groups_are_several_words_each_once(shared: gatekey.Authority) -> None:
    shared.issue_client("gus", groups=["staff", "ops", "staff"])
    assert next(one for one in shared.people() if one.login == "gus").groups == ("ops", "staff")
    with pytest.raises(gatekey.Refused, match="groups is one text, 'staff'"):
        shared.issue_client("guy", groups="staff")


def test_renew_hold_revoke_leave(shared: gatekey.Authority) -> None:
    first = shared.issue_client("dora")
    again = shared.renew("dora")
    assert again.key == b""
    new = shared.renew("dora", new_key=True)
    assert new.key
    shared.hold(new.serial)
    assert int(new.serial, 16) in _listed(shared)
    shared.unhold(new.serial)
    assert int(new.serial, 16) not in _listed(shared)
    assert [one.id.serial for one in shared.revoke(first.serial, "superseded")] == [first.serial]
    assert {one.id.serial for one in shared.leave("dora")} == {again.serial, new.serial}
    with pytest.raises(gatekey.Conflict):
        shared.revoke(first.serial)
    with pytest.raises(gatekey.NotFound):
        shared.revoke("nobody")


def _listed(ca: gatekey.Authority) -> set[int]:
    return {entry.serial_number for entry in x509.load_der_x509_crl(ca.crl())}


def test_what_others_must_know(shared: gatekey.Authority, tmp_path: Path) -> None:
    shared.bundle(tmp_path / "bundle")
    assert (tmp_path / "bundle" / "manifest.json").exists()
    root = x509.load_pem_x509_certificate(shared.servers_root)
    assert root.subject.rfc4514_string() == "CN=Kitty CA servers root"
    assert x509.load_pem_x509_certificate(shared.certificate_of("servers")).issuer == root.subject
    with pytest.raises(gatekey.NotFound):
        shared.certificate_of("queens")


def test_flat(tmp_path: Path) -> None:
    with gatekey.Authority.create(tmp_path / "home", "Kitty CA", flat=True, unencrypted_keys=True) as ca:
        issued = ca.issue_client("ann")
        assert issued.chain == issued.certificate
        assert x509.load_pem_x509_certificate(ca.servers_root).subject.rfc4514_string() == "CN=Kitty CA"


class TestTheKit:
    """`gatekey.testing`, for other people's tests."""

    @staticmethod
    def meet(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> tuple[str, str]:
        """A handshake and a word in both directions: whom the server sees, and what the client hears; "" where it was refused."""
        ours, theirs = socket.socketpair()
        seen: list[str] = []

        def serve() -> None:
            with contextlib.suppress(OSError), theirs, server.wrap_socket(theirs, server_side=True) as shaken:
                certificate: Any = shaken.getpeercert()
                seen.extend(value for rdn in certificate["subject"] for kind, value in rdn if kind == "commonName")
                shaken.sendall(b"welcome")

        thread = threading.Thread(target=serve)
        thread.start()
        heard = b""
        with contextlib.suppress(OSError), ours, client.wrap_socket(ours, server_hostname=host) as shaken:
            heard = shaken.recv(100)
        thread.join()
        return "".join(seen), heard.decode()

    def test_contexts(self) -> None:
        with CA() as ca, CA("Another CA") as other:
            server = ca.server_context()
            assert self.meet(server, ca.client_context("ann")) == ("ann", "welcome")
            assert self.meet(server, ca.client_context("ann"), "127.0.0.1") == ("ann", "welcome")
            assert self.meet(server, ca.client_context())[1] == ""
            stranger = ca.client_context()
            issued = other.person("ann")
            file = other.folder / "ann.pem"
            file.write_bytes(issued.key + issued.chain)
            stranger.load_cert_chain(file)
            assert self.meet(server, stranger)[1] == ""
            assert self.meet(other.server_context(), ca.client_context("ann"))[1] == ""  # the client does not trust this server
            ca.revoke("ann")
            assert self.meet(ca.server_context(), ca.client_context("ann"))[1] == ""
            assert self.meet(ca.server_context(), ca.client_context("bob")) == ("bob", "welcome")

    def test_a_server_of_another_name(self) -> None:
        with CA() as ca:
            assert self.meet(ca.server_context("app.example"), ca.client_context("ann"), "app.example") == ("ann", "welcome")
            assert self.meet(ca.server_context("app.example"), ca.client_context("ann"), "localhost")[1] == ""

    def test_flat_and_whole_folder(self) -> None:
        with CA(flat=True) as ca:
            assert self.meet(ca.server_context(), ca.client_context("ann")) == ("ann", "welcome")
            assert (ca.bundle() / "people.json").exists()
            folder = ca.folder
        assert not folder.exists()

    def test_the_same_person_is_asked_twice(self) -> None:
        with CA() as ca:
            assert ca.person("ann", email="ann@example.com", groups=("staff",)) is ca.person("ann")
            assert ca.authority.people()[0].email == "ann@example.com"

    def test_a_clock_that_stands_still(self) -> None:
        clock = FakeClock()
        assert clock.now() == clock.now() == 1767225600
        clock.move(days=2, seconds=5)
        assert clock.now() == 1767225600 + 2 * 86_400 + 5
        with CA(clock=clock) as ca:
            certificate = x509.load_pem_x509_certificate(ca.person("ann").certificate)
            assert f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S}" == "2026-01-02 23:00:05"
            clock.move(days=400)
            with pytest.raises(gatekey.Refused):
                ca.authority.issue_client("bob", days=3650)

    def test_dice_that_fall_alike(self) -> None:
        first, second, other = FakeEntropy(), FakeEntropy(), FakeEntropy(1)
        throws = [first.bytes(16) for _ in range(3)]
        assert throws == [second.bytes(16) for _ in range(3)]
        assert len(set(throws)) == 3
        assert other.bytes(16) not in throws

    def test_an_error_inside_leaves_nothing(self) -> None:
        place: list[Path] = []
        with pytest.raises(ZeroDivisionError), CA() as ca:
            place.append(ca.folder)
            _ = 1 / 0
        assert not place[0].exists()


def test_every_error_says_what_to_do_next() -> None:
    """A refusal's code is one of the documented ones; its sentence is one, in lower case, without a full stop."""
    from gatekey.errors import CODES

    with CA() as ca:
        ca.person("ann")
        for act in (
            lambda: ca.authority.issue_client("Jörg"),
            lambda: ca.authority.issue_client("ann"),
            lambda: ca.authority.revoke("nobody"),
            lambda: ca.authority.issue_server("*.example"),
            lambda: ca.authority.renew("nobody"),
        ):
            with pytest.raises(gatekey.GatekeyError) as raised:
                act()
            assert raised.value.code in CODES
            assert re.match(r"[^A-Z].*[^.]$", raised.value.message)
