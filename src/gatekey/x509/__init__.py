"""Bytes <-> values: the only room that speaks ASN.1. It never meets SQL, files or the clock."""
