"""What may stand in a configuration, and what never gets that far."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Refused
from gatekey.model import headers
from gatekey.webserver.page import ANY_REASON, page
from gatekey.webserver.site import Configuration, Site, Upstream, address, checked, upstream

SERVERS = ("nginx", "apache", "haproxy", "caddy", "traefik", "envoy")
SITE = Site("app.example")


def write(server: str, site: Site) -> Configuration:
    written: Configuration = importlib.import_module(f"gatekey.webserver.{server}").configuration(site)
    return written


def test_what_is_left_out_is_filled_in() -> None:
    site = checked(SITE)
    assert (site.certificate, site.key, site.bundle) == ("/etc/gatekey/app.example.chain.crt", "/etc/gatekey/app.example.key", "/etc/gatekey/bundle")
    assert checked(site) == site


@pytest.mark.parametrize(
    "changes",
    [
        {"host": ""},
        {"host": "*.example"},
        {"host": "app.example; return 200"},
        {"host": "app.example\n"},
        {"host": "APP.example"},
        {"host": "ärger.example"},
        {"upstream": ""},
        {"upstream": "http://127.0.0.1:8000/path"},
        {"upstream": "ftp://127.0.0.1"},
        {"upstream": "http://127.0.0.1:99999"},
        {"upstream": "http://a b"},
        {"upstream": "http://x;{}"},
        {"upstream": "http://user:pass@x"},
        {"upstream": "unix:run/app.sock"},
        {"upstream": "unix:/run/app sock"},
        {"upstream": "unix:/" + "x" * 108},
        {"listen": ()},
        {"listen": ("443;",)},
        {"listen": ("0",)},
        {"listen": ("65536",)},
        {"listen": ("app.example:443",)},
        {"listen": ("999.0.0.1:443",)},
        {"listen": ("::1:443",)},
        {"plain": ("80\n",)},
        {"certificate": "relative.crt"},
        {"key": '/etc/"quoted'},
        {"folder": "/etc/gate key"},
        {"bundle": "/etc/$HOME"},
        {"groups": ("",)},
        {"groups": (" ",)},
        {"origins": ("https://*",)},
        {"origins": ("https://x/path",)},
        {"contact": "<script>"},
        {"contact": "it's me"},
        {"contact": "$host"},
        {"contact": "grüße"},
    ],
)
def test_what_cannot_be_written_is_refused_by_every_writer(changes: dict[str, Any]) -> None:
    for server in SERVERS:
        with pytest.raises(Refused) as caught:
            write(server, SITE._replace(**changes))
        assert caught.value.code == "bad-site", server
        assert caught.value.hint


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(Refused) as caught:
        checked(Site("-", upstream="?", listen=("x",), contact="'"))
    assert len(caught.value.reasons) == 4


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("http://127.0.0.1:8000", Upstream("http", "127.0.0.1", 8000)),
        ("http://127.0.0.1:8000/", Upstream("http", "127.0.0.1", 8000)),
        ("https://backend.example", Upstream("https", "backend.example", 443)),
        ("http://[::1]:3000", Upstream("http", "::1", 3000)),
        ("unix:/run/app.sock", Upstream("unix", "/run/app.sock")),
    ],
)
def test_upstreams(text: str, meant: Upstream) -> None:
    found = upstream(SITE._replace(upstream=text))
    assert found == meant
    assert upstream(SITE._replace(upstream=found.url)) == found


@pytest.mark.parametrize(
    ("entry", "meant"),
    [("443", ("0.0.0.0", 443)), ("*:443", ("0.0.0.0", 443)), ("[::]:443", ("::", 443)), ("[0:0::1]:8443", ("::1", 8443)), ("192.0.2.1:1", ("192.0.2.1", 1))],
)
def test_addresses(entry: str, meant: tuple[str, int]) -> None:
    assert address(entry) == meant


words = st.text(max_size=30)


@given(host=words, upstream=words, path=words, listen=words, group=words, origin=words, contact=words)
def test_nothing_but_refusals(host: str, upstream: str, path: str, listen: str, group: str, origin: str, contact: str) -> None:
    """Whatever comes from outside: a configuration, or a refusal in words."""
    for change in (
        {"host": host}, {"upstream": upstream}, {"certificate": path}, {"bundle": path}, {"listen": (listen,)}, {"plain": (listen,)},
        {"groups": (group,)}, {"origins": (origin,), "static_options": True}, {"contact": contact},
    ):  # fmt: skip
        site = SITE._replace(**change)
        for server in SERVERS:
            try:
                write(server, site)
            except GatekeyError:
                continue


@given(st.lists(st.text(min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=4), st.lists(st.text(min_size=1, max_size=20), max_size=4))
def test_the_pattern_of_groups_finds_members_and_nobody_else(wanted: list[str], has: list[str]) -> None:
    site = SITE._replace(groups=tuple(wanted))
    header = ",".join(headers.encode(group) for group in has)
    assert bool(re.search(site.group_pattern, header)) == bool(set(wanted) & set(has))


@given(st.text(min_size=1, max_size=20).filter(str.strip))
def test_no_group_writes_configuration(group: str) -> None:
    """A group's name stands in patterns and comments of every server, percent-encoded: letters, digits and - . _ ~ @ + %."""
    site = SITE._replace(groups=(group,))
    assert re.fullmatch(r"\(\^\|,\)\([A-Za-z0-9\-._~@+%\\]+\)\(,\|\$\)", site.group_pattern)
    for server in ("nginx", "apache", "haproxy", "caddy"):
        assert len(write(server, site).text.splitlines()) == len(write(server, SITE._replace(groups=("staff",))).text.splitlines())


