"""The API of a real `gatekey serve`: over TLS with client certificates, by two workers at once."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Iterator

import pytest

from gatekey.protocols.api import table
from kit.desk import JSON, Told, csr
from kit.remote import Remote
from kit.service import serving
from kit.tour import tour

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("api")
    made = Remote(folder)
    with serving(folder, {"service": {"workers": 2}}, prepare=made.prepare) as service:
        made.service = service
        yield made


def test_every_route_over_tls(remote: Remote) -> None:
    tour(remote)


def test_who_is_there_is_what_tls_says(remote: Remote) -> None:
    for login, role in (("boss", "administrator"), ("olga", "operator"), ("web", "proxy")):
        assert remote.ask(login, "GET", "/v1/me").json["roles"] == [role]
    assert remote.ask("read", "GET", "/v1/me").json["way"] == "token"
    assert remote.ask("", "GET", "/v1/me").status == 401
    spoofed = (("x-client-user", "boss"), ("x-client-verify", "SUCCESS"), ("client-cert", "x"), ("x-forwarded-user", "boss"), ("x-forwarded-for", "::1"))
    for route in table.ROUTES:
        path = route.path.replace("{", "").replace("}", "")
        assert remote.ask("", route.method, path, headers=(*JSON, *spoofed)).status == 401
        assert remote.ask("nobody", route.method, path, headers=(*JSON, *spoofed)).status == (403 if route.scopes else 200)


def test_the_description_is_there_for_everybody(remote: Remote) -> None:
    told = remote.ask("", "GET", "/openapi.json")
    assert (told.status, told.json["openapi"]) == (200, "3.1.0")
    assert len(told.json["paths"]) > 30


def test_limits_of_the_listener(remote: Remote) -> None:
    with contextlib.closing(remote.connect("boss")) as connection:  # what is announced is enough: whoever goes on sending may find the line closed
        connection.putrequest("POST", "/v1/people")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(256 * 1024 + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413
    assert remote.ask("boss", "GET", "/v1/" + "a" * 10000).status in (400, 404, 414, 431)
    assert remote.ask("boss", "GET", "/v1/people/%00").status == 400
    assert remote.ask("boss", "GET", "/v1/people/%ff").status in (400, 404)
    assert remote.ask("boss", "HEAD", "/v1/me").body == b""
    assert remote.ask("boss", "TRACE", "/v1/me").status == 405


def test_revoked_means_out_also_on_an_open_connection(remote: Remote) -> None:
    with contextlib.closing(remote.connect("aud")) as connection:
        assert remote.on(connection, "aud", "GET", "/v1/people").status == 200
        assert remote.ask("boss", "POST", "/v1/certificates/aud/revoke", {}).status == 200
        assert remote.on(connection, "aud", "GET", "/v1/people").status == 401


def test_many_at_once_by_two_workers(remote: Remote) -> None:
    """Each gets its own; a question that is asked everywhere at once is answered with one certificate."""

    def work(thread: int) -> list[Told]:
        with contextlib.closing(remote.connect("boss")) as connection:
            own = [
                remote.on(connection, "boss", "POST", "/v1/certificates/sign", {"csr": csr(f"w{thread}-{number}"), "profile": "client"}) for number in range(5)
            ]
            return [*own, remote.on(connection, "boss", "POST", "/v1/certificates/client", {"login": "shared", "for": "pem"}, key="shared")]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    assert [[one.json.get("holder") for one in own[:5]] for own in answers] == [[f"w{thread}-{number}" for number in range(5)] for thread in range(8)]
    shared = [own[5] for own in answers]
    given = [one for one in shared if one.status == 201]
    assert len({one.json["serial"] for one in given}) == 1
    assert sum(one.json["key"] is not None for one in given) == 1
    assert {one.code for one in shared if one.status != 201} <= {"idempotency-in-use", "device-has-one", "certificate-exists", "certificate-in-flight"}
    again = remote.ask("boss", "POST", "/v1/certificates/client", {"login": "shared", "for": "pem"}, key="shared").json
    assert (again["serial"], again["handed_out"]) == (given[0].json["serial"], "earlier")
    assert remote.ask("boss", "POST", "/v1/store/check").json["whole"] is True


def test_no_secret_is_logged(remote: Remote) -> None:
    assert remote.service is not None
    token = remote.ask("boss", "POST", "/v1/tokens", {"login": "boss", "scopes": ["read"]}).json["token"]
    assert remote.ask("", "GET", "/v1/people", headers=(("authorization", f"Bearer {token}x"),)).status == 401
    log = remote.service.log_file.read_text()
    assert any(line.get("event") == "refused" and line.get("code") == "sign-in" for line in remote.service.log())
    assert token.rpartition("_")[2] not in log
    assert "PRIVATE KEY" not in log
