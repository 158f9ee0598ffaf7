"""The agent's TOML as a checked value. Every mistake is reported at once, and an unknown key names the nearest known one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import Malformed, Misconfigured
from ..model.instants import parse_span
from .agent_server import KINDS, Kind

DEFAULT = Path("/etc/gatekey/agent.toml")

#: Every key of the agent's configuration with what it means; docs/reference/agent.md lists them all, a test compares.
KEYS: dict[str, str] = {
    "source": "the folder that the authority publishes (`publish` in its gatekey.toml), on this machine or mounted here; or the service's private listener, "
    "`https://HOST:PORT`",
    "target": "the folder that the web server's configuration names; only the agent writes there",
    "server": "`nginx`, `apache`, `haproxy`, `caddy` or `other`: which lists it reads, and its usual commands",
    "check": "the command with which the server tests its configuration, as a list of words; absent: the server's usual one",
    "reload": "the command with which the server reads its files again, as a list of words; absent: the server's usual one",
    "reload-on": "the files of the bundle after whose change the server is reloaded; absent: those that it does not read again by itself",
    "root": "SHA-256 fingerprint of the people's root, or a list of them; absent: the root that was there first is kept to",
    "warn": 'how long before a CRL runs out it warns, such as `"10d"` (the default)',
    "timeout": 'how long a command may take, such as `"60s"` (the default)',
    "status": "where the status is written; absent: beside the target, `TARGET.agent.json`",
    "probe": "a command, as a list of words, that ends with 0 when the server has taken the files over; run after each reload until it does; absent: none",
    "certificate": "for a service as source: the agent's own client certificate, of a holder with the role proxy; the agent renews it here",
    "key": "for a service as source: the private key of that certificate, readable by its owner only",
    "roots": "for a service as source: a PEM file with the root that the service's certificate comes from (`gatekey authority export servers-root`)",
    "name": "for a service as source: what this place is called beside the login of the certificate, when several agents share one; absent: the login alone",
    "runtime": "HAProxy's stats socket (`level admin`): a revocation counts there at once, before the reload",
}
_NEEDED = ("source", "target", "server")
_PATHS = ("source", "target", "status", "runtime", "certificate", "key", "roots")
_REMOTE = ("certificate", "key", "roots")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SPANS = ("warn", "timeout")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Remote(NamedTuple):
    """Where the service is and who we are there: `url` as it was written, our certificate with its key, the PEM of the roots that it is believed by."""

    url: str
    host: str
    port: int
    certificate: Path
    key: Path
    roots: Path
    name: str = ""

    def __str__(self) -> str:
        return self.url


class Config(NamedTuple):
    """What the TOML says. Paths are absolute; `roots` are fingerprints in upper-case hex, none where the first root counts; `warn` and `timeout` in seconds.

    `source`: a folder, or the service. `reload_on` is () where every file counts but those that apps read by themselves.
    """

    file: Path
    source: Path | Remote
    target: Path
    server: str
    check: tuple[str, ...]
    reload: tuple[str, ...]
    reload_on: tuple[str, ...]
    roots: frozenset[str]
    warn: int
    timeout: int
    status: Path
    runtime: Path | None
    probe: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        return KINDS[self.server]


def load(path: Path) -> Config:
    """Reads the configuration. Raises Misconfigured with all mistakes at once."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = f"gatekey agent example nginx > {path} writes one to be filled in, --config FILE names another"
        raise Misconfigured("no-agent-config", f"there is no {path}", hint=hint, path=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured("config-unreadable", f"{path} cannot be read: {error}", path=str(path)) from error
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """TOML text -> Config. Raises Misconfigured with all mistakes at once."""
    import tomllib

    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Misconfigured("config-toml", f"{path} is not TOML: {error}", path=str(path)) from error
    mistakes = [mistake for key, value in data.items() if (mistake := _mistake(key, value))]
    mistakes += [f"{key}: is missing; {KEYS[key]}" for key in _NEEDED if key not in data]
    if not mistakes:
        mistakes = _together(data)
    if mistakes:
        raise Misconfigured("config-mistake", f"{path}: " + "; ".join(mistakes), path=str(path), mistakes=mistakes)
    kind, target = KINDS[data["server"]], Path(data["target"])
    return Config(
        file=path,
        source=_remote(data) if _is_url(data["source"]) else Path(data["source"]),
        target=target,
        server=data["server"],
        check=tuple(data.get("check", kind.check)),
        reload=tuple(data.get("reload", kind.reload)),
        reload_on=tuple(data.get("reload-on", kind.reads)),
        roots=frozenset(map(fingerprint, _listed(data.get("root", [])))),
        warn=parse_span(data.get("warn", "10d")),
        timeout=parse_span(data.get("timeout", "60s")),
        status=Path(data.get("status", status_of(target))),
        runtime=Path(data["runtime"]) if "runtime" in data else None,
        probe=tuple(data.get("probe", ())),
    )


def status_of(target: Path) -> Path:
    """Where an agent that keeps this folder writes its status, unless it is told otherwise."""
    return target.with_name(f"{target.name}.agent.json")


def _is_url(source: str) -> bool:
    return "://" in source


def _remote(data: dict[str, Any]) -> Remote:
    from urllib.parse import urlsplit

    parts = urlsplit(data["source"])
    certificate, key, roots = (Path(data[key]) for key in _REMOTE)
    return Remote(data["source"].rstrip("/"), parts.hostname or "", parts.port or 443, certificate, key, roots, data.get("name", ""))


def _url_mistake(url: str) -> str | None:
    """Why this cannot be the service's address."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        right = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0 and url.isascii() and not any(c.isspace() for c in url)
    except ValueError:
        return f"source: {url!r} is not a URL"
    if right and not (parts.username or parts.password or parts.query or parts.fragment or parts.path not in ("", "/")):
        return None
    return f"source: must be a folder or https://HOST:PORT, and is {url!r}"


def fingerprint(text: str) -> str:
    """A SHA-256 fingerprint in upper-case hex, out of any of its usual forms. Raises Malformed("bad-fingerprint")."""
    bare = re.sub(r"[: ]", "", text.removeprefix("sha256:")).upper()
    if not re.fullmatch(r"[0-9A-F]{64}", bare):
        hint = "gatekey show people-root.crt says it, and so does openssl x509 -noout -fingerprint -sha256 -in people-root.crt"
        raise Malformed("bad-fingerprint", f"{text!r} is no SHA-256 fingerprint of 64 hex digits", hint=hint)
    return bare


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _mistake(key: str, value: Any) -> str | None:
    """What is wrong with one key by itself."""
    if key not in KEYS:
        import difflib

        near = difflib.get_close_matches(key, KEYS, 1)
        return f"{key}: is not a known key" + (f"; did you mean {near[0]}?" if near else f"; known are {', '.join(KEYS)}")
    if key in ("check", "reload", "probe"):
        good = isinstance(value, list) and all(isinstance(word, str) and word and "\0" not in word for word in value)
        return None if good else f'{key}: must be a list of words, such as ["systemctl", "reload", "nginx"]; there is no shell in between'
    if key == "reload-on":
        named = isinstance(value, list) and bool(value) and all(isinstance(name, str) and _FILE.fullmatch(name) for name in value)
        return None if named else f'{key}: must be a list of files of the bundle, such as ["all.crl.pem", "revoked.map"]'
    if key == "root":
        return _root_mistake(value)
    if not isinstance(value, str) or not value or "\0" in value:
        return f"{key}: must be text in quotes"
    if key == "server" and value not in KINDS:
        return f"server: is {value!r}; known are {', '.join(KINDS)}"
    if key == "name":
        return None if _NAME.fullmatch(value) else f"name: must be at most 64 letters, digits, dots, underscores and hyphens, and is {value!r}"
    if key == "source" and _is_url(value):
        return _url_mistake(value)
    if key in _PATHS and not (value.startswith("/") and Path(value).name not in ("", "..")):
        return f"{key}: must be an absolute path, and is {value!r}"
    if key in _SPANS:
        try:
            parse_span(value)
        except Malformed as error:
            return f"{key}: {error.message}; {error.hint}"
    return None


def _root_mistake(value: Any) -> str | None:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) for one in listed):
        return "root: must be a fingerprint in quotes, or a list of them"
    try:
        for one in listed:
            fingerprint(one)
    except Malformed as error:
        return f"root: {error.message}"
    return None


def _together(data: dict[str, Any]) -> list[str]:
    """What does not go together."""
    mistakes = []
    source, target, known = Path(data["source"]), Path(data["target"]), data["server"] != "other"
    if _is_url(data["source"]):
        mistakes += [f"{key}: is missing; {KEYS[key]}" for key in _REMOTE if key not in data]
        mistakes += [f"{key}: must not lie in the target, which is switched as a whole" for key in _REMOTE if target in Path(data.get(key, "/x")).parents]
    if not _is_url(data["source"]) and (source == target or source in target.parents or target in source.parents):
        mistakes.append("target: must be another folder than source, and neither may lie in the other")
    if known and not data.get("check", ["usual"]):
        mistakes.append(f"check: is empty; leave it out and {data['server']} is tested in the usual way")
    if not data.get("reload", ["usual"]) and known:
        mistakes.append(f"reload: is empty; leave it out and {data['server']} is reloaded in the usual way")
    if not known and "reload" not in data:
        mistakes.append("reload: is missing; for another server it must be said, or [] for one that reads its files again by itself")
    if data["server"] != "haproxy" and "runtime" in data:
        mistakes.append("runtime: is for haproxy only")
    if Path(data.get("status", "/x")).parent == target:
        mistakes.append("status: must not lie in the target, which is switched as a whole")
    return mistakes
