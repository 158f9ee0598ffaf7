from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import Malformed
from gatekey.identity import headers as h
from gatekey.identity import sources
from gatekey.model import headers as model

SRC = Path(__file__).parents[2] / "src"


def sorted_out(*pairs: tuple[bytes, bytes], names: h.Names | None = None) -> dict[str, str]:
    return h.sort_out(pairs, names or h.Names())


def test_the_names_are_those_that_the_web_servers_are_configured_with() -> None:
    assert {name.lower() for name in model.STRIPPED} <= h.PROTECTED
    ours = (model.USER, model.NAME, model.EMAIL, model.GROUPS, model.DEVICE, model.SERIAL, model.ISSUER, model.VERIFY, model.CERT)
    assert [name.lower() for name in ours] == [h.USER, h.NAME, h.EMAIL, h.GROUPS, h.DEVICE, h.SERIAL, h.ISSUER, h.VERIFY, h.CERT]
    assert (model.CLIENT_CERT.lower(), model.CLIENT_CERT_CHAIN.lower()) == (h.CLIENT_CERT, h.CLIENT_CERT_CHAIN)


def test_every_header_that_a_source_reads_is_protected() -> None:
    for source in sources.SOURCES.values():
        names = h.Names(source.names)
        assert [names[name.encode()] for name in source.names] == list(source.names)


def test_exact_names_in_any_case_are_found_and_others_are_not() -> None:
    assert sorted_out((b"x-client-user", b"ann"), (b"X-Client-Serial", b"1A"), (b"x-client-version", b"7"), (b"x-client", b"")) == {
        "x-client-user": "ann",
        "x-client-serial": "1A",
    }


@pytest.mark.parametrize(
    "name",
    [
        "X_Client_User", "x-client_user", "x_client-user", "X-Client-User_", "_X-Client-User", "-x-client-user", "x-client-user-", "x--client-user",
        "x-client__user", "x.client.user", "X Client User", "remote_user",
        "REMOTE_USER", "remote-user_", "client_cert", "x_forwarded_client_cert", "x-forwarded_tls-client-cert",
        "x_webauth_user", "ssl_client_cert", "ssl_client_verify", "x_gatekey_secret",
    ],
)  # fmt: skip
def test_look_alikes_are_refused(name: str) -> None:
    with pytest.raises(Malformed) as refused:
        sorted_out((b"host", b"x"), (name.encode(), b"admin"))
    assert refused.value.code == "identity-look-alike"
    names = h.Names()
    with pytest.raises(Malformed):
        names[name.encode()]
    with pytest.raises(Malformed):  # also the second time, out of memory
        names[name.encode()]


@given(st.sampled_from(sorted(h.PROTECTED)), st.data())
def test_no_other_spelling_of_a_protected_name_passes(name: str, data: st.DataObject) -> None:
    marks = st.text(alphabet="-_.~!#$%&'*+^`|", min_size=1, max_size=2)
    spelled = "".join(data.draw(marks) if char == "-" else char for char in name)
    spelled = data.draw(st.sampled_from(["", "_", "-"])) + spelled + data.draw(st.sampled_from(["", "_", "__"]))
    if spelled == name:
        assert sorted_out((spelled.encode(), b"v")) == {name: "v"}
    else:
        with pytest.raises(Malformed, match="looks like"):
            sorted_out((spelled.upper().encode(), b"v"))


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40)), max_size=20))
def test_any_bytes_are_sorted_out_or_refused(pairs: list[tuple[bytes, bytes]]) -> None:
    try:
        assert set(sorted_out(*pairs)) <= h.PROTECTED
    except Malformed as refused:
        assert refused.code.startswith("identity-")


def test_doubled_headers_are_refused_and_ordinary_ones_are_not() -> None:
    with pytest.raises(Malformed) as refused:
        sorted_out((b"x-client-user", b"ann"), (b"X-CLIENT-USER", b"ann"))
    assert refused.value.code == "identity-doubled"
    assert sorted_out((b"cookie", b"a"), (b"cookie", b"b")) == {}


def test_a_value_beyond_the_limit_is_refused() -> None:
    with pytest.raises(Malformed, match="65537 characters"):
        sorted_out((b"client-cert", b"x" * (h.MAX_VALUE + 1)))
    with pytest.raises(Malformed, match="65537 characters"):
        h.sort_out_environ({"HTTP_CLIENT_CERT": "x" * (h.MAX_VALUE + 1)}.items(), h.Names())


def test_a_source_may_spell_its_names_with_underscores() -> None:
    names = h.Names(sources.MOD_SSL_NAMES)
    assert names[b"ssl_client_verify"] == "ssl_client_verify"
    for other in (b"ssl-client-verify", b"SSL-CLIENT_VERIFY"):
        with pytest.raises(Malformed):
            names[other]


def test_a_name_can_be_kept_for_other_software() -> None:
    names = h.Names(keep=["X-Forwarded-User"])
    assert names[b"x-forwarded-user"] is None
    assert names[b"remote-user"] == "remote-user"


def test_environ_keys() -> None:
    names = h.Names()
    environ = {"HTTP_X_CLIENT_USER": "ann", "HTTP_HOST": "x", "REMOTE_USER": "server", "X_CLIENT_USER": "no header", "wsgi.input": None}
    assert h.sort_out_environ(environ.items(), names) == {"x-client-user": "ann"}
    for key in ("HTTP_X_CLIENT_USER_", "HTTP__X_CLIENT_USER", "HTTP_X_CLIENT__USER", "HTTP_x_client_user"):
        with pytest.raises(Malformed, match="looks like"):
            h.sort_out_environ({key: "admin"}.items(), names)


def test_what_strangers_send_is_not_remembered_for_ever() -> None:
    names = h.Names()
    for i in range(5000):
        assert names[b"x-%d" % i] is None
        assert names.of_environ[f"HTTP_X_{i}"] is None
    assert len(names) <= 1024
    assert len(names.of_environ) <= 1024
    assert names[b"y" * 5000] is None
    assert b"y" * 5000 not in names


def test_the_import_is_light() -> None:
    heavy = "cryptography click rich sqlite3 ssl socket hashlib ipaddress asyncio logging hmac email http urllib.parse datetime"
    code = f"import sys, gatekey.identity; print(*(name for name in {heavy.split()!r} if name in sys.modules)); gatekey.identity.Doorman(trust='unix')"
    answer = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False, env={"PYTHONPATH": str(SRC)})
    assert (answer.returncode, answer.stdout.strip(), answer.stderr) == (0, "", "")
