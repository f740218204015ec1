"""The API's pages: plain signatures, every attribute once, and methods that have a page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

LIST = Path(__file__).parents[1] / "reference" / "api.md"
# Defaults that are code of the engine, and what is read instead.
DEFAULTS = (
    (r"Criterion\(test=[^)]*\)|\bDEFAULT\b", "Criterion()"),
    (r"<[^>]*>+|tuple\([A-Z]+\)|\b[A-Z]{4,}\b|lambda [*_]+: None", "..."),
)


def signature(
    _: Sphinx, what: str, __: str, obj: Any, ___: Any, text: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Show plain defaults, and no signature of a class that users never call."""
    if what == "class" and "Parameters\n" not in (obj.__doc__ or ""):
        return "", returned
    for pattern, plain in DEFAULTS:
        text = text and re.sub(pattern, plain, text)
    return text, returned


def attributes(_: Sphinx, what: str, __: str, ___: Any, ____: Any, lines: list[str]) -> None:
    """Turn numpydoc's links from an attribute to a property, which has no entry, into its name."""
    if what == "class":
        lines[:] = [re.sub(r":obj:`(\w+) <[^>]*>`", r"\1", line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the readers of signatures and docstrings, after numpydoc's."""
    listed = re.findall(r"^   ~?([\w.]+)$", LIST.read_text(), re.MULTILINE)
    app.config.autosummary_context = {"listed": listed}
    app.connect("autodoc-process-signature", signature, priority=900)
    app.connect("autodoc-process-docstring", attributes, priority=900)
    return {"parallel_read_safe": True}
