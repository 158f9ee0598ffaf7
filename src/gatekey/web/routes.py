"""Who answers what: the one list of routes. Every room that has something to say to the network adds its lines here, and nowhere else.

A route is answered by a function `Call -> Answer` of `protocols`. Whole ASGI applications (FastAPI) take what no route takes; they are named in `apps`.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..authority import access
from ..errors import GatekeyError
from ..protocols import agents
from ..protocols.api import table
from ..protocols.message import Answer, Call
from . import health

if TYPE_CHECKING:
    from .house import House

LISTENERS = ("public", "enrol", "private", "proxy")

#: inline: touches memory only, answered in the event loop. thread: may wait (ledger, keys), answered in a thread. async: a future or coroutine, for long waits.
How = Literal["inline", "thread", "async"]


class Route(NamedTuple):
    """`path` is exact, or everything below it when it ends in `/`. GET answers HEAD, too. `largest`: bytes of a body; None for the service's own limit.

    `knows`: the methods that one path below `path` may be asked with, where not all of them know the same.
    `name` stands in the metrics: never a part of what was asked.
    """

    listener: str
    method: str
    path: str
    handler: Callable[[Call], Answer | Awaitable[Answer]]
    how: How = "thread"
    largest: int | None = None
    knows: Callable[[str], Iterable[str]] | None = None

    @property
    def name(self) -> str:
        return f"{self.path}*" if self.path.endswith("/") else self.path


def routes(house: House) -> list[Route]:
    """Every route of every listener."""
    everywhere = [Route(listener, "GET", "/healthz", health.alive, "inline") for listener in LISTENERS]
    everywhere += [Route(listener, "GET", "/readyz", house.health.answer, "inline") for listener in LISTENERS if listener != "private"]
    everywhere.append(Route("private", "GET", "/readyz", functools.partial(_ready, house)))
    metrics = [Route("private", "GET", "/metrics", functools.partial(_metrics, house))]
    if house.public_metrics:
        metrics.append(Route("public", "GET", "/metrics", house.meter.answer))
    # Inline: answered from memory; over TLS, who asks is remembered until the ledger changes.
    decision = [Route(listener, "GET", "/decision", house.decision.answer, "inline") for listener in ("proxy", "private")]
    return [*everywhere, *metrics, *decision, *_public(house), *_api(house), *_agents(house)]


def _ready(house: House, call: Call) -> Answer:
    """The words only to somebody who has signed in and has a role. Whoever cannot be recognised, or not now, is a stranger: this must answer in any case."""
    try:
        known = bool(house.caller(call).scopes)
    except GatekeyError:
        known = False
    return house.health.answer(call, known=known)


def _metrics(house: House, call: Call) -> Answer:
    """For whoever may `read`: who asks how often for what is nobody else's business. Raises Refused."""
    access.need(house.caller(call), "read")
    return house.meter.answer(call)


def _public(house: House) -> list[Route]:
    found = []
    for listener in ("public", "private"):
        found += [
            Route(listener, "GET", "/ca/", house.published.answer, "inline"),
            Route(listener, "GET", "/crl/", house.published.answer, "inline"),
        ]
    # Inline although an answer that is not in memory costs a read of the ledger and a signature: 60 us together, less than the way to a thread and back.
    # Questions about many certificates are larger than hot.AT_ONCE and go to a thread.
    return [
        *found,
        Route("public", "POST", "/ocsp", house.ocsp.answer, "inline", largest=64 * 1024),
        Route("public", "POST", "/ocsp/", house.ocsp.answer, "inline", largest=64 * 1024),
        Route("public", "GET", "/ocsp/", house.ocsp.answer, "inline"),
    ]


def _agents(house: House) -> list[Route]:
    """The helpers of web servers. Their question for a bundle is a coroutine: it may wait half a minute, and thousands do."""
    if house.agents is None:
        return []
    return [
        Route("private", "GET", "/agent/bundle", house.agents.bundle, "async"),
        Route("private", "POST", "/agent/report", house.agents.report, largest=agents.MOST_REPORT),
        Route("private", "POST", "/agent/renew", house.agents.renew, largest=0),
    ]


def _api(house: House) -> list[Route]:
    """Every method goes to the API, which knows its own paths. Past FastAPI: its routing alone would cost more than many an answer."""
    if house.api is None:
        return []
    return [Route("private", method, "/v1/", house.api.answer, "async", knows=table.methods) for method in ("GET", "POST", "PUT", "PATCH", "DELETE")]


def apps(house: House) -> dict[str, Any]:
    """ASGI applications by listener, for what no route takes. They find who is there in `scope["state"]["peer"]` and the request's id in `["request_id"]`."""
    from .api import Described

    return {} if house.api is None else {"private": Described(house.api)}
