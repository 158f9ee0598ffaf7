"""Who is calling, in one line of Python, behind any web server: middleware for ASGI, WSGI and Django. Standard library only, usable without the rest.

    from gatekey.identity import IdentityMiddleware      # ASGI; WSGI has gatekey.identity.wsgi, Django gatekey.identity.django

    app = IdentityMiddleware(app, trust="unix", bundle="/etc/gatekey")

docs/identity.md says how it is used in each framework, what it refuses, and against whom.
"""

from __future__ import annotations

from .asgi import IdentityMiddleware
from .client import NOBODY, Client
from .doorman import Doorman
from .sources import certificate_header
from .trust import Secret

__all__ = ["IdentityMiddleware", "Client", "NOBODY", "Secret", "Doorman", "certificate_header"]
