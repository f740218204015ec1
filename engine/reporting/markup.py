"""HTML of text that may say anything: what is not markup already is escaped on its way in."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable
from html import escape
from typing import Any

# What ends a script, begins markup, or ends a line for some readers of JavaScript: as escapes that
# JSON reads the same.
_IN_SCRIPTS = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


class Markup(str):
    """Text that is HTML as it stands."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """An element; ``class_`` is its class, other underscores are hyphens."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{said}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Markup:
    """Parts one after the other, those escaped that are no markup."""
    return Markup(
        "".join(part if isinstance(part, Markup) else escape(_storable(part)) for part in parts)
    )


def definitions(rows: Iterable[tuple[str, str]]) -> Markup:
    """A list of terms and what they are."""
    return tag("dl", *(tag(kind, text) for row in rows for kind, text in zip(("dt", "dd"), row)))


def json_block(value: Any) -> Markup:
    """JSON that nothing can end before its end, whatever its texts hold.

    Raises
    ------
    ValueError : a number is not finite, which JSON has no name for
    """
    # Without spaces, and in ASCII: halves of surrogate pairs are escapes, too.
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup("".join(_IN_SCRIPTS.get(character, character) for character in text))


def policy(script: str, style: str) -> str:
    """A Content-Security-Policy under which a page runs this script and nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _storable(text: str) -> str:
    """Text without halves of surrogate pairs, which no encoding has a place for."""
    return text.encode("utf-8", "backslashreplace").decode()
