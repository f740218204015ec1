"""HTML elements of text, which is escaped unless it is markup already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """An element; ``class_`` sets its class, other underscores become hyphens."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_encodable(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """Concatenate parts, escaping those that are not markup."""
    return Markup("").join(map(_encodable, parts))


def definitions(rows: Iterable[tuple[str, str]]) -> Markup:
    """A list of terms and their descriptions."""
    return tag("dl", *(part for term, text in rows for part in (tag("dt", term), tag("dd", text))))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table of text."""
    return tag(
        "table",
        tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head))),
        tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows)),
    )


def _encodable(text: str) -> str:
    """Text without lone surrogates, which UTF-8 cannot encode; markup stays markup."""
    return text if isinstance(text, Markup) else text.encode("utf-8", "backslashreplace").decode()
