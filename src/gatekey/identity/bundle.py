"""Files of the bundle folder as an app reads them: people.json and the deny list, each read again when it was replaced.

A file that goes away or cannot be read keeps its last good state: an app does not forget who was revoked because a folder was unmounted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ..errors import Malformed, Misconfigured

if TYPE_CHECKING:
    import threading

T = TypeVar("T")

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class Person(NamedTuple):
    """One live certificate of people.json and whose it is. `not_after` in POSIX seconds."""

    issuer_dn: str
    serial: str
    fingerprint: str
    login: str
    name: str
    email: str
    groups: tuple[str, ...]
    device: str
    not_after: int


class People:
    """Who is who, by fingerprint or by issuer and serial."""

    def __init__(self, everybody: list[Person]) -> None:
        self._by_fingerprint = {person.fingerprint: person for person in everybody}
        self._by_number = {(person.issuer_dn, person.serial): person for person in everybody}

    def __len__(self) -> int:
        return len(self._by_number)

    def by_fingerprint(self, fingerprint: str) -> Person | None:
        return self._by_fingerprint.get(fingerprint)

    def by_number(self, issuer_dn: str, serial: str) -> Person | None:
        return self._by_number.get((issuer_dn, serial))


class Denied:
    """The certificates that were taken back, out of revoked.lst: one key per line, made of serial and issuer."""

    def __init__(self, keys: frozenset[str]) -> None:
        self._keys = keys
        self._serials: frozenset[str] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, number: tuple[str, str]) -> bool:
        """Whether the certificate (issuer DN, serial) is denied. Where the web server does not say the issuer, the serial counts under any."""
        issuer_dn, serial = number
        if issuer_dn or not self._keys:
            return bool(self._keys) and denied_key(issuer_dn, serial) in self._keys
        if self._serials is None:
            self._serials = frozenset(key.partition("%20")[0] for key in self._keys)
        return _printed(serial) in self._serials


def denied_key(issuer_dn: str, serial: str) -> str:
    """How revoked.lst writes a certificate; the same as gatekey.model.bundle.haproxy_key."""
    return f"{_printed(serial)}%20{_escaped(issuer_dn)}"


def _printed(serial: str) -> str:
    """As OpenSSL-based servers print a serial: upper-case hex, two digits per byte, no leading zero bytes."""
    if len(serial) == 32 and serial[:2] != "00":
        return serial.upper()
    bare = serial.upper().lstrip("0")
    return bare.zfill(len(bare) + len(bare) % 2) or "00"


@lru_cache(maxsize=64)
def _escaped(issuer_dn: str) -> str:
    return "".join(char if char in _PLAIN else "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace")) for char in issuer_dn)


def read_people(data: bytes) -> People:
    """people.json, version 1. Raises Malformed("identity-bundle") for anything else."""
    import json

    try:
        text = json.loads(data)
        if text["version"] != 1:
            raise Malformed("identity-bundle", f"people.json has version {text['version']!r}; this Gatekey reads version 1")
        return People([_person(entry) for entry in text["people"]])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as problem:
        raise Malformed("identity-bundle", f"people.json is not a list of people: {type(problem).__name__} {problem}"[:200]) from None


def read_denied(data: bytes) -> Denied:
    """revoked.lst: lines of keys, and comments. Raises Malformed("identity-bundle") for a line that is no key."""
    keys = frozenset(_lines("revoked.lst", data))
    for key in keys:
        if "%20" not in key:
            raise Malformed("identity-bundle", f"revoked.lst has the line {key[:60]!r}, which is not a serial and an issuer")
    return Denied(keys)


class Issuers:
    """The authorities that sign people and devices, out of issuers.lst."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def __contains__(self, issuer_dn: str) -> bool:
        return _escaped(issuer_dn) in self._names


def read_issuers(data: bytes) -> Issuers:
    """issuers.lst: lines of names, and comments. Raises Malformed("identity-bundle") if there is no name in it: that would shut out everybody."""
    names = frozenset(_lines("issuers.lst", data))
    if not names:
        raise Malformed("identity-bundle", "issuers.lst names nobody")
    return Issuers(names)


class Watched(Generic[T]):
    """A file and what was read of it. `value()` looks whether the file was replaced (device, inode, time, size) and reads it again only then.

    A big file is read by a thread, and its old state counts until that is done (about a second for 100,000 people): no event loop stands still for it.
    Raises Misconfigured("identity-bundle") when the file cannot be read at first; later that is only said to `warn`.
    """

    #: From this size on (bytes) a thread reads.
    BIG = 1024 * 1024

    def __init__(self, path: str | os.PathLike[str], read: Callable[[bytes], T], warn: Callable[[str], None]) -> None:
        self.path = os.fspath(path)
        self._read = read
        self._warn = warn
        self._lost = False
        self._reading: threading.Thread | None = None
        try:
            self._load()
        except (OSError, Malformed) as problem:
            raise Misconfigured("identity-bundle", f"{self.path} cannot be read: {_why(problem)}", hint="gatekey bundle --out DIR writes it") from None

    def value(self) -> T:
        """What the file holds now."""
        try:
            found = os.stat(self.path)
        except OSError as problem:
            self._say_gone(problem)
            return self._value
        if self._stamp != (found.st_mtime_ns, found.st_ino, found.st_size, found.st_dev):
            if found.st_size < self.BIG:
                self._reload()
            elif self._reading is None or not self._reading.is_alive():
                import threading

                self._reading = threading.Thread(target=self._reload, name=f"gatekey reads {self.path}", daemon=True)
                self._reading.start()
        return self._value

    def _reload(self) -> None:
        try:
            self._load()
            self._lost = False
        except OSError as problem:
            self._say_gone(problem)
        except Malformed as problem:
            self._warn(f"{self.path} was replaced by something that cannot be read ({problem.message}); its last state stays in force")

    def _say_gone(self, problem: OSError) -> None:
        if not self._lost:
            self._warn(f"{self.path} is gone ({_why(problem)}); its last state stays in force")
        self._lost = True

    def _load(self) -> None:
        with open(self.path, "rb") as file:
            found = os.fstat(file.fileno())
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size, found.st_dev)
            data = file.read()
        try:
            self._value = self._read(data)
        finally:
            self._stamp = stamp  # also of what is broken: it is read once, not at each request


def _lines(file: str, data: bytes) -> list[str]:
    try:
        lines = [line for line in data.decode("ascii").splitlines() if line and line[0] != "#"]
    except UnicodeDecodeError:
        raise Malformed("identity-bundle", f"{file} has bytes beyond ASCII") from None
    for line in lines:
        if " " in line:
            raise Malformed("identity-bundle", f"{file} has the line {line[:60]!r}, which has a space in it")
    return lines


def _person(entry: dict[str, Any]) -> Person:
    texts = [entry[name] for name in ("issuer_dn", "serial", "fingerprint", "login", "name", "email", "device")]
    groups = entry["groups"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise TypeError("a field has the wrong type")
    issuer_dn, serial, fingerprint, login, name, email, device = texts
    return Person(issuer_dn, f"{int(serial, 16):032X}", fingerprint.upper(), login, name, email, tuple(groups), device, _instant(entry["not_after"]))


def _instant(text: str) -> int:
    from datetime import datetime

    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without its zone")
    return int(at.timestamp())


def _why(problem: Exception) -> str:
    return (problem.strerror or "no reason given").lower() if isinstance(problem, OSError) else str(problem)
