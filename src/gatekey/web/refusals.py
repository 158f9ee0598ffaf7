"""What a connection is told that is refused before there is a request to answer: no HTTP, no host, too large, too slow, one too many."""

from __future__ import annotations

import functools

from ..errors import GatekeyError, Malformed, Refused, Unavailable
from ..protocols.message import Answer, problem
from .limits import BODY_SECONDS, FROM_ADDRESS, HEAD_BYTES, HEAD_SECONDS

#: By what it is counted under (`gatekey_refused_connections_total`).
_WORDS: dict[str, GatekeyError] = {
    "bad-request": Malformed("not-http", "what came is no HTTP/1.1 request", hint="is it TLS, or HTTP/2? This address speaks HTTP/1.1"),
    "bad-host": Malformed("not-http", "an HTTP/1.1 request has exactly one Host header (RFC 9112 3.2)", hint="send one"),
    "bad-path": Malformed("not-http", "the request's address is no URL (RFC 3986)", hint="percent-encode what is not ASCII"),
    "slow-head": Refused("too-slow", f"the head of the request was not there within {HEAD_SECONDS} seconds"),
    "slow-body": Refused("too-slow", f"the body was not there within {HEAD_SECONDS + BODY_SECONDS} seconds"),
    "large-head": Refused("large-head", f"the head of the request is larger than the {HEAD_BYTES} bytes that are read", hint="shorten its path and headers"),
    "unknown-method": Refused("not-implemented", "there is no such method here", hint="methods are written in capitals: GET, HEAD, POST"),
    "unknown-coding": Refused("not-implemented", "a body comes with its length, or chunked; no other transfer coding is known"),
    "upgrade": Refused("not-implemented", "a request that wishes for another protocol has no body here", hint="send it without Upgrade"),
    "too-many": Unavailable("too-many-connections", f"this address has {FROM_ADDRESS} connections already", hint="close some, or use them again"),
}


@functools.cache
def answer(why: str) -> Answer:
    """The last answer on the connection."""
    told = problem(_WORDS[why])
    return told._replace(headers=(*told.headers, ("connection", "close")))
