"""The least that a Python program with `cryptography` needs for a person's certificate: key, certificate and PKCS#12 as three files. It records nothing.

    python -c "import bare; bare.main()" FOLDER NAME PASSPHRASE      FOLDER has ca.key and ca.crt; the files of NAME go there too
"""

from __future__ import annotations

import datetime as dt
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def main() -> None:
    folder, name, passphrase = sys.argv[1:4]
    with open(f"{folder}/ca.key", "rb") as file:
        ca_key = serialization.load_pem_private_key(file.read(), passphrase.encode() or None)
    with open(f"{folder}/ca.crt", "rb") as file:
        ca = x509.load_pem_x509_certificate(file.read())
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(f"{name}@example.com")]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    # The same protection as `--for any`: 3DES and SHA-1 with 2048 rounds, which opens everywhere.
    protection = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(2048)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(b"k7dmp-wq3xz-r9fht-2vbnc")
    )
    with open(f"{folder}/{name}.key", "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    with open(f"{folder}/{name}.crt", "wb") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
    with open(f"{folder}/{name}.p12", "wb") as file:
        file.write(pkcs12.serialize_key_and_certificates(name.encode(), key, certificate, [ca], protection))
