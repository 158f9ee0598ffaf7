"""`install`: nothing changes unless the server's own checker takes the whole; what must stand in other people's default servers is found, said and written."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gatekey.errors import Misconfigured, Refused
from gatekey.model import bundle
from gatekey.webserver.install import Installed, Ran, install, run_command
from gatekey.webserver.site import Site
from kit.pki import Pki, make_pki
from kit.servers import Nginx, free_port, free_ports, program, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.interop]

HOST = "app.example"


def contents(pki: Pki) -> dict[str, bytes]:
    texts = bundle.texts([], [], [f"CN={pki.name}"], 1, [ca.certificate.public_bytes(_der()) for ca in pki.authorities])
    return {"people-chain.pem": pki.chain_pem, "all.crl.pem": pki.crls(), **{name: text.encode() for name, text in texts.items()}}


def _der() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER


class Machine:
    """A web server's host in a folder: the site's certificate, a bundle, and nginx with conf.d and modules-enabled as Debian has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.etc = folder / "etc"
        self.conf_d, self.modules = self.etc / "conf.d", self.etc / "modules-enabled"
        for place in (self.conf_d, self.modules, self.etc / "certs"):
            place.mkdir(parents=True)
        self.main = self.etc / "nginx.conf"
        self.pki = make_pki()
        self.bundle = contents(self.pki)
        files = make_pki("kitty-ca servers").server(HOST, "public.example").write(self.etc / "certs", "site")
        self.chain, self.key = files.chain, files.key
        self.port, self.plain, self.other = free_ports(3)
        self.write_main()

    def write_main(self, http: str = "") -> None:
        user = "user root;\n" if os.geteuid() == 0 else ""
        paths = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        self.main.write_text(
            f"{user}daemon off;\nworker_processes 1;\npid {self.folder}/nginx.pid;\nerror_log {self.folder}/error.log;\n"
            f"include {self.modules}/*.conf;\nevents {{ worker_connections 64; }}\n"
            f"http {{\n    access_log off; {paths}\n    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3; # Debian\n{http}\n    include conf.d/*.conf;\n}}\n"
        )

    @property
    def site(self) -> Site:
        return Site(
            HOST, certificate=str(self.chain), key=str(self.key), listen=(f"127.0.0.1:{self.port}",), plain=(f"127.0.0.1:{self.plain}",), folder="/unused",
        )  # fmt: skip

    @property
    def nginx(self) -> tuple[str, ...]:
        return (program("nginx"), "-c", str(self.main))

    def install(self, **changes: Any) -> Installed:
        return install("nginx", self.site._replace(**changes), self.conf_d, self.bundle, program=self.nginx)

    def snapshot(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.etc.rglob("*")) if path.is_file()}

    def public(self, name: str = "public.conf", *, default: str = "", extra: str = "") -> Path:
        """Another site on the same socket."""
        path = self.conf_d / name
        path.write_text(
            f"server {{\n    listen 127.0.0.1:{self.port} ssl{default};\n    server_name public.example;\n"
            f"    ssl_certificate certs/site.chain.crt;\n    ssl_certificate_key certs/site.key;\n{extra}    location / {{ return 200 public; }}\n}}\n"
        )
        return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nginx_takes_it_and_serves(machine: Machine) -> None:
    done = machine.install()
    assert "successful" in done.said
    names = {path.name for path in machine.conf_d.iterdir()}
    assert names == {f"00-gatekey-default-127.0.0.1-{machine.port}.conf", "00-gatekey.conf", f"gatekey-{HOST}.conf", "gatekey"}
    assert (machine.conf_d / "gatekey" / "bundle" / "people-chain.pem").read_bytes() == machine.pki.chain_pem
    assert (machine.modules / "90-gatekey-main.conf").read_text().endswith("worker_shutdown_timeout 10s;\n")
    assert not [note for note in done.notes if "worker_shutdown_timeout" in note]
    assert done.reload == ("systemctl", "reload", "nginx")
    process = subprocess.Popen(machine.nginx, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(machine.port), "nginx is up")
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_twice_changes_nothing(machine: Machine) -> None:
    machine.install()
    before = machine.snapshot()
    assert machine.install().written == ()
    assert {k: v for k, v in machine.snapshot().items() if "/bundle/" not in k} == {k: v for k, v in before.items() if "/bundle/" not in k}


