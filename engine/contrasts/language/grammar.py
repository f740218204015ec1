"""Tokens of contrasts and rules, and errors that point at a character."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple, NoReturn
from unicodedata import category

from ...errors import UserError

# Numbers and nesting are bounded, so that hostile text cannot keep a machine busy.
_DEEPEST = 50
_NUMBER = re.compile(r"(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?")
_LIKE_A_NUMBER = re.compile(r"[\d.]+(?:[eE]\d*)?")
_OTHER = re.compile(
    r"""
      "(?P<double>(?:[^"]|"")*)" | '(?P<single>(?:[^']|\'\')*)'
    | (?P<symbol><=|>=|==|[-+*/()<>%])
    """,
    re.VERBOSE,
)
_PLAIN = re.compile(r"[^\W\d][\w.]*")
_JOINERS = "\u200c\u200d"  # occur within words of Indic scripts and Persian


def quoted(name: str) -> str:
    """``name`` as a user should write it: quoted unless it is a plain name."""
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _word(text: str, start: int) -> str:
    """The letters (with combining marks), digits, ``_`` and ``.`` from ``start`` on."""
    stop = start
    while stop < len(text) and (
        text[stop].isalnum() or text[stop] in _JOINERS + "_." or category(text[stop])[0] == "M"
    ):
        stop += 1
    return text[start:stop]


class Token(NamedTuple):
    """A token of a text: its ``kind`` (number, name, quoted, symbol or end) and position."""

    kind: str
    text: str
    start: int


class Tokens:
    """The tokens of ``text`` from ``start`` to ``stop``.

    Words that begin with a digit are names unless they are numbers; words that look like a number
    but are not valid as one are names only if ``known``.

    Raises
    ------
    UserError : a character begins no token
    """

    def __init__(
        self,
        text: str,
        what: str,
        start: int = 0,
        stop: int | None = None,
        known: Collection[str] = (),
    ) -> None:
        self.text = text
        self._what = what
        self._tokens: list[Token] = []
        self._next = 0
        text = text[:stop]
        place, depth = start, 0
        while text[place:].strip():
            place = len(text) - len(text[place:].lstrip())
            token, place = self._read(text, place, known)
            self._tokens.append(token)
            depth += (token.text == "(") - (token.text == ")") if token.kind == "symbol" else 0
            if depth > _DEEPEST:
                self.refuse(f"brackets nest at most {_DEEPEST} deep in {what}", token)
        self._tokens.append(Token("end", "", max(start, len(text.rstrip()))))

    def _read(self, text: str, place: int, known: Collection[str]) -> tuple[Token, int]:
        """The token at ``place``, and the position after it."""
        word = _word(text, place)
        number = _NUMBER.match(text, place)
        if number and number.end() >= place + len(word):
            return Token("number", number[0], place), number.end()
        named = word[:1] not in ("", ".") and not _LIKE_A_NUMBER.fullmatch(word)
        if named or word in known:
            return Token("name", word, place), place + len(word)
        match = _OTHER.match(text, place)
        if match is None:
            message = "a quote is not closed" if text[place] in "\"'" else "invalid syntax"
            hint = ", where names with characters other than letters and digits are quoted"
            self.refuse(
                f"{message} in {self._what}{hint if known else ''}",
                Token("symbol", text[place], place),
            )
        if match["symbol"]:
            return Token("symbol", match["symbol"], place), match.end()
        mark = text[place]
        return Token("quoted", match[0][1:-1].replace(mark * 2, mark), place), match.end()

    @property
    def numbers(self) -> list[str]:
        """All numbers in the text."""
        return [token.text for token in self._tokens if token.kind == "number"]

    @property
    def current(self) -> Token:
        """The next token, without taking it."""
        return self._tokens[self._next]

    def take(self, *texts: str, kind: str = "") -> Token | None:
        """Take the next token if it is one of ``texts`` (unquoted) or of this kind; else None."""
        token = self.current
        if (token.kind == kind) if kind else (token.kind != "quoted" and token.text in texts):
            self._next += 1
            return token
        return None

    def expect(self, text: str, after: str) -> None:
        """Take ``text``, or raise an error."""
        if self.take(text) is None:
            self.refuse(f"{self._what} needs {text!r} {after}")

    def end(self) -> None:
        """Raise an error unless all tokens are taken."""
        if self.current.kind != "end":
            self.refuse(f"{self._what} continues where it should end")

    def refuse(self, rule: str, at: Token | None = None) -> NoReturn:
        """Raise a :class:`UserError` that shows the text with a caret under ``at``, or the next."""
        at = at or self.current
        got = at.text or ("the end" if at.kind == "end" else "an empty name")
        # Control characters would misplace the caret.
        shown = "".join(c if c.isprintable() else "?" for c in self.text)
        before = sum(
            category(c) != "Mn" for c in shown[: at.start]
        )  # combining marks have no width
        raise UserError(f"{rule}; got {got!r}", f"  {shown}", f"  {' ' * before}^") from None
