"""Hypothesis without deadlines: a busy machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("recblr", deadline=None)
settings.load_profile("recblr")
