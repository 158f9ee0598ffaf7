"""Brings a configuration to its place: tested by the web server's own checker before anything is replaced, and again as a whole; otherwise all is as before.

`folder` is one that the web server reads (conf.d, sites-enabled). Site files go there; include files and the bundle go to `folder/gatekey`.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from .. import files
from ..errors import Misconfigured, Refused
from . import nginx, writers
from .agent_config import status_of
from .running import Running, included, mended, read_files, read_running, relocated, with_include
from .site import Configuration, Site, address, checked

#: Seconds that a checker may take; nginx needs 5 for a CRL of a million entries.
PATIENCE = 60


class Ran(NamedTuple):
    """How a command ended, and all that it printed."""

    code: int
    output: str


Run = Callable[[tuple[str, ...]], Ran]


class Installed(NamedTuple):
    """What was done. `written`: files that are new or changed; `said`: what the server's checker printed; `reload`: the command that is still to be given.

    `bundle`: the folder that the server reads its lists from; `kept`: an agent keeps it, so it was left as it is. `first`: what must be done before the reload,
    or nothing of this counts; mostly "".
    """

    configuration: Configuration
    written: tuple[str, ...]
    notes: tuple[str, ...]
    said: str
    reload: tuple[str, ...]
    bundle: str
    first: str = ""
    kept: bool = False


def install(server: str, site: Site, folder: Path, bundle: Mapping[str, bytes], *, program: tuple[str, ...] = (), run: Run | None = None) -> Installed:
    """Writes the configuration of `site` for `server` into `folder`, with the bundle (file name -> content).

    `program`: how the server is called where its name alone is not enough (`("nginx", "-c", "/path/nginx.conf")`). Raises Refused("checker-refused") with the
    checker's words, Misconfigured("no-checker") when the server is not on this machine, and what `configuration` raises; nothing has changed then.
    """
    run = run or run_command
    folder = folder.absolute()
    ours = folder / "gatekey"
    site = checked(site._replace(folder=str(ours), place=str(folder), bundle=site.bundle or str(ours / "bundle")))
    _loads(site, bundle)
    links = _key_links(site, ours) if server == "haproxy" else {}
    if links:
        site = site._replace(certificate=str(ours / f"{site.host}.pem"), key=str(ours / f"{site.host}.pem"))

    # 1. what it runs with, and the whole set of files that there shall be
    place = _Nginx(folder, program or ("nginx",), run) if server == "nginx" else _Other(server, folder, program, run)
    configuration, texts, notes = place.plan(site)

    # 2. tested at another place, with the bundle, before anything is touched
    with tempfile.TemporaryDirectory(prefix="gatekey-install-") as name:
        said = place.rehearse(Path(name), site, dict(bundle), links, texts)

    # 3. the bundle, switched as a whole, unless an agent keeps it (what is published may be older than this one, and would be refused from then on);
    #    then the files, each as a whole; all back if the server does not take them together
    kept = status_of(Path(site.bundle)).exists()
    if not kept:
        files.switch(Path(site.bundle), dict(bundle), "install")
    with _all_or_nothing() as change:
        for path, target in links.items():
            change.link(path, target)
        for path, text in texts.items():
            change.write(path, text)
        said = place.check() or said
    return Installed(configuration, tuple(change.written), (*notes, *configuration.notes), said.strip(), configuration.reload, site.bundle, place.first, kept)


def run_command(words: tuple[str, ...]) -> Ran:
    """Runs a command of the web server and waits for it. Raises Misconfigured("no-checker") when it is not there."""
    import subprocess

    program = shutil.which(words[0]) or shutil.which(words[0], path="/usr/sbin:/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin")
    if not program:
        hint = "run this on the web server's host, or leave out --install and copy what is printed"
        raise Misconfigured("no-checker", f"{words[0]} is not on this machine, so the configuration cannot be tested", hint=hint)
    try:
        done = subprocess.run([program, *words[1:]], capture_output=True, text=True, errors="replace", check=False, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return Ran(124, f"{words[0]} did not answer within {PATIENCE} s")
    return Ran(done.returncode, done.stdout if words[-1] == "-T" and not done.returncode else done.stdout + done.stderr)


class _Other:
    """Apache, HAProxy, Caddy, Envoy and Traefik: their checkers take the new files alone, or beside what there is."""

    first = ""

    def __init__(self, server: str, folder: Path, program: tuple[str, ...], run: Run) -> None:
        self.server, self.folder, self.run = server, folder, run
        self.program = program or ({"apache": "apache2ctl"}.get(server, server),)

    def plan(self, site: Site) -> tuple[Configuration, dict[Path, str], tuple[str, ...]]:
        configuration = writers.configuration(self.server, site)
        return configuration, _texts(configuration), ()

    def rehearse(self, there: Path, site: Site, bundle: dict[str, bytes], links: dict[Path, str], texts: dict[Path, str]) -> str:
        del texts
        staged = _staged(self.server, there, site, bundle, links)
        if self.server == "traefik":
            return ""
        if self.server == "apache":
            self._without_doubled_ports(Path(staged.file))
        main = there / "main"
        if self.server == "caddy":
            main.write_text("".join(f"import {path}\n" for path in (*staged.includes, staged.file)))
        words = {
            # Beside the running configuration: modules and ports are its business.
            "apache": (*self.program, "-t", "-c", f"Include {there}/*.conf"),
            "haproxy": (*self.program, "-c", "-f", staged.file),
            "caddy": (*self.program, "validate", "--adapter", "caddyfile", "--config", str(main)),
            "envoy": (*self.program, "--mode", "validate", "-c", staged.file),
        }[self.server]
        return _must(self.run(words), words)

    def _without_doubled_ports(self, staged: Path) -> None:
        """Apache reads the files of last time as well, and takes each Listen once."""
        there_already = self.folder / staged.name
        if there_already.exists():
            have = {line for line in there_already.read_text().splitlines() if line.startswith("Listen ")}
            staged.write_text("\n".join(line for line in staged.read_text().splitlines() if line not in have) + "\n")

    def check(self) -> str:
        if self.server != "apache":
            return ""
        words = (*self.program, "-t")
        return _must(self.run(words), words)


class _Nginx:
    """nginx: the new files are tested in a copy of the whole tree, so that what they share with other sites is tested too."""

    def __init__(self, folder: Path, program: tuple[str, ...], run: Run) -> None:
        self.folder, self.program, self.run = folder, program, run
        self.first = ""
        words = (*program, "-T")
        self.running: Running = read_running(_must(run(words), words, before="the configuration that is there already does not pass: "))

    def plan(self, site: Site) -> tuple[Configuration, dict[Path, str], tuple[str, ...]]:
        texts: dict[Path, str] = {}
        notes: list[str] = []
        running = self.running
        # What must stand in other people's default servers. Written only where it can be; otherwise `configuration` says it.
        for where in map(address, site.listen):
            default = running.default_server(where)
            if default and not default.replaceable and default.mendable and default.advice(where) and self._as_printed(default.server.directive.file):
                file = default.server.directive.file
                text = mended(running.files[file], default)
                copy = self.folder / "gatekey" / "before" / file.strip("/").replace("/", "_")
                texts.setdefault(copy, running.files[file])
                texts[Path(file)] = text
                running = read_files(running.main_file, {**running.files, file: text})
                notes.append(
                    f"{default.server.place} (server_name {default.server.title}) is the default server of {where[0]}:{where[1]}: its sessions were "
                    f"switched off there, since it decides for all servers of that socket (as it was: {copy})"
                )
        # Not seen: our own files of last time, which are written again.
        others = {path: text for path, text in running.files.items() if not self._ours(Path(path))}
        running = read_files(running.main_file, others)
        configuration = nginx.configuration(site, running)
        texts.update(_texts(configuration))
        if not running.shutdown_timeout and (top := self._top_level()):
            texts[top] = nginx.main_level()
            configuration = configuration._replace(notes=tuple(note for note in configuration.notes if "worker_shutdown_timeout" not in note))
        if not self._reads(configuration.file):
            self.first = f"nginx does not read {self.folder}: put `include {self.folder}/*.conf;` at the end of http {{}} in {running.main_file}"
        return configuration, texts, tuple(notes)

    def _ours(self, path: Path) -> bool:
        return (path.parent == self.folder and path.name.startswith(("00-gatekey", "gatekey-"))) or path.name == "90-gatekey-main.conf"

    def _as_printed(self, file: str) -> bool:
        """Whether nginx printed the file as it is, which it need not where bytes are no text."""
        try:
            return Path(file).read_bytes() == self.running.files[file].encode()
        except (OSError, UnicodeError):
            return False

    def _reads(self, file: str) -> bool:
        return any(included(pattern, [file]) for pattern in self.running.http_includes)

    def _top_level(self) -> Path | None:
        """A place that is included outside of `http {}` (Debian: modules-enabled), or None. What does not lie beside nginx.conf may have other readers."""
        for pattern in self.running.main_includes:
            place = Path(pattern).parent / "90-gatekey-main.conf"
            if place.parent.is_dir() and place.is_relative_to(Path(self.running.main_file).parent) and included(pattern, [str(place)]):
                return place
        return None

    def rehearse(self, there: Path, site: Site, bundle: dict[str, bytes], links: dict[Path, str], texts: dict[Path, str]) -> str:
        del links
        new = {**self.running.files, **{str(path): text for path, text in texts.items()}}
        root = there / "root"
        for path, text in new.items():
            if path.startswith(f"{site.bundle}/"):
                continue  # the maps of last time, which nginx printed too
            below = Path(f"{root}{path}")
            below.parent.mkdir(parents=True, exist_ok=True)
            below.write_text(relocated(text, path, str(root)).replace(f" {site.bundle}/", f" {root}{site.bundle}/"))
        _fill(Path(f"{root}{site.bundle}"), bundle)
        main = Path(self.running.main_file)
        _link_siblings(main.parent, Path(f"{root}{main.parent}"))
        tested = Path(f"{root}{main}")
        if self.first:  # with the line that is still to be put there; the files alone where http {} is not in the main file
            line = f"{root}{self.folder}/*.conf"
            tested.write_text(with_include(tested.read_text(), str(main), line) or f'events {{}}\nhttp {{\n    include "{line}";\n}}\n')
        words = (self.program[0], "-t", "-c", str(tested))
        before = f"{self.first}, or name a folder that it reads; with that line " if self.first else ""
        ran = self.run(words)
        return _must(ran._replace(output=ran.output.replace(str(root), "")), words, before=before)

    def check(self) -> str:
        words = (*self.program, "-t")
        return _must(self.run(words), words)


class _Change:
    """Files that were written, and how to take it back."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self._undo: list[Callable[[], None]] = []

    def write(self, path: Path, text: str) -> None:
        path = path.resolve()  # sites-enabled holds links to sites-available
        data = text.encode()
        before = path.read_bytes() if path.exists() else None
        if before == data or (before is not None and path.parent.name == "before"):
            return  # the copy of how it was is the oldest one
        mode = path.stat().st_mode & 0o777 if before is not None else files.PUBLIC
        self._undo.append(lambda: path.unlink(missing_ok=True) if before is None else files.replace(path, before, mode))
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, data, mode)
        self.written.append(str(path))

    def link(self, path: Path, target: str) -> None:
        before = path.readlink() if path.is_symlink() else None
        if before == Path(target):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._undo.append(lambda: _relink(path, before))
        _relink(path, Path(target))
        self.written.append(str(path))

    def back(self) -> None:
        for undo in reversed(self._undo):
            undo()


