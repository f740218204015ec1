"""What contrasts and rules are written in: tokens, and errors that point at a character."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from ...errors import UserError

# Numbers are bounded, as is how deep brackets nest: a text is not a way to keep a machine busy.
_DEEPEST = 50
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?(?![\w.]))
    | (?P<name>[^\W\d][\w.]*)
    | "(?P<double>[^"]*)" | '(?P<single>[^']*)'
    | (?P<symbol><=|>=|==|[-+*/()<>%])
    )""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """A word of a text: its ``kind`` (number, name, quoted, symbol or end), and where it stands."""

    kind: str
    text: str
    start: int


class Tokens:
    """The tokens of ``text`` from ``start`` to ``stop``, read one by one.

    Raises
    ------
    UserError : at the first character that begins no token
    """

    def __init__(self, text: str, what: str, start: int = 0, stop: int | None = None) -> None:
        self.text = text
        self._what = what
        self._tokens: list[Token] = []
        self._next = 0
        text = text[:stop]
        place, depth = start, 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                place = len(text) - len(text[place:].lstrip())
                message = "a quote is not closed" if text[place] in "\"'" else "this means nothing"
                self.refuse(f"{message} in {what}", Token("symbol", text[place], place))
            kind = match.lastgroup or ""
            token = Token(kind, match[kind], match.start(kind))
            if kind in ("double", "single"):
                token = Token("quoted", token.text, token.start - 1)
            self._tokens.append(token)
            place = match.end()
            depth += (token.text == "(") - (token.text == ")") if token.kind == "symbol" else 0
            if depth > _DEEPEST:
                self.refuse(f"brackets nest {_DEEPEST} deep at most in {what}", token)
        self._tokens.append(Token("end", "", max(start, len(text.rstrip()))))

    @property
    def current(self) -> Token:
        """The next token, which stays the next."""
        return self._tokens[self._next]

    def take(self, *texts: str, kind: str = "") -> Token | None:
        """The next token if it is one of ``texts`` (unquoted) or of this kind; else None."""
        token = self.current
        if (token.kind == kind) if kind else (token.kind != "quoted" and token.text in texts):
            self._next += 1
            return token
        return None

    def expect(self, text: str, after: str) -> None:
        """Take ``text`` or refuse."""
        if self.take(text) is None:
            self.refuse(f"{self._what} needs {text!r} {after}")

    def end(self) -> None:
        """Refuse what is left."""
        if self.current.kind != "end":
            self.refuse(f"{self._what} goes on where it should end")

    def refuse(self, rule: str, at: Token | None = None) -> NoReturn:
        """Raise a :class:`UserError` that shows the text with a caret under ``at``, or the next."""
        at = at or self.current
        came = at.text or ("the end" if at.kind == "end" else "an empty name")
        # Control characters would break the line that the caret counts on.
        shown = "".join(c if c.isprintable() else "?" for c in self.text)
        place = (f"  {shown}", f"  {' ' * at.start}^")
        raise UserError(f"{rule}; got {came!r}", *place) from None
