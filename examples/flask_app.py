"""A Flask app that knows who is there.

    gunicorn flask_app:app --bind unix:/run/hello/app.sock

The web server in front of it asks for the certificate: gatekey webserver nginx --site hello.example.com --upstream unix:/run/hello/app.sock
GATEKEY_BUNDLE names the bundle folder of that web server; it says who is in which group, and who was sent away.
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, render_template_string

from gatekey.identity.flask import Identity, client, require

app = Flask(__name__)
Identity(app, trust="unix", bundle=os.environ.get("GATEKEY_BUNDLE", "/etc/gatekey/bundle"))


@app.get("/")
def home() -> dict[str, Any]:
    """Everything that is known of the caller."""
    return client._asdict()


@app.get("/page")
def page() -> str:
    """Templates have `client`, too."""
    return render_template_string("<h1>Hello {{ client.display }}</h1>{% if client.in_group('staff') %}<a href=staff>Staff</a>{% endif %}")


@app.get("/staff")
@require("staff")
def staff() -> str:
    """Only for the group staff."""
    return f"The staff page, for {client.display}."
