"""An answer as it goes out on a connection: one write for head and body, and whether the connection stays open after it."""

from __future__ import annotations

from typing import Any


def wire(head: bytes, body: bytes, defaults: list[tuple[bytes, bytes]], *, keep: bool) -> tuple[bytes, bool]:
    """An answer as it goes out, and whether the connection stays open. The caller has made sure that every header is one line, and that the length is right."""
    parts = [head]
    if b"\r\nconnection: close\r\n" in head:
        keep = False
    elif not keep:
        parts.append(b"connection: close\r\n")
    for name, value in defaults:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n", body)
    return b"".join(parts), keep


async def write_whole(cycle: Any, head: bytes, body: bytes) -> None:
    """What `cycle.send` does with an answer in two messages, with one write in place of two: a system call less for each request."""
    if cycle.flow.write_paused and not cycle.disconnected:
        await cycle.flow.drain()
    if cycle.disconnected:
        return
    data, cycle.keep_alive = wire(head, body, cycle.default_headers, keep=cycle.keep_alive)
    cycle.response_started, cycle.waiting_for_100_continue = True, False
    cycle.transport.write(data)
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
