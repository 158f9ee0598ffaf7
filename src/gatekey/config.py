"""`gatekey.toml` as a checked value. Every mistake is reported at once, and an unknown key names the nearest known one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from .errors import Misconfigured

#: Every key of gatekey.toml with what it means; docs/reference/config.md lists them all, a test compares.
KEYS: dict[str, str] = {
    "name": "what the authority is called; written by init",
    "url": "where the public listener can be reached (http://...); certificates then carry CRL and AIA addresses",
    "publish": "a folder outside the home that is rewritten as a bundle at every revocation",
    "passphrase-file": "a file whose first line is the passphrase of the keys; read only when nothing else gives it",
    "unencrypted-keys": "true: the keys lie there without a passphrase; written by init --unencrypted-keys",
    "service.workers": "processes that answer, 1 or more (default 2)",
    "service.certificate": "certificate with its issuers for enrol and private; without it the authority issues one to itself",
    "service.key": "the private key of that certificate",
    "service.hosts": "names and addresses of the service, for the certificate that it issues to itself",
    "service.log": "least level of log lines: debug, info, warning or error (default info)",
    "public.listen": "plain HTTP for CA certificates, CRLs, OCSP and health (default 127.0.0.1:8080; empty: not at all)",
    "public.metrics": "true: /metrics for Prometheus on the public listener, too",
    "enrol.listen": "HTTPS without client certificates (default empty: not at all)",
    "private.listen": "HTTPS with client certificates: API and decision (default 127.0.0.1:8443; empty: not at all)",
    "private.behind-proxy": "addresses or networks of proxies that may hand on a client certificate (none by default)",
    "proxy.listen": "a Unix socket for the decision endpoint: whoever may open it speaks for a web server (default empty: not at all)",
    "proxy.mode": "mode of that socket in octal (default 0660)",
    "site.HOST.groups": "who may enter the site HOST: people in one of these groups; without a rule everybody with a certificate",
    "check.sites": "sites that administrators may have the service knock at, as HOST or HOST:PORT (none by default)",
    "check.networks": "networks in which these sites may stand besides the public Internet (none by default)",
    "limits.requests-per-second": "of one address on the public and enrol listeners together (default 200; 0 for no limit)",
    "limits.body-kib": "largest request body (default 256 KiB)",
    "reminders.days": "days before the end of a certificate on which its holder is reminded, if it lives more than twice as long (default 30, 14, 3)",
    "mail.server": "SMTP server as HOST:PORT; without it nobody is written to",
    "mail.from": "the sender of reminders",
    "mail.administrator": "who is told about certificates whose holders have no e-mail address (default: everybody with the role administrator who has one)",
    "mail.security": "starttls (default), tls or none",
    "mail.user": "user name at the SMTP server",
    "mail.password-file": "a file whose first line is the password there",
    "webhook.url": "where events are sent as signed JSON",
    "webhook.secret-file": "a file whose first line is the secret of the signature (HMAC-SHA256)",
}

#: The listeners of the service, and where they listen when gatekey.toml says nothing; "" is not at all.
LISTENERS = {"public": "127.0.0.1:8080", "enrol": "", "private": "127.0.0.1:8443", "proxy": ""}

#: Kinds of values other than text: flag, number, count (1 or more), level (of the log), words (a list of texts), numbers, url, plain url (http://), email,
#: listen, sites (a list of HOST or HOST:PORT), networks.
KINDS: dict[str, str] = {
    "unencrypted-keys": "flag",
    "url": "plain url",
    "service.workers": "count",
    "service.log": "level",
    "service.hosts": "words",
    "public.listen": "listen",
    "public.metrics": "flag",
    "enrol.listen": "listen",
    "private.listen": "listen",
    "private.behind-proxy": "words",
    "proxy.listen": "listen",
    "site.HOST.groups": "words",
    "check.sites": "sites",
    "check.networks": "networks",
    "limits.requests-per-second": "number",
    "limits.body-kib": "number",
    "reminders.days": "numbers",
    "mail.administrator": "email",
    "webhook.url": "url",
}

#: Levels of log lines, the most talkative first.
LEVELS = ("debug", "info", "warning", "error")


class Config(NamedTuple):
    """What `gatekey.toml` says. `publish` and `passphrase_file` are absolute paths or None; `values` is what only the service reads."""

    home: Path
    name: str
    url: str = ""
    publish: Path | None = None
    passphrase_file: Path | None = None
    unencrypted_keys: bool = False
    values: dict[str, Any] = {}  # noqa: RUF012  never mutated: what the service's tables say, by flat key

    def text(self, key: str, default: str = "") -> str:
        """A text of the service's tables, or the default."""
        return str(self.values.get(key, default))

    def number(self, key: str, default: int) -> int:
        return int(self.values.get(key, default))

    def words(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        return tuple(self.values.get(key, default))

    def flag(self, key: str) -> bool:
        return bool(self.values.get(key, False))

    def path(self, key: str) -> Path | None:
        """A file or folder that the service's tables name, below the home unless it is absolute."""
        return _path(self.home, self.values.get(key))

    @property
    def listens(self) -> dict[str, str]:
        """Where each listener is told to listen; without those that are off."""
        said = {name: self.text(f"{name}.listen", default) for name, default in LISTENERS.items()}
        return {name: listen for name, listen in said.items() if listen}

    @property
    def checkable(self) -> frozenset[tuple[str, int]]:
        """Sites that the service may knock at: host and port."""
        return frozenset(site_of(one) for one in self.words("check.sites"))

    @property
    def sites(self) -> dict[str, tuple[str, ...]]:
        """Site rules: host (lower case, without final dot) -> groups that may enter."""
        found = ((key[5:].removesuffix(".groups").lower().removesuffix("."), value) for key, value in self.values.items() if known_key(key) == _GROUPS)
        return {host: tuple(value) for host, value in found}


_GROUPS = "site.HOST.groups"


def default_home() -> Path:
    """Where the authority lives when neither --home nor GATEKEY_HOME says otherwise: the platform's per-user data folder."""
    import sys

    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "gatekey"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "gatekey"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "gatekey"


def url_problem(url: str, *, plain: bool = True) -> str | None:
    """Why this cannot be the authority's address, or None. `plain`: http:// only.

    CRLs and OCSP are fetched over plain HTTP (RFC 5280 8): HTTPS would need itself first, and OpenSSL, nginx, Apache and Windows do not ask there.
    """
    from urllib.parse import urlsplit  # 3 ms, and few configurations have a URL

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"{url!r} is not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"{url!r} is not an http://{'' if plain else ' or https://'} URL"
    if parts.username or parts.password:
        return "the URL has a user name or password in it"
    if ":" not in parts.hostname and not all(0 < len(label) < 64 for label in parts.hostname.removesuffix(".").split(".")):
        return f"{url!r} has a part of its host name that is empty or longer than 63 characters"
    if parts.query or parts.fragment:
        return f"{url!r} has a query or a fragment"
    if not url.isascii() or any(c.isspace() for c in url) or (port is not None and port == 0):
        return f"{url!r} has characters that a URL cannot carry"
    if plain and parts.scheme == "https":
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{url!r} is https, over which hardly anybody fetches CRLs or asks OCSP (RFC 5280 8); write http://{host}{parts.path}"
    return None


def load(home: Path) -> Config:
    """Reads `home/gatekey.toml`. Raises Misconfigured with all mistakes at once."""
    path = home / "gatekey.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Misconfigured(
            "no-home", f"there is no authority in {home}", hint="gatekey init NAME, or say where it lives with --home or GATEKEY_HOME", path=str(home)
        ) from None
    except UnicodeDecodeError as error:
        message = f"{path} cannot be read: it is no text in UTF-8 from byte {error.start} on"
        raise Misconfigured("config-unreadable", message, hint="write it anew, or bring it back from a backup", path=str(path)) from error
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}".replace("Permission denied", "this user may not")
        raise Misconfigured("config-unreadable", message, hint="run it as the user whose home this is, or mend its permissions", path=str(path)) from error
    return parse(text, home)


