"""What may reach a web server: a table of bundles that are wrong in one thing, each with its sentence, and bytes of chance."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError
from gatekey.model import bundle as texts
from gatekey.webserver.agent_bundle import Memory, admitted, fresh_until, in_time, read_manifest, understood
from gatekey.webserver.agent_server import KINDS, openssl_takes
from gatekey.x509 import pem
from kit.cases import cases
from kit.pki import DAY, HOUR, Ca, Pki, make_pki, new_key
from kit.published import Published, changed, with_manifest

Contents = dict[str, bytes]
LISTS = KINDS["nginx"].lists


@functools.cache
def town() -> Published:
    made = Published(Path("unused"))
    made.revoke(made.bob)
    return made


@functools.cache
def good() -> Contents:
    return town().contents()


def judged(contents: Contents, *, lists: tuple[str, ...] = LISTS, memory: Memory = Memory(), at: int | None = None, older: bool = False) -> Any:  # noqa: B008
    """All three questions, as the agent asks them."""
    now = town().pki.now if at is None else at
    bundle = understood(contents, lists)
    admitted(bundle, memory, now, older=older)
    in_time(bundle, now)
    return bundle


def refusal(contents: Contents, **more: Any) -> GatekeyError:
    with pytest.raises(GatekeyError) as caught:
        judged(contents, **more)
    return caught.value


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_good_bundle_is_good_for_every_server(kind: str) -> None:
    bundle = judged(good(), lists=KINDS[kind].lists)
    assert (bundle.number, bundle.denied, len(bundle.authorities), len(bundle.crls)) == (1, 1, 2, 2)
    assert list(bundle.roots.values()) == ["CN=kitty-ca people root"]
    assert fresh_until(bundle, town().pki.now) == town().pki.now + 30 * DAY
    openssl_takes(good()["people-chain.pem"], good()["all.crl.pem"], (2, 2))


def test_a_flat_authority() -> None:
    flat = Published(Path("unused"), make_pki("Kitty CA", flat=True))
    flat.revoke(flat.bob)
    bundle = judged(flat.contents(), at=flat.pki.now)
    assert (bundle.denied, len(bundle.crls)) == (1, 1)


def test_what_gatekey_itself_writes(tmp_path: Path) -> None:
    """Every kind of name that an authority may have goes through the grammar of the lists."""
    from gatekey.testing import CA

    for name in ("Test CA", 'Kitty; "Pictures" {Ltd}, +<x> #1', "Käse & Söhne"):
        with CA(name) as ca:
            ca.person("ann", email="ann+x@example.com", groups=("staff", "a b"))
            ca.person("b.o-b_@x y")
            ca.revoke("ann")
            folder = ca.bundle()
            contents = {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(".")}
        for kind in KINDS.values():
            bundle = judged(contents, lists=kind.lists, at=read_manifest(contents["manifest.json"]).made_at)
            assert bundle.denied == 1


# CRLs that must never reach a server


def crl(
    ca: Ca, *, last: int = -HOUR, following: int = 30 * DAY, number: int | None = 1, signer: Any = None, extensions: tuple[Any, ...] = (), aki: bool = True
) -> bytes:
    """A CRL of our own making, in PEM."""
    now = dt.datetime.fromtimestamp(town().pki.now, dt.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.certificate.subject).last_update(now + dt.timedelta(seconds=last))
    builder = builder.next_update(now + dt.timedelta(seconds=following))
    if aki:
        key_id = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(signer or ca.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def with_issuing(made: bytes) -> Contents:
    """The good bundle with another CRL of the issuing authority."""
    return changed(good(), all_crl_pem=town().pki.crl("root") + made)


def scope(**said: Any) -> tuple[Any, bool]:
    fields = {"full_name": None, "relative_name": None, "only_contains_user_certs": False, "only_contains_ca_certs": False, "only_some_reasons": None}
    fields |= {"indirect_crl": False, "only_contains_attribute_certs": False}
    return x509.IssuingDistributionPoint(**{**fields, **said}), True


def issuing_crl(**how: Any) -> Contents:
    return with_issuing(crl(town().pki.issuing, **how))


POINT = (x509.UniformResourceIdentifier("http://ca.example/1.crl"),)
STRANGER = make_pki("somebody else")
MALLORY = town().pki.foreign()

#: What is wrong -> (how it is made, code, a part of the sentence). The chain and everything else is good, and the manifest fits.
CRLS: dict[str, tuple[Callable[[], Contents], str, str]] = {
    "expired": (lambda: issuing_crl(last=-2 * DAY, following=-1), "crl-expired", "the CRL of CN=kitty-ca people ran out at"),
    "expired, the root's": (
        lambda: changed(good(), all_crl_pem=town().pki.crls(root="expired")), "crl-expired", "the CRL of CN=kitty-ca people root ran out at",
    ),
    "ends this second": (lambda: issuing_crl(last=-2 * DAY, following=0), "crl-expired", "with it nobody would get in"),
    "not yet valid": (lambda: issuing_crl(last=60), "crl-not-yet", "is not valid before"),
    "not yet valid, the root's": (
        lambda: changed(good(), all_crl_pem=town().pki.crls(root="not-yet")), "crl-not-yet", "CN=kitty-ca people root is not valid before",
    ),
    "of another authority": (lambda: with_issuing(STRANGER.crl()), "crl-foreign", "a CRL of CN=somebody else, who is none of the authorities"),
    "of another authority with the same names": (lambda: with_issuing(MALLORY.crl()), "crl-signature", "does not hold"),
    "signed by another key": (lambda: issuing_crl(signer=new_key()), "crl-signature", "the signature of the CRL of CN=kitty-ca people does not hold"),
    "signed by the root, in the issuing one's name": (lambda: issuing_crl(signer=town().pki.root.key, aki=False), "crl-signature", "does not hold"),
    "one bit altered": (lambda: with_issuing(_one_bit(town().pki.crl())), "crl-signature", "does not hold"),
    "cut": (lambda: changed(good(), all_crl_pem=good()["all.crl.pem"][:-400]), "bad-pem", "all.crl.pem: this is not PEM that can be read"),
    "cut inside": (lambda: with_issuing(pem.encode("X509 CRL", _der(town().pki.crl())[:-9])), "bad-crl", "all.crl.pem: this is not a CRL that can be read"),
    "in DER": (lambda: changed(good(), all_crl_pem=_der(town().pki.crl())), "bad-pem", "not made of X509 CRL blocks"),
    "empty": (lambda: changed(good(), all_crl_pem=b""), "bad-pem", "not made of X509 CRL blocks"),
    "none of the root": (lambda: changed(good(), all_crl_pem=town().pki.crl()), "crl-missing", "no CRL of CN=kitty-ca people root"),
    "none of the issuing authority": (lambda: changed(good(), all_crl_pem=town().pki.crl("root")), "crl-missing", "no CRL of CN=kitty-ca people:"),
    "two of one authority": (lambda: changed(good(), all_crl_pem=town().pki.crls() + town().pki.crl()), "crl-double", "two CRLs of CN=kitty-ca people"),
    "a delta": (lambda: issuing_crl(extensions=((x509.DeltaCRLIndicator(1), True),)), "crl-delta", "is a delta, which tells changes only"),
    "a delta beside the full one": (
        lambda: changed(good(), all_crl_pem=town().pki.crls() + crl(town().pki.issuing, extensions=((x509.DeltaCRLIndicator(1), True),))),
        "crl-delta", "is a delta",
    ),
    "people only": (lambda: issuing_crl(extensions=(scope(only_contains_user_certs=True),)), "crl-partial", "certificates of people and machines only"),
    "authorities only": (lambda: issuing_crl(extensions=(scope(only_contains_ca_certs=True),)), "crl-partial", "certificates of authorities only"),
    "attribute certificates only": (lambda: issuing_crl(extensions=(scope(only_contains_attribute_certs=True),)), "crl-partial", "attribute certificates only"),
    "some reasons only": (
        lambda: issuing_crl(extensions=(scope(full_name=POINT, only_some_reasons=frozenset([x509.ReasonFlags.key_compromise])),)),
        "crl-partial", "some reasons only",
    ),
    "indirect": (lambda: issuing_crl(extensions=(scope(full_name=POINT, indirect_crl=True),)), "crl-partial", "certificates of other issuers as well"),
    "one shard": (lambda: issuing_crl(extensions=(scope(full_name=POINT),)), "crl-partial", "the certificates of one distribution point only"),
    "without a number": (lambda: issuing_crl(number=None), "crl-partial", "has no number"),
    "with a critical extension nobody knows": (
        lambda: issuing_crl(extensions=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)), "crl-partial", "1.2.3.4",
    ),
    "something before it": (lambda: changed(good(), all_crl_pem=b"# a comment\n" + good()["all.crl.pem"]), "bad-pem", "and nothing else"),
    "a certificate among them": (lambda: changed(good(), all_crl_pem=good()["all.crl.pem"] + town().pki.root.pem), "bad-pem", "and nothing else"),
}  # fmt: skip


def _der(text: bytes) -> bytes:
    return x509.load_pem_x509_crl(text).public_bytes(Encoding.DER)


def _one_bit(text: bytes) -> bytes:
    """The last entry's serial with one bit turned."""
    der = bytearray(_der(text))
    serial = town().bob.certificate.serial_number.to_bytes(16, "big")
    der[der.index(serial) + 8] ^= 1
    return pem.encode("X509 CRL", bytes(der))


