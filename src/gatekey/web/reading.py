"""How much of a connection is read at once: as much as an honest request needs, so that one who floods costs little memory and leaves the others their turn."""

from __future__ import annotations

from asyncio import sslproto

from uvicorn.protocols.http.flow_control import FlowControl

#: Bytes that are taken from a connection at once, and of them those that the parser gets at once.
READ_BYTES, SLICE = 32 * 1024, 2048
# TLS: each connection has a buffer of this size; with asyncio's own 256 KiB, 4096 connections have a gigabyte.
sslproto.SSLProtocol.max_size = READ_BYTES


class Flow(FlowControl):
    """Reads when neither uvicorn has it `paused` nor we have it `held`, because what was read waits for its turn."""

    paused = held = False

    def pause_reading(self) -> None:
        self.paused = True
        self._set()

    def resume_reading(self) -> None:
        self.paused = False
        self._set()

    def hold(self, held: bool) -> None:
        self.held = held
        self._set()

    def _set(self) -> None:
        if self.read_paused != (self.paused or self.held):
            self.read_paused = not self.read_paused
            (self._transport.pause_reading if self.read_paused else self._transport.resume_reading)()
