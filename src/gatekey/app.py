"""The composition root: a home folder -> clock, ledger, keys, authority, service. Long because nothing else puts these together."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import config as configuration
from . import files, ports, profiles
from .authority.authority import Authority, Say, constraints_for, silent
from .config import Config
from .errors import Conflict, GatekeyError, Misconfigured, NotFound, Unavailable
from .keys.files import FileKeyring
from .model.instants import HOUR
from .model.profile import Profile
from .model.record import SERVICE
from .ports import Clock, Entropy, Signer, SystemClock, SystemEntropy
from .store import schema
from .store.database import Database
from .store.dialect import SQLite
from .store.ledger import Ledger
from .store.reads import Reads
from .x509.certificate import Certificate, assemble

if TYPE_CHECKING:
    import mmap
    import socket
    from collections import Counter

    from .authority.health import Finding
    from .authority.probe import Probe, Probes
    from .jobs.ticker import Job, Ran
    from .outgoing.mail import Smtp
    from .outgoing.webhook import Webhook
    from .protocols.api.asking import Knocking, Outside
    from .protocols.decision import Question, Refusals
    from .protocols.message import Call
    from .web import tls
    from .web.health import Health
    from .web.house import House
    from .web.logs import Log
    from .webserver.check import Identities

Passphrase = Callable[[], bytes]
#: What the folder is called in which an authority is built until it is complete.
_BUILDING = ".gatekey-init-"


class Founding(NamedTuple):
    """What `init` is told. `days`: life of the roots, None for the profile's. `domains`, `ips`: name constraints on what issues leaves.

    `root_elsewhere`: only keys and requests for the issuing CAs are made, to be signed by a root that is not here. `root`: an existing root's certificate and
    key, which certify the issuing CAs now and are not kept.
    """

    name: str
    flat: bool = False
    key_type: str = "p256"
    days: int | None = None
    url: str = ""
    domains: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    unencrypted_keys: bool = False
    passphrase_file: Path | None = None
    root_elsewhere: bool = False
    root: tuple[Certificate, Signer] | None = None


def actor() -> str:
    """Who acts, for the audit log: the user of this process."""
    try:
        import pwd

        return f"user:{pwd.getpwuid(os.geteuid()).pw_name}"
    except (ImportError, KeyError):
        return f"user:{os.environ.get('USER', 'unknown')}"


def open_authority(
    home: Path | Config,
    *,
    passphrase: Passphrase | None = None,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    who: str = "",
    database: Database | None = None,
) -> Authority:
    """The authority that lives in `home` (or whose configuration was read already). `passphrase` is asked only when a key is opened.

    Raises Misconfigured when there is none, when its configuration is wrong, or when a newer Gatekey has written its ledger.
    """
    config = home if isinstance(home, Config) else configuration.load(home)
    authority = _compose(config, passphrase, clock or SystemClock(), entropy or SystemEntropy(), who, database)
    with contextlib.suppress(GatekeyError):  # who may only read, or comes at a bad moment, leaves it to the next one
        _note_changes(authority)
    return authority


def _compose(config: Config, passphrase: Passphrase | None, clock: Clock, entropy: Entropy, who: str, database: Database | None = None) -> Authority:
    db = database or Database(SQLite(config.home / "ledger.db"))
    schema.upgrade(db)
    return Authority(
        config=config,
        ledger=Ledger(db, assemble),
        reads=Reads(db),
        keyring=FileKeyring(config.home / "keys", None if config.unencrypted_keys else passphrase or no_passphrase, entropy),
        clock=clock,
        entropy=entropy,
        profile=_Profiles(config.home / "profiles"),
        actor=who or actor(),
        owner=ports.owner(entropy),
        lives=ports.lives,
    )


class _Profiles:
    """Profiles by name: the home's own before the built-in ones, each read again only when its file is another one: a service lives long."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._read: dict[str, tuple[object, Profile]] = {}

    def __call__(self, name: str) -> Profile:
        stamp = self._stamp(name)
        held = self._read.get(name)
        if held is None or held[0] != stamp:
            held = self._read[name] = (stamp, profiles.find(name, Path(self._folder)))
        return held[1]

    def _stamp(self, name: str) -> object:
        try:
            stat = os.stat(f"{self._folder}/{name}.toml")
        except (OSError, ValueError):
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


