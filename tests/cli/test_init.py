"""`gatekey init`: what the hierarchies look like, their limits, and that a founding is whole or did not happen. Everything works with the roots moved away."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from gatekey import app
from gatekey.authority import ceremony
from gatekey.cli import init
from kit import administrator
from kit.administrator import Administrator, typed

DAY = 86_400
T = TypeVar("T", bound=x509.ExtensionType)


def load(home: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((home / "authorities" / f"{name}.crt").read_bytes())


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def extension(certificate: x509.Certificate, kind: type[T]) -> x509.Extension[T]:
    return certificate.extensions.get_extension_for_class(kind)


def key_usage(certificate: x509.Certificate) -> set[str]:
    usage = extension(certificate, x509.KeyUsage).value
    words = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    return {word for word in words if getattr(usage, word)}


def test_two_hierarchies(admin: Administrator) -> None:
    for side in ("people", "servers"):
        root, issuing = load(admin.home, f"{side}-root"), load(admin.home, side)
        assert (common_name(root), common_name(issuing)) == (f"Kitty CA {side} root", f"Kitty CA {side}")
        root.verify_directly_issued_by(root)
        issuing.verify_directly_issued_by(root)
        for certificate, path_length in ((root, 1), (issuing, 0)):
            limits = extension(certificate, x509.BasicConstraints)
            assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, path_length)
            usage = extension(certificate, x509.KeyUsage)
            assert (usage.critical, key_usage(certificate)) == (True, {"key_cert_sign", "crl_sign"})
            assert not extension(certificate, x509.SubjectKeyIdentifier).critical
            with pytest.raises(x509.ExtensionNotFound):
                extension(certificate, x509.ExtendedKeyUsage)
        above = extension(root, x509.SubjectKeyIdentifier).value.digest
        assert extension(issuing, x509.AuthorityKeyIdentifier).value.key_identifier == above
        assert (root.not_valid_after_utc - root.not_valid_before_utc).total_seconds() == 7300 * DAY + 3600 - 1
        assert (issuing.not_valid_after_utc - issuing.not_valid_before_utc).total_seconds() == 3650 * DAY + 3600 - 1
    names = ("people-root", "people", "servers-root", "servers")
    assert len({load(admin.home, name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for name in names}) == 4


def test_one_flat_authority(flat: Administrator) -> None:
    root = load(flat.home, "root")
    assert common_name(root) == "Kitty CA"
    root.verify_directly_issued_by(root)
    assert extension(root, x509.BasicConstraints).value.path_length == 0
    assert key_usage(root) == {"key_cert_sign", "crl_sign"}
    assert [path.name for path in (flat.home / "keys").glob("*.key")] == ["root.key"]


@pytest.mark.parametrize(
    ("key_type", "kind", "size"),
    [
        ("p384", ec.EllipticCurvePublicKey, 384),
        ("rsa-2048", rsa.RSAPublicKey, 2048),
        pytest.param("rsa-3072", rsa.RSAPublicKey, 3072, marks=pytest.mark.slow),
        pytest.param("rsa-4096", rsa.RSAPublicKey, 4096, marks=pytest.mark.slow),
        ("ed25519", ed25519.Ed25519PublicKey, 0),
    ],
)
def test_kinds_of_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key_type: str, kind: type, size: int) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed("--home", tmp_path / "home", "init", "X", "--flat", "--unencrypted-keys", "--key-type", key_type).code == 0
    admin = Administrator(tmp_path / "home", tmp_path)
    admin("issue", "client", "ann")
    root = load(admin.home, "root")
    assert isinstance(root.public_key(), kind)
    assert not size or root.public_key().key_size == size  # type: ignore[union-attr]  # Ed25519 has none
    x509.load_pem_x509_certificate(Path("ann.crt").read_bytes()).verify_directly_issued_by(root)
    assert x509.load_pem_x509_crl(admin("crl", "--pem").stdout).is_signature_valid(root.public_key())  # type: ignore[arg-type]  # no CA has a key of X25519
    assert admin("verify", "ann.crt").code == 0
    assert admin("store", "check").code == 0


def test_days(tmp_path: Path) -> None:
    typed("--home", tmp_path / "home", "init", "X", "--unencrypted-keys", "--days", "100")
    root, issuing = load(tmp_path / "home", "people-root"), load(tmp_path / "home", "people")
    assert root.not_valid_after_utc == issuing.not_valid_after_utc
    assert (root.not_valid_after_utc - root.not_valid_before_utc).days == 100


class TestConstraints:
    @pytest.fixture
    def bound(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Administrator:
        monkeypatch.chdir(tmp_path)
        answer = typed(
            "--home", tmp_path / "home", "init", "X", "--unencrypted-keys", "--permit-domain", "kitty.example", "--permit-domain", "*.Cat.Example"
        )
        assert answer.code == 0
        return Administrator(tmp_path / "home", tmp_path)

    def test_what_stands_in_the_certificates(self, bound: Administrator) -> None:
        for name in ("people", "servers"):
            found = extension(load(bound.home, name), x509.NameConstraints)
            assert found.critical
            permitted = found.value.permitted_subtrees or []
            assert {name.value for name in permitted if isinstance(name, x509.DNSName)} == {"kitty.example", "cat.example"}
            mails = {name.value for name in permitted if isinstance(name, x509.RFC822Name)}
            assert mails == {"kitty.example", ".kitty.example", "cat.example", ".cat.example"}
            excluded = found.value.excluded_subtrees or []
            assert {str(name.value) for name in excluded if isinstance(name, x509.IPAddress)} == {"0.0.0.0/0", "::/0"}
        for name in ("people-root", "servers-root"):
            with pytest.raises(x509.ExtensionNotFound):
                extension(load(bound.home, name), x509.NameConstraints)

    def test_inside(self, bound: Administrator) -> None:
        bound("issue", "server", "kitty.example", "www.kitty.example", "cat.example", "--out", "server")
        bound("issue", "client", "ann", "--email", "ann@mail.kitty.example")
        assert bound("verify", "--server", "server/kitty.example.crt").code == 0
        assert bound("verify", "ann.crt").code == 0

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["issue", "server", "dog.example"], "the host 'dog.example' is outside what the authority servers may certify: kitty.example, cat.example"),
            (["issue", "server", "notkitty.example"], "the host 'notkitty.example' is outside"),
            (["issue", "server", "kitty.example", "--ip", "10.0.0.1"], "the address '10.0.0.1' is outside what the authority servers may certify: no address"),
            (["issue", "client", "ann", "--email", "ann@dog.example"], "the e-mail address 'ann@dog.example' is outside what the authority people may certify"),
            (["issue", "client", "ann.dog.example"], "looks like a host to OpenSSL and is outside what the authority people may certify"),
        ],
    )
    def test_outside(self, bound: Administrator, words: list[str], said: str) -> None:
        before = bound.print()
        assert said in bound(*words, code=1).err
        assert bound.print() == before

    def test_permitted_addresses(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        typed("--home", tmp_path / "home", "init", "X", "--unencrypted-keys", "--permit-domain", "kitty.example", "--permit-ip", "10.0.0.0/8")
        admin = Administrator(tmp_path / "home", tmp_path)
        admin("issue", "server", "kitty.example", "--ip", "10.1.2.3")
        assert "the address '192.0.2.1' is outside" in admin("issue", "server", "www.kitty.example", "--ip", "192.0.2.1", code=1).err


def test_a_url_stands_in_every_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed("--home", tmp_path / "home", "init", "X", "--unencrypted-keys", "--url", "http://ca.example/")
    admin = Administrator(tmp_path / "home", tmp_path)
    admin("issue", "client", "ann")
    for certificate, issuer in ((x509.load_pem_x509_certificate(Path("ann.crt").read_bytes()), "people"), (load(admin.home, "people"), "people-root")):
        points = extension(certificate, x509.CRLDistributionPoints).value
        assert [name.value for point in points for name in point.full_name or ()] == [f"http://ca.example/crl/{issuer}.crl"]
        access = extension(certificate, x509.AuthorityInformationAccess).value
        assert f"http://ca.example/ca/{issuer}.crt" in {described.access_location.value for described in access}


@pytest.mark.parametrize(
    ("url", "right"),
    [("https://ca.example", "http://ca.example"), ("https://ca.example:8443/pki", "http://ca.example/pki"), ("https://[2001:db8::1]", "http://[2001:db8::1]")],
)
def test_an_https_url_is_refused_with_what_to_type(tmp_path: Path, url: str, right: str) -> None:
    """Before anything is made: the authorities' own certificates would carry it."""
    answer = typed("--home", tmp_path / "home", "init", "Kitty", "--unencrypted-keys", "--url", url)
    assert answer.code == 1
    assert f"'{url}' is https" in answer.err
    assert answer.err.rstrip().endswith(f"write {right}")
    assert not (tmp_path / "home").exists()


