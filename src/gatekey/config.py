"""`gatekey.toml` as a checked value. Every mistake is reported at once, and an unknown key names the nearest known one."""

from __future__ import annotations

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
}


class Config(NamedTuple):
    """What `gatekey.toml` says. `publish` and `passphrase_file` are absolute paths or None."""

    home: Path
    name: str
    url: str = ""
    publish: Path | None = None
    passphrase_file: Path | None = None
    unencrypted_keys: bool = False


def default_home() -> Path:
    """Where the authority lives when neither --home nor GATEKEY_HOME says otherwise: the platform's per-user data folder."""
    import sys

    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "gatekey"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "gatekey"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "gatekey"


def url_problem(url: str) -> str | None:
    """Why this cannot be the authority's address, or None. CRLs and OCSP are fetched over plain HTTP (RFC 5280 4.2.1.13; HTTPS would need itself first)."""
    from urllib.parse import urlsplit  # 3 ms, and few configurations have a URL

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"{url!r} is not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"{url!r} is not an http:// or https:// URL"
    if parts.username or parts.password:
        return "the URL has a user name or password in it"
    if parts.query or parts.fragment:
        return f"{url!r} has a query or a fragment"
    if not url.isascii() or any(c.isspace() for c in url) or (port is not None and port == 0):
        return f"{url!r} has characters that a URL cannot carry"
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
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured("config-unreadable", f"{path} cannot be read: {error}", path=str(path)) from error
    return parse(text, home)


def parse(text: str, home: Path) -> Config:
    """TOML text -> Config. Raises Misconfigured with all mistakes at once."""
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured("config-toml", f"{home / 'gatekey.toml'} is not TOML: {error}", path=str(home / "gatekey.toml")) from error
    mistakes = [mistake for key, value in data.items() if (mistake := _mistake(key, value))]
    if not data.get("name"):
        mistakes.append("name: is missing; init writes it")
    if mistakes:
        raise Misconfigured("config-mistake", f"{home / 'gatekey.toml'}: " + "; ".join(mistakes), path=str(home / "gatekey.toml"), mistakes=mistakes)
    return Config(
        home=home,
        name=data["name"],
        url=str(data.get("url", "")).rstrip("/"),
        publish=_path(home, data.get("publish")),
        passphrase_file=_path(home, data.get("passphrase-file")),
        unencrypted_keys=bool(data.get("unencrypted-keys", False)),
    )


def _path(home: Path, value: Any) -> Path | None:
    return home / str(value) if value else None


def _mistake(key: str, value: Any) -> str | None:
    if key not in KEYS:
        import difflib

        near = difflib.get_close_matches(key, KEYS, 1)
        return f"{key}: is not a known key" + (f"; did you mean {near[0]}?" if near else f"; known are {', '.join(KEYS)}")
    if key == "unencrypted-keys":
        return None if isinstance(value, bool) else f"{key}: must be true or false"
    if not isinstance(value, str):
        return f"{key}: must be text in quotes"
    return f"url: {problem}" if key == "url" and value and (problem := url_problem(value)) else None


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
