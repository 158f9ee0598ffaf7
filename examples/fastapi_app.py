"""A FastAPI app that knows who is there.

    uvicorn fastapi_app:app --uds /run/hello/app.sock

The web server in front of it asks for the certificate: gatekey webserver nginx --site hello.example.com --upstream unix:/run/hello/app.sock
GATEKEY_BUNDLE names the bundle folder of that web server; it says who is in which group, and who was sent away.
"""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from gatekey.identity import Client, IdentityMiddleware
from gatekey.identity.starlette import client_of, require

app = FastAPI(title="Hello", docs_url=None, redoc_url=None)
app.add_middleware(IdentityMiddleware, trust="unix", bundle=os.environ.get("GATEKEY_BUNDLE", "/etc/gatekey/bundle"))

Caller = Annotated[Client, Depends(client_of)]


@app.get("/")
def home(client: Caller) -> dict[str, object]:
    """Everything that is known of the caller."""
    return client._asdict()


@app.get("/staff")
def staff(client: Annotated[Client, Depends(require("staff"))]) -> str:
    """Only for the group staff."""
    return f"The staff page, for {client.display}."


@app.websocket("/echo")
async def echo(socket: WebSocket, client: Caller) -> None:
    """Says everything again, under the caller's name; ends when the caller's certificate is taken back."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"{client.login}: {text}")
