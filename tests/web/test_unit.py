"""The unit and the sockets of the service, and what `serve --unit` says while something is missing. tests/interop/test_systemd.py runs them."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

import pytest

from gatekey import app, config
from gatekey.errors import Misconfigured
from gatekey.web import unit as units
from kit import administrator
from kit.service import configure

SECRET = b"a passphrase for the tests"


def parsed(text: str) -> configparser.RawConfigParser:
    """A unit as its sections; keys that stand there twice keep the last value."""
    read = configparser.RawConfigParser(strict=False, delimiters=("=",))
    read.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their capital letters
    read.read_string(text)
    return read


def ours(_: str) -> int:
    """The user of the unit is whoever runs the tests."""
    return os.geteuid()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    app.create_authority(tmp_path / "home", app.Founding("Kitty"), passphrase=lambda: SECRET).close()
    monkeypatch.setattr(units, "PASSPHRASE", str(tmp_path / "passphrase"))
    (tmp_path / "passphrase").write_bytes(SECRET)
    monkeypatch.setattr(units, "_program", lambda: None)
    return tmp_path / "home"


# What is missing


def test_nothing_is_missing(home: Path) -> None:
    assert units.lacking(config.load(home), ours) == []


def test_the_user(home: Path) -> None:
    user, owner = units.lacking(config.load(home), lambda _: None)
    assert user.startswith("there is no user gatekey: useradd --system --user-group --home-dir /var/lib/gatekey ")
    assert owner == f"not all of {home} belongs to the unit's user: chown -R gatekey:gatekey {home}"


def test_a_file_of_somebody_else_deep_in_the_home(home: Path) -> None:
    """As a verb leaves it that was run by root."""
    if os.geteuid() != 0:
        assert units.lacking(config.load(home), lambda _: os.geteuid() + 1)
        return
    os.chown(home / "keys" / "people.key", 12345, 12345)
    (told,) = units.lacking(config.load(home), ours)
    assert told.endswith(f"chown -R gatekey:gatekey {home}")


def test_a_home_that_the_unit_does_not_reach(home: Path) -> None:
    for place in ("/root/.local/share/gatekey", "/home/ann/my ca"):
        (told,) = units.lacking(config.load(home)._replace(home=Path(place)), ours)
        assert "does not reach" in told
        assert "mv -T " in told
        assert "chown -R gatekey:gatekey /var/lib/gatekey" in told
        assert told.endswith("and then gatekey serve --home /var/lib/gatekey --unit")


def test_the_published_folder(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "srv" / "published"
    said = config.load(home)._replace(publish=folder)
    assert units.lacking(said, ours) == [f"the folder to be published is not there: install -d -m 0755 -o gatekey -g gatekey {folder}"]
    folder.mkdir(parents=True)
    assert units.lacking(said, ours) == []
    assert units.lacking(said, lambda _: os.geteuid() + 1)[-1].endswith(f"chown -R gatekey:gatekey {folder}")
    assert f"ReadWritePaths={home} {folder}\n" in units.unit(said), "that folder, and nothing beside it"
    within = said._replace(publish=home / "published")
    assert units.lacking(within, ours) == []
    assert f"ReadWritePaths={home}\n" in units.unit(within), "a path that is not there yet would keep the unit from starting"


def test_the_passphrase(home: Path, tmp_path: Path) -> None:
    (tmp_path / "passphrase").unlink()
    said = config.load(home)
    (told,) = units.lacking(said, ours)
    assert told == f"nothing gives the passphrase: (umask 077; systemd-ask-password > {tmp_path}/passphrase)"
    assert units.lacking(said._replace(unencrypted_keys=True), ours) == []
    assert units.lacking(said._replace(passphrase_file=tmp_path / "another"), ours) == []


def test_a_program_that_lies_in_a_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_program", lambda: Path("/root/gatekey/.venv/bin/gatekey"))
    (told,) = units.lacking(config.load(home), ours)
    assert told.endswith("python3 -m venv /opt/gatekey && /opt/gatekey/bin/pip install '.[serve]'")


def test_it_is_said_on_stderr_beside_the_unit(home: Path, tmp_path: Path) -> None:
    (tmp_path / "passphrase").unlink()
    for words in (("serve", "--unit"), ("--quiet", "serve", "--unit", "--sockets")):
        told = administrator.typed("--home", home, *words)
        assert told.code == 0
        assert "warning: nothing gives the passphrase" in told.err
        assert "nothing gives" not in told.out


# Sockets of systemd's


def test_sockets_are_of_the_group_that_web_servers_join_and_outlive_the_service(home: Path) -> None:
    configure(home, {"proxy": {"listen": "unix:/run/gatekey/proxy.sock", "mode": "0600"}, "public": {"listen": "unix:/run/gatekey/public.sock"}})
    said = config.load(home)
    found = {}
    for part in units.socket_unit(said).split("# /etc/systemd/system/")[1:]:
        name, _, text = part.partition("\n")
        found[name] = dict(parsed(text)["Socket"])
    group = {"SocketUser": "gatekey", "SocketGroup": "gatekey"}
    rest = {"Service": "gatekey.service"}
    assert found == {
        "gatekey-public.socket": {"ListenStream": "/run/gatekey/public.sock", "FileDescriptorName": "public", **rest, **group, "SocketMode": "0660"},
        "gatekey-private.socket": {"ListenStream": "127.0.0.1:8443", "FileDescriptorName": "private", **rest},
        "gatekey-proxy.socket": {"ListenStream": "/run/gatekey/proxy.sock", "FileDescriptorName": "proxy", **rest, **group, "SocketMode": "0600"},
    }
    service = parsed(units.unit(said))["Service"]
    assert (service["Group"], service["RuntimeDirectory"], service["RuntimeDirectoryPreserve"]) == ("gatekey", "gatekey", "yes")


# The passphrase


def test_a_credential_of_systemds_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to root, and the mask of the ACL that lets us read it stands where the rights of the group do."""
    file = tmp_path / "gatekey-passphrase"
    file.write_bytes(SECRET)
    file.chmod(0o440)
    with pytest.raises(Misconfigured) as raised:
        app.passphrase_from(file)
    assert raised.value.code == "passphrase-exposed"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert app.passphrase_from(app.passphrase_file(None, None) or Path()) == SECRET