@pytest.mark.parametrize("what", CRLS)
def test_no_such_crl_reaches_a_server(what: str) -> None:
    make, code, sentence = CRLS[what]
    refused = refusal(make())
    assert refused.code == code, refused.message
    assert sentence in refused.message


def test_a_crl_without_an_end() -> None:
    """RFC 5280 5.1.2.5 forbids it and no library of ours makes one: the field is cut out, and what is left is signed again."""
    from gatekey.x509.certificate import assemble
    from gatekey.x509.der import instant, seq, whole

    made = x509.load_pem_x509_crl(crl(town().pki.issuing))
    parts = whole(made.tbs_certlist_bytes)
    kept = b"".join(item for item in _items(parts) if item != instant(town().pki.now + 30 * DAY))
    tbs = seq(kept)
    from cryptography.hazmat.primitives.asymmetric import ec

    key: Any = town().pki.issuing.key
    der = assemble(tbs, key.sign(tbs, ec.ECDSA(hashes.SHA256())))
    refused = refusal(with_issuing(pem.encode("X509 CRL", der)))
    assert (refused.code, "has no end" in refused.message) == ("crl-partial", True)


def _items(reader: Any) -> list[bytes]:
    found = []
    while reader:
        found.append(reader.raw())
    return found


# Chains


