"""`doctor` finds what stands in the way of the next certificate, before somebody waits for it; and what the other verbs say of the same thing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gatekey import app, config
from gatekey.authority import bundle, health, jobs
from gatekey.jobs import tasks
from gatekey.keys import material
from gatekey.testing import FakeClock
from kit import administrator
from kit.administrator import Administrator

DAY = 86_400


def of(admin: Administrator, check: str, code: int = 0) -> dict[str, str]:
    """What `doctor` says of one check."""
    found: dict[str, str] = admin("doctor", "--json", code=code).json["checks"][check]
    return found


def test_all_is_well(admin: Administrator) -> None:
    assert {found["state"] for found in admin("doctor", "--json").json["checks"].values()} == {"ok"}


class TestTheConfigurationOfTheService:
    """What `gatekey serve` would not start with; the service need not run for that, nor be stopped."""

    @pytest.mark.parametrize(
        ("text", "words", "remedy"),
        [
            ('[mail]\nserver = "post.example:587"\n', "mail needs a server as HOST:PORT, a sender", '[mail] server = "post.example:587"'),
            ('[mail]\nfrom = "ca@example.com"\n', "mail needs a server as HOST:PORT, a sender", 'server = "" switches it off'),
            (
                '[mail]\nserver = "post.example:587"\nfrom = "a@b"\npassword-file = "/nowhere"\n',
                "mail.password-file: there is no /nowhere",
                "",
            ),
            (
                '[mail]\nserver = "post.example:25"\nfrom = "a@b"\nsecurity = "none"\npassword-file = "word"\n',
                "a password would cross the network in the clear",
                "starttls",
            ),
            ('[webhook]\nurl = "https://hooks.example/"\n', "needs both webhook.url and webhook.secret-file", "the receiver knows"),
            ('[webhook]\nsecret-file = "word"\n', "needs both webhook.url and webhook.secret-file", 'url = "" switches it off'),
            ('[webhook]\nurl = "https://hooks.example/"\nsecret-file = "open"\n', "webhook.secret-file: others may read", "chmod 600"),
            ('[service]\ncertificate = "/nowhere.crt"\n', "only one of service.certificate and service.key is set", "set both, or none"),
            ('[service]\ncertificate = "/nowhere.crt"\nkey = "word"\n', "cannot be used as certificate and key: there is no /nowhere.crt", "service.key"),
            ('[service]\ncertificate = "word"\nkey = "word"\n', "word cannot be used as certificate and key", "service.key"),
            ('[private]\nbehind-proxy = ["next door"]\n', "'next door' is no address and no network", "behind-proxy = "),
            ('[proxy]\nlisten = "127.0.0.1:9999"\n', "proxy.listen is no Unix socket", "unix:/run/gatekey/proxy.sock"),
            ('[proxy]\nmode = "999"\n', "proxy.mode '999' is no mode in octal", 'mode = "0660"'),
        ],
    )
    def test_a_mistake_is_found_without_a_service(self, admin: Administrator, text: str, words: str, remedy: str) -> None:
        for name, mode in (("word", 0o600), ("open", 0o644)):
            (admin.home / name).write_text("a word for the tests\n")
            (admin.home / name).chmod(mode)
        with (admin.home / "gatekey.toml").open("a") as file:
            file.write(text)
        found = of(admin, "config", code=1)
        assert found["state"] == "fail"
        assert words in found["message"]
        assert remedy in found["remedy"]
        assert words in admin("doctor", code=1).out
        admin("issue", "client", "ann")  # nobody else minds
        running = app.configured(admin.home, health.WARN)
        assert running == health.Finding(health.WARN, found["message"], found["remedy"]), "a service that runs goes on, and warns"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            '[mail]\nserver = ""\nfrom = "ca@example.com"\n',
            '[mail]\nserver = "post.example:587"\nfrom = "ca@example.com"\nuser = "x"\npassword-file = "word"\n',
            '[webhook]\nurl = ""\nsecret-file = "word"\n',
            '[webhook]\nurl = "https://hooks.example/"\nsecret-file = "word"\n',
            '[private]\nlisten = ""\nbehind-proxy = ["127.0.0.1", "10.0.0.0/8", "unix"]\n',
            '[private]\nbehind-proxy = ["unix"]\n[proxy]\nlisten = "unix:/run/gatekey/proxy.sock"\nmode = "0600"\n',
        ],
    )
    def test_what_a_service_starts_with(self, admin: Administrator, text: str) -> None:
        (admin.home / "word").write_text("a word for the tests\n")
        (admin.home / "word").chmod(0o600)
        with (admin.home / "gatekey.toml").open("a") as file:
            file.write(text)
        assert of(admin, "config")["state"] == "ok"

    def test_all_of_it_at_once(self, admin: Administrator) -> None:
        with (admin.home / "gatekey.toml").open("a") as file:
            file.write('[mail]\nserver = "post"\n[webhook]\nurl = "https://hooks.example/"\n[proxy]\nmode = "rw"\n')
        message = of(admin, "config", code=1)["message"]
        assert [word in message for word in ("proxy.mode", "mail needs", "the webhook needs")] == [True] * 3

    def test_a_file_that_was_broken_while_a_service_runs(self, admin: Administrator) -> None:
        with (admin.home / "gatekey.toml").open("a") as file:
            file.write('[service]\nlog = "loud"\n')
        found = app.configured(admin.home, health.WARN)
        assert (found.state, "service.log: is 'loud'" in found.message) == ("warn", True)
        assert "service.log: is 'loud'" in admin("doctor", code=3).err

    def test_the_help_names_the_checks_that_there_are(self, admin: Administrator) -> None:
        """Those that `doctor` runs line by line, and those that only a service can make."""
        told = admin("doctor", "--help").out
        named = told.partition("Checks:\n")[2].partition("\n\n")[0]
        lines = [line.split()[0] for line in named.splitlines() if line.startswith("    ") and not line.startswith("     ")]
        assert sorted(lines) == sorted(admin("doctor", "--json").json["checks"])
        assert all(word in told for word in ("view", "ocsp", "certificate"))


def test_a_sentence_stands_once() -> None:
    said = health.Finding(health.WARN, "nothing gives it", "say it")
    worst = health.worst([said, health.Finding(health.FAIL, "gone"), said, health.Finding(health.OK)])
    assert worst == health.Finding(health.FAIL, "gone; nothing gives it", "say it")


def test_jobs_that_have_something_to_do(admin: Administrator, tmp_path: Path) -> None:
    """With the time first: what failed then may be mended since. What is configured no more is not shown."""
    with contextlib.closing(app.open_authority(config.load(admin.home))) as authority:
        for name, outcome in (("publish", "failed: there is no /nowhere"), ("reminders", "told 3"), ("crl-refresh", tasks.refresh_crls(authority))):
            jobs.claim(authority, name, 60)
            jobs.finish(authority, name, 60, outcome)
    told = admin("doctor").err
    assert re.fullmatch(r"job crl-refresh, last run \d{4}-\S+Z: every CRL is fresh, none was signed\n", told)
    assert [one["name"] for one in admin("doctor", "--json").json["jobs"]] == ["crl-refresh"]
    with (admin.home / "gatekey.toml").open("a") as file:
        file.write(f'publish = "{tmp_path / "published"}"\n[mail]\nserver = "post.example:587"\nfrom = "ca@example.com"\n')
    lines = admin("doctor", code=1).err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["job crl-refresh", "job publish", "job reminders"]
    assert lines[1].endswith("Z: failed: there is no /nowhere")


def another_key(admin: Administrator, name: str) -> None:
    (admin.home / "keys" / f"{name}.key").write_bytes(material.make("p256").pkcs8())


class TestTheKeyOfAnother:
    """What it would sign verifies nowhere, so nothing is signed with it."""

    def test_nothing_is_issued_revoked_or_listed(self, admin: Administrator) -> None:
        admin("issue", "client", "ann")
        another_key(admin, "people")
        before = admin.print()
        for words in (("issue", "client", "bob"), ("revoke", "ann"), ("hold", "ann"), ("crl", "--out", "people.crl")):
            refused = admin(*words, code=3).err
            assert "the key that is kept for people is not the key of its certificate" in refused
            assert "bring the right people.key back" in refused
        assert admin.print() == before
        admin("issue", "server", "app.example")  # the other side has its own

    @pytest.mark.parametrize("name", ["people", "people-root"])
    def test_doctor_finds_it(self, admin: Administrator, name: str) -> None:
        another_key(admin, name)
        found = of(admin, "keys", code=1)
        assert found["state"] == "fail"
        assert f"the key that is kept for {name} is not the key" in found["message"]


class TestWaitingForItsCertificate:
    """A home whose root is elsewhere, between `init --root-csr` and `authority install`."""

    @pytest.fixture
    def waiting(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Administrator:
        folder = tmp_path / "work"
        folder.mkdir()
        monkeypatch.chdir(folder)
        administrator.found(tmp_path / "home", root_elsewhere=True)
        return Administrator(tmp_path / "home", folder)

    @pytest.mark.parametrize(
        ("words", "side"),
        [
            ("issue client ann", "people"),
            ("issue server app.example", "servers"),
            ("bundle --out bundle", "people"),
            ("crl --pem", "people"),
            ("webserver nginx --site app.example --install conf.d", "people"),
            ("authority export --out all.crt", "people"),
        ],
    )
    def test_every_verb_names_the_next_step(self, waiting: Administrator, words: str, side: str) -> None:
        (waiting.folder / "conf.d").mkdir()
        before = waiting.print()
        refused = waiting(*words.split(), code=3).err
        assert f"the authority that issues for {side} has no certificate yet" in refused
        assert f"{side}.csr" in refused
        assert f"gatekey authority install {side}.crt root.crt root.crl" in refused
        assert waiting.print() == before

    def test_a_root_that_is_not_here_yet(self, waiting: Administrator) -> None:
        refused = waiting("trust", code=1).err
        assert "there is no root of the servers' side here yet" in refused
        assert "gatekey authority install servers.crt root.crt root.crl" in refused

    def test_a_name_that_nothing_has_yet(self, waiting: Administrator) -> None:
        refused = waiting("crl", "--authority", "people", "--pem", code=1).err
        assert "gatekey authority install people.crt" in refused

    def test_doctor_finds_it(self, waiting: Administrator) -> None:
        found = of(waiting, "authorities", code=1)
        assert found["state"] == "fail"
        assert "the authority that issues for people has no certificate yet" in found["message"]
        assert "the authority that issues for servers" in found["message"]
        assert "gatekey authority install servers.crt" in found["remedy"]


class TestBeforeTheEnd:
    """A CA that ends takes everything below it along, whatever its CRLs promise."""

    @pytest.fixture
    def short(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Administrator:
        """One CA of 400 days."""
        folder = tmp_path / "work"
        folder.mkdir()
        monkeypatch.chdir(folder)
        administrator.found(tmp_path / "home", flat=True, days=400)
        return Administrator(tmp_path / "home", folder)

    def test_far_away_nothing_is_said(self, short: Administrator) -> None:
        assert of(short, "authorities")["state"] == "ok"
        assert "ends on" not in short("bundle", "--out", "bundle").err

    def test_certificates_get_shorter(self, short: Administrator, moved_clock: Callable[[int], None]) -> None:
        moved_clock(60 * DAY)
        found = of(short, "authorities", code=1)  # the CRL of the first day has run out by then
        assert found["state"] == "warn"
        assert "the authority root ends on" in found["message"]
        assert "gatekey init NAME --home ANOTHER" in found["remedy"]
        assert "the authority root ends on" in short("bundle", "--out", "bundle").err
        assert "ends on" not in short("list").err

    def test_its_last_month(self, short: Administrator, moved_clock: Callable[[int], None]) -> None:
        short("issue", "client", "ann")
        moved_clock(380 * DAY)
        made = short("bundle", "--out", "bundle", "--json").json
        end = short("authority", "list", "--json").json[0]["not_after"]
        assert made["fresh_until"] == end
        assert f"good until {end[:10]}, when the authority root ends" in short("bundle", "--out", "bundle").err
        for words, code in (("list", 0), ("verify ann.crt", 1), ("authority list", 0)):
            assert "the authority root ends on" in short(*words.split(), code=code).err
        assert of(short, "authorities")["state"] == "warn"
        moved_clock(395 * DAY)
        assert of(short, "authorities", code=1)["state"] == "fail"

    def test_a_root_ends_before_what_is_below(self, tmp_path: Path) -> None:
        """An issuing CA never outlives its root, so the root is the last one; its end is the end of the bundle as well."""
        clock = FakeClock()
        authority = app.create_authority(tmp_path / "home", app.Founding("Kitty", days=20, unencrypted_keys=True), clock=clock)
        ends = min(authority.issuing(record.name).certificate.not_after for record in authority.side("people"))
        assert bundle.make(authority).fresh_until == ends < clock.now() + 30 * DAY
        authority.close()
