"""The composition root: a home folder -> clock, ledger, keys, profiles, authority. Nothing else puts these together."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import config as configuration
from . import files, profiles
from .authority.authority import Authority, constraints_for
from .config import Config
from .errors import Conflict, Misconfigured
from .keys.files import FileKeyring
from .model.profile import Profile
from .ports import Clock, Entropy, Signer, SystemClock, SystemEntropy
from .store import schema
from .store.database import Database
from .store.dialect import SQLite
from .store.ledger import Ledger
from .store.reads import Reads
from .x509.certificate import Certificate, assemble

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
    return _compose(config, passphrase, clock or SystemClock(), entropy or SystemEntropy(), who, database)


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
        owner=f"{os.uname().nodename}:{os.getpid()}:{entropy.bytes(8).hex()}",
    )


class _Profiles:
    """Profiles by name: the home's own before the built-in ones, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Profile] = {}

    def __call__(self, name: str) -> Profile:
        if name not in self._read:
            self._read[name] = profiles.find(name, self._folder)
        return self._read[name]


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
        if mode & 0o077 and path.is_file():
            raise Misconfigured("passphrase-exposed", f"others may read the passphrase file {path}", hint=f"chmod 600 {path}", path=str(path))
    first = data.split(b"\n", 1)[0].rstrip(b"\r")
    if not first:
        raise Misconfigured("passphrase-empty", f"the first line of {path} is empty", hint="write the passphrase there", path=str(path))
    return first


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
    from .authority import ceremony

    keyring, config = authority.keyring, authority.config
    if not isinstance(keyring, FileKeyring):
        raise Misconfigured("no-passphrase", "these keys have no passphrase of ours", hint="change it where the keys live")
    if config.unencrypted_keys:  # before the keys: a plain key still opens under a configuration that speaks of a passphrase, not the other way round
        files.replace(config.home / "gatekey.toml", configuration.write(config._replace(unencrypted_keys=False)), files.PRIVATE)
    changed = keyring.change_passphrase(new)
    ceremony.note(authority, "passphrase.change", "keys")
    return changed


def create_authority(
    home: Path, founding: Founding, *, passphrase: Passphrase | None = None, clock: Clock | None = None, entropy: Entropy | None = None, who: str = ""
) -> Authority:
    """Makes an authority in `home`: keys, ledger, CAs, first CRLs, configuration. All of it appears at once, or nothing does.

    A crash leaves a folder `.gatekey-init-...` that is not an authority; the next init takes it away, or brings it to its end if only names were missing.
    Raises Conflict when something lives there already, Misconfigured when the place cannot be written, Refused when policy says no.
    """
    import shutil

    refuse_taken(home)
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    staging = _staging(home, entropy)
    with _sole(home if staging.parent == home else staging) as sole:
        try:
            if sole is False:
                raise Conflict("home-busy", f"another process is making an authority in {home}", hint="wait for it, or say another place with --home")
            if staging.parent == home:
                refuse_taken(home)  # again: only now nobody else can come in between
            _build(staging, founding, passphrase, clock, entropy, who)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _settle(staging, home)
    return open_authority(home, passphrase=passphrase, clock=clock, entropy=entropy, who=who)


def _build(staging: Path, founding: Founding, passphrase: Passphrase | None, clock: Clock, entropy: Entropy, who: str) -> None:
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
        for name, text in _found(authority, founding).items():
            files.create(staging / "authorities" / name, text)
        if founding.unencrypted_keys:
            ceremony.note(authority, "keys.unencrypted", "keys")
    finally:
        authority.close()
    files.create(staging / "gatekey.toml", configuration.write(config), files.PRIVATE)


def _found(authority: Authority, founding: Founding) -> dict[str, bytes]:
    """Makes the CAs, or what a root elsewhere needs to make them; answers with the files for `authorities/`."""
    from .authority import ceremony, corporate
    from .x509 import pem

    constraints = constraints_for(founding.domains, founding.ips)
    if founding.root_elsewhere:
        made = corporate.make_requests(authority, founding.key_type)
        return {f"{name}.csr": pem.encode("CERTIFICATE REQUEST", der) for name, der in made.items()}
    if founding.root:
        corporate.adopt(authority, *founding.root, key_type=founding.key_type, constraints=constraints)
    else:
        ceremony.found(authority, flat=founding.flat, key_type=founding.key_type, days=founding.days, constraints=constraints)
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
        if not home.exists() or (not os.path.ismount(home) and home.stat().st_uid == os.geteuid()):
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
