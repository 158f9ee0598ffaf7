"""Gatekey: put a private website behind client certificates."""