def test_a_bundle_that_an_agent_keeps_is_left_to_it(machine: Machine) -> None:
    """The authority's own may be newer than what it publishes, and an agent takes nothing that is older than what is there."""
    first = machine.install()
    assert not first.kept
    folder = Path(first.bundle)
    folder.with_name("bundle.agent.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    machine.bundle["people.json"] = b"{}"
    assert machine.install().kept
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_second_site_shares_what_is_shared(machine: Machine) -> None:
    machine.install()
    done = machine.install(host="public.example", groups=("staff",))
    assert [Path(path).name for path in done.written] == ["gatekey-public.example.conf"]


def test_a_bad_certificate_is_found_before_anything_changes(machine: Machine) -> None:
    before = machine.snapshot()
    machine.key.write_text("no key")
    before[str(machine.key)] = b"no key"
    with pytest.raises(Refused) as caught:
        machine.install()
    assert caught.value.code == "checker-refused"
    assert "site.key" in caught.value.message
    assert machine.snapshot() == before


def test_a_missing_crl_is_found_though_nginx_would_say_ok(machine: Machine) -> None:
    for crls in (machine.pki.crl("issuing"), b"", machine.pki.crls()[:-200]):
        machine.bundle["all.crl.pem"] = crls
        with pytest.raises(Refused, match="needs its own CRL"):
            machine.install()
    assert list(machine.conf_d.iterdir()) == []


def test_a_bundle_that_nginx_does_not_read_is_found_before_anything_changes(machine: Machine) -> None:
    machine.install()
    before = machine.snapshot()
    machine.bundle["people.map"] += b'"unfinished\n'
    with pytest.raises(Refused):
        machine.install()
    assert machine.snapshot() == before


def test_a_configuration_that_is_broken_already_is_not_ours_to_touch(machine: Machine) -> None:
    (machine.conf_d / "broken.conf").write_text("server { listen nowhere; }")
    before = machine.snapshot()
    with pytest.raises(Refused, match="already does not pass"):
        machine.install()
    assert machine.snapshot() == before


def test_what_the_last_check_refuses_is_taken_back(machine: Machine) -> None:
    """The rehearsal is content and the real thing is not: everything is as it was."""
    calls: list[tuple[str, ...]] = []

    def run(words: tuple[str, ...]) -> Ran:
        calls.append(words)
        if words == (*machine.nginx, "-t"):
            return Ran(1, "emerg: out of luck")
        return run_command(words)

    machine.public(default=" default_server")
    before = machine.snapshot()
    with pytest.raises(Refused, match="out of luck"):
        install("nginx", machine.site, machine.conf_d, machine.bundle, program=machine.nginx, run=run)
    assert len(calls) == 3
    after = machine.snapshot()
    assert {path: data for path, data in after.items() if "/gatekey/bundle/" not in path} == before


def test_hash_sizes_that_are_set_already_are_not_doubled(machine: Machine) -> None:
    machine.write_main("map_hash_bucket_size 256; map_hash_max_size 8192;")
    machine.install()
    assert "map_hash_" not in (machine.conf_d / "00-gatekey.conf").read_text()


def test_the_first_of_a_socket_gives_way_to_a_real_default(machine: Machine) -> None:
    machine.public()
    done = machine.install()
    assert any("because it comes first" in note and "public.conf:1" in note for note in done.notes)
    assert (machine.conf_d / f"00-gatekey-default-127.0.0.1-{machine.port}.conf").exists()


def test_a_named_default_is_mended_and_kept(machine: Machine) -> None:
    """certbot's snippet in the default server: sessions live on for a day. Its session lines are replaced, all else stays, and a copy is kept."""
    snippet = "    ssl_session_cache shared:x:1m; # certbot\n    ssl_session_tickets off;\n    ssl_session_timeout 1440m;\n"
    path = machine.public(default=" default_server", extra=snippet)
    was = path.read_text()
    done = machine.install()
    now = path.read_text()
    assert "shared:x" not in now
    assert now.count("ssl_session_cache off;") == 1
    assert now.count("ssl_session_tickets off;") == 1
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in now
    assert "location / { return 200 public; }" in now
    assert "ssl_session_timeout 1440m;" in now
    assert any("its sessions were switched off there" in note for note in done.notes)
    [copy] = (machine.conf_d / "gatekey" / "before").iterdir()
    assert copy.read_text() == was
    assert not list(machine.conf_d.glob("00-gatekey-default-*"))
    machine.install()
    assert path.read_text() == now
    assert copy.read_text() == was


def test_a_default_that_gets_it_from_elsewhere_is_only_spoken_of(machine: Machine) -> None:
    """The lines stand in a snippet that others include, too: no second line may stand beside them."""
    snippet = machine.etc / "options-ssl.conf"
    snippet.write_text("ssl_session_cache shared:x:1m;\nssl_session_tickets off;\n")
    path = machine.public(default=" default_server", extra=f"    include {snippet};\n")
    was = path.read_text()
    done = machine.install()
    assert path.read_text() == was
    [note] = [note for note in done.notes if "decides for all servers" in note]
    assert "ssl_session_cache off;" in note
    assert "public.conf:1" in note
    assert "ssl_session_tickets off;" not in note  # it says that already


def test_a_ticket_key_file_is_named(machine: Machine) -> None:
    (machine.etc / "ticket.key").write_bytes(os.urandom(48))
    machine.write_main(f"ssl_session_ticket_key {machine.etc}/ticket.key;")
    machine.public(default=" default_server")
    done = machine.install()
    assert any("take ssl_session_ticket_key out of" in note and "nginx.conf:11" in note for note in done.notes), done.notes


def test_another_nginx_leaves_the_top_level_of_the_first_alone(machine: Machine) -> None:
    """Two nginx on one host may read the same modules; what one of them needs at top level must not reach the other."""
    other = machine.folder / "other" / "nginx.conf"
    other.parent.mkdir()
    other.write_text(machine.main.read_text().replace("include conf.d", f"include {machine.conf_d}"))
    done = install("nginx", machine.site, machine.conf_d, machine.bundle, program=(program("nginx"), "-c", str(other)))
    assert list(machine.modules.iterdir()) == []
    assert any("worker_shutdown_timeout" in note for note in done.notes)


def test_a_folder_that_nginx_does_not_read_is_named(machine: Machine) -> None:
    elsewhere = machine.folder / "elsewhere"
    elsewhere.mkdir()
    done = install("nginx", machine.site, elsewhere, machine.bundle, program=machine.nginx)
    assert done.first == f"nginx does not read {elsewhere}: put `include {elsewhere}/*.conf;` at the end of http {{}} in {machine.main}"
    assert done.bundle == str(elsewhere / "gatekey" / "bundle")
    machine.key.write_text("no key")
    with pytest.raises(Refused):  # tested all the same
        install("nginx", machine.site._replace(host="public.example"), elsewhere, machine.bundle, program=machine.nginx)


def test_a_second_folder_is_tested_with_the_line_that_is_missing(machine: Machine) -> None:
    """What conf.d has already is not missing there; and what cannot stand beside it is refused with the reason first."""
    machine.install()
    elsewhere = machine.folder / "elsewhere"
    elsewhere.mkdir()
    names = make_pki("kitty-ca servers").server("other.example").write(machine.etc / "certs", "other")
    other = machine.site._replace(host="other.example", certificate=str(names.chain), key=str(names.key))
    words = "or name a folder that it reads; with that line .* says no: .*duplicate"
    with pytest.raises(Refused, match=f"^nginx does not read {elsewhere}: put .* {words}") as caught:
        install("nginx", other, elsewhere, machine.bundle, program=machine.nginx)
    assert caught.value.hint == "nothing was changed"
    assert f" in {elsewhere}/00-gatekey-default" in caught.value.message
    apart = other._replace(listen=(f"127.0.0.1:{machine.other}",), plain=())
    assert install("nginx", apart, elsewhere, machine.bundle, program=machine.nginx).first
    machine.main.write_text(machine.main.read_text().replace("include conf.d/*.conf;", f"include conf.d/*.conf; include {elsewhere}/*.conf;"))
    assert subprocess.run([*machine.nginx, "-t"], capture_output=True, check=False).returncode == 0


def test_a_certificate_that_is_not_there_is_asked_for(machine: Machine) -> None:
    with pytest.raises(Refused) as caught:
        machine.install(certificate="", key="")
    assert f"there is no {machine.conf_d}/gatekey/{HOST}.chain.crt and no {machine.conf_d}/gatekey/{HOST}.key: say where they are" in caught.value.hint


def test_haproxy_gets_links_and_no_copy_of_the_key(machine: Machine) -> None:
    folder = machine.folder / "haproxy"
    folder.mkdir()
    done = install("haproxy", machine.site, folder, machine.bundle)
    link = folder / "gatekey" / f"{HOST}.pem.key"
    assert link.is_symlink()
    assert link.resolve() == machine.key
    assert (folder / f"gatekey-{HOST}.cfg").exists()
    assert subprocess.run([program("haproxy"), "-c", "-f", str(folder / f"gatekey-{HOST}.cfg")], capture_output=True, check=False).returncode == 0
    assert done.reload == ("systemctl", "reload", "haproxy")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    machine.bundle["people-chain.pem"] = b"nothing"
    with pytest.raises(Refused):
        install("haproxy", machine.site, folder, machine.bundle)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_caddy(machine: Machine) -> None:
    folder = machine.folder / "caddy"
    folder.mkdir()
    done = install("caddy", machine.site, folder, machine.bundle)
    main = folder / "Caddyfile"
    main.write_text(f"import {folder}/gatekey-global.caddy\nimport {done.configuration.file}\n")
    assert subprocess.run([program("caddy"), "validate", "--adapter", "caddyfile", "--config", str(main)], capture_output=True, check=False).returncode == 0
    machine.bundle["trust.caddy"] = bundle.trust_caddy([]).encode()
    with pytest.raises(Refused):
        install("caddy", machine.site, folder, machine.bundle)


def test_apache_beside_what_runs(machine: Machine) -> None:
    from kit.servers import Apache

    conf_d = machine.folder / "sites-enabled"
    conf_d.mkdir()
    server = Apache(f"IncludeOptional {conf_d}/*.conf", machine.folder, [machine.port])
    command = (program("apache2"), "-d", str(server.folder), "-f", str(server.file))
    done = install("apache", machine.site, conf_d, machine.bundle, program=command)
    assert "Syntax OK" in done.said
    assert sorted(path.name for path in conf_d.glob("*.conf"))[:2] == [f"000-0-gatekey-default-127.0.0.1-{machine.port}.conf", "000-0-gatekey.conf"]
    assert install("apache", machine.site, conf_d, machine.bundle, program=command).written == ()
    before = (conf_d / f"gatekey-{HOST}.conf").read_bytes()
    machine.key.write_text("no key")
    with pytest.raises(Refused):
        install("apache", machine.site._replace(groups=("staff",)), conf_d, machine.bundle, program=command)
    assert (conf_d / f"gatekey-{HOST}.conf").read_bytes() == before


def test_traefik_has_no_checker_and_envoy_is_not_here(machine: Machine) -> None:
    folder = machine.folder / "there"
    folder.mkdir()
    assert install("traefik", machine.site, folder, machine.bundle).reload == ()
    with pytest.raises(Misconfigured) as caught:
        install("envoy", machine.site, folder, machine.bundle)
    assert caught.value.code == "no-checker"
    assert not list(folder.glob("*.yaml"))
    with pytest.raises(Refused):
        install("iis", machine.site, folder, machine.bundle)


def test_running_nginx_of_the_kit_is_read(tmp_path: Path) -> None:
    """What nginx -T prints is what stands in the files."""
    from gatekey.webserver.running import read_running

    port = free_port()
    server = Nginx(f"server {{ listen 127.0.0.1:{port}; return 204; }}", tmp_path, [port])
    dump = subprocess.run([*server.command(), "-T"], capture_output=True, text=True, check=True).stdout
    running = read_running(dump)
    assert running.main_file == str(server.file)
    assert running.files == {str(server.file): server.file.read_text()}
    assert [list(s.listens) for s in running.servers] == [[("127.0.0.1", port)]]