def no_passphrase() -> bytes:
    """Stands where nobody can be asked. Raises Misconfigured with the ways to give one."""
    raise Misconfigured(
        "no-passphrase",
        "the keys need a passphrase and nothing gives it",
        hint="--passphrase-file FILE, GATEKEY_PASSPHRASE_FILE, a systemd credential called gatekey-passphrase, or passphrase-file in gatekey.toml",
    )


def passphrase_from(path: Path) -> bytes:
    """The first line of a passphrase file. Raises NotFound, or Misconfigured when others may read it or it is empty."""
    data = files.read(path, 64 * 1024)
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        # A credential is root's with an ACL for us, whose mask stands where the group's rights do (systemd 254, r--r-----+); others cannot enter its folder.
        if mode & 0o077 and path.is_file() and str(path.parent) != os.environ.get("CREDENTIALS_DIRECTORY"):
            raise Misconfigured("passphrase-exposed", f"others may read the passphrase file {path}", hint=f"chmod 600 {path}", path=str(path))
    first = data.split(b"\n", 1)[0].rstrip(b"\r")
    if not first:
        raise Misconfigured("passphrase-empty", f"the first line of {path} is empty", hint="write the passphrase there", path=str(path))
    return first


def passphrase_in(path: Path) -> Passphrase:
    """Reads the passphrase of the authority's keys from this file when it is needed. A file that is not there is no missing key: raises Misconfigured."""

    def read() -> bytes:
        try:
            return passphrase_from(path)
        except NotFound as missing:
            hint = "look at --passphrase-file, GATEKEY_PASSPHRASE_FILE or passphrase-file in gatekey.toml, whichever names it"
            raise Misconfigured("no-passphrase", f"there is no passphrase file {path}", hint=hint, path=str(path)) from missing

    return read


def passphrase_file(explicit: Path | None, config_file: Path | None) -> Path | None:
    """Where the passphrase lies: told, GATEKEY_PASSPHRASE_FILE, systemd's credential, the configuration; None when nothing says."""
    if explicit:
        return explicit
    if named := os.environ.get("GATEKEY_PASSPHRASE_FILE"):
        return Path(named)
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / "gatekey-passphrase"
    return credential if credential.is_file() else config_file


def change_passphrase(authority: Authority, new: bytes) -> list[str]:
    """Encrypts all keys here with another passphrase and answers with their names: all of them or none. Raises Misconfigured when the old one is wrong."""
    keyring, config = authority.keyring, authority.config
    if not isinstance(keyring, FileKeyring):
        raise Misconfigured("no-passphrase", "these keys have no passphrase of ours", hint="change it where the keys live")
    if config.unencrypted_keys:  # before the keys: a plain key still opens under a configuration that speaks of a passphrase, not the other way round
        files.replace(config.home / "gatekey.toml", configuration.write(config._replace(unencrypted_keys=False)), files.PRIVATE)
    changed = keyring.change_passphrase(new, by=authority.actor)
    _note_changes(authority)
    return changed


def _note_changes(authority: Authority) -> None:
    """One event for each change of the passphrase: also for one that was interrupted once it held."""
    keyring = authority.keyring
    if isinstance(keyring, FileKeyring):
        for change, by in keyring.changes():
            from .authority import ceremony

            ceremony.note(authority, "passphrase.change", "keys", actor=by, once=change)
            keyring.noted(change)


