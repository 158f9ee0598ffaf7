"""What is in a file: PEM, DER or bare base64 told apart by structure, and a sentence for everything that people hand over by mistake."""

from __future__ import annotations

import binascii
import re

from ..errors import Malformed
from . import oids, pem
from .der import BIT_STRING, ENUMERATED, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, UTC_TIME, Reader, whole

CERTIFICATE, CSR, CRL = "certificate", "csr", "crl"
PRIVATE_KEY, ENCRYPTED_PRIVATE_KEY, PUBLIC_KEY = "private-key", "encrypted-private-key", "public-key"
PKCS12, PKCS7, OCSP_RESPONSE = "pkcs12", "pkcs7", "ocsp-response"
KINDS = (CERTIFICATE, CSR, CRL, PRIVATE_KEY, ENCRYPTED_PRIVATE_KEY, PUBLIC_KEY, PKCS12, PKCS7, OCSP_RESPONSE)

#: How a kind is called in a sentence.
WORDS = {
    CERTIFICATE: "a certificate",
    CSR: "a certificate signing request",
    CRL: "a certificate revocation list",
    PRIVATE_KEY: "a private key",
    ENCRYPTED_PRIVATE_KEY: "an encrypted private key",
    PUBLIC_KEY: "a public key",
    PKCS12: "a PKCS#12 file",
    PKCS7: "a PKCS#7 file",
    OCSP_RESPONSE: "an OCSP response",
}

#: Blocks that stand beside keys and say nothing by themselves.
_BESIDE = ("EC PARAMETERS", "DSA PARAMETERS", "DH PARAMETERS", "X9.42 DH PARAMETERS", "X25519 PARAMETERS")

#: First bytes of what people hand over by mistake, and what to call it. Read in order.
_LOOKS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"-----BEGIN OPENSSH PRIVATE KEY-----",
        "an OpenSSH private key",
        "make a key with `gatekey request`, or convert this one: ssh-keygen -p -m PKCS8 -f FILE",
    ),
    (b"---- BEGIN SSH2 PUBLIC KEY ----", "an SSH public key", ""),
    (b"-----BEGIN PGP", "an OpenPGP file", ""),
    (b"ssh-", "an SSH public key", ""),
    (b"ecdsa-sha2-", "an SSH public key", ""),
    (b"PuTTY-User-Key-File", "a PuTTY private key", "convert it in PuTTYgen: Conversions, Export OpenSSH key"),
    (b"\xfe\xed\xfe\xed", "a Java key store (JKS)", "convert it: keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12"),
    (b"\xce\xce\xce\xce", "a Java key store (JCEKS)", "convert it: keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12"),
    (b"SQLite format 3\0", "an SQLite database", ""),
    (b"PK\x03\x04", "a ZIP archive", "unpack it and give the file inside"),
    (b"PK\x05\x06", "an empty ZIP archive", ""),
    (b"\x1f\x8b", "a gzip file", "unpack it and give the file inside"),
    (b"BZh", "a bzip2 file", "unpack it and give the file inside"),
    (b"\xfd7zXZ\0", "an xz file", "unpack it and give the file inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it and give the file inside"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it and give the file inside"),
    (b"%PDF-", "a PDF document", ""),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", ""),
    (b"\xff\xd8\xff", "a JPEG picture", ""),
    (b"GIF8", "a GIF picture", ""),
    (b"\x7fELF", "a program", ""),
    (b"MZ", "a Windows program", ""),
    (b"#!", "a script", ""),
)
_HTML = rb"(?is:(?:<\?xml[^>]*>)?\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b)"
_DESCRIPTION = rb"(?m:^\s*(?:Certificate|Certificate Request|Certificate Revocation List \(CRL\)):\s*\n\s+(?:Data:|Version))"