def parse(text: str, home: Path) -> Config:
    """TOML text -> Config. Raises Misconfigured with all mistakes at once."""
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured("config-toml", f"{home / 'gatekey.toml'} is not TOML: {error}", path=str(home / "gatekey.toml")) from error
    values, mistakes = _flat(data)
    mistakes += [mistake for key, value in values.items() if (mistake := _mistake(key, value))]
    if not values.get("name"):
        mistakes.append("name: is missing; init writes it")
    publish = _path(home, values.get("publish"))
    if publish and (inside := os.path.normpath(os.path.abspath(publish))).startswith(f"{os.path.abspath(home)}{os.sep}"):
        mistakes.append(f"publish: {inside} lies in the home, which nobody else may read; name a folder outside, such as /srv/gatekey/published")
    if mistakes:
        raise Misconfigured("config-mistake", f"{home / 'gatekey.toml'}: " + "; ".join(mistakes), path=str(home / "gatekey.toml"), mistakes=mistakes)
    return Config(
        home=home,
        name=values["name"],
        url=str(values.get("url", "")).rstrip("/"),
        publish=publish,
        passphrase_file=_path(home, values.get("passphrase-file")),
        unencrypted_keys=bool(values.get("unencrypted-keys", False)),
        values={key: value for key, value in values.items() if "." in key},
    )