def create_authority(
    home: Path,
    founding: Founding,
    *,
    passphrase: Passphrase | None = None,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    who: str = "",
    say: Say = silent,
) -> Authority:
    """Makes an authority in `home`: keys, ledger, CAs, first CRLs, configuration. All of it appears at once, or nothing does.

    `say` hears what lint has to tell of the new CAs that is no reason to refuse.

    A crash leaves a folder `.gatekey-init-...` that is not an authority; the next init takes it away, or brings it to its end if only names were missing.
    Raises Conflict when something lives there already, Misconfigured when the place cannot be written, Refused when policy says no.
    """
    import shutil

    from .authority import ceremony

    ceremony.refuse_words(founding.name, founding.url, founding.domains, founding.ips, flat=founding.flat)
    refuse_taken(home)
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    staging = _staging(home, entropy)
    with _sole(home if staging.parent == home else staging) as sole:
        try:
            if sole is False:
                raise Conflict("home-busy", f"another process is making an authority in {home}", hint="wait for it, or say another place with --home")
            if staging.parent == home:
                refuse_taken(home)  # again: only now nobody else can come in between
            _build(staging, founding, passphrase, clock, entropy, who, say)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _settle(staging, home)
    return open_authority(home, passphrase=passphrase, clock=clock, entropy=entropy, who=who)


def _build(staging: Path, founding: Founding, passphrase: Passphrase | None, clock: Clock, entropy: Entropy, who: str, say: Say) -> None:
    """Everything that a home holds; the configuration last, so that a folder with one is complete."""
    from .authority import ceremony

    config = Config(staging, founding.name, founding.url, None, founding.passphrase_file, founding.unencrypted_keys)
    for folder in ("keys", "authorities", "profiles"):
        files.folder(staging / folder)
    db = Database(SQLite(staging / "ledger.db"))
    schema.create(db)
    authority = _compose(config, passphrase, clock, entropy, who, db)
    try:
        FileKeyring(staging, None, entropy).make("audit", "ed25519")
        (staging / ".lock").unlink(missing_ok=True)
        for name, text in _found(authority, founding, say).items():
            files.create(staging / "authorities" / name, text)
        if founding.unencrypted_keys:
            ceremony.note(authority, "keys.unencrypted", "keys")
    finally:
        authority.close()
    files.create(staging / "gatekey.toml", configuration.write(config), files.PRIVATE)


def _found(authority: Authority, founding: Founding, say: Say) -> dict[str, bytes]:
    """Makes the CAs, or what a root elsewhere needs to make them; answers with the files for `authorities/`."""
    from .authority import ceremony, corporate
    from .x509 import pem

    constraints = constraints_for(founding.domains, founding.ips)
    if founding.root_elsewhere:
        made = corporate.make_requests(authority, founding.key_type)
        return {f"{name}.csr": pem.encode("CERTIFICATE REQUEST", der) for name, der in made.items()}
    if founding.root:
        corporate.adopt(authority, *founding.root, key_type=founding.key_type, constraints=constraints, say=say)
    else:
        ceremony.found(authority, flat=founding.flat, key_type=founding.key_type, days=founding.days, constraints=constraints, say=say)
    return {f"{record.name}.crt": pem.encode("CERTIFICATE", authority.issuing(record.name).certificate.der) for record in authority.records()}


def refuse_taken(home: Path) -> None:
    """Refuses a place where an authority or anything else lives; what a killed init left there is out of the way first. Raises Conflict."""
    try:
        _after_killed_init(home)
        if (home / "gatekey.toml").exists() or (home / "ledger.db").exists():
            raise Conflict("home-exists", f"an authority lives in {home} already; it was not touched", hint="say another place with --home", path=str(home))
        if home.exists() and any(entry.name != "lost+found" and not entry.name.startswith(_BUILDING) for entry in home.iterdir()):
            raise Conflict("home-not-empty", f"{home} is not empty", hint="say an empty or new folder with --home", path=str(home))
    except OSError as error:
        raise files.explain(error, home) from error


def _after_killed_init(home: Path) -> None:
    """Folders of an init that was killed: one inside the home that is complete is brought to its end; any other was never an authority and goes."""
    import shutil

    for place in (home.parent, home):
        for staging in sorted(place.glob(f"{_BUILDING}*")):
            with contextlib.suppress(FileNotFoundError):  # its init has come to an end at this moment
                if staging.is_symlink() or staging.stat().st_uid != os.geteuid():
                    continue
                with _sole(home if place == home else staging) as sole:
                    if sole and place == home and (staging / "gatekey.toml").exists():
                        _settle(staging, home)
                    elif sole and (staging / "keys").exists():  # without keys it may have been made this instant and not be held yet
                        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _sole(folder: Path) -> Iterator[bool | None]:
    """Holds a folder while this runs: True; False when another process holds it; None where the file system has no such locks."""
    import fcntl

    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        held: bool | None = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = False
        except OSError:
            held = None
        yield held
    finally:
        os.close(handle)


