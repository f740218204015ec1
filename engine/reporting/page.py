"""The page's template, with style and script inline so that it needs no other file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

# In dependency order.
_SCRIPTS = ("base", "plot", "lines", "heat", "ridges", "rows", "figure", "depth", "atlayer", "best",
            "results", "cite", "main")  # fmt: skip
_PLACEHOLDER = re.compile(r"\{\{([a-z]+)\}\}")


@cache
def shipped(name: str) -> str:
    """Text of a file in the package's ``page`` folder."""
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """The page's script, wrapped so that it defines no global names."""
    parts = (shipped(f"{name}.js") for name in _SCRIPTS)
    return '"use strict";(() => {\n' + "\n".join(parts) + "\n})();"


def style() -> str:
    """The page's style sheet."""
    return shipped("page.css")


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Fill every placeholder of a template, in one pass: inserted text is not filled again.

    Raises
    ------
    KeyError : a placeholder has no part
    """
    return _PLACEHOLDER.sub(lambda found: parts[found[1]], shipped(template))
