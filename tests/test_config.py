"""gatekey.toml: what its words may be; mistakes are told all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekey import config
from gatekey.errors import Misconfigured
from gatekey.web.logs import _LEVELS


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("app.example", ("app.example", 443)), ("App.Example:8443", ("app.example", 8443)), ("192.0.2.1", ("192.0.2.1", 443)),
        ("[2001:db8::1]", ("2001:db8::1", 443)), ("[::1]:8443", ("::1", 8443)), ("[2001:DB8:0:0::1]", ("2001:db8::1", 443)),
        ("intranet:65535", ("intranet", 65535)),
    ],
)  # fmt: skip
def test_sites_that_may_be_checked(text: str, site: tuple[str, int]) -> None:
    assert config.site_problem(text) is None
    assert config.parse(f'name = "Kitty"\n[check]\nsites = ["{text}"]\n', Path("/home")).checkable == {site}


@pytest.mark.parametrize("text", [
    "", ":443", "app.example:", "app.example:0", "app.example:65536", "app.example:8443/x", "https://app.example", "*.app.example", "::1", "[::1",
    "[::1]8443", "a b", "app.example:４43", "app.example:443:443",
])  # fmt: skip
def test_what_is_no_site(text: str) -> None:
    assert config.site_problem(text)


def test_all_mistakes_at_once() -> None:
    text = 'name = "Kitty"\n[check]\nsites = ["app.example", "https://x"]\nnetworks = ["10.0.0.1/8"]\nsite = []\n'
    with pytest.raises(Misconfigured) as raised:
        config.parse(text, Path("/home"))
    assert raised.value.facts["mistakes"] == [
        "check.sites: 'https://x' is not HOST or HOST:PORT",
        "check.networks: '10.0.0.1/8' is no network; write 10.1.0.0/16, fd00::/8 or 127.0.0.1",
        "check.site: is not a known key; did you mean check.sites?",
    ]
    with pytest.raises(Misconfigured, match=r"check\.sites: must be a list of texts"):
        config.parse('name = "Kitty"\n[check]\nsites = "app.example"\n', Path("/home"))


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ('log = "loud"', "service.log: is 'loud', and must be one of debug, info, warning, error"),
        ('log = "INFO"', "service.log: is 'INFO', and must be one of debug, info, warning, error"),
        ("log = 20", "service.log: must be text in quotes"),
        ("workers = 0", "service.workers: must be a whole number, 1 or more"),
        ("workers = -1", "service.workers: must be a whole number, 1 or more"),
        ("workers = true", "service.workers: must be a whole number, 1 or more"),
    ],
)
def test_what_would_silently_mean_something_else_is_refused(line: str, mistake: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        config.parse(f'name = "X"\n[service]\n{line}\n', Path("/home"))
    assert raised.value.facts["mistakes"] == [mistake]


@pytest.mark.parametrize("level", config.LEVELS)
def test_every_level_is_one_of_the_log(level: str) -> None:
    assert config.parse(f'name = "X"\n[service]\nlog = "{level}"\nworkers = 1\n', Path("/home")).text("service.log") == level
    assert set(_LEVELS) == set(config.LEVELS)


def test_nothing_without_a_word() -> None:
    assert config.parse('name = "Kitty"\n', Path("/home")).checkable == frozenset()


@pytest.mark.parametrize("host", ["hooks..example.com", ".example.com", "a" * 64 + ".example.com", "..", "example.com.."])
def test_an_address_has_a_host_that_can_be_looked_up(host: str) -> None:
    with pytest.raises(Misconfigured, match="a part of its host name that is empty or longer than 63 characters"):
        config.parse(f'name = "X"\n[webhook]\nurl = "https://{host}/x"\n', Path("/nowhere"))


@pytest.mark.parametrize("host", ["hooks.example.com", "example.com.", "my_service:8080", "[2001:db8::1]:8080", "192.0.2.1", "a" * 63])
def test_addresses_that_are_fine(host: str) -> None:
    config.parse(f'name = "X"\n[webhook]\nurl = "https://{host}/x"\n', Path("/nowhere"))


@pytest.mark.parametrize("host", ["staff.example:443", "https://staff.example", "staff..example", "st\u00e4ff.example", "*.example", "staff.example/x"])
def test_a_rule_for_what_is_no_host_would_never_count(host: str) -> None:
    with pytest.raises(Misconfigured, match="is no name of a host"):
        config.parse(f'name = "X"\n[site."{host}"]\ngroups = ["staff"]\n', Path("/nowhere"))


@pytest.mark.parametrize("host", ["Staff.Example", "staff.example.", "staff.example"])
def test_a_site_has_one_spelling(host: str) -> None:
    assert config.parse(f'name = "X"\n[site."{host}"]\ngroups = ["staff"]\n', Path("/nowhere")).sites == {"staff.example": ("staff",)}


def test_the_authoritys_own_address_is_plain_http_and_a_webhooks_need_not_be() -> None:
    with pytest.raises(Misconfigured) as raised:
        config.parse('name = "X"\nurl = "https://pki.example"\n[webhook]\nurl = "https://hooks.example/x"\n', Path("/nowhere"))
    (mistake,) = raised.value.facts["mistakes"]
    assert mistake.startswith("url: 'https://pki.example' is https")
    assert mistake.endswith("write http://pki.example")
    for url in ("ftp://hooks.example", "http:///x"):
        with pytest.raises(Misconfigured, match="is not an http:// or https:// URL"):
            config.parse(f'name = "X"\n[webhook]\nurl = "{url}"\n', Path("/nowhere"))


def test_where_the_listeners_are() -> None:
    assert config.parse('name = "X"', Path("/nowhere")).listens == {"public": "127.0.0.1:8080", "private": "127.0.0.1:8443"}
    said = config.parse('name = "X"\n[public]\nlisten = ""\n[proxy]\nlisten = "unix:/run/x"\n', Path("/nowhere"))
    assert said.listens == {"private": "127.0.0.1:8443", "proxy": "unix:/run/x"}


def test_the_path_of_a_socket_leaves_room_for_the_name_under_which_it_is_made() -> None:
    assert config.listen_problem("unix:/" + "x" * 98) is None
    for text in ("unix:/" + "x" * 99, "unix:/" + "\u00e4" * 50, "unix:x"):
        assert "is not unix:/path of at most 99 characters" in str(config.listen_problem(text))


@pytest.mark.parametrize("publish", ["published", "keys/x", "/home/ann/.gatekey/published", "../.gatekey/published"])
def test_nothing_is_published_inside_the_home(publish: str) -> None:
    with pytest.raises(Misconfigured, match="lies in the home, which nobody else may read; name a folder outside"):
        config.parse(f'name = "Kitty"\npublish = "{publish}"\n', Path("/home/ann/.gatekey"))
    for outside in ("/srv/published", "../published", "/home/ann/.gatekey-published"):
        assert config.parse(f'name = "Kitty"\npublish = "{outside}"\n', Path("/home/ann/.gatekey")).publish


def test_a_host_without_quotes_is_understood() -> None:
    for table in ("[site.staff.example]\ngroups = []\n", "[site.a.staff.example]\ngroups = []\n"):
        with pytest.raises(Misconfigured) as raised:
            config.parse(f'name = "Kitty"\n{table}', Path("/home"))
        host = table.partition("]")[0].removeprefix("[site.")
        assert raised.value.facts["mistakes"] == [f'site: a host has dots, and stands in quotes therefore: [site."{host}"]']
    with pytest.raises(Misconfigured, match=r"did you mean site\.HOST\.groups"):
        config.parse('name = "Kitty"\n[site."staff.example"]\ngroup = []\n', Path("/home"))
