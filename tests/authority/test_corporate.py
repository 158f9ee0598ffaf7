"""A root that is not ours, judged by openssl: it signs our requests elsewhere, or our issuing CAs here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gatekey import app
from gatekey.authority import bundle, corporate, crl, requests
from gatekey.authority.authority import Authority
from gatekey.authority.check import findings
from gatekey.authority.issue import issue
from gatekey.errors import Conflict, Misconfigured, NotFound, Refused
from gatekey.keys import material
from gatekey.x509 import pem
from gatekey.x509.certificate import read_certificate

CA = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"


class Corp:
    """A company's root as openssl makes it."""

    def __init__(self, folder: Path, name: str = "Corp Root", *, path_length: str = "") -> None:
        self.folder = folder
        folder.mkdir()
        extension = f"basicConstraints=critical,CA:TRUE{path_length}"
        self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "root.key", "-out", "root.crt",
                 "-subj", f"/O=Corp/CN={name}", "-days", "4000", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-addext", extension)  # fmt: skip
        (folder / "index.txt").touch()
        (folder / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=c\n[c]\ndatabase={folder}/index.txt\ncrlnumber={folder}/crlnumber\ndefault_md=sha256\ndefault_crl_days=30\n"
        )
        (folder / "crlnumber").write_text("01\n")

    def run(self, *words: str) -> None:
        done = subprocess.run(["openssl", *words], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def sign(self, csr: Path, extensions: str = CA) -> bytes:
        (self.folder / "ext").write_text(extensions)
        issuer = ["-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial"]
        self.run("x509", "-req", "-in", str(csr), *issuer, "-days", "2000", "-extfile", "ext", "-out", "out.crt")
        return self.der("out.crt")

    def crl(self) -> bytes:
        self.run("ca", "-config", "ca.cnf", "-gencrl", "-keyfile", "root.key", "-cert", "root.crt", "-out", "root.crl")
        return self.der("root.crl")

    def der(self, name: str) -> bytes:
        return pem.decode((self.folder / name).read_bytes())[0][1]


@pytest.fixture
def corp(tmp_path: Path) -> Corp:
    return Corp(tmp_path / "corp")


def waiting_home(tmp_path: Path) -> Authority:
    return app.create_authority(tmp_path / "home", app.Founding("Kitty", unencrypted_keys=True, root_elsewhere=True))


def requests_of(authority: Authority) -> dict[str, Path]:
    return {name: authority.config.home / "authorities" / f"{name}.csr" for name in ("people", "servers")}


def prove(authority: Authority, tmp_path: Path) -> None:
    """A person's certificate is good for openssl with the bundle and all its CRLs."""
    released = issue(authority, *requests.client(authority, "ann", material.make("p256").spki))
    bundle.publish(authority, tmp_path / "bundle")
    (tmp_path / "ann.crt").write_bytes(pem.encode("CERTIFICATE", released.der))
    words = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-crl_check_all", "-CRLfile", "bundle/all.crl.pem"]
    words += ["-CAfile", "bundle/people-chain.pem", "ann.crt"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert findings(authority) == []


def test_requests_are_signed_elsewhere_and_installed(tmp_path: Path, corp: Corp) -> None:
    authority = waiting_home(tmp_path)
    assert corporate.waiting(authority) == ["people", "servers"]
    signed = [corp.sign(path) for path in requests_of(authority).values()]
    done = corporate.install(authority, [*signed, corp.der("root.crt")], [])
    assert any(line.startswith("still needed: the CRL of root") for line in done)
    with pytest.raises(Misconfigured) as missing:
        bundle.make(authority)
    assert "gatekey authority install FILE" in missing.value.hint
    assert corporate.install(authority, [], [corp.crl()])[0].startswith("took in the CRL of root: 0 revoked, good until")
    assert corporate.waiting(authority) == []
    assert [record.name for record in authority.records()] == ["root", "people", "servers"]
    prove(authority, tmp_path)


def test_one_at_a_time_and_a_newer_crl(tmp_path: Path, corp: Corp) -> None:
    authority = waiting_home(tmp_path)
    paths = requests_of(authority)
    corporate.install(authority, [corp.sign(paths["people"]), corp.der("root.crt")], [corp.crl()])
    assert corporate.waiting(authority) == ["servers"]
    corporate.install(authority, [corp.sign(paths["servers"])], [corp.crl()])  # the root is known by now
    assert corporate.waiting(authority) == []
    prove(authority, tmp_path)


def test_one_at_a_time_below_an_upper_authority(tmp_path: Path, corp: Corp) -> None:
    """Somebody was interrupted between the two, or their certificates come on different days."""
    corp.run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "upper.key", "-out", "upper.csr", "-subj", "/CN=Upper")
    upper = corp.sign(corp.folder / "upper.csr", CA.replace("pathlen:0", "pathlen:1"))
    (corp.folder / "upper.crt").write_bytes(pem.encode("CERTIFICATE", upper))
    authority = waiting_home(tmp_path)
    for name, waiting in (("people", ["servers"]), ("servers", [])):
        csr = str(requests_of(authority)[name])
        words = ("-CA", "upper.crt", "-CAkey", "upper.key", "-CAcreateserial", "-days", "1000", "-extfile", "ext")
        (corp.folder / "ext").write_text(CA)
        corp.run("x509", "-req", "-in", csr, *words, "-out", "below.crt")
        corporate.install(authority, [corp.der("below.crt"), upper, corp.der("root.crt")], [])
        assert corporate.waiting(authority) == waiting
    assert [record.name for record in authority.records()] == ["root", "upper", "people", "servers"]
    authority.close()


@pytest.mark.parametrize(
    ("extensions", "words"),
    [
        ("basicConstraints=critical,CA:FALSE\n", "is not a certificate of an authority"),
        ("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n", "may not sign both certificates and CRLs"),
        (f"{CA}extendedKeyUsage=serverAuth\n", "has an extended key usage"),
    ],
)
def test_what_cannot_be_an_authority_is_refused_and_nothing_is_taken(tmp_path: Path, corp: Corp, extensions: str, words: str) -> None:
    authority = waiting_home(tmp_path)
    signed = corp.sign(requests_of(authority)["people"], extensions)
    with pytest.raises(Refused) as refused:
        corporate.install(authority, [signed, corp.der("root.crt")], [])
    assert words in str(refused.value)
    assert authority.records() == []


def test_strangers_and_gaps(tmp_path: Path, corp: Corp) -> None:
    authority = waiting_home(tmp_path)
    signed = corp.sign(requests_of(authority)["people"])
    with pytest.raises(Refused, match="which is not among the files"):
        corporate.install(authority, [signed], [])
    with pytest.raises(NotFound, match="none of these certificates is for a key of ours"):
        corporate.install(authority, [corp.der("root.crt")], [])
    other = Corp(tmp_path / "other", "Other Root")
    corporate.install(authority, [signed, corp.der("root.crt")], [corp.crl()])
    assert corporate.install(authority, [signed, corp.der("root.crt")], []) == ["people is here already"]  # whoever lost the first answer asks again
    with pytest.raises(NotFound, match="is not that of an authority here"):
        corporate.install(authority, [], [other.crl()])
    with pytest.raises(Conflict, match="but root is O=Corp, CN=Corp Root already"):
        corporate.install(authority, [other.sign(requests_of(authority)["servers"]), other.der("root.crt")], [])
    impostor = Corp(tmp_path / "impostor")  # the same name, another key
    with pytest.raises(Refused, match="the signature of the CRL is not that of root"):
        corporate.install(authority, [], [impostor.crl()])


def test_an_existing_root_certifies_now_and_its_key_is_not_kept(tmp_path: Path, corp: Corp) -> None:
    root = read_certificate(corp.der("root.crt"))
    key = material.load((corp.folder / "root.key").read_bytes())
    authority = app.create_authority(tmp_path / "home", app.Founding("Kitty", unencrypted_keys=True, root=(root, key)))
    assert sorted(authority.keyring.labels()) == ["people", "servers"]
    prove(authority, tmp_path)
    held = crl.newest(authority, "root")
    assert held is not None
    assert held.entries == 0


def test_a_root_that_may_have_nothing_below_it(tmp_path: Path) -> None:
    corp = Corp(tmp_path / "corp", path_length=",pathlen:0")
    root = read_certificate(corp.der("root.crt"))
    key = material.load((corp.folder / "root.key").read_bytes())
    with pytest.raises(Refused, match="path length allows no authority below it"):
        app.create_authority(tmp_path / "home", app.Founding("Kitty", unencrypted_keys=True, root=(root, key)))
    with pytest.raises(Refused, match="does not belong to the root's certificate"):
        app.create_authority(tmp_path / "home", app.Founding("Kitty", unencrypted_keys=True, root=(root, material.make("p256"))))
    assert not (tmp_path / "home").exists()
