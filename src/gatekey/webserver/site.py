"""What every configuration is made from, and what comes out: a site as a checked value, and the texts for one web server."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import Reason, Refused
from ..model.headers import encode
from ..model.names import host_problem

#: Beyond this many entries OpenSSL spends more on walking the CRL at each handshake than the lists are worth (measured: 10,000 entries take a third of
#: the handshakes per second, 100,000 three quarters). From here on the configuration leans on the lock by issuer + serial, which is a hash lookup.
CRL_MOST = 5_000

#: Seconds after a reload until connections of the old configuration are cut, WebSockets included.
LAST_WORDS = 10

#: Where the service listens for web servers of the same host (gatekey.toml: proxy.listen).
DECISION = "unix:/run/gatekey/proxy.sock"

#: Seconds until a decision must be there; the service closes a connection that has been idle for 15.
DECISION_PATIENCE, DECISION_IDLE = 3, 10

#: Every address of this host.
ANY, ANY6 = "0.0.0.0", "::"  # noqa: S104  a web server's business


class Site(NamedTuple):
    """A private website. `checked` fills in what is "" and refuses what cannot be written.

    `upstream`: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/path`. `groups`: who may enter; () for everyone with a certificate.
    `certificate` (with its issuers) and `key`: of the site itself. `folder`: where include files stand; `bundle`: the bundle folder.
    `place`: where the server reads the site's own file; "" for where that server usually does.
    `listen`, `plain`: `ADDRESS:PORT` for HTTPS and for the redirect from HTTP. `static_options`: OPTIONS is answered by a bare 204 without a certificate;
    `origins`: who is named in its CORS headers. `revoked`, `people`: how many entries the deny list and the list of people have. `contact`: whom a
    refused person may ask.
    `decision`: `unix:/path` or `https://HOST:PORT` of the service, which is then asked at every request; over HTTPS the web server shows
    `decision_certificate` with `decision_key` and checks the service against `decision_trust`. `crl`: then also check the bundle's CRLs in the handshake.
    """

    host: str
    upstream: str = "http://127.0.0.1:8000"
    groups: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""
    folder: str = "/etc/gatekey"
    bundle: str = ""
    listen: tuple[str, ...] = ("0.0.0.0:443", "[::]:443")
    plain: tuple[str, ...] = ("0.0.0.0:80", "[::]:80")
    static_options: bool = False
    origins: tuple[str, ...] = ()
    revoked: int = 0
    people: int = 0
    contact: str = ""
    decision: str = ""
    decision_certificate: str = ""
    decision_key: str = ""
    decision_trust: str = ""
    crl: bool = False
    place: str = ""

    @property
    def crl_at_handshake(self) -> bool:
        return self.revoked <= CRL_MOST and (self.crl or not self.decision)

    @property
    def label(self) -> str:
        """The host as part of a variable's name."""
        return re.sub(r"[^a-z0-9]", "_", self.host)

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(address(entry)[1] for entry in self.listen))

    @property
    def public_host(self) -> str:
        """The host as it stands in URLs: with its port unless that is 443."""
        return self.host if self.ports[0] == 443 else f"{self.host}:{self.ports[0]}"

    @property
    def group_pattern(self) -> str:
        """A regular expression that finds one of the groups in a list joined with commas, as `X-Client-Groups` carries it."""
        return f"(^|,)({'|'.join(re.escape(encode(group)) for group in self.groups)})(,|$)"


class Upstream(NamedTuple):
    """Where the app listens. `scheme`: http, https or unix; `host` without brackets, or the socket's path."""

    scheme: str
    host: str
    port: int = 0

    @property
    def dial(self) -> str:
        """`host:port` with brackets around IPv6, or the path."""
        return self.host if self.scheme == "unix" else f"{bracketed(self.host)}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}:{self.host}" if self.scheme == "unix" else f"{self.scheme}://{self.dial}"


class Configuration(NamedTuple):
    """The texts for one web server. `text` is the site's own file, called `file`; `includes`: path -> text of every other file that it reads.

    `notes`: sentences for the administrator. `reload` and `check`: the commands, as lists of words. `programs`: path -> text of what it runs, no configuration.
    """

    server: str
    file: str
    text: str
    includes: dict[str, str]
    notes: tuple[str, ...]
    reload: tuple[str, ...]
    check: tuple[str, ...]
    programs: dict[str, str] = {}  # noqa: RUF012  nobody writes into it

    @property
    def whole(self) -> str:
        """Everything as one text that works as it is: an `include` of one of our files is replaced by what stands in it, the others come first."""
        text, before = self.text, []
        for path, included in self.includes.items():
            pieces = re.split(rf"^([ \t]*)include {re.escape(path)};[^\n]*\n", text, flags=re.MULTILINE)
            if len(pieces) == 1:
                before.append(included)
            else:
                text = pieces[0] + "".join(indent(included, by) + rest for by, rest in zip(pieces[1::2], pieces[2::2], strict=True))
        return "\n".join([*before, text])