def _staging(home: Path, entropy: Entropy) -> Path:
    """A folder to build in: beside the home, so that one rename brings it there; inside it where the parent cannot be written (a service's state folder)."""
    name = f"{_BUILDING}{entropy.bytes(4).hex()}"
    try:
        files.folders(home.parent)
        beside = home.parent / name
        os.mkdir(beside, 0o700)
        # A folder in which we stand stays: whoever typed this would be left in one that is gone.
        if not home.exists() or (not os.path.ismount(home) and home.stat().st_uid == os.geteuid() and not os.path.samefile(home, os.curdir)):
            return beside
        os.rmdir(beside)
    except OSError as error:
        if not home.is_dir() or error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise files.explain(error, home) from error
    files.folder(home / name)
    return home / name


def _settle(staging: Path, home: Path) -> None:
    """Brings what was built to its place, durably: by one rename, or inside the home name by name, the configuration last. May be done again."""
    import shutil

    try:
        if staging.parent == home:
            for entry in sorted(staging.iterdir(), key=lambda entry: entry.name == "gatekey.toml"):
                if entry.name == "gatekey.toml":
                    files.sync_folder(home)
                os.rename(entry, home / entry.name)
            os.rmdir(staging)
            os.chmod(home, 0o700)
            files.sync_folder(home)
        else:
            os.rename(staging, home)
            files.sync_folder(home.parent)
    except OSError as error:
        if staging.parent != home:
            shutil.rmtree(staging, ignore_errors=True)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            message = f"another process has made something in {home} meanwhile; it was not touched"
            raise Conflict("home-exists", message, hint="say another place with --home", path=str(home)) from error
        raise files.explain(error, home) from error


def service(home: Path, *, passphrase: Passphrase | None = None) -> int:
    """Runs the service of this home until it is told to end; answers with an exit code. Needs the extra `serve`.

    The supervisor opens sockets and asks for the passphrase once; each worker composes everything else for itself (`_house`). What no worker could
    start with is refused before there is one. Raises Misconfigured.
    """
    _need_serve()
    from .web import addresses, limits, logs, metrics, seats, supervisor

    config = _tried(home)
    known = _ask_once(passphrase)
    _try_keys(config, known)
    log = logs.Log(config.text("service.log", "info"))
    sockets = _sockets(config)
    secret = SystemEntropy().bytes(16)
    places = supervisor.places_for(_workers(config))
    counted = limits.shared_memory(limits.Limits.size)
    metered = limits.shared_memory(metrics.AREA * places)
    seated = limits.shared_memory(seats.Seats.size(places))

    def work(place: int, life: int, ready: Callable[[], None]) -> int:
        from .web import worker

        said = configuration.load(home)  # again: a reload reads what was changed since
        shared = _Shared(counted, secret, metered, seated, place, places)
        speaking, house = _house(said, known, shared, logs.Log(said.text("service.log", "info")), _secure(sockets))
        return worker.work(house, sockets, speaking, life, ready)

    def wanted() -> supervisor.Wanted:
        said = _tried(home)
        if found := addresses.unserved(said, [supervisor.address(sock) for sock in sockets.get("public", ())]):
            log.warning("url-not-served", **found)
        return supervisor.Wanted(_workers(said), addresses.fixed(said))

    listen = [f"{name} {supervisor.address(sock)}" for name, opened in sockets.items() for sock in opened]
    return supervisor.Supervisor(wanted, places, work, log, listen).run()


def _workers(config: Config) -> int:
    return config.number("service.workers", 2)


