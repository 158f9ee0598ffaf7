"""Who writes the configuration of which web server: one file of this folder each, read only when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from ..errors import Refused
from ..model.webservers import SERVERS
from .site import Configuration, Site


def configuration(server: str, site: Site, running: str = "") -> Configuration:
    """The configuration of a site. `running`: what `nginx -T` prints, for nginx alone; "" when that is not known.

    Raises Refused with every reason why it cannot be written, Malformed when `running` cannot be understood.
    """
    if server not in SERVERS:
        raise Refused("server-cannot", f"there is no writer for {server!r}", hint=f"one of {', '.join(SERVERS)}")
    if server == "nginx" and running:
        from . import nginx
        from .running import read_running

        return nginx.configuration(site, read_running(running))
    written: Configuration = importlib.import_module(f"gatekey.webserver.{server}").configuration(site)
    return written


def site(said: Mapping[str, Any]) -> Site:
    """A site out of words by the names of `Site`'s fields; what is empty keeps its default, and `plain` may be `none` for nowhere."""
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in said.items() if value}
    if given.get("plain") == ("none",):
        given["plain"] = ()
    return Site(**given)


def as_dict(written: Configuration) -> dict[str, Any]:
    """A configuration as JSON has it."""
    return {
        "server": written.server,
        "file": written.file,
        "text": written.text,
        "includes": written.includes,
        "programs": written.programs,
        "notes": list(written.notes),
        "check": list(written.check),
        "reload": list(written.reload),
    }
