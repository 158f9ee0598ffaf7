"""A company with a root of its own, as openssl makes it: it certifies our issuing authorities from their requests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_AUTHORITY = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"


class Corp:
    """`root.crt`, `root.key` and `root.crl` in a folder of its own."""

    def __init__(self, folder: Path, openssl: str) -> None:
        self._folder = folder
        self._openssl = openssl
        folder.mkdir()
        settings = f"[ca]\ndefault_ca=c\n[c]\ndatabase={folder}/index.txt\ncrlnumber={folder}/crlnumber\ndefault_md=sha256\ndefault_crl_days=30\n"
        for name, text in {"index.txt": "", "crlnumber": "01\n", "ca.cnf": settings, "extensions": _AUTHORITY}.items():
            (folder / name).write_text(text)
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "root.key", "-out", "root.crt",
                  "-subj", "/O=Corp/CN=Corp Root", "-days", "4000", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                  "-addext", "basicConstraints=critical,CA:TRUE")  # fmt: skip
        self._run("ca", "-config", "ca.cnf", "-gencrl", "-keyfile", "root.key", "-cert", "root.crt", "-out", "root.crl")

    def copy(self, to: Path) -> None:
        """Certificate, key and CRL of the root."""
        for name in ("root.crt", "root.key", "root.crl"):
            shutil.copy(self._folder / name, to / name)

    def certify(self, requests: Path, to: Path) -> None:
        """Signs every request of a folder as that of an authority; the root's certificate and CRL come along."""
        for csr in sorted(requests.glob("*.csr")):
            issuer = ("-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial", "-extfile", "extensions")
            self._run("x509", "-req", "-in", str(csr), *issuer, "-days", "2000", "-out", str(to / f"{csr.stem}.crt"))
        for name in ("root.crt", "root.crl"):
            shutil.copy(self._folder / name, to / name)

    def _run(self, *words: str) -> None:
        done = subprocess.run([self._openssl, *words], cwd=self._folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