def _path(home: Path, value: Any) -> Path | None:
    return home / str(value) if value else None


def _flat(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Keys in one level: `[public] listen` is `public.listen`; `[site."app.example"] groups` is `site.app.example.groups`."""
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for key, value in data.items():
        if key == "site" and isinstance(value, dict):
            for host, rules in value.items():
                if not isinstance(rules, dict):
                    mistakes.append(f'site.{host}: must be a table, as in [site."{host}"]')
                    continue
                values.update({f"site.{host}.{rule}": setting for rule, setting in rules.items()})
        elif isinstance(value, dict):
            values.update({f"{key}.{inner}": setting for inner, setting in value.items()})
        else:
            values[key] = value
    return values, mistakes


def known_key(key: str) -> str:
    """The entry of `KEYS` that a flat key belongs to: `site.app.example.groups` belongs to `site.HOST.groups`."""
    return f"site.HOST.{key.rpartition('.')[2]}" if key.startswith("site.") else key


def _mistake(key: str, value: Any) -> str | None:
    known = known_key(key)
    if known.startswith("site.") and (problem := _site_problem(key[5:].rpartition(".")[0])):
        return f"{key}: {problem}"
    if key.startswith("site.") and isinstance(value, dict):
        host = key[5:]
        while (inner := next(iter(value), "")) and isinstance(value[inner], dict):
            host, value = f"{host}.{inner}", value[inner]
        return f'site: a host has dots, and stands in quotes therefore: [site."{host}"]'
    if known not in KEYS:
        import difflib

        near = difflib.get_close_matches(known, KEYS, 1)
        return f"{key}: is not a known key" + (f"; did you mean {near[0]}?" if near else f"; known are {', '.join(KEYS)}")
    kind = KINDS.get(known, "text")
    if kind == "flag":
        return None if isinstance(value, bool) else f"{key}: must be true or false"
    if kind in ("number", "count"):
        least = 1 if kind == "count" else 0
        right = isinstance(value, int) and not isinstance(value, bool) and least <= value <= 10**6
        return None if right else f"{key}: must be a whole number, {least} or more"
    if kind in ("words", "numbers"):
        inner = str if kind == "words" else int
        right = isinstance(value, list) and all(isinstance(one, inner) and not isinstance(one, bool) for one in value)
        return None if right else f"{key}: must be a list of {'texts' if kind == 'words' else 'whole numbers'}"
    if kind in ("sites", "networks"):
        problem_of = site_problem if kind == "sites" else network_problem
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            return f"{key}: must be a list of texts"
        return next((f"{key}: {problem}" for one in value if (problem := problem_of(one))), None)
    if not isinstance(value, str):
        return f"{key}: must be text in quotes"
    if kind == "level":
        return None if value in LEVELS else f"{key}: is {value!r}, and must be one of {', '.join(LEVELS)}"
    if kind in ("url", "plain url"):
        return f"{key}: {problem}" if value and (problem := url_problem(value, plain=kind == "plain url")) else None
    if kind == "email" and value:
        from .model.names import email_problem

        return f"{key}: {problem}" if (problem := email_problem(value)) else None
    return f"{key}: {problem}" if kind == "listen" and (problem := listen_problem(value)) else None


def _site_problem(host: str) -> str | None:
    """Why no web server would ever ask about this host, so that its rule would never count."""
    from .model.standing import host_of

    if host_of(host) == host.lower().removesuffix("."):
        return None
    return f"{host!r} is no name of a host; write it as it stands in the browser's address, without https:// and port"


def listen_problem(text: str) -> str | None:
    """Why this cannot be listened on, or None: `ADDRESS:PORT`, `[IPV6]:PORT`, `unix:/path`, or "" for not at all."""
    if not text:
        return None
    if text.startswith("unix:"):
        # The kernel takes 107; while it is made, the socket has a longer name (`supervisor.bind`).
        return None if text.startswith("unix:/") and len(os.fsencode(text)) < 105 else f"{text!r} is not unix:/path of at most 99 characters"
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    import ipaddress

    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return f"{text!r} is not ADDRESS:PORT; write 127.0.0.1:8080, [::1]:8080 or unix:/path"
    return None if port.isascii() and port.isdigit() and 0 < int(port) < 65536 else f"{text!r} has no port between 1 and 65535"


def site_of(text: str) -> tuple[str, int]:
    """Host, in lower case and without brackets, and port of `HOST`, `HOST:PORT` or `[IPV6]:PORT`; port 0 for what is none of these. Addresses are shortened."""
    import ipaddress

    end = text.find("]") + 1 if text.startswith("[") else text.find(":") if ":" in text else len(text)
    host, rest = text[:end].strip("[]").lower(), text[end:]
    port = rest[1:] if rest else "443"
    with contextlib.suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    return host, int(port) if rest[:1] in ("", ":") and port.isascii() and port.isdigit() and len(port) < 6 else 0


def site_problem(text: str) -> str | None:
    """Why this names no site that could be knocked at, or None."""
    import ipaddress

    from .model.names import host_problem

    host, port = site_of(text)
    if not 0 < port < 65536:
        return f"{text!r} is not HOST or HOST:PORT"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host_problem(host, wildcard=False)
    return None


def network_problem(text: str) -> str | None:
    """Why this is no network, or None."""
    import ipaddress

    try:
        ipaddress.ip_network(text)
    except ValueError:
        return f"{text!r} is no network; write 10.1.0.0/16, fd00::/8 or 127.0.0.1"
    return None


def write(config: Config) -> bytes:
    """The text of a new `gatekey.toml`, with every key explained."""
    import json

    lines = ["# Gatekey. Every key: docs/reference/config.md", f"name = {json.dumps(config.name)}"]
    given = {"url": config.url, "publish": str(config.publish or ""), "passphrase-file": str(config.passphrase_file or "")}
    for key, value in given.items():
        lines += ["", f"# {KEYS[key]}", f"{'' if value else '# '}{key} = {json.dumps(value)}"]
    if config.unencrypted_keys:
        lines += ["", f"# {KEYS['unencrypted-keys']}", "unencrypted-keys = true"]
    return ("\n".join(lines) + "\n").encode()
