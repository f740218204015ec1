"""Colours of the page and of figures: the same for a category everywhere, told apart by anyone.

The eight colours of categories keep the hues of Okabe & Ito (2008, Color Universal Design), darker
on white and lighter on black, so that each has a contrast of 3 or more against its paper (WCAG 2.2,
1.4.11), and that they stay apart where one kind of cone is missing (simulated after Machado,
Oliveira & Fernandes 2009, IEEE TVCG 15(6)). Markers tell them apart without colour.
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
    """The colours and the marker of the category at a place: from the ninth on, others together."""
    colour, round_again = place % NUMBER, place // NUMBER
    return {
        "light": _CATEGORIES["light"][colour],
        "dark": _CATEGORIES["dark"][colour],
        "marker": (colour + round_again) % NUMBER,
    }
