"""The built-in profiles say what was decided, and a home's own ones stand beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatekey import profiles
from gatekey.errors import Misconfigured, NotFound
from gatekey.model.instants import DAY, HOUR

#: Decided lifetimes: default and longest, in days.
LIVES = {
    "people-root": (7300, 36500),
    "servers-root": (7300, 36500),
    "root": (7300, 36500),
    "people": (3650, 7300),
    "servers": (3650, 7300),
    "client": (365, 3650),
    "client-short": (10 / 24, 1),
    "device": (365, 3650),
    "server": (375, 397),
    "ocsp-responder": (7, 30),
}
#: What each is for: kind, extended key usage, path length, issuer.
SHAPES = {
    "people-root": ("ca", (), 1, ""),
    "servers-root": ("ca", (), 1, ""),
    "root": ("ca", (), 0, ""),
    "people": ("ca", (), 0, "people-root"),
    "servers": ("ca", (), 0, "servers-root"),
    "client": ("client", ("clientAuth",), None, "people"),
    "client-short": ("client", ("clientAuth",), None, "people"),
    "device": ("client", ("clientAuth",), None, "people"),
    "server": ("server", ("serverAuth",), None, "servers"),
    "ocsp-responder": ("ocsp", ("OCSPSigning",), None, ""),
    "probe": ("probe", ("clientAuth",), None, "people"),
    "probe-server": ("probe", ("serverAuth",), None, "people"),
}


def test_every_file_is_a_profile_and_every_profile_a_file() -> None:
    files = {path.stem for path in Path(profiles.__file__).parent.glob("*.toml")}
    assert files == set(profiles.NAMES) == set(profiles.load()) == set(SHAPES)
    assert set(profiles.load("client", "server")) == {"client", "server"}


@pytest.mark.parametrize("name", LIVES)
def test_lifetimes_are_as_decided(name: str) -> None:
    profile = profiles.built_in(name)
    assert (profile.validity / DAY, profile.longest / DAY) == LIVES[name]


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_as_decided(name: str) -> None:
    profile = profiles.built_in(name)
    assert (profile.kind, profile.extended, profile.path_length, profile.issuer) == SHAPES[name]
    assert profile.backdate == HOUR
    assert "p256" in profile.keys
    assert profile.about
    assert not profile.extra


def test_only_ceremonies_make_authorities_and_nobody_asks_for_the_internal_ones() -> None:
    for name, profile in profiles.load().items():
        if profile.kind == "ca":
            assert profile.ways == ("ceremony",), name
        elif profile.kind in ("ocsp", "probe"):
            assert profile.ways == ("internal",), name
        else:
            assert not {"ceremony", "internal"} & set(profile.ways), name


def test_no_two_have_the_same_canonical_form() -> None:
    assert len({profile.sha256 for profile in profiles.load().values()}) == len(profiles.NAMES)


def test_probes_live_for_hours_and_under_one_name() -> None:
    for name in ("probe", "probe-server"):
        profile = profiles.built_in(name)
        assert profile.validity == HOUR
        assert profile.longest == DAY
        assert profile.names.login == ("gatekey-probe",)


def test_an_unknown_name_meets_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        profiles.find("clinet")
    assert caught.value.code == "no-profile"
    assert caught.value.hint == "did you mean 'client'?"
    with pytest.raises(NotFound, match="known are client, client-short, device, server"):
        profiles.built_in("../client")


def test_a_home_has_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    assert profiles.own_names(folder) == ()
    assert profiles.find("client", folder) is profiles.built_in("client")
    folder.mkdir()
    (folder / "visitor.toml").write_text('[profile.visitor]\nabout = "x"\nusage = ["client-auth"]\nvalidity = "1d"\nkeys = ["p256"]\n')
    (folder / "client.toml").write_text('[profile.client]\nabout = "x"\nusage = ["client-auth"]\nvalidity = "2d"\nkeys = ["p256"]\n')
    assert profiles.own_names(folder) == ("client", "visitor")
    assert profiles.find("visitor", folder).validity == DAY
    assert profiles.find("client", folder).validity == 2 * DAY
    with pytest.raises(NotFound) as caught:
        profiles.find("visitro", folder)
    assert caught.value.hint == "did you mean 'visitor'?"


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff\xfe", "is not UTF-8 text"), (b"#" * 70000, "is larger than the 64 KiB"), (b"", r"\[profile.bad\] is missing")]
)
def test_files_that_are_no_profiles_are_refused_in_words(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(Misconfigured, match=said) as caught:
        profiles.find("bad", tmp_path)
    assert str(tmp_path / "bad.toml") in caught.value.message


def test_a_folder_where_a_file_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").mkdir()
    with pytest.raises(Misconfigured, match="cannot be read"):
        profiles.find("bad", tmp_path)
