"""Every test here may have a home of its own."""

from __future__ import annotations

from kit.homes import admin, another_home, flat, flat_template, moved_clock, template

__all__ = ["admin", "another_home", "flat", "flat_template", "moved_clock", "template"]
