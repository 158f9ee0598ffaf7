"""How long our CAs still live. When one of them ends, everything below it ends with it, and no CRL of it is believed any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import GatekeyError
from ..model.instants import DAY, day

if TYPE_CHECKING:
    from ..model.record import AuthorityRecord
    from .authority import Authority

#: Below this much life of a CA every verb that looks warns (seconds).
SOON = 30 * DAY
#: Under this profile people get certificates: a CA that lives shorter than these gives everybody less than she was promised.
_PROFILE = "client"


class Ending(NamedTuple):
    """A CA that ends before what it issues now would. `left`: seconds, negative when it has ended."""

    name: str
    not_after: int
    left: int
    root: bool

    @property
    def words(self) -> str:
        """What is so, and what follows."""
        if self.left <= 0:
            return f"{self._title} has ended on {day(self.not_after)}: nothing below it is believed any more"
        days = self.left // DAY
        below = "everything below it" if self.root else "every certificate from it"
        return f"{self._title} ends on {day(self.not_after)}, in {days} day{'' if days == 1 else 's'}: so does {below}"

    @property
    def _title(self) -> str:
        return f"{'the root' if self.root else 'the authority'} {self.name}"

    @property
    def remedy(self) -> str:
        """What to do."""
        return "make another authority in time (gatekey init NAME --home ANOTHER), and give everybody a certificate from there before that day"


def ending(authority: Authority, *, within: int | None = None) -> list[Ending]:
    """Those of our CAs that end within so many seconds, the next one first; without `within`, before a person's certificate issued now would."""
    now = authority.now()
    within = _promised(authority) if within is None else within
    found = [_ending(authority, record, now) for record in authority.records()]
    return sorted((one for one in found if one.left < within), key=lambda one: one.not_after)


def first(authority: Authority, side: str) -> Ending:
    """The CA of a side that ends first. The side must have one."""
    now = authority.now()
    return min((_ending(authority, record, now) for record in authority.side(side)), key=lambda one: one.not_after)


def warnings(authority: Authority, *, within: int | None = SOON) -> list[str]:
    """A sentence for each of them, with what to do."""
    return [f"{one.words}; {one.remedy}" for one in ending(authority, within=within)]


def _ending(authority: Authority, record: AuthorityRecord, now: int) -> Ending:
    not_after = authority.issuing(record.name).certificate.not_after
    return Ending(record.name, not_after, not_after - now, record.role == "root")


def _promised(authority: Authority) -> int:
    try:
        return authority.profile(_PROFILE).validity
    except GatekeyError:  # one's own profile of that name has mistakes: whoever issues hears of them
        return 365 * DAY
