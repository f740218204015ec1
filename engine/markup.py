"""HTML of text that may say anything: what is not markup already is escaped on its way in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Markup(str):
    """Text that is HTML as it stands."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """An element; ``class_`` is its class, other underscores are hyphens."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_encodable(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{said}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """Parts one after the other, those escaped that are no markup."""
    return Markup(
        "".join(part if isinstance(part, Markup) else escape(_encodable(part)) for part in parts)
    )


def definitions(rows: Iterable[tuple[str, str]]) -> Markup:
    """A list of terms and what they are."""
    return tag("dl", *(part for term, text in rows for part in (tag("dt", term), tag("dd", text))))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table of texts."""
    return tag(
        "table",
        tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head))),
        tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows)),
    )


def _encodable(text: str) -> str:
    """Text without halves of surrogate pairs, which no encoding has a place for."""
    return text.encode("utf-8", "backslashreplace").decode()
