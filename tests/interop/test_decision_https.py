"""The decision endpoint over HTTPS: the web server proves itself with a certificate whose holder has the role `proxy`, and with no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gatekey.errors import Refused
from gatekey.model import headers
from gatekey.webserver import haproxy
from gatekey.webserver.knock import Identity
from gatekey.webserver.site import Site
from kit.asked import Service, asking, service
from kit.backend import MARK
from kit.servers import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service"), hosts=("localhost",)) as s:
        yield s


@pytest.fixture(scope="module")
def ann(asked: Service) -> Identity:
    asked.person("web")
    asked.admin.process("people", "set", "web", "--role", "proxy")
    asked.admin.process("authority", "export", "servers-root", "--out", asked.folder / "servers-root.crt")
    return asked.person("ann", "--group", "staff")


@pytest.mark.parametrize("kind", ["nginx", "apache", "caddy"])
def test_with_the_role_and_without(kind: str, tmp_path: Path, asked: Service, ann: Identity) -> None:
    def options(login: str) -> dict[str, str]:
        files = {"decision_certificate": f"{login}.chain.crt", "decision_key": f"{login}.key", "decision_trust": "servers-root.crt"}
        return {"decision": f"https://localhost:{asked.private}", **{field: str(asked.folder / name) for field, name in files.items()}}

    for login, status in (("web", 200), ("ann", 403)):
        folder = tmp_path / login
        folder.mkdir()
        with asking(kind, folder, asked, (ann, ann), **options(login)) as d:
            answer = d.visit(ann)
            assert (answer.status == 200) == (status == 200), (answer.face, d.server.log()[-2000:])
            assert (MARK.encode() in answer.body) == (status == 200)
            if login == "web":
                assert d.app.last.get(headers.USER) == "ann"
                eve = f"eve-{kind}"
                identity = asked.person(eve)
                wait_until(lambda d=d, identity=identity: d.visit(identity).status == 200, "eve is let in", 2)  # type: ignore[misc]  # bound at once
                asked.admin.process("revoke", eve, "--yes")
                assert d.refused_within(1.0, identity) < 1.0


def test_a_service_that_another_root_answers_for_is_not_asked(tmp_path: Path, asked: Service, ann: Identity) -> None:
    files = {"decision_certificate": "web.chain.crt", "decision_key": "web.key"}
    paths = {field: str(asked.folder / name) for field, name in files.items()}
    paths |= {"decision": f"https://localhost:{asked.private}", "decision_trust": str(tmp_path / "app.example.crt")}
    with asking("nginx", tmp_path, asked, (ann, ann), **paths) as d:
        answer = d.visit(ann)
    assert answer.status == 503, answer.face
    assert MARK.encode() not in answer.body


def test_haproxy_says_that_it_cannot() -> None:
    with pytest.raises(Refused, match="no client certificate"):
        haproxy.configuration(Site("app.example", decision="https://ca.example:8443"))
