"""Hypothesis runs without deadlines: a busy machine must not fail a test."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("recblr", deadline=None)
settings.load_profile("recblr")
