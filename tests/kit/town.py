"""A home with a history, and a folder full of files, right and wrong: for every test of what is refused and of what is read.

ann    laptop, valid; e-mail, group staff, display name Änn Öberg
bob    own request, on hold
carl   revoked (superseded)
dora   has left
eve    phone and tablet: two candidates for one login
fay    key compromised; her key and request are still here
app.example, www.app.example, 10.0.0.7    a web server
"""

from __future__ import annotations

import datetime as dt
import shlex
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from kit.administrator import Administrator

HISTORY = (
    "issue client ann --email ann@example.com --device laptop --group staff --display 'Änn Öberg' --password-file ann.pw",
    "request bob --email bob@example.com",
    "issue client bob --csr bob.csr --email bob@example.com",
    "hold bob",
    "issue client carl --device laptop",
    "revoke carl --reason superseded",
    "issue client dora",
    "leave dora --yes",
    "issue client eve --device phone --out eve-phone",
    "issue client eve --device tablet --out eve-tablet",
    "issue client fay",
    "request fay --key fay.key",
    "revoke fay --reason key-compromise",
    "people add gus --email gus@example.com",
    "issue server app.example www.app.example --ip 10.0.0.7",
    "request --server shop.example",
    "crl --pem --out people.crl",
    "bundle --out bundle",
)


def build(admin: Administrator) -> None:
    """Tells the history, then lays the wrong files beside the right ones."""
    for line in HISTORY:
        admin(*shlex.split(line))
    admin("request", "crook", "--key", admin.home / "keys" / "people.key")
    _wrong_files(admin.folder)
    _odd_requests(admin.folder)


def _wrong_files(folder: Path) -> None:
    (folder / "README.txt").write_text("This is just text.\n")
    (folder / "empty.csr").write_bytes(b"")
    (folder / "page.csr").write_text("<!DOCTYPE html><html><body>Please sign in</body></html>")
    (folder / "photo.csr").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    (folder / "cut.csr").write_bytes((folder / "bob.csr").read_bytes()[:200])
    (folder / "cut.crt").write_bytes((folder / "ann.crt").read_bytes()[:300])
    (folder / "cut.p12").write_bytes((folder / "ann.p12").read_bytes()[:-100])
    (folder / "big.csr").write_bytes(b"A" * (2 << 20))
    (folder / "wrong.pw").write_text("not-the-password\n")
    (folder / "wrong.pw").chmod(0o600)
    (folder / "open.pw").write_text("everybody may read this\n")
    (folder / "open.pw").chmod(0o644)
    (folder / "empty.pw").touch(0o600)
    for name, words in (("short.pw", "too short"), ("sealed.pw", "a secret")):
        (folder / name).touch(0o600)
        (folder / name).write_text(f"{words}\n")
    (folder / "taken").mkdir()
    for name in ("kim.key", "kim.crt", "kim.p12", "kim.csr"):
        (folder / "taken" / name).write_text("something else\n")
    key, secret = _key(), serialization.BestAvailableEncryption(b"a secret")
    (folder / "ssh").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()))
    (folder / "sealed.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))


def _odd_requests(folder: Path) -> None:
    """Requests that can be read and are wrong in one thing."""
    write = (folder / "x").with_name
    stranger = _key()
    write("foreign.key").write_bytes(stranger.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    write("foreign.crt").write_bytes(_self_signed(stranger).public_bytes(serialization.Encoding.PEM))
    write("rsa1024.csr").write_bytes(csr("kim", rsa.generate_private_key(65537, 1024)))
    write("exponent3.csr").write_bytes(csr("kim", rsa.generate_private_key(3, 2048)))
    write("fermat.csr").write_bytes(csr("kim", _close_primes()))
    write("p224.csr").write_bytes(csr("kim", ec.generate_private_key(ec.SECP224R1())))
    write("two.csr").write_bytes(csr("kim", _key()) + csr("lee", _key()))
    write("forged.csr").write_bytes(_forged(csr("kim", _key())))
    write("umlaut.csr").write_bytes(csr("Jörg", _key()))
    write("two-mails.csr").write_bytes(csr("kim", _key(), x509.RFC822Name("kim@example.com"), x509.RFC822Name("kim@example.org")))
    write("other-mail.csr").write_bytes(csr("ann", _key(), x509.RFC822Name("ann@elsewhere.example")))
    write("nameless.csr").write_bytes(csr("", _key()))
    write("wildcard.csr").write_bytes(csr("", _key(), x509.DNSName("*.example")))
    write("many.csr").write_bytes(csr("", _key(), *(x509.DNSName(f"h{number}.example") for number in range(101))))
    write("ca-wish.csr").write_bytes(csr("kim", _key(), ca=True))


def csr(name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *alternatives: x509.GeneralName, ca: bool = False) -> bytes:
    """A request in PEM, as a program that we did not write makes it."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ann")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
    now = dt.datetime.now(dt.UTC)
    return builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=9)).sign(key, hashes.SHA256())


def _close_primes() -> rsa.RSAPrivateKey:
    """A key whose primes are neighbours, so that Fermat's method factors it at once."""
    import gmpy2

    p = int(gmpy2.next_prime(3 << 1022))
    q = int(gmpy2.next_prime(p))
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key(unsafe_skip_rsa_key_validation=True)


def _forged(pem: bytes) -> bytes:
    """The same request with another name: its signature no longer holds."""
    request = x509.load_pem_x509_csr(pem)
    der = request.public_bytes(serialization.Encoding.DER).replace(b"kim", b"tim")
    return x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM)
