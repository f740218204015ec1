"""The page: a template with its style and script inside, so that it needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

# In the order in which they need each other.
_SCRIPTS = ("base", "plot", "lines", "heat", "ridges", "rows", "figure", "depth", "atlayer", "best",
            "main")  # fmt: skip
_PLACE = re.compile(r"\{\{([a-z]+)\}\}")


@cache
def shipped(name: str) -> str:
    """A file of the page as it is shipped with the package."""
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """The page's script, which names nothing outside of itself."""
    parts = (shipped(f"{name}.js") for name in _SCRIPTS)
    return '"use strict";(() => {\n' + "\n".join(parts) + "\n})();"


def style() -> str:
    """The page's style sheet."""
    return shipped("page.css")


def fill(template: str, parts: Mapping[str, str]) -> str:
    """A template with every place filled, in one reading: what is filled in is not read again.

    Raises
    ------
    KeyError : a place has nothing to be filled with
    """
    return _PLACE.sub(lambda place: parts[place[1]], shipped(template))
