"""Texts of options as values: joined names, numbers, dimensions."""

from __future__ import annotations

import os
from collections.abc import Iterable

from fusiform.engine.errors import UserError


def names(given: Iterable[str] | None, *default: str) -> list[str]:
    """Names that are joined by commas, given by a repeated option, or both."""
    if not given:
        return list(default)
    return [part.strip() for text in given for part in text.split(",")]


def paths(given: Iterable[str] | None) -> list[str]:
    """Paths, joined and repeated as names are; one that exists may have commas in its name."""
    return [
        one
        for text in given or ()
        for one in ([text] if os.path.exists(text) else names([text]))  # noqa: PTH110 - or URLs
    ]


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


def decimals(given: Iterable[str]) -> list[float]:
    """Numbers, joined and repeated as names are."""
    parts = names(given)
    try:
        return [float(part) for part in parts]
    except ValueError:
        raise UserError(f"numbers joined by commas are needed; got {','.join(parts)!r}") from None


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
