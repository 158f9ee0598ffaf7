"""Files that somebody else made, through the commands that read them: each ends with an answer or in a sentence, never in a traceback, and no byte of the
file reaches the terminal as a control character.
"""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatekey.model.names import Names
from gatekey.x509 import pem
from gatekey.x509.csr import encode_csr
from kit import administrator, objects
from kit.administrator import Administrator, Answer
from kit.cases import cases

PASSWORD = "the-password-of-these-tests"
#: What turns a line of text around, hides it or moves the cursor: controls, and the marks of direction (Unicode 9 annex 9, 2.1 to 2.3).
TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
KINDS = {"crt": "CERTIFICATE", "csr": "CERTIFICATE REQUEST", "crl": "X509 CRL", "key": "PRIVATE KEY", "p12": "", "toml": ""}

#: Each case is a command: fewer than elsewhere.
few = settings(cases(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


class Lab(NamedTuple):
    """A home, a folder in which the commands are typed, and one good file of each kind (DER, or text for TOML)."""

    admin: Administrator
    good: dict[str, bytes]

    def type(self, *words: object) -> Answer:
        answer = administrator.typed("--home", self.admin.home, *words)
        assert answer.code in (0, 1, 2, 3, 4), (words, answer)
        assert answer.code == 0 or answer.out or re.search(r"^gatekey: \S|^\{", answer.err, re.MULTILINE), (words, answer)
        for said in (answer.out, answer.err):
            assert not [c for c in said if (unicodedata.category(c) == "Cc" and c not in "\n\t") or ord(c) in TURNING], (words, said)
        return answer

    def file(self, content: bytes, name: str = "given") -> Path:
        path = self.admin.folder / name
        path.write_bytes(content)
        return path


@pytest.fixture(scope="module")
def lab(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("fuzz")
    admin = Administrator(administrator.copied(template, folder / "home"), folder)
    admin("issue", "client", "ann", "--email", "ann@example.com", "--out", folder, "--password-file", folder / "pw")
    admin("request", "bob", "--out", folder)
    admin("crl", "--pem", "--out", folder / "people.crl")
    named = {"crt": "ann.crt", "csr": "bob.csr", "key": "ann.key", "crl": "people.crl"}
    good = {kind: pem.decode((folder / file).read_bytes())[0][1] for kind, file in named.items()}
    good["p12"] = (folder / "ann.p12").read_bytes()
    good["toml"] = admin("profile", "show", "server").stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEKEY_DEBUG", "1")  # a fault in Gatekey itself is a traceback here
        patch.chdir(folder)
        yield Lab(admin, good)


@st.composite
def files(draw: st.DrawFn, good: bytes, label: str) -> bytes:
    """A damaged file: as DER, as PEM, as bare base64, or PEM that is damaged as text."""
    der = draw(objects.damaged(good))
    how = draw(st.integers(0, 3)) if label else 0
    if how == 1:
        return pem.encode(label, der)
    if how == 2:
        return base64.b64encode(der)
    return draw(objects.damaged(pem.encode(label, good))) if how == 3 else der


READING = [
    ("crt", ["show", "given"]),
    ("crt", ["show", "given", "--json"]),
    ("crt", ["show", "given", "--pem"]),
    ("crt", ["verify", "given"]),
    ("crt", ["verify", "given", "--server", "--json"]),
    ("crt", ["p12", "given", "--key", "ann.key", "--out", "made.p12", "--force"]),
    ("csr", ["show", "given"]),
    ("csr", ["show", "given", "--json"]),
    ("csr", ["sign", "given", "--profile", "device", "--out", "-"]),
    ("csr", ["sign", "given", "--profile", "server", "--out", "-", "--json"]),
    ("csr", ["issue", "client", "carol", "--csr", "given", "--force"]),
    ("csr", ["renew", "ann", "--csr", "given", "--force"]),
    ("crl", ["show", "given"]),
    ("crl", ["show", "given", "--json"]),
    ("key", ["show", "given"]),
    ("key", ["p12", "ann.chain.crt", "--key", "given", "--out", "made.p12", "--force"]),
    ("key", ["request", "dora", "--key", "given", "--force"]),
    ("p12", ["show", "given"]),
    ("p12", ["show", "given", "--password-file", "pw"]),
    ("p12", ["show", "given", "--password-file", "pw", "--json"]),
    ("toml", ["profile", "check", "given"]),
    ("toml", ["profile", "check", "given", "--json"]),
    ("toml", ["profile", "explain", "given.toml"]),
    ("toml", ["profile", "add", "given", "--force"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "words"), READING, ids=[" ".join(words) for _, words in READING])
@few
@given(data=st.data())
def test_damaged_files(lab: Lab, kind: str, words: list[str], data: st.DataObject) -> None:
    name = next(word for word in words if word.startswith("given"))
    lab.file(data.draw(files(lab.good[kind], KINDS[kind])), name)
    lab.type(*words)


@few
@given(content=st.binary(max_size=300) | st.text(max_size=200).map(str.encode), verb=st.sampled_from(READING))
@example(content=b"", verb=READING[0])
@example(content=b"-----BEGIN CERTIFICATE-----\n", verb=READING[0])
@example(content=b"\x30\x84\xff\xff\xff\xff", verb=READING[12])
@example(content=b"\x30\x80" * 5000, verb=READING[0])
@example(content=b"[" * 60000, verb=READING[20])
def test_any_bytes(lab: Lab, content: bytes, verb: tuple[str, list[str]]) -> None:
    lab.file(content, next(word for word in verb[1] if word.startswith("given")))
    lab.type(*verb[1])


#: Text that people should never see as it is.
NASTY = st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("\x1b\x9b\x7f\r\n\t\0\u202e\u2066\u200f\u0085\u2028\\\"'<>&"), max_size=40)
#: What may stand in an IA5String.
NASTY_ASCII = st.text(alphabet=st.characters(max_codepoint=127), max_size=40)
FEW = st.lists(NASTY_ASCII, max_size=3).map(tuple)
NAMES = st.builds(lambda common_name, dns, emails: Names(common_name, dns, (), emails), NASTY, FEW, FEW)


@few
@given(names=NAMES)
@example(names=Names("\x1b]0;owned\x07\x9b31m", ("\x1b[2J",), (), ("x\x08@y",)))
@example(names=Names("\x1b]0;owned\x07\x9b31m\u202e", ("a.example",)))
def test_names_of_strangers_never_reach_the_terminal_as_they_are(lab: Lab, names: Names) -> None:
    key = objects.key("p256", 7)
    csr = encode_csr(names, objects.spki_of(key), "p256", lambda info: objects.sign(key, info))
    lab.file(csr)
    shown = lab.type("show", "given", "--json")
    assert shown.code or json.loads(shown.out)["kind"] == "csr"  # the reader takes no control characters in an IA5String
    lab.type("show", "given")
    for profile in ("client", "device", "server"):
        lab.type("sign", "given", "--profile", profile, "--out", "-")
    lab.type("issue", "client", "carol", "--csr", "given", "--force")
    house = objects.house()
    lab.file(house.certificate(objects.client(names, objects.spki_of(key))))
    for words in (["show", "given"], ["show", "given", "--json"], ["verify", "given"], ["verify", "given", "--json"], ["revoke", "./given"]):
        lab.type(*words)


@few
@given(content=NASTY, where=st.sampled_from(["about", "key", "pattern", "name", "value"]))
def test_profiles_of_strangers_never_reach_the_terminal_as_they_are(lab: Lab, content: str, where: str) -> None:
    quoted = json.dumps(content)
    lines = {
        "about": f"[profile.x]\nabout = {quoted}\n",
        "key": f"[profile.x]\n{quoted} = 1\n",
        "pattern": f"[profile.x]\nnames = {{ host = [{quoted}], login = [{quoted}] }}\nusage = [{quoted}]\n",
        "name": f"[profile.{quoted}]\nabout = 'x'\n[{quoted}]\n",
        "value": f"[profile.x]\nvalidity = {quoted}\nissuer = {quoted}\nextra = [{quoted}]\n",
    }
    lab.file(lines[where].encode(), "given.toml")
    for words in (["check", "given.toml"], ["check", "given.toml", "--json"], ["add", "given.toml"], ["explain", "given.toml"]):
        lab.type("profile", *words)


TYPED = [
    "show {}", "verify {}", "list --holder {}", "list --group {}", "people show {}", "people add {}", "people set ann --name {}", "people set ann --email {}",
    "revoke {}", "hold {}", "renew {}", "leave {} --yes", "issue client {}", "issue client x --device {}", "issue client x --email {}", "issue server {}",
    "request {} --force", "crl --pem --authority {}", "authority show {}", "profile show {}", "profile check {}", "sign bob.csr --profile {}",
    "verify ann.crt --at {}",
]  # fmt: skip


@few
@given(line=st.sampled_from(TYPED), content=NASTY | st.binary(min_size=1, max_size=12).map(lambda data: data.decode("utf-8", "surrogateescape")))
@example(line="revoke {}", content="\udcff")
@example(line="issue server {}", content="\udcff.example")
def test_whatever_is_typed(lab: Lab, line: str, content: str) -> None:
    """Also bytes that are no text, which Python keeps as lone surrogates."""
    if "\0" not in content:  # which no command line can hold
        lab.type(*(content if word == "{}" else word for word in line.split()))
