"""Is this answer a refusal, and did a byte of the app come with it? Pure: answers in, a verdict with its sentence out.

A refusal has many faces: an alert, a closed connection, 400, 403, 421. What counts is that nothing of the app came through, so answers are compared
with what the good certificate gets for the same request. Without a good certificate only the status can speak, and often has to say "cannot tell".
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import lru_cache
from typing import NamedTuple

from ..model.webservers import SERVERS
from . import page
from .answer import ALERT, ANSWERED, CLOSED, NOT_LISTENING, TIMEOUT, UNREACHABLE, UNREADABLE, Answer
from .report import OPEN, PASS, UNSURE

#: Statuses with which a door refuses: 495 to 497 are nginx's own, 444 closes; 511 and 407 are a gateway's.
DOOR_STATUSES = frozenset({400, 403, 407, 421, 444, 495, 496, 497, 511})
#: Statuses that a server gives before it looks at anybody's certificate: bad syntax, unknown method, too long.
_FOR_EVERYBODY = DOOR_STATUSES | {405, 414, 417, 426, 431, 501, 505}

#: Pages that web servers make themselves, by a mark in the body.
_OWN_PAGES = (
    ("nginx", re.compile(rb"<hr><center>(nginx|openresty)")),
    ("apache", re.compile(rb"<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2\.0//EN\">")),
    ("haproxy", re.compile(rb"\A<html><body><h1>[45]\d\d [A-Za-z' -]+</h1>\n")),
    ("traefik", re.compile(rb"\A(404 page not found|Misdirected Request|Forbidden)\n?\Z")),
)
#: Headers that say nothing about who made an answer.
_ANY_SERVER = frozenset({
    "date", "content-length", "content-type", "connection", "keep-alive", "transfer-encoding", "server", "via", "alt-svc", "strict-transport-security",
})  # fmt: skip


class Ruling(NamedTuple):
    """A verdict on one answer, and why."""

    verdict: str
    said: str


def refusing(answer: Answer, good: Answer | None, usual: Answer | None = None) -> Ruling:
    """Whether a request for the site under its own name was refused.

    `good`: what the good certificate gets for it, None when there is none or it cannot be asked. `usual`: the refusal of a plain GET, if that was one.
    """
    if answer.kind != ANSWERED:
        return _without_http(answer)
    status = answer.status
    if status == 101 or status < 300:
        return Ruling(OPEN, f"answered with {answer.face}")
    if good is not None and status != good.status and same_page(answer, good, 0.9):
        return Ruling(OPEN, f"{answer.face}, but with the page that the good certificate gets")
    alike = good is not None and same_answer(answer, good)
    if status < 400:
        where = answer.header("location") or "nowhere"
        if alike:
            return Ruling(OPEN, f"the same redirect as with the good certificate, to {where}")
        return Ruling(UNSURE, f"a redirect to {where}: it may come from the door or from the app")
    if alike:
        if status in _FOR_EVERYBODY and server_page(answer):
            return Ruling(PASS, f"{answer.face} for everybody, from the web server itself")
        return Ruling(OPEN, f"{answer.face}, as with the good certificate: the door was not asked")
    if status >= 500:
        return _server_trouble(answer, good)
    if usual is not None and same_answer(answer, usual):
        return Ruling(PASS, f"refused with {answer.face}")
    if status in _FOR_EVERYBODY and server_page(answer):
        return Ruling(PASS, f"{answer.face} from the web server itself")
    if status in DOOR_STATUSES and (usual is None or status != 403):
        return Ruling(PASS, f"refused with {answer.face}")
    if good is not None and (usual is None or _without_the_app(answer, good)):
        return Ruling(PASS, f"refused with {answer.face}")
    return Ruling(UNSURE, f"{answer.face}, which is not the usual refusal: it may be the app's own")


def elsewhere(answer: Answer, good: Answer | None, control: Answer | None) -> Ruling:
    """Whether a request that reached the server under another name, address or port brought out the site.

    `control`: the same connection asked for a host that does not exist (or for the other site itself): what stands there by right.
    """
    if answer.kind != ANSWERED:
        return _without_http(answer)
    if good is not None and same_answer(answer, good):
        if answer.status in _FOR_EVERYBODY and server_page(answer):
            return Ruling(PASS, f"{answer.face} for everybody, from the web server itself")
        return Ruling(OPEN, f"the site itself answers: {answer.face}")
    if answer.status >= 400:
        if good is not None and same_page(answer, good, 0.9):
            return Ruling(OPEN, f"{answer.face}, but with the page that the good certificate gets")
        return Ruling(PASS, f"refused with {answer.face}")
    if answer.status >= 300:
        where = answer.header("location")
        return Ruling(PASS, f"only a redirect to {where}") if "://" in where or good is not None else Ruling(UNSURE, f"a redirect to {where or 'nowhere'}")
    if control is not None and control.kind == ANSWERED and same_answer(answer, control):
        if good is not None:
            return Ruling(PASS, "another site answers, the same for any name")
        return Ruling(UNSURE, "something answers, the same for any name; whether it is your site only a good certificate could show")
    return Ruling(OPEN, f"answered with {answer.face} for this site's name")


def _without_http(answer: Answer) -> Ruling:
    if answer.kind in (ALERT, CLOSED):
        return Ruling(PASS, f"refused: {answer.face}")
    if answer.kind == NOT_LISTENING:
        return Ruling(PASS, "nothing listens there")
    if answer.kind in (TIMEOUT, UNREACHABLE):
        return Ruling(UNSURE, answer.face)
    return Ruling(UNSURE if answer.kind == UNREADABLE else PASS, answer.face)


def _server_trouble(answer: Answer, good: Answer | None) -> Ruling:
    if good is None or good.status >= 500:
        return Ruling(UNSURE, f"{answer.face}: the app seems to be down, so nothing is shown by this")
    if answer.status == 503 or server_page(answer):
        return Ruling(PASS, f"{answer.face}, and nothing of the app")
    return Ruling(UNSURE, f"{answer.face}: it may be the app that failed")


def same_answer(one: Answer, other: Answer) -> bool:
    """Whether two answers are the same in all but the details: status, destination and most of the words of the page."""
    if one.kind != ANSWERED or one.status != other.status:
        return False
    if 300 <= one.status < 400:
        return one.header("location").split("?")[0] == other.header("location").split("?")[0]
    if not one.body and not other.body:
        return _shape(one) == _shape(other)
    return same_page(one, other, 0.6)


def same_page(one: Answer, other: Answer, share: float) -> bool:
    """Whether `share` of the words of two pages agree; two empty pages are no evidence."""
    mine, theirs = _words(one.body), _words(other.body)
    if not mine or not theirs:
        return False
    if mine == theirs:
        return True
    return SequenceMatcher(None, mine, theirs, autojunk=False).ratio() >= share


@lru_cache(maxsize=256)
def _words(body: bytes) -> tuple[bytes, ...]:
    # Numbers differ from one answer to the next (times, tokens, lengths); words make a page.
    return tuple(re.findall(rb"[A-Za-z\x80-\xff]{2,}", body[:16384])[:400])


def _without_the_app(answer: Answer, good: Answer) -> bool:
    """Whether an answer has none of the headers that the app adds to its own."""
    theirs = set(_shape(good))
    return bool(theirs) and not theirs & set(_shape(answer))


def _shape(answer: Answer) -> tuple[str, ...]:
    """The names of the headers that an app adds, and a web server does not."""
    return tuple(sorted({name for name, _ in answer.headers} - _ANY_SERVER))


def own_reason(answer: Answer) -> str:
    """The sentence on Gatekey's page of the refusal, also where the decision service's bare answer comes through; "" for anybody else's page."""
    if answer.kind != ANSWERED or answer.status < 400:
        return ""
    if f"<title>{page.TITLE}</title>".encode() in answer.body:
        sentence = re.search(rb"<strong>([^<]{1,200})</strong>", answer.body)
        return sentence[1].decode("utf-8", "replace") if sentence else page.ANY_REASON
    return page.SENTENCES.get(answer.header("x-gatekey-why"), "")


def server_page(answer: Answer) -> bool:
    """Whether a page is the web server's own and not the app's."""
    if not answer.body:
        return answer.header("server").lower() in ("caddy", "envoy")
    return any(mark.search(answer.body) for _, mark in _OWN_PAGES)


def server_of(answer: Answer) -> str:
    """The web server that an answer betrays (`nginx`, `apache`, ...), or ""."""
    if answer.kind != ANSWERED:
        return ""
    names = f"{answer.header('server')} {answer.header('via')}".lower().replace("openresty", "nginx")
    return next((name for name in SERVERS if name in names), "") or next((name for name, mark in _OWN_PAGES if mark.search(answer.body)), "")
