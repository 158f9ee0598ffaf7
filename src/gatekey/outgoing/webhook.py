"""Events as JSON to an address that the administrator has named, signed so that the receiver knows who speaks."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
from typing import Any

from ..errors import Refused, Unavailable
from . import guard

#: Answers that speak of this one event, not of the receiver: 4xx, but for "too slow" and "too many" (RFC 9110 15.5.9, RFC 6585 4).
_OF_THE_EVENT = frozenset(range(400, 500)) - {408, 429}


class Webhook:
    """Signature: `X-Gatekey-Signature: t=POSIX-SECONDS,sha256=HEX`, HMAC-SHA256 over `t.BODY`. The time is signed so that nobody can replay an old event."""

    def __init__(self, url: str, secret: bytes, context: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._secret = secret
        self._context = context

    def send(self, event: dict[str, Any], *, at: int) -> None:
        """Raises Unavailable when the receiver takes nothing now, Refused when it does not take this event or its address may not be called."""
        body = json.dumps(event, ensure_ascii=False, sort_keys=True).encode()
        headers = {"Content-Type": "application/json", "X-Gatekey-Signature": signature(self._secret, body, at)}
        # The administrator has written the address into the configuration, so his own network and machine are allowed; what is link-local is not.
        answer = guard.fetch("POST", self._url, body=body, headers=headers, private=True, loopback=True, context=self._context)
        if answer.status in _OF_THE_EVENT:
            raise Refused("webhook-refused", f"the webhook answered {answer.status}", hint="it is tried again")
        if not 200 <= answer.status < 300:
            raise Unavailable("webhook-failed", f"the webhook answered {answer.status}", hint="it is tried again")


def signature(secret: bytes, body: bytes, at: int) -> str:
    """What the receiver computes, too, and compares in constant time."""
    return f"t={at},sha256={hmac.new(secret, f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"
