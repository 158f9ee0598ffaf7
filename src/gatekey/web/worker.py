"""One worker process: its house, its listeners, its threads, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from .hot import Door
from .routes import apps, routes
from .server import Listener, serve

if TYPE_CHECKING:
    from .house import House
    from .tls import Tls

Sockets = dict[str, list[socket.socket]]


def work(house: House, sockets: Sockets, speaking: dict[str, Tls], life: int, ready: Callable[[], None]) -> int:
    """Serves until SIGTERM, SIGINT, or the end of the supervisor (`life` is a pipe that then closes). Answers with an exit code."""
    _take_files()
    house.log.adopt("uvicorn.error")
    house.log.adopt("asyncio")
    house.load()
    table, applications = routes(house), apps(house)
    doors = {name: Door(house, name, table, applications.get(name)) for name in sockets}
    listeners = [Listener(doors[name], opened, speaking.get(name), house.seats) for name, opened in sockets.items()]
    house.start()
    gc.collect()
    gc.freeze()  # what was loaded stays: no collection needs to look at a million certificates again
    try:
        asyncio.run(_run(house, listeners, life, ready))
    finally:
        house.stop()
    return 0


def _take_files() -> None:
    """As many open files as we may have: 1,024, which many systems begin with, are fewer than the connections that we allow."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(house: House, listeners: list[Listener], life: int, ready: Callable[[], None]) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ended.set)
    loop.add_reader(life, _over, loop, life, ended)
    await serve(house, listeners, ready, ended)


def _over(loop: asyncio.AbstractEventLoop, life: int, ended: asyncio.Event) -> None:
    """The pipe says something only by closing: the supervisor is gone, and nobody would ever end us."""
    loop.remove_reader(life)
    os.close(life)
    ended.set()
