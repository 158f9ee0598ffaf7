"""The one door of the API: who asks, whether it may be, whether it was asked before; then the handler. A Call in, an Answer out.

1 browser   a page of another site cannot ride on a client certificate
2 route     the table knows it
3 caller    the certificate that TLS has verified, or a token; never a header that says who somebody is
4 scope     what the route needs
5 words     body and query against their shapes
6 again     an idempotency key that was used before gets its first answer
7 handler   and for issuances one commit for all that are asked for at this moment
8 again     before a refusal is told: the same request may have been answered since 6
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ...authority import access
from ...authority import answers as kept_answers
from ...authority.issue import Asked, Outcome, issue_each
from ...authority.steps import Steps, alone, together
from ...errors import GatekeyError, Malformed, Refused
from ...model.access import Caller
from ...x509.certificate import read_certificate
from ..message import Answer, Call, as_json, problem
from . import certificates, shapes, table
from .asking import Ask, Desk, Outside, Route, Wish

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...authority.authority import Authority
    from ...ports import PortableKey

#: Largest body; longest token and idempotency key in characters.
MOST_BODY, _MOST_TOKEN, _MOST_KEY = 256 * 1024, 200, 255
#: Callers that are remembered until something happens that may concern them, and no longer than this (seconds).
_REMEMBERED, _REMEMBER = 1000, 5
#: Statuses of codes that say more than their class.
_STATUS = {
    "no-route": 404,
    "cross-site": 403,
    "above-caller": 403,
    "wrong-media-type": 415,
    "bad-request": 400,
    "internal": 500,
}
_SAFE = (("x-content-type-options", "nosniff"),)


class Gate:
    """The API of one process.

    `make_key` makes a private key of a type for somebody else; `outside` is the web server's side; `trouble` hears of faults of our own, `refusal` of every
    refusal, and says whether the log has a line of it. Neither hears a secret.
    """

    def __init__(
        self,
        authority: Authority,
        make_key: Callable[[str], PortableKey],
        outside: Outside,
        trouble: Callable[[BaseException, Call], None] = lambda *_: None,
        refusal: Callable[[GatekeyError, Call], bool] = lambda *_: True,
    ) -> None:
        self._authority = authority
        self._home = str(authority.config.home)
        self._desk = Desk(make_key, outside, self._roles, {})
        self._trouble = trouble
        self._refusal = refusal
        self._callers: dict[tuple[bytes, str], tuple[int, int, Caller]] = {}
        self._everybodys: tuple[int, dict[str, tuple[str, ...]]] = (-2, {})
        self._event = self._changed = -1
        self._look = threading.Lock()

    def answer(self, call: Call) -> Answer:
        """One question. Never raises."""
        return self.answer_many([call])[0]

    def answer_many(self, calls: Sequence[Call | Prepared]) -> list[Answer]:
        """Several questions; what is to be issued shares its commits. Never raises."""
        moment = self._moment() if len(calls) > 1 else None
        begun = together([_ready(one) if isinstance(one, Prepared) else self._prepared(one, moment) for one in calls])
        wishes = [(place, one.result) for place, one in enumerate(begun) if isinstance(one.result, Wish)]
        outcomes = self._issue([wish.asked for _, wish in wishes])
        done: dict[int, Answer] = {}
        for (place, wish), outcome in zip(wishes, outcomes, strict=True):
            done[place] = self._finished(begun[place].call, wish, outcome)
        return [one.result if isinstance(one.result, Answer) else done[place] for place, one in enumerate(begun)]

    def _issue(self, asked: list[Asked]) -> list[Outcome]:
        try:
            return issue_each(self._authority, asked)
        except Exception as fault:  # noqa: BLE001  whatever it was, each asker is owed an answer
            self._trouble(fault, Call("", "", ""))
            return [Outcome(refused=_internal())] * len(asked)

    def _finished(self, call: Call, wish: Wish, outcome: Outcome) -> Answer:
        try:
            if outcome.released is None or outcome.record is None:
                return _sealed(_unless_answered(wish.ask, outcome.refused or _internal()))
            return _sealed(wish.finish(outcome.released, outcome.record, outcome.notes))
        except GatekeyError as refused:
            return self._refused(refused, call, wish.ask.caller)
        except Exception as fault:  # noqa: BLE001  its text is for the log, not for the asker
            self._trouble(fault, call)
            return as_problem(_internal(), call)

    def _refused(self, error: GatekeyError, call: Call, caller: Caller) -> Answer:
        written = self._refusal(error, call)
        return as_problem(error, call if written else call._replace(id=""), self._home, whole=caller.may("manage"))

    def prepare(self, call: Call) -> Prepared:
        """Everything up to the handler, and the handler itself: an answer, or a certificate that is to be issued. Never raises."""
        return alone(self._prepared(call, None))

    def _prepared(self, call: Call, moment: Moment | None) -> Steps[Prepared]:
        caller = Caller()
        try:
            _no_other_site(call)  # 1
            route, words, _ = table.find("GET" if call.method == "HEAD" else call.method, call.path)  # 2
            if route is None and (methods := table.methods(call.path)):
                raise Refused("method-not-allowed", f"{call.method[:20]} is not for this path", hint=f"it knows {', '.join(methods)}", allow=methods)
            caller = self._caller(call, moment)  # 3
            result = yield from self._prepare(call, caller, route, words)
        except GatekeyError as refused:
            return Prepared(call, self._refused(refused, call, caller))
        except Exception as fault:  # noqa: BLE001  its text is for the log, not for the asker
            self._trouble(fault, call)
            return Prepared(call, as_problem(_internal(), call))
        return Prepared(call, _sealed(result) if isinstance(result, Answer) else result)

    def _prepare(self, call: Call, caller: Caller, route: Route | None, words: dict[str, str]) -> Steps[Answer | Wish]:
        if route is None:
            access.need(caller, caller.scopes[0] if caller.scopes else "read")
            raise Refused("no-route", "there is nothing at this path", hint="/openapi.json lists all paths")
        _need(caller, route)  # 4
        ask = _ask(self._authority.acting(f"holder:{caller.login}"), caller, call, self._desk, route, words)  # 5
        yield
        if route.issues and ask.key and (released := kept_answers.issued(ask.authority, ask.key, ask.digest)):  # 6
            return certificates.again(ask, released)
        if route.writes and ask.key and not route.issues:
            return _once(ask, route)
        try:
            result = route.handler(ask)  # 7
            return result if isinstance(result, Answer | Wish) else (yield from result)
        except GatekeyError as refused:
            return _unless_answered(ask, refused)

    def _moment(self) -> Moment | None:
        """How the ledger stands; None when it cannot be read: then each question finds that out for itself."""
        try:
            with self._look:
                if self._event < 0:
                    self._event = self._changed = self._authority.reads.newest_event()
                self._event, changed = self._authority.reads.access_changes(self._event)
                if changed:
                    self._changed = self._event
                return Moment(self._event, self._changed)
        except GatekeyError:
            self._everybodys = (-2, {})
            return None

    def _roles(self, login: str) -> tuple[str, ...]:
        """The roles of a holder at the last look at the ledger, which every question begins with. They are few, and read when something has changed them."""
        event, roles = self._everybodys
        if event < self._changed:
            event = self._event  # before the question: what changes after it is read again
            roles = access.everybodys_roles(self._authority)
            self._everybodys = (event, roles)
        return roles.get(login, ())

    def caller(self, call: Call) -> Caller:
        """Who asks, for what stands beside the API. Raises Refused for a token that is none, Unavailable."""
        return self._caller(call, None)

    def _caller(self, call: Call, moment: Moment | None) -> Caller:
        """Who asks: by a token if there is one, otherwise by the certificate that TLS has verified. Nothing else counts."""
        given = [value for name, value in call.headers if name == "authorization"]
        if len(given) > 1:
            raise Malformed("bad-request", "authorization stands there twice")
        token = given[0] if given else ""
        if not token and not call.peer.certificate:
            return Caller()
        moment, now = moment or self._moment(), self._authority.now()
        sign = (b"" if token else call.peer.certificate, token)
        held = self._callers.get(sign)
        if held and moment and held[0] >= moment.changed and held[1] <= now < min(held[1] + _REMEMBER, held[2].until or now + 1):
            return held[2]
        caller = self._by_token(token) if token else access.caller_of_certificate(self._authority, read_certificate(call.peer.certificate))
        if len(self._callers) >= _REMEMBERED:
            self._callers.clear()
        if moment:
            self._callers[sign] = (moment.event, now, caller)
        return caller

    def _by_token(self, text: str) -> Caller:
        way, _, token = text.partition(" ")
        if way.lower() != "bearer" or len(token) > _MOST_TOKEN or not token.isascii():
            raise Refused("sign-in", "authorization is no Bearer token", hint="Authorization: Bearer gkt_...")
        return access.caller_of_token(self._authority, token.strip())


class Moment(NamedTuple):
    """The newest event of the audit log, and the newest that we know to have changed what somebody may do: who was known since then is known still."""

    event: int
    changed: int


def _ready(one: Prepared) -> Steps[Prepared]:
    """What was prepared before, among those that are not."""
    yield from ()
    return one


class Prepared:
    """A question that is answered already, or waits for its certificate."""

    __slots__ = ("call", "result")

    def __init__(self, call: Call, result: Answer | Wish) -> None:
        self.call = call
        self.result = result


def _no_other_site(call: Call) -> None:
    """Refuses what another site's page has a browser ask: the browser adds the client certificate to it unasked (Fetch Metadata; RFC 6454 7)."""
    site = call.header("sec-fetch-site")
    if site and site not in ("same-origin", "none"):
        raise Refused("cross-site", "a page of another site may not ask here", hint="call the API from a program, or from a page of this very origin")
    origin = call.header("origin")
    if origin and (origin == "null" or _host_of(origin) != call.header("host").lower()):
        raise Refused("cross-site", "a page of another site may not ask here", hint="call the API from a program, or from a page of this very origin")


