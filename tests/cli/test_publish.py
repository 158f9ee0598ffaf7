"""`crl --out` and `bundle --out` write again and again over what is theirs, and never over what is not; units find the passphrase at one place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gatekey import app
from gatekey.web.unit import unit
from kit import administrator
from kit.administrator import Administrator


class TestCrl:
    def test_one_of_ours_is_replaced(self, admin: Administrator) -> None:
        admin("crl", "--out", "people.crl")
        admin("crl", "--out", "people.crl", "--pem")
        assert Path("people.crl").read_text().startswith("-----BEGIN X509 CRL")
        admin("crl", "--authority", "people-root", "--out", "people.crl")

    @pytest.mark.parametrize("name", ["ann.key", "ann.crt", "notes.txt", "empty", "foreign.crl"])
    def test_nothing_else_is(self, admin: Administrator, tmp_path: Path, name: str) -> None:
        admin("issue", "client", "ann")
        administrator.found(tmp_path / "foreign")
        administrator.typed("--home", tmp_path / "foreign", "crl", "--out", "foreign.crl")
        Path("notes.txt").write_text("mine")
        Path("empty").touch()
        before = admin.print()
        refused = admin("crl", "--out", name, code=1).err
        assert f"{name} exists already" in refused
        assert "--force" in refused
        assert admin.print() == before
        admin("crl", "--out", name, "--force")
        assert admin("show", name).out.startswith("this is")


class TestBundle:
    """What stands in the folder under one of the bundle's names and is no link of ours was put there by somebody."""

    @pytest.fixture
    def elsewhere(self, admin: Administrator) -> Path:
        admin("bundle", "--out", "bundle")
        place = Path("elsewhere.pem")
        place.write_text("of somebody else")
        return place

    def refused(self, admin: Administrator, what: str) -> None:
        before = sorted(Path("bundle").iterdir()), Path("bundle/manifest.json").read_bytes()
        said = admin("bundle", "--out", "bundle", code=1).err
        assert what in said
        assert "it was not touched" in said
        assert "move it away, or choose another folder; --force takes its place" in said
        assert (sorted(Path("bundle").iterdir()), Path("bundle/manifest.json").read_bytes()) == before

    @pytest.mark.parametrize("target", ["../elsewhere.pem", "nowhere", ".current/people-chain.pem"])
    def test_a_link_to_elsewhere(self, admin: Administrator, elsewhere: Path, target: str) -> None:
        link = Path("bundle/all.crl.pem")
        link.unlink()
        link.symlink_to(target)
        self.refused(admin, f"bundle/all.crl.pem is a link to {target}, not a link of ours")
        admin("bundle", "--out", "bundle", "--force")
        assert link.read_text().count("BEGIN X509 CRL") == 2
        assert elsewhere.read_text() == "of somebody else"

    def test_a_file(self, admin: Administrator, elsewhere: Path) -> None:
        own = Path("bundle/people.json")
        own.unlink()
        shutil.copy(elsewhere, own)
        self.refused(admin, "bundle/people.json is a file of its own, not a link of ours")
        admin("bundle", "--out", "bundle", "--force")
        assert own.is_symlink()

    def test_a_folder_of_somebody_else(self, admin: Administrator) -> None:
        Path("etc").mkdir()
        Path("etc/manifest.json").write_text('{"files": {}, "app": "of mine"}')
        Path("etc/people.json").write_text("[]")
        refused = admin("bundle", "--out", "etc", code=1).err
        assert "not a link of ours" in refused
        assert Path("etc/people.json").read_text() == "[]"

    def test_where_current_leads_elsewhere(self, admin: Administrator, elsewhere: Path) -> None:
        Path("other").mkdir()
        current = Path("bundle/.current")
        current.unlink()
        current.symlink_to("../other")
        assert "bundle/.current is a link to ../other" in admin("bundle", "--out", "bundle", code=1).err
        assert list(Path("other").iterdir()) == []

    def test_a_copy_of_ours_is_ours(self, admin: Administrator, elsewhere: Path) -> None:
        """Backups and copies make files out of links; what the manifest there vouches for may be written anew."""
        shutil.copytree("bundle", "copied", ignore=shutil.ignore_patterns(".*"))
        assert not Path("copied/people.json").is_symlink()
        admin("issue", "client", "ann")
        admin("bundle", "--out", "copied")
        assert '"ann"' in Path("copied/people.json").read_text()
        assert Path("copied/people.json").is_symlink()


class TestUnits:
    """The timer of `bundle` and the unit of `serve` agree on where the passphrase lies."""

    def test_keys_without_a_passphrase_need_no_credential(self, admin: Administrator) -> None:
        assert "LoadCredential" not in admin("bundle", "--timer").out
        assert "LoadCredential" not in admin("serve", "--unit").out

    def test_encrypted_keys_find_it_at_one_place(self, tmp_path: Path) -> None:
        authority = app.create_authority(tmp_path / "home", app.Founding("Kitty"), passphrase=lambda: b"a passphrase for the tests")
        line = "LoadCredential=gatekey-passphrase:/etc/gatekey/passphrase\n"
        assert line in unit(authority.config)
        assert line in administrator.typed("--home", tmp_path / "home", "bundle", "--timer").out
        named = authority.config._replace(passphrase_file=tmp_path / "passphrase")
        assert "LoadCredential" not in unit(named)
        authority.close()

    def test_only_a_web_server_of_this_host_is_reloaded(self, admin: Administrator) -> None:
        assert "ExecStartPost" not in admin("bundle", "--timer").out
        assert "ExecStartPost=/usr/bin/systemctl reload apache2\n" in admin("bundle", "--timer", "--reload", "apache2").out
        assert "--reload goes with --timer" in admin("bundle", "--out", "bundle", "--reload", "nginx", code=2).err
        assert "bundle --out /etc/gatekey/bundle\n" in admin("bundle", "--timer").out
