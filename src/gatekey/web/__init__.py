"""The room that knows sockets, ASGI and processes. What is answered is decided in `protocols`; what is true, in `authority`."""
