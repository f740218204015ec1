"""Colours of the page and of figures, one per category, safe for colour-blind readers.

The eight category colours keep the hues of Okabe & Ito (2008, Color Universal Design), darker on
white and lighter on black: each has a contrast of at least 3 with its background (WCAG 2.2,
1.4.11), and they remain distinct with any one cone type missing (simulated after Machado, Oliveira
& Fernandes 2009, IEEE TVCG 15(6)). Markers distinguish categories without colour.
"""

from __future__ import annotations

from typing import Any

_CATEGORIES = {
    "light": ("#3a6fe2", "#a83200", "#2b7a5a", "#6d1568",
              "#b18f00", "#1d1d22", "#0f9cb6", "#a06a8a"),
    "dark": ("#4d7ff0", "#d96a1a", "#86cba9", "#a5669f",
             "#fbd63c", "#f6f2e8", "#37ccf6", "#8f8f98"),
}  # fmt: skip
NUMBER = len(_CATEGORIES["light"])

THEMES: dict[str, dict[str, Any]] = {
    "light": {
        "name": "light", "ink": "#16181d", "muted": "#555b66", "grid": "#d9dce2",
        "paper": "#ffffff", "ground": "#f1f3f6",
        "ramp": ["#f1f4f8", "#bfd4e9", "#75a5d1", "#2f6fae", "#0b3a70"],
        "diverging": ["#8f3a00", "#e0a070", "#f6f6f6", "#86b0d8", "#0b3a70"],
    },
    "dark": {
        "name": "dark", "ink": "#eceef2", "muted": "#a5acb8", "grid": "#333943",
        "paper": "#15181d", "ground": "#20252d",
        "ramp": ["#1c222a", "#1f4166", "#2f70ab", "#6cafe3", "#dbeeff"],
        "diverging": ["#ffc79a", "#a8602c", "#1c222a", "#2f70ab", "#cfe7ff"],
    },
}  # fmt: skip


def of_category(place: int) -> dict[str, Any]:
    """Colours and marker of the ``place``-th category; from the ninth on, colours repeat."""
    colour, round_again = place % NUMBER, place // NUMBER
    return {
        "light": _CATEGORIES["light"][colour],
        "dark": _CATEGORIES["dark"][colour],
        "marker": (colour + round_again) % NUMBER,
    }
