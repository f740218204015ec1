"""Until the engine takes the nouns: their fields as keywords."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def unpacked(*values: Any) -> dict[str, Any]:
    """The fields of values, by name, but for a network's name and the source of stimuli."""
    found = {one.name: getattr(value, one.name) for value in values for one in fields(value)}
    return {name: value for name, value in found.items() if name not in ("model", "source")}