def _host_of(origin: str) -> str:
    """Host and port of an Origin, as a Host header would have them; "" for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _need(caller: Caller, route: Route) -> None:
    wanted = next((scope for scope in route.scopes if caller.may(scope)), route.scopes[0] if route.scopes else "")
    if wanted or not caller.login:
        access.need(caller, wanted or "read")


def _ask(authority: Authority, caller: Caller, call: Call, desk: Desk, route: Route, words: dict[str, str]) -> Ask:
    if any(len(word) > 300 or not word.isprintable() for word in words.values()):
        raise Malformed("bad-request", "a word in the path is longer than 300 characters or does not print")
    if len(call.body) > MOST_BODY:
        raise Malformed("too-large", f"the body has {len(call.body)} bytes; at most {MOST_BODY} are read")
    query = shapes.query(route.query or certificates.NOTHING, call.query)
    body: dict[str, Any] = {}
    if route.body is not None:
        # An HTML form cannot say this, so a page of another site cannot ask with a browser that knows no Fetch Metadata.
        media = call.header("content-type").partition(";")[0].strip().lower()
        if media != "application/json":
            raise Malformed("wrong-media-type", f"the content type is {media[:60]!r}", hint="say content-type: application/json, also where there is no body")
        body = shapes.body(route.body, call.body)
    elif call.body:
        raise Malformed("bad-request", "nothing is taken here")
    key = _key(call) if route.writes else ""
    return Ask(authority, caller, call, desk, words, query, body, key, _digest(call, query, body) if key else "")


def _key(call: Call) -> str:
    """The idempotency key, or "". Raises Malformed."""
    given = [value for name, value in call.headers if name == "idempotency-key"]
    if not given:
        return ""
    key = given[0].strip().strip('"')
    if len(given) > 1 or not key or len(given[0]) > _MOST_KEY or not (key.isascii() and key.isprintable()):
        raise Malformed("bad-request", f"idempotency-key must stand there once, with 1 to {_MOST_KEY} printable characters")
    return key


def _digest(call: Call, query: dict[str, Any], body: dict[str, Any]) -> str:
    """What an idempotency key is bound to: all that was asked, however it was written."""
    return hashlib.sha256(json.dumps([call.method, call.path, query, body], sort_keys=True).encode()).hexdigest()


def _unless_answered(ask: Ask, refused: GatekeyError) -> Answer:
    """The answer that the same request got under the same key while this one was under way. Raises the refusal otherwise.

    The key was looked up before the facts were read: whoever was quicker in between has what we were about to be refused ("has a certificate already").
    """
    if ask.key and (released := kept_answers.issued_meanwhile(ask.authority, ask.key, ask.digest, refused)):  # 8
        return certificates.again(ask, released)
    raise refused


def _once(ask: Ask, route: Route) -> Answer:
    """The handler's answer, or the first one again; without what is told only once."""
    first: list[Answer] = []

    def do() -> kept_answers.Kept:
        answer = route.handler(ask)
        assert isinstance(answer, Answer)  # noqa: S101  routes that issue do not come here
        first.append(answer)
        told = json.loads(answer.body)
        return kept_answers.Kept(answer.status, json.dumps({name: None if name in route.secrets else value for name, value in told.items()}))

    kept, earlier = kept_answers.once(ask.authority, ask.key, ask.digest, do, apart=route.apart)
    return as_json(json.loads(kept.body), status=kept.status) if earlier else first[0]


def _sealed(answer: Answer) -> Answer:
    return Answer(answer.status, (*answer.headers, *_SAFE), answer.body)


def _internal() -> GatekeyError:
    return Refused("internal", "something went wrong here; the log has it under this id")


def as_problem(error: GatekeyError, call: Call, home: str = "", *, whole: bool = False) -> Answer:
    """A refusal as the API tells it, with the headers that belong to its status. `whole`: with the words that say where the `home` is."""
    answer = problem(error, instance=call.id, home=home, whole=whole)
    status = _STATUS.get(error.code, answer.status)
    if status != answer.status:
        answer = answer._replace(status=status, body=answer.body.replace(b'"status":%d' % answer.status, b'"status":%d' % status, 1))
    more: tuple[tuple[str, str], ...] = ()
    if status == 401:
        more = (("www-authenticate", 'Bearer realm="gatekey"'),)
    elif status == 405:
        more = (("allow", ", ".join(error.facts.get("allow", ()))),)
    elif status in (429, 503):
        more = (("retry-after", str(error.facts.get("retry_after", 1))),)
    return _sealed(answer._replace(headers=(*answer.headers, *more)))

