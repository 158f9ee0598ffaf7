"""What nginx runs with, read from what it prints: which server is the default of a socket, and what is missing there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekey.errors import GatekeyError, Malformed
from gatekey.webserver.running import Default, mended, parse, read_files, read_running, relocated

MAIN = "/etc/nginx/nginx.conf"


def http(body: str, **more: str) -> dict[str, str]:
    return {MAIN: f"events {{}}\nhttp {{\n{body}\n}}\n", **more}


def default(body: str, where: tuple[str, int] = ("0.0.0.0", 443), **more: str) -> Default:
    found = read_files(MAIN, http(body, **more)).default_server(where)
    assert found is not None
    return found


def test_a_dump_of_several_files() -> None:
    dump = (
        "nginx: the configuration file /etc/nginx/nginx.conf syntax is ok\n"
        f"# configuration file {MAIN}:\nworker_shutdown_timeout 10s;\nhttp {{\n    include conf.d/*.conf;\n    include /opt/*.conf;\n}}\n\n"
        "# configuration file /etc/nginx/conf.d/b.conf:\nserver { listen 443 ssl default_server; server_name b; }\n\n"
        "# configuration file /opt/a.conf:\nserver { listen 443 ssl; server_name a; }\n\n"
    )
    running = read_running(dump)
    assert list(running.files) == [MAIN, "/etc/nginx/conf.d/b.conf", "/opt/a.conf"]
    assert [server.names for server in running.servers] == [("b",), ("a",)]
    assert running.shutdown_timeout
    assert running.http_includes == ("/etc/nginx/conf.d/*.conf", "/opt/*.conf")
    found = running.default_server(("0.0.0.0", 443))
    assert found is not None
    assert found.server.place == "/etc/nginx/conf.d/b.conf:1"
    assert found.explicit
    assert running.default_server(("0.0.0.0", 8443)) is None


@pytest.mark.parametrize(
    ("listen", "where"),
    [
        ("443 ssl", ("0.0.0.0", 443)),
        ("*:443 ssl", ("0.0.0.0", 443)),
        ("0.0.0.0:443", ("0.0.0.0", 443)),
        ("[::]:443 ssl ipv6only=on", ("::", 443)),
        ("127.0.0.1", ("127.0.0.1", 80)),
        ("192.0.2.1:8443", ("192.0.2.1", 8443)),
        ("localhost:81", ("localhost", 81)),
        ("[::1]", ("::1", 80)),
    ],
)
def test_sockets(listen: str, where: tuple[str, int]) -> None:
    assert default(f"server {{ listen {listen}; }}", where).server.listens == {where: False}


def test_a_server_without_listen_has_port_80() -> None:
    assert default("server { server_name x; }", ("0.0.0.0", 80)).server.names == ("x",)


def test_unix_sockets_are_nobodys_business() -> None:
    assert read_files(MAIN, http("server { listen unix:/run/x.sock; listen 443; }")).servers[0].listens == {("0.0.0.0", 443): False}


def test_the_first_is_the_default_unless_one_says_so() -> None:
    assert default("server { listen 443; server_name a; } server { listen 443; server_name b; }").server.names == ("a",)
    assert not default("server { listen 443; server_name a; } server { listen 443; server_name b; }").explicit
    assert default("server { listen 443; server_name a; } server { listen 443 default_server; server_name b; }").server.names == ("b",)


GOOD = "ssl_session_cache off; ssl_session_tickets off; ssl_protocols TLSv1.2 TLSv1.3;"


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        (f"server {{ listen 443 default_server; {GOOD} }}", set()),
        (f"{GOOD} server {{ listen 443 default_server; }}", set()),
        (f"{GOOD} server {{ listen 443 default_server; ssl_session_cache shared:x:1m; }}", {"ssl_session_cache"}),
        (f"{GOOD} server {{ listen 443 default_server; ssl_protocols TLSv1 TLSv1.2; }}", {"ssl_protocols"}),
        (f"{GOOD} server {{ listen 443 default_server; ssl_protocols TLSv1.3; }}", set()),
        ("server { listen 443 default_server; ssl_session_cache none; ssl_session_tickets off; }", {"ssl_session_cache", "ssl_protocols"}),
        ("server { listen 443 default_server; }", {"ssl_session_cache", "ssl_session_tickets", "ssl_protocols"}),
    ],
)
def test_what_is_missing(body: str, missing: set[str]) -> None:
    found = default(body)
    assert set(found.missing) == missing
    assert bool(found.advice(("0.0.0.0", 443))) == bool(missing)
    again = read_files(MAIN, {MAIN: mended(http(body)[MAIN], found)}).default_server(("0.0.0.0", 443))
    assert again is not None
    assert not again.missing
    assert not again.advice(("0.0.0.0", 443))


def test_a_ticket_key_is_taken_out_where_it_stands() -> None:
    body = f"server {{ listen 443 default_server; ssl_session_ticket_key /x; {GOOD} server_name keep; }}"
    found = default(body)
    assert found.mendable
    assert any("ssl_session_ticket_key" in sentence for sentence in found.advice(("0.0.0.0", 443)))
    text = mended(http(body)[MAIN], found)
    assert "ssl_session_ticket_key" not in text
    assert "server_name keep;" in text
    above = default(f"ssl_session_ticket_key /x; server {{ listen 443 default_server; {GOOD} }}")
    assert not above.mendable
    assert above.advice(("0.0.0.0", 443))


def test_quotes_comments_and_braces_are_read() -> None:
    body = r"""
    # server { listen 443 default_server; }
    map $x $y { include maps/*; }
    log_format x '{"a": "$b\'c"}'; # }
    map $x $y { "~^a{2}$" 1; ~^(?<n>[^;"]*)$ "${n}x"; }
    server { listen 443; server_name "quoted name" 'another'; location ~ "\.php$" { return 200 "}"; } }
    """
    assert default(body, ("0.0.0.0", 443), **{"/etc/nginx/maps/x": "not { a configuration"}).server.names == ("quoted name", "another")


@pytest.mark.parametrize("text", ["http {", "http }", "a b", "; x;", '"unclosed', "{}", "a { b; } }", "x_by_lua_block { if } {"])
def test_what_is_no_configuration(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_files(MAIN, {MAIN: text})
    assert caught.value.code == "bad-nginx-dump"


def test_no_dump_at_all() -> None:
    for text in ("", "nginx: command not found"):
        with pytest.raises(Malformed):
            read_running(text)


def test_includes_that_go_round_end() -> None:
    with pytest.raises(Malformed, match="nested"):
        read_files(MAIN, {MAIN: "include nginx.conf;"})
    with pytest.raises(Malformed, match="nested"):
        read_files(MAIN, {MAIN: "a {" * 100 + "}" * 100})


@given(st.text(alphabet=st.sampled_from(" \n;{}\"'\\#$ab*/."), max_size=200))
def test_nothing_but_refusals(text: str) -> None:
    try:
        read_files(MAIN, {MAIN: text})
    except GatekeyError as error:
        assert error.code == "bad-nginx-dump"


@given(st.text(max_size=200))
def test_nothing_but_refusals_of_dumps(text: str) -> None:
    try:
        read_running(f"# configuration file /x:\n{text}")
    except GatekeyError as error:
        assert error.code == "bad-nginx-dump"


def test_lines_are_counted() -> None:
    tree = parse("a;\n\nb {\n  c;\n  d { e; }\n}\nf\n g;\n", "x")
    assert [(d.name, d.line) for d in tree] == [("a", 1), ("b", 3), ("f", 7)]
    inner = tree[1].block or ()
    assert [(d.name, d.line) for d in inner] == [("c", 4), ("d", 5)]


def test_a_moved_tree_includes_itself() -> None:
    text = 'include /etc/x/*.conf;\nhttp { include "/opt/y.conf"; include conf.d/*.conf; }\n'
    assert relocated(text, MAIN, "/tmp/root") == 'include "/tmp/root/etc/x/*.conf";\nhttp { include "/tmp/root/opt/y.conf"; include conf.d/*.conf; }\n'