def test_a_root_that_lives_a_day_is_told_what_to_type(tmp_path: Path) -> None:
    answer = typed("--home", tmp_path / "home", "init", "Kitty", "--unencrypted-keys", "--days", "1")
    assert answer.code == 1
    assert "gatekey init NAME --days 7300" in answer.err


def test_without_a_url_there_is_none(admin: Administrator) -> None:
    admin("issue", "client", "ann")
    with pytest.raises(x509.ExtensionNotFound):
        extension(x509.load_pem_x509_certificate(Path("ann.crt").read_bytes()), x509.CRLDistributionPoints)


def test_a_certificate_for_oneself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = typed("--home", tmp_path / "home", "init", "X", "--unencrypted-keys", "--admin", "root")
    assert answer.code == 0
    assert {"root.key", "root.crt", "root.chain.crt", "root.p12"} <= {path.name for path in tmp_path.iterdir()}
    assert "password of root.p12:" in answer.err


def test_it_says_what_to_lock_away(tmp_path: Path) -> None:
    answer = typed("--home", tmp_path / "home", "init", "X", "--unencrypted-keys")
    assert answer.out == f"{tmp_path / 'home'}\n"
    assert "Everything but ceremonies and the root CRLs works without the root keys. Move them to a safe place now:" in answer.err
    for root in ("people-root", "servers-root"):
        assert f"{tmp_path}/home/keys/{root}.key" in answer.err
    assert "people-root.key" not in typed("--home", tmp_path / "flat", "init", "X", "--flat", "--unencrypted-keys").err


