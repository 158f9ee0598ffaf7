"""Authorities and keys with ML-DSA (RFC 9881): judged by cryptography and pkilint; and what servers on OpenSSL 3.0 do with them is what we say they do."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kit.administrator import NAME, PASSPHRASE, Administrator, typed
from kit.pki import make_pki
from kit.servers import apache, free_port, haproxy, nginx

pytestmark = [pytest.mark.slow, pytest.mark.interop]

KINDS = ("ml-dsa-44", "ml-dsa-65", "ml-dsa-87")
OIDS = {"ml-dsa-44": "2.16.840.1.101.3.4.3.17", "ml-dsa-65": "2.16.840.1.101.3.4.3.18", "ml-dsa-87": "2.16.840.1.101.3.4.3.19"}
PUBLIC = {"ml-dsa-44": mldsa.MLDSA44PublicKey, "ml-dsa-65": mldsa.MLDSA65PublicKey, "ml-dsa-87": mldsa.MLDSA87PublicKey}
START: dict[str, Any] = {"nginx": nginx, "apache": apache, "haproxy": haproxy}
WARNING = "OpenSSL reads from 3.5 on"


def founded(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Administrator:
    work = folder / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (folder / "pass").write_text(PASSPHRASE + "\n")
    (folder / "pass").chmod(0o600)
    monkeypatch.setenv("GATEKEY_PASSPHRASE_FILE", str(folder / "pass"))
    answer = typed("--home", folder / "home", "init", NAME, "--key-type", kind, *options)
    assert answer.code == 0, answer.err
    assert WARNING in answer.err
    return Administrator(folder / "home", work)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def lint(command: str, *words: object, but: str = "") -> None:
    """pkilint finds nothing, not even a notice; `but`: that it cannot check ML-DSA signatures itself, which cryptography does here."""
    tool = Path(sys.executable).with_name(command)
    done = subprocess.run([tool, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    assert [line.strip() for line in done.stdout.splitlines() if line.startswith(" ") and line.strip()] == ([but] if but else []), done.stdout + done.stderr
    assert done.returncode == bool(but), done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_life(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = founded(kind, tmp_path, monkeypatch, "--url", "http://ca.example", "--permit-domain", "kitty.example")
    folder, authorities = admin.folder, admin.home / "authorities"

    admin("issue", "client", "ann", "--email", "ann@kitty.example", "--key-type", kind, "--for", "pem")
    admin("issue", "client", "bob", "--device", "laptop", "--password-file", "bob.pw")
    assert "3.5" in admin("issue", "server", "app.kitty.example", "--key-type", kind).err
    admin("request", "carl", "--key-type", kind)
    admin("sign", "carl.csr", "--profile", "client", "--out", "carl.crt")
    admin("renew", "ann", "--out", "same")
    admin("renew", "ann", "--new-key", "--for", "pem", "--out", "renewed")
    admin("revoke", admin.serial("bob"), "--reason", "superseded")
    admin("crl", "--pem", "--out", "people.crl")
    assert WARNING in admin("bundle", "--out", "bundle").err

    for file in ("ann.crt", "carl.crt", "renewed/ann.crt"):
        assert admin("verify", folder / file).code == 0
    refused = admin("verify", "bob.crt", code=1)
    assert "revo" in refused.out
    assert admin("store", "check").code == 0
    assert admin("passphrase", "change", "--help").code == 0

    # cryptography, with an implementation of its own of everything that we wrote
    roots = {name: load(authorities / f"{name}.crt") for name in ("people-root", "people", "servers-root", "servers")}
    for name, below in (("people-root", "people-root"), ("people-root", "people"), ("servers-root", "servers-root"), ("servers-root", "servers")):
        roots[below].verify_directly_issued_by(roots[name])
        assert roots[below].signature_algorithm_oid.dotted_string == OIDS[kind]
        assert isinstance(roots[below].public_key(), PUBLIC[kind])
    for file in ("ann.crt", "bob.crt", "carl.crt", "same/ann.crt", "renewed/ann.crt"):
        load(folder / file).verify_directly_issued_by(roots["people"])
    load(folder / "app.kitty.example.crt").verify_directly_issued_by(roots["servers"])
    assert isinstance(load(folder / "ann.crt").public_key(), PUBLIC[kind])
    assert load(folder / "same" / "ann.crt").public_key() == load(folder / "ann.crt").public_key()
    assert load(folder / "renewed" / "ann.crt").public_key() != load(folder / "ann.crt").public_key()
    key: Any = load_pem_private_key((folder / "ann.pem").read_bytes(), None)
    assert key.public_key() == load(folder / "ann.crt").public_key()
    request = x509.load_pem_x509_csr((folder / "carl.csr").read_bytes())
    assert request.is_signature_valid
    crls = (folder / "bundle" / "all.crl.pem").read_bytes().split(b"-----END X509 CRL-----\n")
    lists = [x509.load_pem_x509_crl(one + b"-----END X509 CRL-----\n") for one in crls if one.strip()]
    assert len(lists) == 2
    for crl in lists:
        issuer = next(root for root in (roots["people"], roots["people-root"]) if root.subject == crl.issuer)
        assert crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # its annotation does not name ML-DSA
    issued = next(crl for crl in lists if crl.issuer == roots["people"].subject)
    assert [entry.serial_number for entry in issued] == [load(folder / "bob.crt").serial_number]
    assert issued.next_update_utc is not None
    assert issued.next_update_utc > dt.datetime.now(dt.UTC)

    # pkilint: nothing, not even a notice
    for path in (authorities / "people-root.crt", authorities / "people.crt", folder / "ann.crt", folder / "bob.crt", folder / "app.kitty.example.crt"):
        lint("lint_pkix_cert", "lint", "-s", "NOTICE", path)
    lint("lint_crl", "lint", "-t", "CRL", "-p", "PKIX", "-s", "NOTICE", folder / "people.crl")
    lint("lint_pkix_signer_signee_cert_chain", "lint", authorities / "people.crt", folder / "ann.crt", but="pkix.unsupported_algorithm (NOTICE)")


@pytest.mark.parametrize("kind", KINDS)
def test_flat(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = founded(kind, tmp_path, monkeypatch, "--flat")
    admin("issue", "client", "ann", "--key-type", kind, "--for", "pem")
    load(admin.folder / "ann.crt").verify_directly_issued_by(load(admin.home / "authorities" / "root.crt"))
    assert admin("verify", "ann.crt").code == 0
    assert admin("show", "ann.crt", "--json").json["key"] == kind
    assert {entry["key_type"] for entry in json.loads(admin("authority", "list", "--json").out)} == {kind}


def test_other_keys_under_such_an_authority_go_into_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str]) -> None:
    """NSS and Java take a P-256 identity whose issuer signs with ML-DSA: they do not look at the signature when they import."""
    admin = founded("ml-dsa-65", tmp_path, monkeypatch)
    admin("issue", "client", "bob", "--password-file", "pw")
    (admin.folder / "db").mkdir()
    for command in (
        [program("certutil"), "-N", "-d", "sql:db", "--empty-password"],
        [program("pk12util"), "-i", "bob.p12", "-d", "sql:db", "-w", "pw"],
        [program("keytool"), "-list", "-keystore", "bob.p12", "-storetype", "PKCS12", "-storepass:file", "pw"],
    ):
        done = subprocess.run(command, cwd=admin.folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def ask(gnutls: str, port: int, folder: Path) -> str:
    """What comes back to Bob. GnuTLS is the client, because OpenSSL 3.0 does not even load his certificate."""
    command = [gnutls, "--insecure", "--x509certfile", f"{folder}/bob.crt", "--x509keyfile", f"{folder}/bob.key", "--port", str(port), "localhost"]
    request = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"
    done = subprocess.run(command, input=request, capture_output=True, timeout=30, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert "Successfully sent 1 certificate(s) to server" in said
    assert "Handshake was completed" in said
    return said


def configuration(kind: str, folder: Path, port: int) -> str:
    """As people write it by hand: trust this chain and these CRLs, and let nobody else in."""
    chain, crls = folder / "bundle" / "people-chain.pem", folder / "bundle" / "all.crl.pem"
    if kind == "nginx":
        certificate = f"ssl_certificate {folder}/site.chain.crt; ssl_certificate_key {folder}/site.key;"
        return f"server {{ listen 127.0.0.1:{port} ssl; {certificate} ssl_client_certificate {chain}; ssl_crl {crls}; ssl_verify_client on; return 204; }}"
    if kind == "haproxy":
        return f"""\
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 5s
frontend f
    bind 127.0.0.1:{port} ssl crt {folder}/both.pem ca-file {chain} crl-file {crls} verify required
    http-request return status 204