def test_the_page_fits_between_single_quotes_anywhere() -> None:
    text = page(SITE._replace(contact="help@example.com, +43 1 234"), ANY_REASON)
    assert not re.search(r"['$%\\{}`]", text)
    assert "Why was I not asked?" in text
    assert "help@example.com" in text


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("folder", ["/etc/gatekey", "/srv/keys"])
def test_the_sites_file_stands_where_the_server_reads_it(server: str, folder: str) -> None:
    """Gatekey's own folder is read by no server; what is included from there is named in full."""
    usual = {"nginx": "/etc/nginx/conf.d", "apache": "/etc/apache2/sites-enabled", "traefik": "/etc/traefik/dynamic"}.get(server, f"/etc/{server}")
    asking = {"traefik": "https://ca.example:8443", "envoy": ""}.get(server, "unix:/run/gatekey/proxy.sock")
    for decision in ("", asking):
        site = SITE._replace(folder=folder, decision=decision)
        for place, said in ((usual, site), ("/opt/conf.d", site._replace(place="/opt/conf.d"))):
            written = write(server, said)
            assert Path(written.file).parent == Path(place)
            assert {str(Path(path).parent) for path in written.includes} <= {place, folder}
    with pytest.raises(Refused, match="folder of the site's file"):
        write(server, SITE._replace(place="conf.d; x"))


@pytest.mark.parametrize("server", SERVERS)
def test_what_every_configuration_says(server: str) -> None:
    written = write(server, SITE)
    assert written.server == server
    assert written.text.startswith("# Gatekey: app.example, for people with a certificate only.")
    assert "people-chain.pem" in written.whole or server in ("caddy", "envoy")
    assert written.file.startswith("/etc/")
    assert all(path.startswith("/etc/") for path in written.includes)
    for name in headers.STRIPPED:
        told = written.whole.lower().replace("[-_]", "-")
        patterned = server == "haproxy" and name.startswith("X-Client-") and "^x-client-" in told
        own = server == "envoy" and name == "X-Forwarded-Client-Cert"  # SANITIZE_SET
        assert name.lower() in told or patterned or own, name


def test_a_whole_configuration_of_nginx_includes_nothing_of_ours() -> None:
    whole = write("nginx", SITE).whole
    assert "identity.conf;" not in whole
    assert whole.index("map $ssl_client_i_dn") < whole.index("server_name app.example")
    assert whole.count(f"proxy_set_header {headers.USER} ") == 1


def test_the_port_stands_in_urls_unless_it_is_the_usual_one() -> None:
    assert SITE.public_host == "app.example"
    assert SITE._replace(listen=("8443",)).public_host == "app.example:8443"
    assert "https://app.example:8443$request_uri" in write("nginx", SITE._replace(listen=("8443",))).text


@pytest.mark.parametrize("decision", ["", "unix:/run/gatekey/proxy.sock"])
def test_what_is_printed_for_nginx_stands_alone(decision: str) -> None:
    """No file of ours is included or named in what is printed as one text, and each comment is true there, too."""
    written = write("nginx", SITE._replace(decision=decision))
    comments = [line for line in written.whole.splitlines() if line.strip().startswith("#")]
    assert [line for line in comments if "include" in line or "00-gatekey" in line] == []
    assert all("/bundle/" in line for line in written.whole.splitlines() if line.strip().startswith("include "))
    assert written.whole.count("proxy_set_header X-Client-User ") == 1