class TestRootsMovedAway:
    """Everything but ceremonies and the root CRL."""

    @pytest.fixture
    def locked(self, admin: Administrator, tmp_path: Path) -> Administrator:
        safe = tmp_path / "safe"
        safe.mkdir()
        for root in ("people-root", "servers-root"):
            shutil.move(admin.home / "keys" / f"{root}.key", safe)
        return admin

    def test_everything_works(self, locked: Administrator) -> None:
        for words in (
            ["issue", "client", "ann", "--email", "ann@example.com"],
            ["issue", "server", "app.example"],
            ["request", "bob"],
            ["sign", "bob.csr", "--profile", "client"],
            ["renew", "ann", "--out", "second"],
            ["hold", "bob"],
            ["unhold", "bob"],
            ["revoke", "bob"],
            ["leave", "ann", "--yes"],
            ["crl"],
            ["bundle", "--out", "bundle"],
            ["verify", "--server", "app.example.crt"],
            ["authority", "list"],
            ["authority", "export", "--out", "all.pem"],
            ["trust"],
            ["store", "check"],
            ["list"],
        ):
            locked(*words)
        assert [account["key_here"] for account in locked("authority", "list", "--json").json] == [False, True, False, True]
        assert "away" in locked("authority", "list").out

    def test_the_root_crl_needs_it_when_it_runs_out(self, locked: Administrator, tmp_path: Path, moved_clock: Callable[[int], None]) -> None:
        assert locked("crl", "--authority", "people-root", "--pem").code == 0  # the one that init signed
        moved_clock(300 * DAY)
        assert locked("bundle", "--out", "bundle").code == 0  # still good for a hundred days
        moved_clock(401 * DAY)
        before = administrator.fingerprint(Path("bundle"))
        answer = locked("bundle", "--out", "bundle", code=3)
        assert "the CRL of people-root has expired, and its key is not here to sign another" in answer.err
        assert f"bring people-root.key back into {locked.home}/keys, run gatekey crl --authority people-root, take it away again" in answer.err
        assert administrator.fingerprint(Path("bundle")) == before  # the old bundle stays: half of one would shut out everybody
        shutil.copy(tmp_path / "safe" / "people-root.key", locked.home / "keys")
        locked("crl", "--authority", "people-root", "--out", "root.crl")
        (locked.home / "keys" / "people-root.key").unlink()
        assert locked("bundle", "--out", "bundle").code == 0

    def test_an_issuing_key_that_is_missing_is_said(self, locked: Administrator) -> None:
        (locked.home / "keys" / "people.key").unlink()
        before = locked.print()
        answer = locked("issue", "client", "ann", code=3)
        assert "the key of people is not here" in answer.err
        assert "people.key back into" in answer.err
        assert "from a backup: nothing is issued without it" in answer.err
        assert locked.print() == before
        assert "the key of people is missing: nothing can be issued or revoked with it" in locked("store", "check", code=1).out