def sniff(data: bytes) -> list[tuple[str, bytes]]:
    """The kind (one of KINDS) and the DER of everything in `data`, in order; never empty.

    A private key in the old encrypted PEM form (DEK-Info) comes as its whole block, as only that carries the cipher. PKCS#12 and PKCS#7 may be BER.
    Raises Malformed: "empty-file", "bad-pem", or "unknown-file" with a sentence that says what the file looks like.
    """
    data = _plain(data)
    if not data.strip():
        raise Malformed("empty-file", "the file is empty" if not data else "the file holds nothing but blanks")
    if data[:1] == b"\x30" and (kind := kind_of(data)):
        return [(kind, data)]
    if b"-----BEGIN " in data:
        return _from_pem(data)
    if (der := _bare_base64(data)) is not None and (kind := kind_of(der)):
        return [(kind, der)]
    raise _unknown(data)


def _plain(data: bytes) -> bytes:
    """Text that Windows saved as UTF-16 or with a byte order mark, as ASCII; everything else as it is."""
    if data[:3] == b"\xef\xbb\xbf":
        return data[3:]
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16").encode("ascii")
        except UnicodeError:
            return data
    return data


def _from_pem(data: bytes) -> list[tuple[str, bytes]]:
    try:
        listed = pem.blocks(data)
    except Malformed as error:
        raise _looks(data) or error from None
    found = []
    for block in listed:
        if block.label in _BESIDE:
            continue
        if any(line.startswith("Proc-Type:") and "ENCRYPTED" in line for line in block.headers):
            found.append((ENCRYPTED_PRIVATE_KEY, block.text + b"\n"))
            continue
        der = _first_element(block.der) if block.label == "TRUSTED CERTIFICATE" else block.der
        kind = kind_of(der)
        if not kind:
            raise _unknown(block.text, block.label)
        found.append((kind, der))
    if not found:
        raise _unknown(data, "parameters")
    return found


def _first_element(der: bytes) -> bytes:
    """OpenSSL's trusted certificates carry its own settings behind the certificate."""
    try:
        return Reader(der).raw(SEQUENCE)
    except Malformed:
        return der


def _bare_base64(data: bytes) -> bytes | None:
    text = b"".join(data.split())
    if len(text) % 4 or not re.fullmatch(rb"[A-Za-z0-9+/]+={0,2}", text):
        return None
    return binascii.a2b_base64(text)


_KNOWN = "a certificate, a request, a CRL, a key or a PKCS#12 file, as PEM, DER or base64"


def _looks(data: bytes) -> Malformed | None:
    """What is wrong with a file that is known by its first bytes."""
    head = data[:4096].lstrip()
    for start, what, hint in _LOOKS:
        if data.startswith(start) or (start.isascii() and head.startswith(start)):
            return Malformed("unknown-file", f"this is {what}; what can be read is {_KNOWN}", hint=hint)
    return None


def _unknown(data: bytes, label: str = "") -> Malformed:
    """What `data` looks like, in a sentence."""
    if (look := _looks(data)) is not None:
        return look
    known, head = _KNOWN, data[:4096].lstrip()
    if label == "parameters":
        return Malformed("unknown-file", f"this holds only key parameters; what can be read is {known}")
    if label:
        return Malformed("unknown-file", f"the PEM block {label} holds none of the things that can be read: {known}", label=label)
    if re.match(_HTML, head):
        return Malformed(
            "unknown-file",
            "this is a web page, perhaps an error or a sign-in page that was saved instead of the file",
            hint="open the address in a browser and look",
        )
    if re.search(_DESCRIPTION, head):
        return Malformed(
            "unknown-file", "this is the printed description of a certificate without the certificate", hint="print it with its PEM: openssl x509 -in FILE"
        )
    if head[:1] in (b"{", b"["):
        return Malformed("unknown-file", f"this is JSON; what can be read is {known}")
    if b"<!DOCTYPE plist" in head:
        return Malformed(
            "unknown-file", f"this is an Apple profile (.mobileconfig); what can be read is {known}", hint="its certificate also lies in NAME.crt beside it"
        )
    if head[:1] == b"<":
        return Malformed("unknown-file", f"this is XML; what can be read is {known}")
    if data[:1] == b"\x30":
        return Malformed("unknown-file", f"this begins like DER but is cut, damaged or of a kind that is not known; what can be read is {known}")
    shown = "text" if all(byte >= 0x20 or byte in b"\t\r\n\x0c\x1b" for byte in data[:4096]) else "binary data"
    return Malformed("unknown-file", f"this is {shown} of an unknown kind; what can be read is {known}")


