"""A profile: under which words a kind of certificate is issued. TOML as people write it is checked here, once, into a value that never doubts itself."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Malformed, Misconfigured
from .instants import DAY, HOUR, parse_span, span
from .keytypes import KNOWN, RSA_MOST_BITS
from .names import MAX_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

#: Words of `usage` -> kind of the profile and its extended key usage (RFC 5280 4.2.1.12). CAs carry none: Go lets no leaf have one that its CAs lack.
USAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "client-auth": ("client", ("clientAuth",)),
    "server-auth": ("server", ("serverAuth",)),
    "ocsp-signing": ("ocsp", ("OCSPSigning",)),
    "sign-certificates": ("ca", ()),
}
#: Ways of asking. `ceremony`: making authorities. `internal`: the authority for itself (probes, OCSP responders).
WAYS = ("cli", "api", "console", "invitation", "self-service", "acme", "est", "scep", "cmp", "ceremony", "internal")
#: Whose certificates they are: what `kind` implies, and what a profile of clients may say instead.
HOLDERS = {"client": "person", "server": "server", "ocsp": "service", "probe": "service", "ca": "authority"}
CLIENT_HOLDERS = ("person", "device", "service")
#: Authorities that no leaf may name: those of the other side (web servers trust the people side only, browsers the servers side only), and roots at rest.
_NOT_FOR = {
    "client": ("servers", "servers-root", "people-root"),
    "server": ("people", "people-root", "servers-root"),
}
#: Where the subject comes from. `common-name`: the login, or the authority's name. `first-host`: the first host or address, empty when it does not fit.
SUBJECTS = ("common-name", "first-host")

#: RSA below this is refused whatever a profile says (NIST SP 800-131A: 2048 bits are the least that is acceptable).
RSA_LEAST_BITS = 2048
#: No server certificate lives longer, backdating included: a day less than what browsers took from public CAs until March 2026 (CA/Browser Forum BR 6.3.2).
SERVER_LONGEST = 397 * DAY
#: A certificate without revocation lives a day at most: whoever holds it cannot be shut out before (RFC 9608 1).
UNREVOCABLE_LONGEST = DAY
_LONGEST = 36500 * DAY
_MOST_BACKDATE = 3 * DAY
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
#: A profile is a page of text: characters, dots in a line (the dotted keys of TOML) and levels of brackets, more than which none has.
MAX_TEXT, _MOST_DOTS, _MOST_DEPTH = 16 * 1024, 20, 10
#: Strings and comments of TOML, also those that do not end. Each alternative matches wherever it begins, so that a text is gone through once.
_QUOTED = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*(?:""""{0,2})?|"(?:[^"\\\n]|\\.)*"?'
    r"|'''(?:[^']|'(?!''))*(?:''''{0,2})?|'[^'\n]*'?|#[^\n]*",
    re.DOTALL,
)
_DOTTED = r"[0-2](\.(0|[1-9][0-9]{0,9})){2,15}"


class NameRules(NamedTuple):
    """Which alternative names are allowed: patterns per kind (`names.covers`; addresses: `*` or CIDR blocks), none where empty; `max` of them in all."""

    host: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    login: tuple[str, ...] = ("*",)
    max: int = MAX_NAMES
    wildcard: bool = False


class Profile(NamedTuple):
    """Checked words. Spans are seconds.

    `kind`: ca, client, server, ocsp or probe. `issuer`: short name of the authority that issues it, "" where the request says it (or nobody: roots).
    `validity` is the default, `longest` the most that may be asked for, backdating included. `keys`: entries of `keytypes.allows`.
    `extended`: names of extended key usages. `extra`: further ones as dotted OIDs. `path_length` is for CAs; None means no limit.
    `no_revocation`: noRevAvail (RFC 9608). `holder`: "" where `kind` says it (see `holder_kind`). `sha256`: of `canonical()`, hex.
    """

    name: str
    about: str
    kind: str
    issuer: str
    validity: int
    longest: int
    backdate: int
    keys: tuple[str, ...]
    subject: str
    names: NameRules
    extended: tuple[str, ...]
    ways: tuple[str, ...]
    path_length: int | None = None
    no_revocation: bool = False
    extra: tuple[str, ...] = ()
    holder: str = ""
    sha256: str = ""

    @property
    def holder_kind(self) -> str:
        """Whose certificates they are: person, device, service, server or authority."""
        return self.holder or HOLDERS[self.kind]

    def key_usage(self, key_type: str) -> tuple[str, ...]:
        """Key usage by the names of RFC 5280 4.2.1.3. An RSA server key may also be used for TLS 1.2's RSA key exchange."""
        if self.kind == "ca":
            return ("keyCertSign", "cRLSign")
        if "serverAuth" in self.extended and key_type.startswith("rsa-"):
            return ("digitalSignature", "keyEncipherment")
        return ("digitalSignature",)


class _Table:
    """One TOML table being checked: takes keys out one by one and collects every mistake."""

    def __init__(self, where: str, table: object, mistakes: list[str]) -> None:
        self.where = where
        self.mistakes = mistakes
        self.known: list[str] = []
        if not isinstance(table, dict):
            self.wrong("", "is not a table")
            table = {}
        self.table: dict[str, Any] = table

    def wrong(self, key: str, what: str) -> None:
        self.mistakes.append(f"{self.where}{'.' if key else ''}{key} {what}")

    def take(self, key: str, kind: type, words: str, default: Any, *, needed: bool = False) -> Any:
        self.known.append(key)
        if key not in self.table:
            if needed:
                self.wrong(key, "is missing")
            return default
        value = self.table[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.wrong(key, f"is {value!r}; it must be {words}")
            return default
        return value

    def text(self, key: str, default: str = "", *, needed: bool = False) -> str:
        value: str = self.take(key, str, "a text", default, needed=needed)
        if needed and self.table.get(key) == "":
            self.wrong(key, "is empty")
        elif not value.isprintable():
            self.wrong(key, "has control characters")
        return value

    def number(self, key: str, default: int, least: int, most: int) -> int:
        value: int = self.take(key, int, "a whole number", default)
        if not least <= value <= most:
            self.wrong(key, f"is {value}; {least} to {most} are allowed")
            return default
        return value

    def flag(self, key: str) -> bool:
        value: bool = self.take(key, bool, "true or false", False)
        return value

    def span(self, key: str, default: int, most: int, *, needed: bool = False, least: int = 60) -> int:
        text = self.text(key, "", needed=needed)
        if not isinstance(self.table.get(key), str):
            return default
        try:
            value = parse_span(text)
        except Malformed as wrong:
            self.wrong(key, f"is {text!r}; {wrong.hint}")
            return default
        if not least <= value <= most:
            self.wrong(key, f"is {text!r}; {span(least)} to {span(most)} are allowed")
            return default
        return value

    def words(self, key: str, default: tuple[str, ...], good: Callable[[str], str | None], *, needed: bool = False) -> tuple[str, ...]:
        """A list of texts, each judged by `good`, which answers with what is wrong or None."""
        value = self.take(key, list, "a list of texts", None, needed=needed)
        if value is None:
            return default
        if needed and not value:
            self.wrong(key, "is empty")
        found: list[str] = []
        for entry in value:
            problem = good(entry) if isinstance(entry, str) else "is not a text"
            if problem:
                self.wrong(key, f"has {entry!r}, which {problem}")
            elif entry in found:
                self.wrong(key, f"has {entry!r} twice")
            else:
                found.append(entry)
        return tuple(found)

    def finish(self) -> None:
        for key in self.table:
            if key not in self.known:
                near = nearest(key, self.known)
                self.wrong(key, f"is not a known key; {f'did you mean {near!r}? ' if near else ''}known are {', '.join(self.known)}")


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """The one of `known` that `word` was probably meant to be, or ""."""
    import difflib  # only mistakes need it

    return next(iter(difflib.get_close_matches(word, known, 1, 0.6)), "")


def _one_of(known: tuple[str, ...]) -> Callable[[str], str | None]:
    def problem(word: str) -> str | None:
        if word in known:
            return None
        near = nearest(word, known)
        return f"is not known; {f'did you mean {near!r}? ' if near else ''}known are {', '.join(known)}"

    return problem


def _key_problem(entry: str) -> str | None:
    if match := re.fullmatch(r"rsa-([0-9]{1,5})", entry):
        if RSA_LEAST_BITS <= int(match[1]) <= RSA_MOST_BITS:
            return None
        return f"is not allowed; RSA keys have {RSA_LEAST_BITS} to {RSA_MOST_BITS} bits"
    return _one_of(KNOWN)(entry)


def _host_pattern_problem(pattern: str) -> str | None:
    from .names import host_problem

    return None if pattern == "*" or host_problem(pattern) is None else f"is not a pattern: {host_problem(pattern)}; write a host, *.example.com or *"


def _email_pattern_problem(pattern: str) -> str | None:
    from .names import email_problem

    plain = f"x{pattern[1:]}" if pattern.startswith("*@") else pattern
    return None if pattern == "*" or email_problem(plain) is None else "is not a pattern; write ann@example.com, *@example.com or *"


def _ip_pattern_problem(pattern: str) -> str | None:
    import ipaddress

    try:
        if pattern != "*":
            ipaddress.ip_network(pattern)
    except ValueError as wrong:
        return f"is not a pattern: {wrong}; write 10.0.0.0/8, 192.0.2.7 or *"
    return None


def _login_pattern_problem(pattern: str) -> str | None:
    from .names import login_problem

    plain = f"x{pattern[1:]}" if pattern.startswith(("*@", "*.")) else pattern
    return None if pattern == "*" or login_problem(plain) is None else "is not a pattern; write ann, *.example.com, *@example.com or *"


def _dotted_problem(entry: str) -> str | None:
    if not re.fullmatch(_DOTTED, entry):
        return 'is not an OID; write an extended key usage like "1.3.6.1.4.1.311.20.2.2"'
    if entry == "2.5.29.37.0" or (entry.startswith("1.3.6.1.5.5.7.3.") and entry[16:] in ("1", "2", "9")):
        return "is given by `usage` or not at all"
    return None


def _name_rules(table: object, where: str, mistakes: list[str]) -> NameRules:
    names = _Table(where, table, mistakes)
    rules = NameRules(
        host=names.words("host", (), _host_pattern_problem),
        ip=names.words("ip", (), _ip_pattern_problem),
        email=names.words("email", (), _email_pattern_problem),
        login=names.words("login", ("*",), _login_pattern_problem),
        max=names.number("max", MAX_NAMES, 0, MAX_NAMES),
        wildcard=names.flag("wildcard"),
    )
    names.finish()
    return rules


def read_toml(text: str, source: str) -> dict[str, Any]:
    """The TOML of a profile. What no profile needs is refused before it is parsed: tomllib's work grows with the square of a dotted key's parts and more, and
    it goes down as deep as it is led.

    Raises Misconfigured("bad-profile").
    """
    import tomllib  # 4 ms, and only verbs that issue need it

    if problem := _burden(text):
        raise Misconfigured("bad-profile", f"{source} {problem}", hint=f"correct {source}", source=source)
    try:
        return tomllib.loads(text)
    except ValueError as wrong:  # also for a number of more digits than Python reads
        raise Misconfigured("bad-profile", f"{source} is not TOML: {wrong}", hint=f"correct {source}", source=source) from None


def _burden(text: str) -> str | None:
    """Why this text is no profile but a burden, or None. A text that breaks off in a string is judged up to there, which is as far as a parser gets."""
    if len(text) > MAX_TEXT:
        return f"has {len(text)} characters; {MAX_TEXT} are the most of a profile"
    bare = _QUOTED.sub("", text)
    if (dots := max(line.count(".") for line in bare.split("\n"))) > _MOST_DOTS:
        return f"has a line with {dots} dots outside of quotes; {_MOST_DOTS} are the most"
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth += 1 if bracket in "[{" else -1
        if depth > _MOST_DEPTH:
            return f"is nested deeper than {_MOST_DEPTH} levels"
    return None


def _tables(name: str, text: str, source: str) -> tuple[object, list[str]]:
    """The table [profile.NAME] of the text and the mistakes around it. Raises Misconfigured when it is no TOML at all."""
    whole = read_toml(text, source)
    mistakes = [f"{key} is not a known table; a profile file holds [profile.{name}]" for key in whole if key != "profile"]
    profiles = whole.get("profile")
    if not isinstance(profiles, dict) or name not in profiles:
        mistakes.append(f"[profile.{name}] is missing")
        return {}, mistakes
    mistakes += [f"[profile.{other}] does not belong in the file of {name}; each profile has its own file" for other in profiles if other != name]
    return profiles[name], mistakes


def parse_profile(name: str, text: str, *, source: str) -> Profile:
    """The profile `name` out of TOML that holds one table `[profile.NAME]`; `source` is the file's name, for the sentence.

    Raises Misconfigured("bad-profile") with all mistakes at once, also as the fact `mistakes`.
    """
    if problem := name_problem(name):
        raise Misconfigured("bad-profile", problem, source=source)
    table, mistakes = _tables(name, text, source)
    if not table and mistakes:
        raise _misconfigured(source, mistakes)
    profile = _read(name, _Table(f"profile.{name}", table, mistakes))
    if mistakes:
        raise _misconfigured(source, mistakes)
    return profile._replace(sha256=hashlib.sha256(canonical(profile).encode()).hexdigest())


def name_problem(name: str) -> str | None:
    """Why this cannot be a profile's name, or None. The name is also that of its file."""
    if _NAME.fullmatch(name):
        return None
    return f"{name[:60]!r} cannot be a profile's name: a small letter, then small letters, digits and hyphens, 40 characters at most"


def _misconfigured(source: str, mistakes: list[str]) -> Misconfigured:
    hint = f"correct {source}; `gatekey profile explain client` shows a good one"
    return Misconfigured("bad-profile", f"{source}: " + "; ".join(mistakes), hint=hint, source=source, mistakes=tuple(mistakes))


def _read(name: str, table: _Table) -> Profile:
    usage = table.words("usage", (), _one_of(tuple(USAGES)), needed=True)
    kind, extended = USAGES[usage[0]] if usage else ("", ())
    if len(usage) > 1:
        table.wrong("usage", f"has {' and '.join(usage)}; a certificate is for one side of the door only")
    kinds = (kind, "probe") if kind in ("client", "server") else (kind,)
    chosen = table.text("kind", kind)
    if kind and chosen not in kinds:
        table.wrong("kind", f"is {chosen!r}; with this usage it is {' or '.join(kinds)}")
    ceiling = SERVER_LONGEST if kind == "server" else _LONGEST
    no_revocation = table.flag("no-revocation")
    if no_revocation:
        ceiling = UNREVOCABLE_LONGEST
        if kind == "ca":
            table.wrong("no-revocation", "is not for authorities (RFC 9608 2, 3)")
    validity = table.span("validity", min(DAY, ceiling), ceiling, needed=True)
    longest = table.span("longest", validity, ceiling)
    if longest < validity:
        table.wrong("longest", f"is {span(longest)!r}, less than validity = {span(validity)!r}")
    subject = table.text("subject", "first-host" if kind == "server" else "common-name")
    if problem := _one_of(SUBJECTS)(subject):
        table.wrong("subject", f"is {subject!r}, which {problem}")
    # Where the usage is not known, neither is whether these keys belong here: then they are not called unknown.
    path_length = table.number("path-length", 0, 0, 8) if kind in ("ca", "") else None
    holder = table.text("holder") if kind in ("client", "") else ""
    if holder and (problem := _one_of(CLIENT_HOLDERS)(holder)):
        table.wrong("holder", f"is {holder!r}, which {problem}")
    issuer = table.text("issuer")
    if issuer in _NOT_FOR.get(chosen, ()):
        table.wrong("issuer", f"is {issuer!r}, which does not certify {chosen}s; leave it out, or write {'people' if chosen == 'client' else 'servers'!r}")
    profile = Profile(
        name=name,
        about=table.text("about", needed=True),
        kind=chosen,
        issuer=issuer,
        validity=validity,
        longest=longest,
        backdate=table.span("backdate", HOUR, _MOST_BACKDATE),
        keys=table.words("keys", (), _key_problem, needed=True),
        subject=subject,
        names=_name_rules(table.take("names", dict, "a table", {}), f"{table.where}.names", table.mistakes),
        extended=extended,
        ways=table.words("ways", ("ceremony",) if kind == "ca" else ("cli",), _one_of(WAYS)),
        path_length=path_length,
        no_revocation=no_revocation,
        extra=table.words("extra", (), _dotted_problem),
        holder="" if holder == HOLDERS.get(chosen) else holder,
    )
    if kind == "ca" and profile.ways != ("ceremony",):
        table.wrong("ways", "is not for authorities: they are made in ceremonies alone")
    if profile.extra and kind == "ca":
        table.wrong("extra", "is not for authorities: an extended key usage there would bind everything below")
    if subject == "first-host" and not (profile.names.host or profile.names.ip):
        table.wrong("names", "allows neither hosts nor addresses, which subject = 'first-host' needs")
    table.finish()
    return profile


def canonical(profile: Profile) -> str:
    """The profile as one `key = value` per line, sorted, without what equals the default: comments, order and spelling of the file do not change it,
    nor does a key that a later version adds with a default. `about` is talk and left out.
    """
    rules = profile.names
    lines = {f"names.{key}": value for key, value in rules._asdict().items() if value != NameRules._field_defaults[key]}
    defaults = Profile._field_defaults
    lines |= {k: v for k, v in profile._asdict().items() if k not in ("names", "sha256", "about") and (k not in defaults or v != defaults[k])}
    return "".join(f"{key} = {list(value) if isinstance(value, tuple) else value!r}\n" for key, value in sorted(lines.items()))
