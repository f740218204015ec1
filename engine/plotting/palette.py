"""Colours, markers and dashes of the page and of figures, safe for colour-blind readers.

The twelve category colours were generated: within the hues of their names, the lightness and
saturation that keep any two furthest apart with any one cone type missing (simulated after Machado,
Oliveira & Fernandes 2009, IEEE TVCG 15(6)), each with a contrast of at least 3 with its background
(WCAG 2.2, 1.4.11). Markers and dashes distinguish categories without colour.
"""

from __future__ import annotations

from typing import Any

_CATEGORIES = {
    # blue, red, green, violet, ochre, ink, sky, pink, olive, indigo, brown, mauve
    "light": ("#306cd8", "#a82418", "#006c54", "#6c0c90", "#9c6c0c", "#181818",
              "#249ccc", "#e4609c", "#849c00", "#3018cc", "#602400", "#785490"),
    "dark": ("#609cfc", "#f06c24", "#6cfc9c", "#c018f0", "#c0b478", "#f0f0f0",
             "#0cccd8", "#c01878", "#fcd824", "#5460b4", "#906000", "#a878a8"),
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
    """Colours, marker and dash of the ``place``-th category.

    From the thirteenth on, colours and markers repeat, together with another dash.
    """
    colour, dash = place % NUMBER, place // NUMBER
    return {
        "light": _CATEGORIES["light"][colour],
        "dark": _CATEGORIES["dark"][colour],
        "marker": (colour + dash) % NUMBER,
        "dash": dash,
    }
