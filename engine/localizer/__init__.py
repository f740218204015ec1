"""The built-in localizer: six categories of pictures drawn from a seed."""

from __future__ import annotations

from .make import CATEGORIES, make_stimuli

__all__ = ["CATEGORIES", "make_stimuli"]