@contextlib.contextmanager
def _all_or_nothing() -> Iterator[_Change]:
    change = _Change()
    try:
        yield change
    except BaseException:
        change.back()
        raise


def _relink(path: Path, target: Path | None) -> None:
    path.unlink(missing_ok=True)
    if target is not None:
        path.symlink_to(target)


def _loads(site: Site, bundle: Mapping[str, bytes]) -> None:
    """Raises Refused("checker-refused") for a certificate, key, chain or CRL that OpenSSL does not take.

    `apache2 -t` looks at none of them, and Apache ends when it finds out at a restart; `nginx -t` is content with a CRL too few, and then nobody gets in.
    """
    import ssl

    hint = "nothing was changed"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(site.certificate, site.key, password=lambda: b"")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        if missing := [path for path in (site.certificate, site.key) if not Path(path).exists()]:
            hint = f"there is no {' and no '.join(missing)}: say where they are with --certificate FILE and --key FILE; nothing was changed"
        message = f"the certificate {site.certificate} and the key {site.key} cannot be used together: {str(reason).lower().replace('_', ' ')}"
        raise Refused("checker-refused", message, hint=hint) from None
    counts = {}
    with tempfile.TemporaryDirectory(prefix="gatekey-install-") as name:
        for file in ("people-chain.pem", "all.crl.pem"):
            path = Path(name) / file
            path.write_bytes(bundle.get(file, b""))
            store = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with contextlib.suppress(ssl.SSLError):  # an empty or damaged file holds nothing
                store.load_verify_locations(path)
            counts[file] = store.cert_store_stats()["x509" if file == "people-chain.pem" else "crl"]
    if not counts["people-chain.pem"] or counts["all.crl.pem"] < counts["people-chain.pem"]:
        found = f"{counts['people-chain.pem']} certificates of authorities and {counts['all.crl.pem']} CRLs"
        message = f"the bundle has {found} that can be read; each authority needs its own CRL"
        raise Refused("checker-refused", message, hint=hint)


