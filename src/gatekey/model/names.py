"""Names that may stand in a certificate: what is a host, an address, an e-mail, a login; and why something is not.

Each check is pure and answers with the one sentence that says what is wrong, or None.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: X.520 upper bounds (RFC 5280 appendix A.1): ub-common-name.
MAX_COMMON_NAME = 64
#: Budget of a single request: more names than this are refused before anything else is looked at.
MAX_NAMES = 100
#: Whom the service's own certificate belongs to, those of its OCSP responders, and the test identities of `gatekey check`.
ITSELF, OCSP, PROBE = "gatekey-service", "gatekey-ocsp", "gatekey-probe"
#: Logins of the service itself: nobody else is called so, in whatever case.
RESERVED = (ITSELF, OCSP, PROBE)

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LOGIN = re.compile(r"[A-Za-z0-9._@ -]+")
_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"


class Names(NamedTuple):
    """The names of one certificate: the subject's common name and the subject alternative names by kind (RFC 5280 4.2.1.6)."""

    common_name: str = ""
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()

    @property
    def alternatives(self) -> tuple[str, ...]:
        return (*self.dns, *self.ips, *self.emails)


def ip_address(text: str) -> str | None:
    """The canonical form of an IPv4 or IPv6 address, or None when `text` is not one. Brackets around IPv6 are taken off."""
    import ipaddress  # 10 ms, and most names are none

    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not re.fullmatch(r"[0-9A-Fa-f:.]+", bare):
        return None
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return None


def host_problem(host: str, *, wildcard: bool = True) -> str | None:
    """Why `host` cannot be a dNSName (RFC 1034 3.5, RFC 5280 4.2.1.6, wildcards as in RFC 9525 6.3), or None."""
    if not host:
        return "a host name is empty"
    if not host.isascii():
        return f"{host!r} has characters beyond ASCII; give it in its xn-- form{_a_label(host)}"
    if len(host) > 253:
        return f"{host[:40]!r}... is longer than the 253 characters of a host name"
    if host != host.lower():
        return f"{host!r} has upper-case letters"
    rest = host
    if "*" in host:
        if not wildcard:
            return f"{host!r} has a wildcard, which is not allowed here"
        if not host.startswith("*.") or "*" in host[2:]:
            return f"{host!r} has a wildcard that is not the whole left-most label"
        rest = host[2:]
        if "." not in rest:
            return f"{host!r} has a wildcard directly under a top-level name"
    if rest.endswith("."):
        return f"{host!r} ends with a dot"
    for label in rest.split("."):
        if not _LABEL.fullmatch(label):
            if not label:
                return f"{host!r} has an empty label"
            if len(label) > 63:
                return f"{host!r} has a label longer than 63 characters"
            return f"{host!r} has the label {label!r}; a label is letters, digits and inner hyphens"
        if label[2:4] == "--" and not label.startswith("xn--"):
            return f"{host!r} has the label {label!r} with hyphens in third and fourth place, which only xn-- may have (RFC 5891 4.2.3.1)"
        if label.startswith("xn--") and not _good_a_label(label):
            return f"{host!r} has the label {label!r}, which is not a valid xn-- form"
    last = rest.rsplit(".", 1)[-1]
    if last.isdigit():
        return f"{host!r} ends in a number and would be read as an address"
    return None


def _good_a_label(label: str) -> bool:
    try:
        return label.encode().decode("idna").encode("idna").decode() == label
    except UnicodeError:
        return False


def _a_label(host: str) -> str:
    """The form to write instead, if there is one: what is told to a person never holds characters that move her cursor."""
    try:
        ascii_form = host.lower().encode("idna").decode()
    except UnicodeError:
        return ""
    return f": {ascii_form}" if host_problem(ascii_form) is None else ""


def email_problem(email: str) -> str | None:
    """Why `email` cannot be an rfc822Name (RFC 5280 4.2.1.6: RFC 5321 Mailbox, ASCII), or None."""
    if not email.isascii():
        return f"{email!r} has characters beyond ASCII, which an rfc822Name cannot carry"
    local, at, domain = email.rpartition("@")
    if not at or not local:
        return f"{email!r} is not an e-mail address"
    if len(email) > 254 or len(local) > 64:
        return f"{email[:40]!r} is longer than an e-mail address may be"
    if not re.fullmatch(_LOCAL, local):
        return f"{email!r} has characters before the @ that are not allowed"
    problem = host_problem(domain.lower(), wildcard=False)
    return f"{email!r}: {problem}" if problem else None


def login_problem(login: str) -> str | None:
    """Why `login` cannot be a login and common name: ASCII of `[A-Za-z0-9._@ -]`, 1 to 64 characters, no outer or doubled space; or None."""
    if not login:
        return "the login is empty"
    if not login.isascii():
        return f"{login!r} has characters beyond ASCII; a login is letters, digits and the characters . _ @ - and space"
    if len(login) > MAX_COMMON_NAME:
        return f"{login[:30]!r}... is longer than the {MAX_COMMON_NAME} characters of a login"
    if not _LOGIN.fullmatch(login):
        wrong = "".join(sorted(set(re.sub(_LOGIN, "", login))))
        return f"{login!r} has {wrong!r}; a login is letters, digits and the characters . _ @ - and space"
    if login != login.strip() or "  " in login:
        return f"{login!r} begins or ends with a space or has two in a row"
    if login.startswith("-"):
        return f"{login!r} begins with a hyphen"
    return None


def reserved_problem(login: str) -> str | None:
    """Why nobody can be called so, although it is a good login, or None."""
    return f"{login!r} is a name that the service uses for itself" if login.lower() in RESERVED else None


def common_name_problem(name: str) -> str | None:
    """Why `name` cannot be a commonName: 1 to 64 characters that print (RFC 5280 appendix A.1), or None."""
    if not name:
        return "the common name is empty"
    if len(name) > MAX_COMMON_NAME:
        return f"the common name {name[:30]!r}... is longer than {MAX_COMMON_NAME} characters"
    if not name.isprintable() or name != name.strip():
        return f"the common name {name!r} has control characters or outer spaces"
    return None


def covers(pattern: str, name: str) -> bool:
    """Whether `name` falls under `pattern`: equal, or `*.example.com` for anything below, or `*@example.com` for any mailbox there."""
    pattern, name = pattern.lower(), name.lower()
    if pattern == "*":
        return True
    if pattern.startswith("*@"):
        return name.count("@") == 1 and name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return pattern == name


def file_stem(name: str) -> str:
    """How a file is called after a name: `*` becomes `_wildcard`, `:` and `/` become `-`."""
    stem = name.replace("*", "_wildcard").replace(":", "-").replace("/", "-").replace("\\", "-").replace("\0", "-")
    return stem if stem.strip(".") else stem.replace(".", "_")