class _Shared(NamedTuple):
    """What workers have together: memory for limits, counters and the number of connections, and a worker's place in it."""

    counted: mmap.mmap
    secret: bytes
    metered: mmap.mmap
    seated: mmap.mmap
    place: int
    places: int


def _need_serve() -> None:
    """Raises Misconfigured when a package of the extra is missing."""
    from importlib.util import find_spec

    missing = [name for name in ("uvicorn", "httptools", "prometheus_client", "structlog") if find_spec(name) is None]
    if missing:
        message = f"the service needs packages that are not installed: {', '.join(missing)}"
        raise Misconfigured("no-extra", message, hint="pip install '.[serve]' in the checkout of Gatekey")


def _ask_once(passphrase: Passphrase | None) -> Passphrase | None:
    """The passphrase is asked for at the first need and kept for the workers, which are forked from this process."""
    if passphrase is None:
        return None
    told: list[bytes] = []

    def ask() -> bytes:
        if not told:
            told.append(passphrase())
        return told[0]

    return ask


def _try_keys(config: Config, passphrase: Passphrase | None) -> None:
    """A wrong passphrase is found out before anything listens. Raises Misconfigured."""
    authority = open_authority(config, passphrase=passphrase)
    try:
        for record in authority.records():
            if record.role != "root" and authority.has_key(record.name):
                authority.signer(record.name)
    finally:
        authority.close()


def _tried(home: Path) -> Config:
    """The configuration, tried out: what a worker would stumble over is said in words, before there is one. Raises Misconfigured with all of it at once."""
    config = configuration.load(home)
    if found := _mistakes(config):
        message, hint = ("; ".join(dict.fromkeys(words)) for words in ([one.message for one in found], [one.hint for one in found if one.hint]))
        raise Misconfigured(found[0].code, message, hint=hint)
    return config


def _mistakes(config: Config) -> list[GatekeyError]:
    """What would keep a service from starting with this configuration, found by making what a worker makes. Nothing is listened on, and nobody is called."""
    from .protocols import behind
    from .web import tls

    found = []
    for part in (
        lambda: behind.networks(config.words("private.behind-proxy")),
        lambda: _mode(config.text("proxy.mode", "0660")),
        lambda: _need_unix(config.listens.get("proxy", "unix:").startswith("unix:")),
        lambda: _certificate_files(config, [tls.Tls()]),
        lambda: _mailer(config),
        lambda: _webhook(config),
    ):
        try:
            part()
        except GatekeyError as problem:
            found.append(problem)
    return found


def configured(home: Path, state: str = "fail") -> Finding:
    """The check `config`: whether a service would start with the configuration that lies there now. `state`: how bad it is when it would not."""
    from .authority.health import Finding, worst

    try:
        found = _mistakes(configuration.load(home))
    except Misconfigured as problem:
        found = [problem]
    return worst([Finding(state, one.message, one.hint) for one in found])


def _sockets(config: Config) -> dict[str, list[socket.socket]]:
    """One listener for each address that the configuration or systemd gives. Raises Misconfigured."""
    import socket

    from .web import supervisor

    found = supervisor.inherited()
    for name, listen in config.listens.items():
        if name not in found:
            mode = _mode(config.text("proxy.mode", "0660")) if name == "proxy" else 0o660
            found[name] = [supervisor.bind(listen, mode)]
    if not found:
        raise Misconfigured("listen", "no listener has an address", hint='[public] listen = "127.0.0.1:8080" in gatekey.toml')
    _need_unix(all(sock.family == socket.AF_UNIX for sock in found.get("proxy", ())))
    return found


def _need_unix(unix: bool) -> None:
    """Raises Misconfigured when web servers would ask at something else than a Unix socket."""
    if not unix:
        message = "proxy.listen is no Unix socket; whoever reaches it speaks for a web server"
        raise Misconfigured("listen", message, hint='listen = "unix:/run/gatekey/proxy.sock"')


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise Misconfigured("listen", f"proxy.mode {text!r} is no mode in octal", hint='mode = "0660"')
    return mode