def authority(name: str, *, issuer: Ca | None = None, signs: bool = True, days: tuple[int, int] = (-400, 4000), length: int | None = None) -> Ca:
    key = new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.fromtimestamp(town().pki.now, dt.UTC)
    usage = x509.KeyUsage(*(i == 5 or (i == 6 and signs) for i in range(9)))
    builder = (
        x509.CertificateBuilder(issuer.certificate.subject if issuer else subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
        .add_extension(usage, critical=True)
    )
    return Ca(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def chain(*cas: Ca) -> Contents:
    """A bundle of these authorities, with a good CRL of each and lists without entries."""
    made = {name: data for name, data in good().items() if not name.startswith(("revoked.", "people.", "issuers.", "trust."))}
    dns = [ca.certificate.subject.rfc4514_string() for ca in cas]
    made |= {name: text.encode() for name, text in texts.texts([], [], dns, 1, [ca.certificate.public_bytes(Encoding.DER) for ca in cas]).items()}
    made |= {"people-chain.pem": b"".join(ca.pem for ca in cas), "all.crl.pem": b"".join(crl(ca) for ca in cas)}
    return with_manifest(made, number=1, made_at=town().made_at)


def broken_root() -> Contents:
    der = bytearray(town().pki.root.certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return changed(good(), people_chain_pem=pem.encode("CERTIFICATE", bytes(der)) + town().pki.issuing.pem)


ROOT = authority("r")
SHORT = authority("r", length=0)
ENDED = authority("r", days=(-400, -1))

CHAINS: dict[str, tuple[Callable[[], Contents], str, str]] = {
    "no root": (lambda: changed(good(), people_chain_pem=town().pki.issuing.pem), "bundle-chain", "CN=kitty-ca people does not lead to a self-signed root"),
    "another root of the same name": (
        lambda: changed(good(), people_chain_pem=MALLORY.root.pem + town().pki.issuing.pem),
        "bundle-chain", "CN=kitty-ca people does not lead to a self-signed root",
    ),
    "a root whose own signature does not hold": (broken_root, "bundle-chain", "does not lead to a self-signed root"),
    "a person among them": (
        lambda: changed(good(), people_chain_pem=town().pki.chain_pem + town().ann.certificate_pem), "bundle-chain", "CN=ann, which is no authority",
    ),
    "an authority that may not sign CRLs": (
        lambda: chain(ROOT, authority("i", issuer=ROOT, signs=False)), "bundle-chain", "may not sign certificates and CRLs",
    ),
    "longer than the root allows": (lambda: chain(SHORT, authority("i", issuer=SHORT)), "bundle-chain", "does not lead to a self-signed root"),
    "not yet valid": (lambda: chain(ROOT, authority("i", issuer=ROOT, days=(1, 9))), "bundle-chain", "the certificate of CN=i is not valid before"),
    "all of it past its end": (lambda: chain(ENDED, authority("i", issuer=ENDED, days=(-9, -1))), "bundle-chain", "no authority of the chain is in force"),
    "its root past its end": (lambda: chain(ENDED, authority("i", issuer=ENDED)), "bundle-chain", "no authority of the chain is in force"),
    "empty": (lambda: changed(good(), people_chain_pem=b""), "bad-pem", "not made of CERTIFICATE blocks"),
    "cut": (lambda: changed(good(), people_chain_pem=good()["people-chain.pem"][:-30]), "bad-pem", "people-chain.pem: this is not PEM that can be read"),
    "under a label that OpenSSL takes too": (
        lambda: changed(good(), people_chain_pem=good()["people-chain.pem"] + MALLORY.root.pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")),
        "bad-pem", "nothing else",
    ),
    "too many": (lambda: changed(good(), people_chain_pem=good()["people-chain.pem"] * 33), "bundle-chain", "more than the 64"),
    "a certificate that cannot be read": (
        lambda: changed(good(), people_chain_pem=pem.encode("CERTIFICATE", b"\x30\x00")), "bad-certificate", "people-chain.pem: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CHAINS)
def test_no_such_chain_reaches_a_server(what: str) -> None:
    make, code, sentence = CHAINS[what]
    refused = refusal(make())
    assert refused.code == code, refused.message
    assert sentence in refused.message


def test_an_authority_past_its_end_holds_nobody_up_beside_another() -> None:
    """Otherwise a forgotten authority would keep every revocation away from the server."""
    old, new = authority("old", issuer=ROOT, days=(-400, -1)), authority("new", issuer=ROOT)
    made = chain(ROOT, old, new)
    stale = crl(ROOT) + crl(old, last=-60 * DAY, following=-DAY) + crl(new)
    bundle = judged(changed(made, all_crl_pem=stale))
    assert fresh_until(bundle, town().pki.now) == town().pki.now + 30 * DAY


def test_two_roots_and_a_cross_certificate() -> None:
    """A root that is replaced: both lead somewhere, and both must be known."""
    other = authority("s")
    bundle = judged(chain(ROOT, authority("i", issuer=ROOT), other, authority("j", issuer=other)))
    assert sorted(bundle.roots.values()) == ["CN=r", "CN=s"]
    one = ROOT.certificate.fingerprint(hashes.SHA256()).hex().upper()
    assert refusal(dict(bundle.contents), memory=Memory(frozenset([one]))).code == "bundle-foreign"


# Files and lists

DN = "CN=kitty-ca people"
SERIAL = "0A" * 16


def line_in(name: str, line: str) -> Contents:
    """The good bundle with one more line in a list."""
    key = name.replace(".", "_").replace("-", "_")
    return changed(good(), **{key: good()[name] + f"{line}\n".encode()})


LINES = {
    "revoked.map": (
        f'"{SERIAL} {DN}" 1;',
        [f'"{SERIAL} {DN}" 0;', f'"{SERIAL} CN=other" 1;', f'"{SERIAL} {DN}" 1; }} server {{ listen 1;', "include /etc/passwd;", "", "# x"],
    ),
    "issuers.map": (f'"{DN}" 1;', ['"CN=mallory" 1;', "default 1;", '"~." 1;', f'"{DN}" 1;}}', "volatile;"]),
    "people.map": (
        f'"{SERIAL} {DN}" "eve;;;;";',
        [f'"{SERIAL} {DN}" "eve";', f'"{SERIAL} {DN}" "$host;;;;";',
         f'"{SERIAL} {DN}" "a;b;c;d;e"; }} server {{', f'"~ {DN}" "eve;;;;";', 'default "eve;;;;";'],
    ),
    "revoked.txt": (f"{SERIAL}_CN=kitty-ca%20people 1", [f"{SERIAL}_CN=kitty-ca%20people 0", f"{SERIAL}_{DN} 1", "x 1"]),
    "people.txt": (f"{SERIAL}_CN=kitty-ca%20people eve;;;;", [f"{SERIAL}_CN=kitty-ca%20people eve", f"{SERIAL}_CN=kitty-ca%20people eve ;;;;x y"]),
    "revoked.lst": (f"{SERIAL}%20CN%3Dkitty-ca%20people", [f"{SERIAL}%20CN%3Dkitty-ca%20people x", "a; shutdown sessions", "0A"]),
    "people.lst": (f"{SERIAL}%20CN%3Dkitty-ca%20people eve;;;;", [f"{SERIAL}%20CN%3Dkitty-ca%20people eve;;\r;;"]),
    "revoked.caddy": (f'"{int(SERIAL, 16)} {DN}" 1', [f'"{int(SERIAL, 16)} {DN}" 0', "import /etc/passwd", '"{env.X}" 1']),
    "issuers.caddy": (f'"{DN}" 1', ['"CN=mallory" 1', "~. 1"]),
    "people.caddy": (f'"{int(SERIAL, 16)} {DN}" "eve" "" "" "" ""', [f'"{int(SERIAL, 16)} {DN}" "eve" "" "" "" "" }}', f'"1 {DN}" "{{env.X}}" "" "" "" ""']),
}


@pytest.mark.parametrize("name", LINES)
def test_a_list_has_only_lines_that_we_could_have_written(name: str) -> None:
    fine, wrong = LINES[name]
    judged(line_in(name, fine), lists=())
    for line in wrong:
        refused = refusal(line_in(name, line), lists=())
        assert (refused.code, f"of {name} is none that can stand there" in refused.message) == ("bundle-list", True), (line, refused.message)


@pytest.mark.parametrize("name", LINES)
def test_a_list_that_is_cut_or_not_one(name: str) -> None:
    key = name.replace(".", "_")
    fine = good()[name]
    for data in (b"", fine[:-1], fine.replace(b"\n", b"\r\n"), fine + b"\n", b"\xff\n", "ä\n".encode(), b"x\n" + fine, b"\0" * 9):
        assert refusal(changed(good(), **{key: data}), lists=()).code == "bundle-list", data[:40]


@pytest.mark.parametrize("name", ["issuers.map", "issuers.txt", "issuers.lst"])
def test_somebody_must_be_let_in(name: str) -> None:
    refused = refusal(changed(good(), **{name.replace(".", "_"): good()[name].split(b"\n")[0] + b"\n"}), lists=())
    assert refused.message == f"{name} names no issuer: with it nobody would get in"


def test_caddy_trusts_the_chain_and_nobody_else() -> None:
    from base64 import b64encode

    mallory = b"trusted_ca_cert " + b64encode(MALLORY.root.certificate.public_bytes(Encoding.DER)) + b"\n"
    kind = KINDS["caddy"]
    for data in (good()["trust.caddy"] + mallory, good()["trust.caddy"].rsplit(b"\n", 2)[0] + b"\n", b"# nothing\n"):
        refused = refusal(changed(good(), trust_caddy=data), lists=kind.lists)
        assert refused.message == "trust.caddy trusts others than the authorities in people-chain.pem"


@pytest.mark.parametrize("kind", ["nginx", "apache", "haproxy", "caddy"])
def test_what_the_server_reads_must_be_there(kind: str) -> None:
    for name in KINDS[kind].lists:
        refused = refusal(changed(good(), **{name.replace(".", "_").replace("-", "_"): None}), lists=KINDS[kind].lists)
        assert (refused.code, refused.message) == ("bundle-damaged", f"{name} is missing, and the web server needs it")


def test_the_manifest_is_the_measure() -> None:
    contents = good()
    assert refusal({**contents, "revoked.map": contents["revoked.map"] + b" "}).message.startswith("revoked.map has ")
    same_size = contents["revoked.map"].replace(b" 1;", b" 0;")
    assert "another SHA-256" in refusal({**contents, "revoked.map": same_size}).message
    assert "which is not there" in refusal({name: data for name, data in contents.items() if name != "people.json"}).message
    assert refusal({**contents, "more.txt": b""}).message == "more.txt is not listed in manifest.json"


MANIFESTS: dict[str, tuple[bytes | dict[str, Any], str]] = {
    "nothing": (b"", "cut, or no manifest"),
    "half": (b'{"version": 1, "num', "cut, or no manifest"),
    "a list": (b"[]", "cut, or no manifest"),
    "a number": (b"7", "cut, or no manifest"),
    "no text": (b"\xff\xfe", "cut, or no manifest"),
    "very deep": (b"[" * 200_000, "cut, or no manifest"),
    "very long": (b" " * (1024 * 1024 + 1), "more than the 1024 KiB"),
    "a later version": ({"version": 2}, "older than the authority"),
    "a version that is true": ({"version": True}, "older than the authority"),
    "no number": ({"number": "7"}, "as its revocation number"),
    "a number that is true": ({"number": True}, "as its revocation number"),
    "a negative number": ({"number": -1}, "as its revocation number"),
    "an absurd number": ({"number": 2**63}, "as its revocation number"),
    "no time": ({"made_at": "yesterday"}, "cut, or no manifest"),
    "a way out": ({"files": {"../../etc/passwd": {"sha256": "0" * 64, "size": 1}}}, "a file called '../../etc/passwd'"),
    "a hidden file": ({"files": {".current": {"sha256": "0" * 64, "size": 1}}}, "a file called '.current'"),
    "itself": ({"files": {"manifest.json": {"sha256": "0" * 64, "size": 1}}}, "a file called 'manifest.json'"),
    "no hash": ({"files": {"a": {"sha256": "0", "size": 1}}}, "no hash and size for a"),
    "a size of text": ({"files": {"a": {"sha256": "0" * 64, "size": "1"}}}, "no hash and size for a"),
    "too much": ({"files": {"a": {"sha256": "0" * 64, "size": 2**40}}}, "more than the 1024 MiB"),
    "too many": ({"files": {f"f{n}": {"sha256": "0" * 64, "size": 1} for n in range(201)}}, "lists 201 files"),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_manifests_that_are_none(what: str) -> None:
    given_, sentence = MANIFESTS[what]
    data = given_ if isinstance(given_, bytes) else json.dumps(json.loads(good()["manifest.json"]) | given_).encode()
    refused = refusal({**good(), "manifest.json": data})
    assert (refused.code, sentence in refused.message) == ("bundle-damaged", True), refused.message


# What was there before


def test_another_authoritys_bundle_is_refused_whole() -> None:
    """Right in every part, signed, fresh, with the same names: only the root is another."""
    mallory = Published(Path("unused"), MALLORY)
    memory = Memory.of(understood(good(), LISTS))
    refused = refusal(mallory.contents(), memory=memory)
    assert refused.code == "bundle-foreign"
    assert "the root CN=kitty-ca people root (SHA-256 " in refused.message
    assert refused.facts["root"] in refused.message


def test_nothing_is_played_back() -> None:
    memory = Memory.of(judged(good()))
    judged(good(), memory=memory)  # the same again is no step back
    less = refusal(town().contents(number=0), memory=memory)
    assert (less.code, less.message) == ("bundle-older", "the bundle has revocation number 0, and 1 is in force: somebody plays back an old one")
    assert "--accept-older" in less.hint
    earlier = with_manifest(good(), number=1, made_at=town().made_at - 60)
    assert refusal(earlier, memory=memory).code == "bundle-older"
    # An old CRL under a manifest that claims to be new: its own number, which is signed, gives it away.
    numbers = {fact.key: fact.number for fact in judged(good()).crls}
    replayed = changed(town().contents(number=9), all_crl_pem=town().pki.crl("root") + crl(town().pki.issuing, number=0))
    assert "the CRL of CN=kitty-ca people has number 0" in refusal(replayed, memory=memory._replace(crls=numbers)).message
    for contents in (town().contents(number=0), earlier, replayed):
        judged(contents, memory=memory, older=True)


def test_a_time_in_the_future_is_no_bar() -> None:
    """The authority's clock was wrong once: what it says now must still get through."""
    memory = Memory.of(judged(with_manifest(good(), number=1, made_at=town().made_at + 300 * DAY)))
    judged(good(), memory=memory)


def test_memory_of_two_places_forgets_nothing() -> None:
    one, other = Memory(frozenset("A"), 5, 100, {"x": 7, "y": 1}), Memory(frozenset("B"), 6, 50, {"x": 3, "z": 2})
    assert one.and_also(other) == Memory(frozenset("A"), 6, 50, {"x": 7, "y": 1, "z": 2})
    assert Memory().and_also(one) == one.and_also(Memory()) == one


# Bytes of chance


@given(st.sampled_from(sorted(good())), st.integers(0, 10_000), st.binary(max_size=6), st.integers(0, 30))
def test_mutated_bundles_end_in_a_sentence(name: str, at: int, put: bytes, cut: int) -> None:
    data = good()[name]
    at = at % (len(data) + 1)
    mutated = {**good(), name: data[:at] + put + data[at + cut :]}
    if name != "manifest.json":
        mutated = changed(good(), **{name.replace(".", "_").replace("-", "_"): mutated[name]})
    try:
        bundle = judged(mutated, lists=())
    except GatekeyError as refused:
        assert refused.message
    else:
        # Whatever goes through says the same of CRLs and chain: those are signed.
        assert (bundle.denied, list(bundle.roots.values())) == (1, ["CN=kitty-ca people root"])


@cases(60)
@given(st.dictionaries(st.sampled_from(sorted(good())), st.binary(max_size=300)))
def test_bytes_of_chance_end_in_a_sentence(contents: dict[str, bytes]) -> None:
    with pytest.raises(GatekeyError):
        judged({**contents, "manifest.json": contents.get("manifest.json", b"{}")})


@cases(60)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["version", "number", "made_at", "files", "sha256", "size", "a"]), inner, max_size=5), max_leaves=12))  # fmt: skip
def test_manifests_of_chance_end_in_a_sentence(said: Any) -> None:
    try:
        manifest = read_manifest(json.dumps(said).encode())
    except GatekeyError as refused:
        assert refused.code == "bundle-damaged"
    else:
        assert manifest.number >= 0


def test_openssl_reads_what_we_read() -> None:
    with pytest.raises(GatekeyError, match="OpenSSL reads 2 certificates and 1 CRLs where there are 2 and 2"):
        openssl_takes(good()["people-chain.pem"], town().pki.crl(), (2, 2))
    with pytest.raises(GatekeyError, match="OpenSSL reads 0 certificates"):
        openssl_takes(b"", b"", (1, 1))


def test_a_pki_of_the_kit_is_what_these_tests_take_it_for() -> None:
    assert isinstance(MALLORY, Pki)
    assert MALLORY.root.certificate.subject == town().pki.root.certificate.subject
