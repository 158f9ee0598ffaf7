"""Protocols without sockets: a `Call` in, an `Answer` out. They see neither a key nor a builder, and no server knows what they mean."""