def _texts(configuration: Configuration) -> dict[Path, str]:
    return {Path(path): text for path, text in {**configuration.includes, **configuration.programs, configuration.file: configuration.text}.items()}


def _staged(server: str, there: Path, site: Site, bundle: dict[str, bytes], links: dict[Path, str]) -> Configuration:
    """The same configuration with everything below `there`, written."""
    _fill(there / "bundle", bundle)
    moved = site._replace(folder=str(there / "gatekey"), place=str(there), bundle=str(there / "bundle"))
    if links:
        for path, target in links.items():
            (there / path.name).symlink_to(target)
        moved = moved._replace(certificate=str(there / f"{site.host}.pem"), key=str(there / f"{site.host}.pem"))
    staged = writers.configuration(server, moved)
    for path, text in _texts(staged).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return staged


def _fill(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)


def _key_links(site: Site, ours: Path) -> dict[Path, str]:
    """HAProxy looks for NAME.key beside the certificate NAME: links make it so, and no key is copied."""
    if site.key in (site.certificate, f"{site.certificate}.key"):
        return {}
    return {ours / f"{site.host}.pem": site.certificate, ours / f"{site.host}.pem.key": site.key}


def _link_siblings(real: Path, copy: Path) -> None:
    """In the copy of a folder, links to whatever was not copied: certificates and snippets with relative paths are found there too."""
    copy.mkdir(parents=True, exist_ok=True)
    for entry in real.iterdir():
        below = copy / entry.name
        if not below.exists():
            below.symlink_to(entry)
        elif entry.is_dir() and not entry.is_symlink() and not below.is_symlink():
            _link_siblings(entry, below)


def _must(ran: Ran, words: tuple[str, ...], before: str = "") -> str:
    """What the checker printed. Raises Refused("checker-refused") when it says no."""
    if ran.code:
        printed = ran.output.strip()[-2000:]
        raise Refused("checker-refused", f"{before}{words[0]} says no: {printed}", hint="nothing was changed", command=" ".join(words), output=printed)
    return ran.output
