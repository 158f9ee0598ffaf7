"""Checks of what reaches the app: identity headers that a visitor made up, and WebSockets."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from ..model import headers
from .answer import ANSWERED
from .checks_people import WITH_CLIENT
from .checks_places import PATHS
from .door import Door, worst
from .report import OPEN, PASS, UNSURE, Finding

#: Headers that apps take for an identity, and one that some servers take for another's look-alike.
SPOOFED = (
    headers.USER,
    "X_Client_User",
    headers.GROUPS,
    "X-SSL-Client-Verify",
    "X-WEBAUTH-USER",
    "Remote-User",
    "X-Forwarded-User",
    headers.CLIENT_CERT,
    "X-Forwarded-Client-Cert",
)


def _spoof(door: Door, names: tuple[str, ...] = SPOOFED) -> dict[str, str]:
    """Header -> a value that can have come from nowhere else."""
    return {name: f"gkspoof{index}x{door.entropy.bytes(5).hex()}" for index, name in enumerate(names)}


def header_spoofing(door: Door) -> Finding:
    """Check 22: identity headers that a visitor brings do not reach the app."""
    if door.good() is None:
        return Finding(UNSURE, "headers are tried with a certificate that is let in, and there is none", hint=WITH_CLIENT)
    people = door.people
    own = people[0].common_name.encode() if people else b""
    told = False
    findings: list[Finding] = []
    for path in dict.fromkeys((door.target.whoami or door.target.path, door.target.path, *PATHS, *door.target.paths)):
        plain = door.good(path)
        if plain is None or plain.kind != ANSWERED or plain.status >= 300:
            continue
        told = told or (bool(own) and own in plain.body)
        findings += _spoofed_at(door, path, SPOOFED, singly=not findings)
    if not any(finding.verdict == OPEN for finding in findings) and not told:
        return Finding(UNSURE, "no page says who is there, so a false name could not be seen", hint="name a page that does with --whoami PATH")
    return worst(findings)


def _spoofed_at(door: Door, path: str, names: tuple[str, ...], *, singly: bool) -> Iterator[Finding]:
    """All at once; where that is refused, and `singly`, one after the other, so that one refused header does not hide the next."""
    values = _spoof(door, names)
    what = door.try_(door.identities.good, path=path, headers=tuple(values.items()))
    answer = door.knock(what)
    arrived = [name for name, value in values.items() if value.encode() in answer.body or any(value in text for _, text in answer.headers)]
    shown = what._replace(headers=()).words
    if arrived:
        said = f"{path}: {', '.join(arrived)} from the visitor came through to the app"
        yield Finding(OPEN, said, f"{shown}, {', '.join(f'{name}: {values[name]}' for name in arrived)}", answer.face)
    elif answer.kind == ANSWERED and answer.status >= 400 and singly:
        for name in names:
            yield from _spoofed_at(door, path, (name,), singly=False)
    else:
        yield Finding(PASS, f"{path}: no made-up header came through", f"{shown}, {', '.join(names)}", answer.face)


def spoofing_without_certificate(door: Door) -> Finding:
    """Check 23: nor do they stand for a certificate."""
    values = {**_spoof(door), headers.VERIFY: "SUCCESS", "X-SSL-Client-Verify": "SUCCESS"}
    what = door.try_(headers=tuple(values.items()))
    return door.must_refuse(what)._replace(request=f"{door.try_().words}, with {', '.join(values)}")


def upgrade(door: Door) -> tuple[tuple[str, str], ...]:
    """The headers that ask for a WebSocket (RFC 6455 4.1)."""
    key = base64.b64encode(door.entropy.bytes(16)).decode()
    return (
        ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key),
        ("Origin", f"https://{door.host()}"),
    )  # fmt: skip


def websocket_refused(door: Door) -> Finding:
    """The first half of 21: without a certificate there is no WebSocket."""
    paths = dict.fromkeys((door.target.websocket, door.target.path))
    tries = [door.try_(path=path, headers=upgrade(door)) for path in paths]
    return worst(door.must_refuse(what, answer) for what, answer in zip(tries, door.many(tries), strict=True))