class TestWholeOrNotAtAll:
    @pytest.mark.parametrize("step", range(1, 5))
    def test_a_founding_that_breaks_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        """The disk fills up while one of the four authorities is made."""
        real, count = ceremony._found, 0

        def breaks(*words: object, **more: object) -> object:
            nonlocal count
            count += 1
            if count == step:
                raise OSError(28, "No space left on device", "keys")
            return real(*words, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(ceremony, "_found", breaks)
        assert typed("--home", tmp_path / "deep" / "home", "init", "X", "--unencrypted-keys").code == 4
        assert not (tmp_path / "deep" / "home").exists()
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        monkeypatch.undo()
        assert typed("--home", tmp_path / "deep" / "home", "init", "X", "--unencrypted-keys").code == 0

    @pytest.mark.parametrize("home", [".", "./", "../place", ""])
    def test_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
        """Somebody makes a folder, goes there, and founds."""
        (tmp_path / "place").mkdir()
        monkeypatch.chdir(tmp_path / "place")
        words = ["--home", home] if home else ["--home", str(tmp_path / "place")]
        answer = typed(*words, "init", "X", "--unencrypted-keys")
        assert answer.code == 0, answer.err
        assert typed(*words, "store", "check").out == "the ledger is whole\n"
        assert [path.name for path in tmp_path.iterdir()] == ["place"]
        assert Path("ledger.db").exists()  # nobody is left standing in a folder that is gone

    def test_an_empty_folder_may_be_the_home(self, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        assert typed("--home", tmp_path / "home", "init", "X", "--unencrypted-keys").code == 0
        assert [path.name for path in tmp_path.iterdir()] == ["home"]

    @pytest.mark.interop
    def test_a_disk_of_its_own_may_be_the_home(self, tmp_path: Path) -> None:
        """Nothing can be renamed onto a mount point, and a new disk has a folder of its own."""
        gatekey = " ".join(shlex.quote(word) for word in administrator.COMMAND)
        home = tmp_path / "home"
        home.mkdir()
        made = f"{gatekey} --home {home} init X --unencrypted-keys && {gatekey} --home {home} store check"
        script = f"mount -t tmpfs tmpfs {home} && mkdir {home}/lost+found && {made} && ls -A {home}"
        unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
        environment = {**os.environ, "PYTHONPATH": str(administrator.SRC)}
        done = subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert "the ledger is whole" in done.stdout
        assert not [line for line in done.stdout.splitlines() if "gatekey-init" in line]

    def test_ctrl_c_in_the_middle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def stops(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(ceremony, "_found", stops)
        assert typed("--home", tmp_path / "home", "init", "X", "--unencrypted-keys").code == 130
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("where", ["open_authority", "_tell"])
    def test_ctrl_c_too_late(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        def stops(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        home = tmp_path / "home"
        with monkeypatch.context() as patch:
            patch.setattr(app if where == "open_authority" else init, where, stops)
            late = typed("--home", home, "init", "X", "--unencrypted-keys")
        assert (late.code, late.err.strip()) == (130, f"gatekey: the authority in {home} is made and whole; it was interrupted too late to stop that")
        assert typed("--home", home, "store", "check").code == 0


def test_config_mistakes_are_told_all_at_once(admin: Administrator) -> None:
    config = admin.home / "gatekey.toml"
    config.write_text('name = 7\nurll = "http://x"\npublish = true\nurl = "ftp://x"\n')
    heard = admin("list", code=3).err
    for key in ("name", "publish"):
        assert f"{key}: must be text in quotes" in heard
    assert "urll: is not a known key; did you mean url?" in heard
    assert "'ftp://x' is not an http:// URL" in heard
    config.write_text("this is no TOML")
    assert "is not TOML" in admin("list", code=3).err
    config.write_bytes(b"\xff\xfe")
    assert "cannot be read" in admin("list", code=3).err


def test_a_home_without_its_ledger(admin: Administrator) -> None:
    for path in admin.home.glob("ledger.db*"):
        path.unlink()
    refused = admin("list", code=3).err
    assert f"there is no ledger at {admin.home}/ledger.db" in refused
    assert "bring ledger.db back from a backup" in refused
    (admin.home / "ledger.db").write_text("this is no database, but it is longer than the header of one would be" * 20)
    assert "is damaged" in admin("list", code=3).err


def test_publish_is_rewritten_at_every_revocation(admin: Administrator, tmp_path: Path) -> None:
    with (admin.home / "gatekey.toml").open("a") as config:
        config.write(f'publish = "{tmp_path}/published"\n')
    admin("issue", "client", "ann")
    answer = admin("revoke", "ann")
    assert f"{tmp_path}/published is rewritten" in answer.err
    serial = admin.serial("ann")
    assert serial in (tmp_path / "published" / "revoked.map").read_text()
    crls = (tmp_path / "published" / "all.crl.pem").read_bytes()
    assert any(crl.get_revoked_certificate_by_serial_number(int(serial, 16)) for crl in _crls(crls))


def _crls(text: bytes) -> list[x509.CertificateRevocationList]:
    end = b"-----END X509 CRL-----\n"
    return [x509.load_pem_x509_crl(part + end) for part in text.split(end) if part.strip()]


def test_the_kit_founds_as_init_does(template: Path) -> None:
    assert sorted(path.name for path in template.iterdir() if not path.name.startswith((".", "ledger.db-"))) == [
        "audit.key", "authorities", "gatekey.toml", "keys", "ledger.db", "profiles",
    ]  # fmt: skip
    assert administrator.NAME == "Kitty CA"


def test_a_passphrase_file_that_is_missing_is_no_missing_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret").touch(0o600)
    Path("secret").write_text("a passphrase of many words\n")
    assert typed("--home", "home", "init", "Kitty", "--passphrase-file", "secret").code == 0
    monkeypatch.setenv("GATEKEY_PASSPHRASE_FILE", "/nope")
    for verb in (("issue", "client", "ann"), ("crl", "--out", "people.crl"), ("doctor",), ("serve",)):
        answer = typed("--home", "home", *verb)
        said = answer.out + answer.err
        assert answer.code, verb
        assert "there is no passphrase file /nope" in said
        assert "bring" not in said, said