"""
    return f"""\
Listen 127.0.0.1:{port}
<VirtualHost *:{port}>
    SSLEngine on
    SSLCertificateFile {folder}/site.chain.crt
    SSLCertificateKeyFile {folder}/site.key
    SSLCACertificateFile {chain}
    SSLCARevocationFile {crls}
    SSLCARevocationCheck chain
    SSLVerifyClient require
    SSLVerifyDepth 2
    RewriteEngine on
    RewriteRule "^" "-" [R=204,L]
</VirtualHost>
"""


@pytest.mark.parametrize("server", ["nginx", "apache", "haproxy"])
def test_servers_on_openssl_3_0_load_it_without_a_word_and_refuse_everybody(
    server: str, admin: Administrator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str]
) -> None:
    """What the warning says, beside the same with P-256. On an OpenSSL that reads ML-DSA this test fails, and the warning may go."""
    (tmp_path / "ml-dsa").mkdir()
    for one, let_in in ((admin, True), (founded("ml-dsa-65", tmp_path / "ml-dsa", monkeypatch), False)):
        monkeypatch.chdir(one.folder)
        one("issue", "client", "bob", "--for", "pem")
        one("bundle", "--out", "bundle")
        # The site's own certificate is of another authority, so that only the people's side is new.
        site = make_pki("servers").server("localhost").write(one.folder, "site")
        (one.folder / "both.pem").write_bytes(site.chain.read_bytes() + site.key.read_bytes())
        port = free_port()
        with START[server](configuration(server, one.folder, port), one.folder, [port]) as running:
            assert running.check().returncode == 0
            answer = ask(program("gnutls-cli"), port, one.folder)
        assert (" 204 No Content" in answer) is let_in, answer
