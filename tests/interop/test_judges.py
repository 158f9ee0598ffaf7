"""Everything that the product issues, read by programs that we did not write: openssl (verify -x509_strict, x509, req, crl, pkcs12, pkey) and pkilint."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gatekey.authority import probe
from gatekey.authority.issue import issue
from gatekey.keys import material
from gatekey.model.holder import Holder
from gatekey.model.names import Names
from gatekey.model.request import Request
from gatekey.model.status import REVOKE_REASONS
from gatekey.x509 import pem
from kit import administrator, judges
from kit.administrator import Administrator

pytestmark = pytest.mark.interop


class Kind(NamedTuple):
    """A kind of authority: what `found` is told."""

    name: str
    flat: bool = False
    key_type: str = "p256"
    url: str = ""
    domains: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()


HOMES = [
    Kind("two hierarchies"),
    Kind("flat", flat=True, url="http://ca.example"),
    Kind("RSA with a URL", key_type="rsa-2048", url="http://ca.example"),
    Kind("P-384, constrained", key_type="p384", domains=("kitty.example",), ips=("10.0.0.0/8",)),
    Kind("Ed25519", key_type="ed25519"),
]

#: What pkilint finds in ours, by the file that it is found in, each with the reason why it stays.
ARGUED = {
    # RFC 5280 4.2.1.6 leaves wildcards open; RFC 9525 6.3 defines them, and every browser takes them.
    "_wildcard.kitty.example.crt": ["pkix.invalid_domain_name_syntax"],
    # A host of one label is a name inside a company (RFC 1034 3.5 has no least number of labels); pkilint asks for a public suffix, as browsers' CAs must.
    "intranet.crt": ["pkix.invalid_domain_name_syntax"],
    # The same for the host of a mailbox: RFC 5321 4.1.2 allows one label, and mail servers inside a company are called so.
    "guest.crt": ["pkix.invalid_email_address_syntax"],
}


@pytest.fixture(scope="module", params=HOMES, ids=[kind.name for kind in HOMES])
def everything(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Administrator:
    """One of every kind of certificate, request, CRL and PKCS#12, in files."""
    place = tmp_path_factory.mktemp("everything")
    folder = place / "work"
    folder.mkdir()
    kind: Kind = request.param
    administrator.found(place / "home", flat=kind.flat, key_type=kind.key_type, url=kind.url, domains=kind.domains, ips=kind.ips)
    admin = Administrator(place / "home", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        admin("issue", "client", "ann", "--email", "ann@kitty.example", "--device", "laptop", "--password-file", "ann.pw")
        admin("issue", "client", "bob", "--for", "modern", "--password-file", "bob.pw")
        admin("issue", "client", "rsa", "--key-type", "rsa-2048", "--password-file", "rsa.pw")
        admin("issue", "client", "edward", "--key-type", "ed25519", "--for", "pem")
        admin("issue", "client", "long-" + "x" * 59, "--password-file", "long.pw")
        admin("issue", "server", "kitty.example", "www.kitty.example", "--ip", "10.0.0.7")
        admin("issue", "server", "*.kitty.example", "--key-type", "p384")
        admin("issue", "server", f"{'a' * 60}.kitty.example", "--key-type", "rsa-2048")
        admin("issue", "server", "10.0.0.8")
        if not kind.domains:  # which would refuse what lies outside
            admin("issue", "server", "intranet")
            admin("issue", "client", "guest", "--email", "guest@intranet", "--for", "pem")
        for key_type in ("p256", "p384", "rsa-2048", "ed25519"):
            admin("request", f"asks-{key_type}", "--key-type", key_type, "--email", f"{key_type}@kitty.example")
            admin("request", "--server", f"{key_type}.kitty.example", "10.0.0.9", "--key-type", key_type)
        admin("sign", "asks-p256.csr", "--profile", "client")
        admin("sign", "asks-p384.csr", "--profile", "client-short")
        admin("sign", "asks-rsa-2048.csr", "--profile", "device")
        admin("sign", "rsa-2048.kitty.example.csr", "--profile", "server")
        admin("renew", "ann", "--out", "renewed")
        _internal(admin)
        _revoked(admin)
        for account in admin("authority", "list", "--json").json:
            admin("crl", "--authority", account["name"], "--pem", "--out", f"{account['name']}.crl")
            admin("authority", "export", account["name"], "--out", f"authority-{account['name']}.crt")
        admin("bundle", "--out", "bundle")
    return admin


def _internal(admin: Administrator) -> None:
    """Certificates that only the product itself asks for."""
    with admin.open() as authority:
        made = probe.make(authority, lambda: material.make("p256"))
        for name in ("good", "server", "wrong_usage"):
            (admin.folder / f"probe-{name}.crt").write_bytes(pem.encode("CERTIFICATE", pem.decode(getattr(made, name).chain)[0][1]))
        profile = authority.profile("ocsp-responder")
        issuer = authority.issuer_for(profile)
        request = Request(profile.name, Names("ocsp"), material.make("p256").spki, "ocsp", requester="us", door="internal", issuer=issuer)
        (admin.folder / "ocsp.crt").write_bytes(pem.encode("CERTIFICATE", issue(authority, request, Holder("ocsp", "service")).der))


def _revoked(admin: Administrator) -> None:
    """One revoked for each reason, and one held."""
    for reason in REVOKE_REASONS:
        admin("issue", "client", reason, "--for", "pem", "--out", "revoked")
        admin("revoke", reason, "--reason", reason)
    admin("issue", "client", "held", "--for", "pem", "--out", "revoked")
    admin("hold", "held")


def certificates(admin: Administrator) -> dict[str, bytes]:
    """Name of the file -> DER, for every certificate that stands alone in a file."""
    return {path.name: pem.decode(path.read_bytes())[0][1] for path in sorted(admin.folder.rglob("*.crt")) if not path.name.endswith(".chain.crt")}


def is_server(name: str) -> bool:
    return "kitty.example" in name or name.startswith(("10.0.0", "intranet"))


def says(program: str, *words: object, code: int = 0, stdin: bytes | None = None) -> str:
    done = subprocess.run([program, *map(str, words)], capture_output=True, input=stdin)
    assert done.returncode == code, (words, done)
    return (done.stdout + done.stderr).decode(errors="replace")


def test_pkilint_finds_nothing_in_certificates_that_is_not_argued(everything: Administrator) -> None:
    found = {name: judges.certificate_findings(der) for name, der in certificates(everything).items()}
    assert len(found) > 20
    assert {name: codes for name, codes in found.items() if codes} == {name: codes for name, codes in ARGUED.items() if name in found}


def test_pkilint_finds_nothing_in_crls(everything: Administrator) -> None:
    found = {path.name: judges.crl_findings(pem.decode(path.read_bytes())[0][1]) for path in everything.folder.glob("*.crl")}
    assert found
    assert {name: codes for name, codes in found.items() if codes} == {}


def test_openssl_verifies_every_path(everything: Administrator, program: Callable[[str], str], tmp_path: Path) -> None:
    """-x509_strict, with the purpose, and for people with the CRLs of the bundle."""
    openssl, folder = program("openssl"), everything.folder
    flat = (everything.home / "authorities" / "root.crt").exists()
    sides = {}
    for side in ("people", "servers"):
        root, issuing = ("root", "root") if flat else (f"{side}-root", side)
        sides[side] = ["-CAfile", folder / f"authority-{root}.crt", "-untrusted", folder / f"authority-{issuing}.crt"]
    checked = 0
    for path in sorted(folder.rglob("*.crt")):
        if path.name.endswith(".chain.crt") or path.name.startswith(("authority-", "ocsp", "probe")) or path.parent.name == "revoked":
            continue
        side, purpose = ("servers", "sslserver") if is_server(path.name) else ("people", "sslclient")
        crls = ["-crl_check_all", "-CRLfile", folder / "bundle" / "all.crl.pem"] if side == "people" else []
        assert says(openssl, "verify", "-x509_strict", "-purpose", purpose, *sides[side], *crls, path) == f"{path}: OK\n"
        wrong = "sslclient" if purpose == "sslserver" else "sslserver"
        says(openssl, "verify", "-x509_strict", "-purpose", wrong, *sides[side], path, code=2)
        if not flat:
            other = "people" if side == "servers" else "servers"
            says(openssl, "verify", "-x509_strict", *sides[other], path, code=2)
        checked += 1
    assert checked > 12
    for path in sorted((folder / "revoked").glob("*.crt")):
        if not path.name.endswith(".chain.crt"):
            crls = ["-crl_check_all", "-CRLfile", folder / "bundle" / "all.crl.pem"]
            assert "certificate revoked" in says(openssl, "verify", "-x509_strict", "-purpose", "sslclient", *sides["people"], *crls, path, code=2)


def test_openssl_verifies_the_authorities(everything: Administrator, program: Callable[[str], str]) -> None:
    openssl, folder = program("openssl"), everything.folder
    for path in folder.glob("authority-*.crt"):
        name = path.stem.removeprefix("authority-")
        root = folder / f"authority-{name if name.endswith('root') else f'{name}-root'}.crt"
        assert says(openssl, "verify", "-x509_strict", "-CAfile", root, path) == f"{path}: OK\n"


def test_openssl_reads_every_certificate(everything: Administrator, program: Callable[[str], str]) -> None:
    openssl = program("openssl")
    for name, der in certificates(everything).items():
        text = says(openssl, "x509", "-inform", "DER", "-noout", "-text", stdin=der)
        assert "Version: 3 (0x2)" in text, name
        assert "<Not Supported>" not in text
        assert "unsupported" not in text.lower(), text


def test_openssl_reads_what_openssl_would_write(everything: Administrator, program: Callable[[str], str], tmp_path: Path) -> None:
    """Our PEM is openssl's to the byte."""
    openssl = program("openssl")
    for path in (everything.folder / "ann.crt", everything.folder / "kitty.example.crt"):
        again = tmp_path / "again.pem"
        says(openssl, "x509", "-in", path, "-out", again)
        assert again.read_bytes() == path.read_bytes()
    says(openssl, "crl", "-in", next(everything.folder.glob("*.crl")), "-out", tmp_path / "again.crl")
    assert (tmp_path / "again.crl").read_bytes() == next(everything.folder.glob("*.crl")).read_bytes()


def test_openssl_verifies_every_request(everything: Administrator, program: Callable[[str], str]) -> None:
    openssl = program("openssl")
    requests = list(everything.folder.glob("*.csr"))
    assert len(requests) == 8
    for path in requests:
        text = says(openssl, "req", "-in", path, "-verify", "-noout", "-text")
        assert "verify OK" in text
        assert "kitty.example" in text


def test_openssl_verifies_every_crl(everything: Administrator, program: Callable[[str], str]) -> None:
    openssl, folder = program("openssl"), everything.folder
    listed = 0
    for path in folder.glob("*.crl"):
        text = says(openssl, "crl", "-in", path, "-CAfile", folder / f"authority-{path.stem}.crt", "-noout", "-text")
        assert "verify OK" in text
        assert "X509v3 CRL Number" in text
        listed += text.count("Serial Number:")
        if path.stem in ("people", "root"):
            for word in ("Key Compromise", "Affiliation Changed", "Superseded", "Cessation Of Operation", "Privilege Withdrawn", "Certificate Hold"):
                assert word in text, text
            assert "Unspecified" not in text  # RFC 5280 5.3.1: the reason is left out then
    assert listed == len(REVOKE_REASONS) + 1


def test_openssl_opens_every_pkcs12(everything: Administrator, program: Callable[[str], str]) -> None:
    openssl, folder = program("openssl"), everything.folder
    flat = (everything.home / "authorities" / "root.crt").exists()
    for name, secret in {"ann": "ann", "bob": "bob", "rsa": "rsa", f"long-{'x' * 59}": "long"}.items():
        text = says(openssl, "pkcs12", "-in", folder / f"{name}.p12", "-passin", f"file:{folder / secret}.pw", "-nodes", "-info")
        assert text.count("BEGIN CERTIFICATE") == (1 if flat else 2)
        assert "BEGIN PRIVATE KEY" in text
        assert "friendlyName" in text
        assert "localKeyID" in text
        modern = name == "bob"
        assert ("AES-256-CBC" in text) is modern
        assert ("pbeWithSHA1And3-KeyTripleDES-CBC" in text) is not modern
        assert "RC2-" not in text  # as OpenSSL names it: the hyphen, since base64 of a key may spell anything else
        says(openssl, "pkcs12", "-in", folder / f"{name}.p12", "-passin", "pass:wrong", "-nodes", code=1)


def test_openssl_reads_every_key(everything: Administrator, program: Callable[[str], str]) -> None:
    openssl = program("openssl")
    keys = [*everything.folder.glob("*.key"), *(everything.home / "keys").glob("*.key"), everything.home / "audit.key"]
    assert len(keys) > 10
    for path in keys:
        checks = [] if "ED25519" in says(openssl, "pkey", "-in", path, "-noout", "-text") else ["-check"]
        says(openssl, "pkey", "-in", path, "-noout", *checks)


def test_a_judge_that_never_speaks_is_no_judge(everything: Administrator) -> None:
    """pkilint does find fault with a certificate whose authority key identifier is taken away."""
    der = certificates(everything)["ann.crt"]
    assert judges.certificate_findings(der.replace(bytes.fromhex("0603551d23"), bytes.fromhex("0603551d63")))
