"""Texts of options as values: joined names, numbers, groups, dimensions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fusiform.engine.errors import UserError


def names(given: Iterable[str] | None, *default: str) -> list[str]:
    """Names that are joined by commas, given by a repeated option, or both."""
    if not given:
        return list(default)
    return [part.strip() for text in given for part in text.split(",")]


def numbers(given: Iterable[str] | None, *default: int) -> list[int]:
    """Whole numbers, joined and repeated as names are."""
    if not given:
        return list(default)
    parts = names(given)
    try:
        return [int(part) for part in parts]
    except ValueError:
        said = ",".join(parts)
        raise UserError(f"whole numbers joined by commas are needed; got {said!r}") from None


def groups(given: Iterable[str]) -> dict[str, list[str]]:
    """``CATEGORY=FOLDER,...`` as a dict."""
    found: dict[str, list[str]] = {}
    for text in given:
        category, equals, folders = text.partition("=")
        # A folder with a comma in its name stands in quotes.
        named = re.findall(r'\s*"([^"]+)"\s*(?:,|$)|([^,]+)', folders)
        listed = [folder for one in named if (folder := (one[0] or one[1]).strip())]
        if not category.strip() or not equals or not listed:
            raise UserError(f"a group is CATEGORY=FOLDER,FOLDER...; got --group {text!r}")
        if category.strip() in found:
            raise UserError(
                f"a category is given by one --group; {category.strip()} has two: join them"
            )
        found[category.strip()] = listed
    return found


def dims(given: Iterable[str]) -> dict[str, str]:
    """``LAYER=DIM,...`` as a dict."""
    found: dict[str, str] = {}
    for text in given:
        layer, equals, named = text.partition("=")
        if not equals:
            raise UserError(f"dimensions are LAYER=DIM,DIM,...; got --dims {text!r}")
        if layer in found:
            raise UserError(f"dimensions are given by one --dims; {layer} has two: leave one out")
        found[layer] = named.replace(" ", "")
    return found
