"""Knocks at a live site from outside and says check by check whether the door is shut, open, or cannot be told.

    report = run(parse_target("https://app.example"), Identities(good=...), now=clock.now(), entropy=entropy)

The checks are those of `check_table`, each one a function over a `Door`. Connections, their number and their time are bounded; nothing but small requests
is ever sent, and what could change something is sent to paths that nobody has.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import GatekeyError, Malformed, Unavailable
from ..model.names import host_problem
from . import checks_app, checks_names, checks_people, checks_places, checks_time, checks_tls
from .check_table import BY_NAME, BY_NUMBER, CHECKS, Check
from .door import Dice, Door, Identities, Target, parse_target, reachable
from .knock import Budget, Identity, check_identity
from .report import OPEN, PASS, SHUT, UNSURE, Finding, Outcome, Report
from .revocation import Revocation, Revoke

__all__ = ["CHECKS", "OPEN", "PASS", "SHUT", "UNSURE", "Check", "Identities", "Identity", "Outcome", "Report", "Target", "chosen", "parse_target", "run"]

#: Bounds of one run. Polling after a revocation takes most of them.
MOST_CONNECTIONS = 500
MOST_SECONDS = 120.0

#: Called before each check with how many are done, how many there are, and the title of the next; at the end with "".
Progress = Callable[[int, int, str], None]

_PLAIN: dict[int, Callable[[Door], Finding]] = {
    1: checks_people.no_certificate,
    2: checks_people.good_certificate,
    3: checks_people.foreign_authority,
    4: checks_people.self_signed,
    5: checks_people.expired,
    9: checks_tls.other_session,
    10: checks_names.other_sni,
    11: checks_names.no_sni,
    12: checks_names.unknown_sni,
    13: checks_names.bare_address,
    14: checks_names.odd_host,
    15: checks_places.plain_http,
    16: checks_places.app_ports,
    17: checks_names.ipv6,
    18: checks_places.other_ports,
    19: checks_places.paths,
    20: checks_places.methods,
    22: checks_app.header_spoofing,
    23: checks_app.spoofing_without_certificate,
    24: checks_people.refusal_page,
    25: checks_tls.authority_names,
    26: checks_tls.server_certificate,
    27: checks_people.server_as_client,
    28: checks_people.wrong_usage,
    29: checks_tls.versions,
    30: checks_tls.per_path,
    31: checks_names.coalescing,
    35: checks_names.origin,
    36: checks_names.cache,
}
_PLAYED: dict[int, Callable[[Door, Revocation], Finding]] = {
    6: checks_time.revoked,
    7: checks_time.revoked_resumed,
    8: checks_time.resumption,
    21: checks_time.websocket,
    33: checks_time.time_to_refusal,
    34: checks_time.keep_alive,
}
#: Waits for a WebSocket to end, so it comes last and the others use that time.
_LAST = 21


def run(
    site: Target,
    identities: Identities,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    progress: Progress | None = None,
    now: int,
    entropy: Dice,
    revoke: Revoke | None = None,
    bundle: Path | None = None,
    seconds: float = MOST_SECONDS,
    reads_crl: bool = False,
) -> Report:
    """All chosen checks of one site. `only` and `skip`: numbers or names. `now`: POSIX seconds. `seconds`: after these no connection is begun.

    `revoke` takes `identities.canary` away and publishes that; `bundle` is the folder that the web server reads. Both may be missing. `reads_crl`: it is known
    that the web server's configuration names the CRLs of that folder.
    Raises Unavailable("site-unreachable", "site-without-tls"), Malformed("unknown-check", "bad-identity").
    """
    checks = chosen(only, skip)
    for identity in identities:
        if identity is not None:
            check_identity(identity)
    began = time.monotonic()  # a span, not a time
    budget = Budget(MOST_CONNECTIONS, seconds, site.patience)
    door = Door(site, identities, budget, entropy, now)
    reachable(door)
    play = Revocation(door, identities.canary, revoke, reads_crl=reads_crl)
    tries = _tries(door, play, bundle)
    found: dict[int, Finding] = {}
    for done, check in enumerate(sorted(checks, key=lambda one: one.number == _LAST)):
        if progress:
            progress(done, len(checks), check.title)
        found[check.number] = _try(tries[check.number])
    if progress:
        progress(len(checks), len(checks), "")
    outcomes = tuple(_outcome(check, found) for check in checks)
    return Report(site.url, door.server, now, time.monotonic() - began, budget.used, outcomes)


def asked_target(said: Mapping[str, Any]) -> Target:
    """The target that somebody else's words describe: `site`, a URL, and paths and names of that very site; never an address or a port of their choice.

    Raises Malformed("bad-url").
    """
    target = parse_target(said["site"])
    paths, allowed = tuple(said.get("paths", ())), tuple(said.get("allow", ()))
    whoami, websocket = str(said.get("whoami") or target.whoami), str(said.get("websocket") or target.websocket)
    for path in (*paths, *allowed, *([whoami] if whoami else ()), websocket):
        if not re.fullmatch(r"/[!-~]*", path):
            raise Malformed("bad-url", f"{path!r} is not a path on the site", hint="begin it with /, and percent-encode what is not ASCII")
    siblings = tuple(said.get("siblings", ()))
    if problem := next((problem for host in siblings if (problem := host_problem(host, wildcard=False))), None):
        raise Malformed("bad-url", f"a sibling cannot be right: {problem}")
    return target._replace(paths=paths, allowed=allowed, whoami=whoami, websocket=websocket, siblings=siblings)


def chosen(only: Iterable[str] = (), skip: Iterable[str] = ()) -> tuple[Check, ...]:
    """The rows that `only` and `skip` leave, in order. Raises Malformed("unknown-check")."""
    wanted, unwanted = {_find(word).number for word in only}, {_find(word).number for word in skip}
    return tuple(check for check in CHECKS if (not wanted or check.number in wanted) and check.number not in unwanted)


def _find(word: str) -> Check:
    check = BY_NUMBER.get(int(word)) if word.isascii() and word.isdecimal() else BY_NAME.get(word)
    if check is None:
        from difflib import get_close_matches

        near = get_close_matches(word, BY_NAME, 1)
        hint = f"did you mean {near[0]}?" if near else f"give a number from 1 to {len(CHECKS)} or a name such as {CHECKS[0].name}"
        raise Malformed("unknown-check", f"there is no check {word!r}", hint=hint)
    return check


def _tries(door: Door, play: Revocation, bundle: Path | None) -> dict[int, Callable[[], Finding]]:
    tries: dict[int, Callable[[], Finding]] = {number: partial(find, door) for number, find in _PLAIN.items()}
    tries |= {number: partial(find, door, play) for number, find in _PLAYED.items()}
    tries[32] = partial(checks_time.crl_freshness, door, bundle)
    return tries


def _try(find: Callable[[], Finding]) -> Finding:
    """One check; a spent budget, or a certificate that cannot be read, is no reason to lose the others."""
    try:
        return find()
    except Unavailable as error:
        return Finding(UNSURE, error.message, hint=error.hint)
    except GatekeyError as error:
        return Finding(UNSURE, f"it could not be tried: {error.message}", hint=error.hint)


def _outcome(check: Check, found: dict[int, Finding]) -> Outcome:
    finding = found[check.number]
    opened = finding.verdict == OPEN
    verdict = SHUT if opened and check.name == "good-certificate" else finding.verdict
    follows = next((number for number in check.after if opened and number in found and found[number].verdict == OPEN), 0)
    hint = finding.hint if finding.verdict == UNSURE else ""
    fixes = (("any", finding.hint),) if finding.hint else tuple(check.fixes.items())
    return Outcome(
        check.number, check.name, check.title, verdict, finding.said, finding.request, finding.answer, hint,
        fixes if opened else (), follows,
    )  # fmt: skip