def _house(
    config: Config, passphrase: Passphrase | None, shared: _Shared, log: Log, secure: tuple[str, ...] = ("private",)
) -> tuple[dict[str, tls.Tls], House]:
    """Everything that one worker needs: its house, and a TLS context for each listener that speaks TLS (`secure`)."""
    from .authority import access, own, seen
    from .authority.ocsp import Responders
    from .authority.reconcile import reconcile
    from .authority.republish import Republisher
    from .authority.standing import Standing
    from .jobs.ticker import Ticker
    from .keys import material
    from .protocols.api.gate import Gate
    from .protocols.behind import Behind
    from .protocols.decision import Door
    from .protocols.ocsp import Ocsp
    from .protocols.published import Published
    from .web import house as houses
    from .web import tls
    from .web.agents import Agents
    from .web.api import Clerk
    from .web.gauges import Gauges
    from .web.limits import Limits
    from .web.metrics import Meter
    from .web.seats import Seats
    from .x509.names import rfc2253

    authority = open_authority(config, passphrase=passphrase, who=SERVICE)
    reconcile(authority)
    republisher = Republisher(authority, authority.lives)
    authority.republish = republisher.at_once

    def issuers() -> dict[str, str]:
        authority.look()
        return {rfc2253(authority.issuing(record.name).certificate.subject): record.name for record in authority.side("people")}

    standing = Standing(authority.reads, authority.clock, issuers(), config.sites, look=issuers)
    published = Published(authority, every=10)
    responders = Responders(authority, material.make)
    meter = Meter(shared.metered, shared.place, shared.places)
    log.counts = meter.counts
    sights = seen.Seen(authority)
    is_proxy = access.Proxies(authority, lambda: standing.event)
    health = _health(config, authority, log)
    gauges = Gauges(authority, health)
    meter.levels = gauges.levels
    helpers = Agents(authority, standing, log)
    clerk = Clerk(Gate(authority, material.make, outside(), functools.partial(_tell_fault, log), log.refusal))
    house = houses.House(
        authority=authority,
        standing=standing,
        published=published,
        ocsp=Ocsp(authority, responders, lambda: houses.fresh(standing, authority), meter.counts),
        decision=Door(standing, is_proxy, sights.note, meter.counts, _telling_no(log, authority)),
        health=health,
        meter=meter,
        limits=Limits(shared.counted, shared.secret, config.number("limits.requests-per-second", 200), 1024 * config.number("limits.body-kib", 256)),
        seats=Seats(shared.seated, shared.place, shared.places),
        log=log,
        public_metrics=config.flag("public.metrics"),
        behind=Behind(authority, proxies, is_proxy) if (proxies := config.words("private.behind-proxy")) else None,
        agents=helpers,
        api=clerk,
    )
    house.changed += [published.refresh, house.ocsp.follow, helpers.follow, sights.follow]
    house.leaving += [helpers.end, clerk.leave, house.seats.close]
    house.seconds.append(responders.renew)
    house.tenths += [log.write_waiting, republisher.look]
    health.add("ocsp", responders.check)
    health.add("view", lambda: houses.view(house), every=0)
    speaking = {name: tls.Tls() for name in secure}
    if "private" in speaking:
        house.changed.append(tls.People(lambda: _people(authority), speaking["private"]).follow)
    if speaking:
        hosts = config.words("service.hosts")
        shown = list(speaking.values())
        certificate = _certificate_files(config, shown) or tls.Own(
            lambda: own.server_certificate(authority, hosts, lambda: material.make("p256")), authority.now, shown
        )
        house.seconds.append(certificate.look)
        health.add("certificate", certificate.check)
    house.seconds += [health.run, gauges.look, meter.write, sights.look]
    # What was counted since the last second, too: a counter that falls is read as a restart.
    house.endings += [clerk.end, log.write_waiting, sights.write, meter.end]
    ticker = Ticker(authority, _jobs(config))
    house.jobs.append(lambda: _tell_jobs(log, meter.counts, ticker.tick()))
    return speaking, house


