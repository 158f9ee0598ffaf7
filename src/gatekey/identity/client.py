"""Who is calling: the one value that an app gets, whatever web server stands in front of it."""

from __future__ import annotations

from typing import NamedTuple


class Client(NamedTuple):
    """The person or machine behind a request. True when it was verified, so `if request.client:` reads as it should.

    `groups` is None when nobody said which groups there are; an empty tuple means that there are none. `serial` has 32 upper-case hex digits and
    `issuer` is the issuer's name in the form of RFC 2253; together they name the certificate. What is not known is "".
    """

    login: str = ""
    name: str = ""
    email: str = ""
    groups: tuple[str, ...] | None = None
    serial: str = ""
    issuer: str = ""
    device: str = ""
    verified: bool = False

    def __bool__(self) -> bool:
        return self.verified

    @property
    def display(self) -> str:
        """What to call this client on a page."""
        return self.name or self.login

    def in_group(self, *names: str) -> bool:
        """Whether a verified client is in any of these groups. No, when the groups are not known."""
        return self.verified and self.groups is not None and any(name in self.groups for name in names)


NOBODY = Client()