# By structure


def kind_of(der: bytes) -> str:
    """The kind of one DER element (PKCS#12 and PKCS#7: also BER), or "". A look at the first tags, not a reading."""
    for look in (_berish, _signed, _key, _answer):
        try:
            if kind := look(der):
                return kind
        except Malformed:
            continue
    return ""


def _signed(der: bytes) -> str:
    """SEQUENCE { to be signed, algorithm, BIT STRING }, told apart by what the first holds."""
    outer = whole(der)
    inner = outer.inside()
    outer.inside().oid()
    outer.content(BIT_STRING)
    outer.finish()
    if inner.peek() == 0xA0:
        return CERTIFICATE
    number = inner.integer() if inner.peek() == INTEGER else None
    inner.inside()
    second = inner.inside()
    if inner.peek() in (UTC_TIME, GENERALIZED_TIME):
        return CRL
    if number == 0 and inner.peek() in (0xA0, -1):
        return CSR
    return CERTIFICATE if second and inner.peek() == SEQUENCE else ""


def _key(der: bytes) -> str:
    outer = whole(der)
    if outer.peek() == SEQUENCE:
        algorithm = outer.inside()
        algorithm.oid()
        if outer.peek() == BIT_STRING:
            outer.content(BIT_STRING)
            outer.finish()
            return PUBLIC_KEY
        outer.content(OCTET_STRING)
        outer.finish()
        return ENCRYPTED_PRIVATE_KEY
    version = outer.integer()
    following = outer.peek()
    outer.raw()
    if version in (0, 1) and following == SEQUENCE and outer.peek() == OCTET_STRING:  # PKCS#8
        return PRIVATE_KEY
    if version == 1 and following == OCTET_STRING:  # SEC 1
        return PRIVATE_KEY
    if following == INTEGER and version > 1 and not outer:  # PKCS#1
        return PUBLIC_KEY
    if version in (0, 1) and following == INTEGER:  # PKCS#1, or the old form of DSA
        numbers = 0
        while outer.peek() == INTEGER:
            outer.raw()
            numbers += 1
        return PRIVATE_KEY if numbers >= 4 else ""
    return ""


def _answer(der: bytes) -> str:
    outer = whole(der)
    outer.content(ENUMERATED)
    if outer:
        outer.inside(0xA0)
    outer.finish()
    return OCSP_RESPONSE


def _berish(der: bytes) -> str:
    """PKCS#12 and PKCS#7 by their first tags; definite or indefinite lengths."""
    body = _inside_ber(der)
    if body[:3] == b"\x02\x01\x03":
        content = _inside_ber(body[3:], cut=True)
        return PKCS12 if _is_pkcs7(content) else ""
    return PKCS7 if _is_pkcs7(body) else ""


def _is_pkcs7(body: bytes) -> bool:
    if body[:1] != bytes((OID,)):
        return False
    return Reader(body[:16] if len(body) > 16 else body).oid().startswith(oids.PKCS7_PREFIX)


def _inside_ber(data: bytes, *, cut: bool = False) -> bytes:
    """The first bytes inside a SEQUENCE of definite or indefinite length; empty if it is none, or if its definite length is not there (unless `cut`)."""
    if len(data) < 2 or data[0] != SEQUENCE:
        return b""
    if data[1] == 0x80:
        return data[2:64]
    size, at = data[1], 2
    if size & 0x80:
        at += size & 0x7F
        size = int.from_bytes(data[2:at], "big")
    return data[at : at + 64] if cut or at + size <= len(data) else b""