def _health(config: Config, authority: Authority, log: Log) -> Health:
    """The checks that `gatekey doctor` makes as well."""
    from .authority import health as checks
    from .web.health import Health

    health = Health(lambda name, fault: log.failure("check-failed", fault, check=name))
    for name, check in checks.CHECKS.items():
        health.add(name, functools.partial(check, authority), every=1 if name in ("crl", "publish") else 10)
    # A warning: this worker goes on with what it has read, while the next one would not come up.
    health.add("config", lambda: configured(config.home, checks.WARN), every=10)
    return health


def outside(resolve: Callable[[str, float], tuple[str, ...]] | None = None) -> Outside:
    """The web server's side for the API: its configurations, and knocking at addresses that the guard allows.

    `resolve`: the addresses of a host, within so many seconds; DNS without it.
    """
    from .outgoing import guard
    from .protocols.api.asking import Outside
    from .webserver import check, door, writers

    def configure(server: str, said: Mapping[str, Any], running: str) -> dict[str, Any]:
        return writers.as_dict(writers.configuration(server, writers.site(said), running))

    def checks() -> list[dict[str, Any]]:
        return [{"number": one.number, "name": one.name, "title": one.title} for one in check.CHECKS]

    def place(said: Mapping[str, Any]) -> tuple[str, int]:
        check.chosen(said.get("only", ()), said.get("skip", ()))
        target = check.asked_target(said)
        return target.host, target.port

    def addresses(host: str, networks: Sequence[str]) -> tuple[str, ...]:
        found = (resolve or door.resolve)(host, guard.PATIENCE)
        guard.refuse(host, found, networks)
        if not found:
            raise Unavailable("site-unreachable", f"the name {host} has no address", hint="check the name, and the DNS of the service's machine")
        return found

    return Outside(configure, checks, place, addresses, _knock, configured)


def _knock(asked: Knocking) -> dict[str, Any]:
    from .webserver import check

    four, six = (next((one for one in asked.addresses if (":" in one) is wanted), "") for wanted in (False, True))
    report = check.run(
        check.asked_target(asked.said)._replace(address=four or six, address6=six, pinned=True, roots=asked.roots),
        identities(asked.probes, canary=asked.revoke is not None) if asked.probes else check.Identities(),
        only=asked.said.get("only", ()),
        skip=asked.said.get("skip", ()),
        now=asked.now,
        entropy=asked.entropy,
        revoke=asked.revoke,
        bundle=asked.bundle,
        seconds=asked.seconds,
    )
    return report.as_json()


def identities(made: Probes, *, canary: bool) -> Identities:
    """Test identities as a check wants them. `canary`: with the one that it may have revoked."""
    from .webserver.check import Identities, Identity

    def identity(one: Probe, label: str) -> Identity:
        return Identity(one.chain, one.key, label)

    return Identities(
        good=identity(made.good, "a good certificate"),
        expired=identity(made.expired, "an expired certificate"),
        server=identity(made.server, "a web server's certificate"),
        wrong_usage=identity(made.wrong_usage, "a certificate of the people's authority that is for servers"),
        canary=identity(made.canary, "a certificate that is about to be revoked") if canary else None,
    )


def _tell_fault(log: Log, fault: BaseException, call: Call) -> None:
    log.failure("internal", fault, id=call.id, listener=call.listener, path=call.path)


def _telling_no(log: Log, authority: Authority) -> Refusals:
    """Who tells the log of those who were not let in. What `unknown` means the ledger knows: asked in another thread, long after the answer."""
    from .authority import lookup
    from .model.standing import UNKNOWN

    def tell(call: Call, why: str, question: Question | None) -> None:
        facts = {"id": call.id, "listener": call.listener, "why": why, "address": call.peer.address}
        if question is not None:
            facts |= {"issuer": question.issuer, "serial": question.serial, "site": question.site}
        if question is not None and why == UNKNOWN:
            log.later("not-let-in", functools.partial(lookup.of_stranger, authority, question.issuer, question.serial, question.fingerprint), **facts)
        else:
            log.warning("not-let-in", **facts)

    return tell


