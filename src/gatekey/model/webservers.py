"""The web servers for which configurations are written."""

from __future__ import annotations

SERVERS = ("nginx", "apache", "haproxy", "caddy", "traefik", "envoy")