_PATH = re.compile(r"/[A-Za-z0-9/._@+=:-]{0,1000}")
_PORT = r"(?:[1-9][0-9]{0,4})"
_ADDRESS = re.compile(rf"(?:(\[[0-9A-Fa-f:.]+\]|[0-9.]+|\*):)?({_PORT})")
_UPSTREAM = re.compile(rf"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::({_PORT}))?/?")
_ORIGIN = re.compile(rf"https?://[A-Za-z0-9.-]+(?::{_PORT})?")


def checked(site: Site) -> Site:
    """`site` with its paths filled in. Raises Refused with every reason: nothing that is not plain ever reaches a configuration file."""
    named = site._replace(
        certificate=site.certificate or f"{site.folder}/{site.host}.chain.crt",
        key=site.key or f"{site.folder}/{site.host}.key",
        bundle=site.bundle or f"{site.folder}/bundle",
        decision_certificate=site.decision_certificate or f"{site.folder}/proxy.chain.crt",
        decision_key=site.decision_key or f"{site.folder}/proxy.key",
        decision_trust=site.decision_trust or f"{site.folder}/servers-root.crt",
    )
    reasons = tuple(_reasons(named))
    if reasons:
        raise Refused.because(reasons)
    return named


def _reasons(site: Site) -> list[Reason]:
    def bad(message: str, hint: str) -> Reason:
        return Reason("bad-site", message, hint)

    found = []
    if problem := host_problem(site.host, wildcard=False):
        found.append(bad(problem, "give the name of the website, for example app.example.com"))
    paths = [("certificate", site.certificate), ("key", site.key), ("folder", site.folder), ("bundle folder", site.bundle)]
    if site.place:
        paths.append(("folder of the site's file", site.place))
    if site.decision:
        paths += [("certificate for the decision endpoint", site.decision_certificate), ("key for the decision endpoint", site.decision_key)]
        paths.append(("root of the decision endpoint", site.decision_trust))
        if (endpoint := _upstream(site.decision)) is None or endpoint.scheme == "http":
            found.append(bad(f"the decision endpoint {site.decision!r} is neither unix:/path nor https://HOST:PORT", f"write {DECISION}"))
    for what, path in paths:
        if not _PATH.fullmatch(path):
            found.append(bad(f"the {what} {path!r} is not an absolute path of letters, digits and /._@+=:-", "give another path"))
    if _upstream(site.upstream) is None:
        found.append(bad(f"the upstream {site.upstream!r} is neither a URL without a path nor unix:/path", "write http://127.0.0.1:8000 or unix:/run/app.sock"))
    for entry in (*site.listen, *site.plain):
        if _address(entry) is None:
            found.append(bad(f"{entry!r} is not an address to listen on", 'write "443", "192.0.2.1:443" or "[2001:db8::1]:443"'))
    if not site.listen:
        found.append(bad("no address to listen on is given", 'write "443"'))
    for group in site.groups:
        if not group.strip():
            found.append(bad("a group without a name is given", "name the groups that may enter"))
    for origin in site.origins:
        if not _ORIGIN.fullmatch(origin):
            found.append(bad(f"{origin!r} is not an origin", "write https://www.example.com"))
    if re.search(r"[^ -~]|[<>&\"'$`{}\\%]", site.contact):
        found.append(bad("the contact has characters that cannot stand in every server's configuration", "write an e-mail address or a phone number"))
    return found


def upstream(site: Site) -> Upstream:
    """Where the app of a checked site listens."""
    found = _upstream(site.upstream)
    if found is None:
        raise ValueError("the site was not checked")
    return found


def decision(site: Site) -> Upstream:
    """Where a checked site asks at every request."""
    found = _upstream(site.decision)
    if found is None:
        raise ValueError("the site was not checked, or asks nobody")
    return found


def _upstream(text: str) -> Upstream | None:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        return Upstream("unix", path) if _PATH.fullmatch(path) and len(path) < 108 else None
    match = _UPSTREAM.fullmatch(text)
    if not match:
        return None
    port = int(match[3] or {"http": 80, "https": 443}[match[1]])
    return Upstream(match[1], match[2].strip("[]"), port) if port < 65536 else None


def address(entry: str) -> tuple[str, int]:
    """Host without brackets and port out of a checked entry of `listen`: `443` and `*:443` mean every IPv4 address."""
    found = _address(entry)
    if found is None:
        raise ValueError("the site was not checked")
    return found


def _address(entry: str) -> tuple[str, int] | None:
    from ipaddress import ip_address  # 10 ms, and most verbs write no configuration

    match = _ADDRESS.fullmatch(entry)
    if not match or int(match[2]) > 65535:
        return None
    host = (match[1] or "*").strip("[]").replace("*", ANY)
    try:
        return str(ip_address(host)), int(match[2])
    except ValueError:
        return None


def bracketed(host: str) -> str:
    """`host`, in brackets when it is an IPv6 address."""
    return f"[{host}]" if ":" in host else host


def indent(text: str, by: str) -> str:
    """`text` with `by` before each line that is not empty."""
    return "".join(f"{by}{line}" if line.strip() else line for line in text.splitlines(keepends=True))