def _jobs(config: Config) -> tuple[Job, ...]:
    """What comes round by itself. Raises Misconfigured when mail or webhook are half configured."""
    from .jobs import reminders, tasks
    from .jobs.ticker import Job

    mailer, events = _mailer(config), _webhook(config)
    days = tuple(sorted((int(day) for day in config.words("reminders.days", ("30", "14", "3"))), reverse=True))
    jobs = [Job("crl-refresh", HOUR, tasks.refresh_crls), Job("clean-up", HOUR, tasks.close_drafts)]
    if mailer or events:
        to = config.text("mail.administrator")
        jobs.append(Job("reminders", HOUR, lambda authority: reminders.remind(authority, mailer, events, days, to)))
    return tuple(jobs)


def _mailer(config: Config) -> Smtp | None:
    from .outgoing.mail import Server, Smtp

    where = config.text("mail.server")
    if not where and not _half(config, "mail.server"):
        return None
    host, _, port = where.rpartition(":")
    security, sender = config.text("mail.security", "starttls"), config.text("mail.from")
    if not host or not port.isdigit() or security not in ("starttls", "tls", "none") or not sender:
        raise Misconfigured(
            "mail-config",
            "mail needs a server as HOST:PORT, a sender, and starttls, tls or none as security",
            hint='[mail] server = "post.example:587", from = "ca@example.com", security = "starttls"; server = "" switches it off',
        )
    password = _secret(config, "mail.password-file").decode("utf-8", "replace")
    return Smtp(Server(host, int(port), sender, security, config.text("mail.user"), password))


def _webhook(config: Config) -> Webhook | None:
    from .outgoing.webhook import Webhook

    url = config.text("webhook.url")
    if not url and not _half(config, "webhook.url"):
        return None
    secret = _secret(config, "webhook.secret-file")
    if not url or not secret:
        why = "the webhook needs both webhook.url and webhook.secret-file"
        raise Misconfigured("webhook-config", why, hint='the receiver knows by the signature who speaks; url = "" switches it off')
    return Webhook(url, secret)


def _half(config: Config, key: str) -> bool:
    """Whether the rest of a table stands there without this key, which switches the whole of it on; an empty text there switches it off on purpose."""
    table = key.partition(".")[0]
    return key not in config.values and any(one.startswith(f"{table}.") for one in config.values)


def _secret(config: Config, key: str) -> bytes:
    """The first line of the file that this key names; empty where it names none. Raises Misconfigured."""
    file = config.path(key)
    try:
        return passphrase_from(file) if file else b""
    except GatekeyError as problem:
        raise Misconfigured(problem.code, f"{key}: {problem.message}", hint=problem.hint) from problem


def _tell_jobs(log: Log, counts: Counter[tuple[str, ...]], done: list[Ran]) -> None:
    for ran in done:
        counts["gatekey_job_runs", ran.name, "failed" if ran.fault else "done"] += 1
        if ran.fault is not None:
            log.failure("job-failed", ran.fault, job=ran.name)
        else:
            log.info("job-done", job=ran.name, message=ran.said)


def _people(authority: Authority) -> bytes:
    """The authorities whose certificates the private listener asks for, in PEM."""
    from .x509 import pem

    return b"".join(pem.encode("CERTIFICATE", authority.issuing(record.name).certificate.der) for record in authority.side("people"))


def _secure(sockets: Mapping[str, list[socket.socket]]) -> tuple[str, ...]:
    """Who speaks TLS: enrol and private, unless they are Unix sockets.

    The open sockets say it, not gatekey.toml: systemd's need not stand there, and after a reload it may name others. Who is left out speaks in the clear.
    """
    import socket

    return tuple(name for name in ("enrol", "private") if any(one.family != socket.AF_UNIX for one in sockets.get(name, ())))


def _certificate_files(config: Config, listeners: list[tls.Tls]) -> tls.Files | None:
    """The operator's certificate for these listeners; None where the configuration names none. Raises Misconfigured."""
    from .web import tls

    certificate, key = config.path("service.certificate"), config.path("service.key")
    if bool(certificate) != bool(key):
        raise Misconfigured("service-certificate", "only one of service.certificate and service.key is set", hint="set both, or none")
    return tls.Files(certificate, key, listeners) if certificate and key else None
