"""Files of the bundle folder as an app reads them: people.json and the deny list, each read again when it was replaced.

A file that goes away or cannot be read keeps its last good state: an app does not forget who was revoked because a folder was unmounted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from ..errors import Malformed, Misconfigured

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
    try:
        text = json.loads(data)
        if text["version"] != 1:
            raise Malformed("identity-bundle", f"people.json has version {text['version']!r}; this Gatekey reads version 1")
        return People([_person(entry) for entry in text["people"]])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as problem:
        raise Malformed("identity-bundle", f"people.json is not a list of people: {type(problem).__name__} {problem}"[:200]) from None


def read_denied(data: bytes) -> Denied:
    """revoked.lst: lines of keys, and comments. Raises Malformed("identity-bundle") for a line that is no key."""
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise Malformed("identity-bundle", "revoked.lst has bytes beyond ASCII") from None
    keys = frozenset(line for line in lines if line and line[0] != "#")
    for key in keys:
        if "%20" not in key or " " in key:
            raise Malformed("identity-bundle", f"revoked.lst has the line {key[:60]!r}, which is not a serial and an issuer")
    return Denied(keys)


class Watched(Generic[T]):
    """A file and what was read of it. `value()` looks whether the file was replaced (device, inode, time, size) and reads it again only then.

    Raises Misconfigured("identity-bundle") when it cannot be read at first; later that is only said to `warn`.
    """

    def __init__(self, path: str | os.PathLike[str], read: Callable[[bytes], T], warn: Callable[[str], None]) -> None:
        self.path = os.fspath(path)
        self._read = read
        self._warn = warn
        self._lost = False
        try:
            self._stamp, self._value = self._load()
        except (OSError, Malformed) as problem:
            raise Misconfigured("identity-bundle", f"{self.path} cannot be read: {_why(problem)}", hint="gatekey bundle --out DIR writes it") from None

    def value(self) -> T:
        """What the file holds now."""
        try:
            found = os.stat(self.path)
            if self._stamp == (found.st_mtime_ns, found.st_ino, found.st_size, found.st_dev):
                return self._value
            self._stamp, self._value = self._load()
            self._lost = False
        except OSError as problem:
            if not self._lost:
                self._warn(f"{self.path} is gone ({_why(problem)}); its last state stays in force")
            self._lost = True
        except Malformed as problem:
            self._warn(f"{self.path} was replaced by something that cannot be read ({problem.message}); its last state stays in force")
        return self._value

    def _load(self) -> tuple[tuple[int, int, int, int], T]:
        with open(self.path, "rb") as file:
            found = os.fstat(file.fileno())
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size, found.st_dev)
            data = file.read()
        try:
            return stamp, self._read(data)
        except Malformed:
            self._stamp = stamp  # what is broken is read once, not at each request
            raise


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
