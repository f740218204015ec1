"""Contrasts between categories, and the small language they are written in.

    faces                                    against all other categories
    faces > bodies + scenes                  stimuli of one group against those of another
    faces + bodies > scenes + words
    faces - (bodies + scenes + words)/3      weights of category means, which sum to 0

Several contrasts are joined by commas. Names with characters other than letters, digits, ``_`` and
``.`` are quoted (a quote in a name is
doubled), unless the name is the whole text. A number that neither multiplies nor divides is the
category of that name, if there is one. Names are compared in the Unicode form NFC.

    contrast = sum | side ">" side
    side     = name { "+" name } | "(" side ")"
    sum      = [ "-" ] term { ("+" | "-") term }
    term     = factor { ("*" | "/") factor }
    factor   = number | name | "(" sum ")"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from ...errors import UserError, nearest, shortened
from ...texts import composed
from ...values import listed
from .grammar import Token, Tokens, quoted

_QUOTED_OR_COMMA = re.compile(r""""(?:[^"]|"")*"|'(?:[^']|'')*'|,""")


@dataclass(frozen=True)
class Contrast:
    """Target categories against baseline categories, as indices; ``text`` is the source text.

    ``named`` are the categories of the baseline; None if it is all others of ``categories``, which
    are then listed only when they are asked for: every category against all others takes memory
    linear in their number. ``unequal`` are the weights of a weighted sum, in the order target,
    baseline; None if they are equal shares of 1 and -1.
    """

    text: str
    target: tuple[int, ...]
    named: tuple[int, ...] | None
    categories: int
    unequal: tuple[Fraction, ...] | None = None

    @property
    def baseline(self) -> tuple[int, ...]:
        """The categories that the target is compared with."""
        if self.named is not None:
            return self.named
        own = set(self.target)
        return tuple(k for k in range(self.categories) if k not in own)

    @property
    def weights(self) -> tuple[Fraction, ...]:
        """Weights of the categories, in the order target, baseline; they sum to 0."""
        if self.unequal is not None:
            return self.unequal
        target, baseline = len(self.target), len(self.baseline)
        return (Fraction(1, target),) * target + (Fraction(-1, baseline),) * baseline

    @property
    def weighted(self) -> bool:
        """Whether it was written as a weighted sum, which only the weighted test applies to."""
        return self.unequal is not None

    @property
    def category(self) -> int | None:
        """The category that is compared with all others; None for another contrast."""
        return self.target[0] if self.named is None and len(self.target) == 1 else None

    def is_same_as(self, other: Contrast) -> bool:
        """Whether both weigh the same categories equally, however they are written."""
        own, its = ((c.target, c.named, c.categories, c.unequal) for c in (self, other))
        return own == its


def every_category(categories: Sequence[str]) -> list[Contrast]:
    """Each category against all others."""
    return [_against(name, [k], None, len(categories)) for k, name in enumerate(categories)]


def parse_contrasts(texts: str | Sequence[str] | None, categories: Sequence[str]) -> list[Contrast]:
    """Parse one or several contrasts; None stands for each category against all others.

    Commas outside quotes separate contrasts, unless the text is the name of a category.

    Raises
    ------
    UserError : see :func:`parse_contrast`
    """
    if texts is None:
        return every_category(categories)
    return [parse_contrast(one, categories)
            for text in listed(texts) for one in _separated(text, categories)]  # fmt: skip


def _separated(text: str, categories: Sequence[str]) -> list[str]:
    """The contrasts that commas of a text separate."""
    if not isinstance(text, str) or "," not in text or place_of(text, categories) is not None:
        return [text]
    cuts = [found.start() for found in _QUOTED_OR_COMMA.finditer(text) if found[0] == ","]
    return [text[start + 1 : stop] for start, stop in pairwise((-1, *cuts, len(text)))]


def pairs(contrast: Contrast) -> list[Contrast]:
    """Contrasts of the target against each baseline category."""
    if contrast.weighted:
        raise UserError(
            f"a weighted sum is one contrast and has no pairs; got {contrast.text!r}: write A > B"
        )
    own, categories = contrast.target, contrast.categories
    return [_against(contrast.text, own, [other], categories) for other in contrast.baseline]


def parse_contrast(text: str, categories: Sequence[str], stop: int | None = None) -> Contrast:
    """Parse a contrast of ``categories`` that ends at ``stop``; the module describes the language.

    Raises
    ------
    UserError : the text cannot be parsed; a caret points at the character
    """
    if not isinstance(text, str):
        raise UserError(f"a contrast is a string, such as 'faces > bodies'; got {text!r}")
    whole = place_of(text[:stop], categories)
    if whole is not None:
        return _against(categories[whole], [whole], None, len(categories))
    tokens = Tokens(text, "a contrast", stop=stop, known=categories)
    text = text[:stop]
    if tokens.current.kind == "end":
        raise UserError(f"a contrast names categories ({shortened(categories)}); got nothing")
    weights = _sum(tokens, categories)
    if mark := tokens.take(">"):
        target = _group(weights, tokens, mark)
        baseline = _group(_sum(tokens, categories), tokens, mark)
        tokens.end()
        if both := set(target) & set(baseline):
            name = categories[min(both)]
            tokens.refuse(f"a category is on one side of a contrast; {name} is on both", mark)
        return _against(text, target, baseline, len(categories))
    tokens.end()
    constant = weights.pop(None, Fraction(0))
    present = {k: w for k, w in weights.items() if k is not None and w}
    if present and not constant and all(w == 1 for w in present.values()):
        return _against(text, sorted(present), None, len(categories))
    if not present or constant or sum(present.values()):
        total = sum(present.values()) + constant
        raise UserError(
            f"the weights of a contrast sum to 0; those of {text!r} sum to {total}: "
            "write A > B, or divide a side by its number of categories"
            + _in_quotes(tokens, categories)
        )
    target = sorted(k for k, w in present.items() if w > 0)
    baseline = sorted(k for k, w in present.items() if w < 0)
    ordered = tuple(present[k] for k in (*target, *baseline))
    return Contrast(text.strip(), tuple(target), tuple(baseline), len(categories), ordered)


def translated(contrast: Contrast, names: Sequence[str], categories: Sequence[str]) -> Contrast:
    """The same contrast of other categories.

    One against all others stays one against all others, which need not be the same.

    Parameters
    ----------
    names : the counterpart of each of the contrast's target and baseline categories, in order; of
        its target alone if it is against all others
    categories : those that the counterparts are of
    """
    number = len(contrast.target)
    if contrast.weighted:
        terms = zip(contrast.weights, map(quoted, names), strict=True)
        signed = (f"{'-' if weight < 0 else '+'} {abs(weight)} * {name}" for weight, name in terms)
        text = " ".join(signed).removeprefix("+ ")
    elif contrast.named is None and number == 1:
        text = names[0]
    else:
        sides = (names[:number], names[number:])
        text = " > ".join(" + ".join(map(quoted, side)) for side in sides if side)
    return parse_contrast(text, categories)


def place_of(name: str, categories: Sequence[str]) -> int | None:
    """Index of the category with a name, or None.

    An exact match comes first, then one that differs only in Unicode form or surrounding spaces.
    """
    exact, by_form = _places(tuple(categories))
    return exact.get(name, by_form.get(composed(name).strip()))


@lru_cache(1)
def _places(categories: tuple[str, ...]) -> tuple[dict[str, int], dict[str, int]]:
    """Indices of categories by name, and by its form without surrounding spaces; the first wins."""
    last_first = [(name, k) for k, name in enumerate(categories)][::-1]
    return dict(last_first), {composed(name).strip(): k for name, k in last_first}


def contrast_end(text: str, categories: Sequence[str]) -> int | None:
    """Position of the colon that ends the contrast of a query: the first outside quotes.

    If the query begins with the name of a category, it is the colon after that name.
    """
    for name in sorted(categories, key=len, reverse=True):
        rest = text.lstrip().removeprefix(name.strip()).lstrip()
        if rest.startswith(":") and len(rest) < len(text.lstrip()):
            return len(text) - len(rest)
    quote = ""
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == ":":
            return index
    return None


def _in_quotes(tokens: Tokens, categories: Sequence[str]) -> str:
    """Remedy for categories that were read as numbers."""
    named = dict.fromkeys(quoted(one) for one in tokens.numbers if one in categories)
    return f"; quote categories that are numbers: {shortened(named)}" if named else ""


def _against(
    text: str, target: Sequence[int], baseline: Sequence[int] | None, categories: int
) -> Contrast:
    """A contrast of equal weights; without a ``baseline``, against all other categories."""
    if len(target) == categories:
        raise UserError(f"a contrast needs a category to compare with; {text!r} leaves none")
    if baseline is not None and len(target) + len(baseline) == categories:
        baseline = None
    named = None if baseline is None else tuple(baseline)
    return Contrast(text.strip(), tuple(target), named, categories)


# Weights by category; None is the key of a constant.
_Weights = dict[int | None, Fraction]


def _group(weights: _Weights, tokens: Tokens, mark: Token) -> list[int]:
    if None in weights or any(weight != 1 for weight in weights.values()):
        tokens.refuse("the sides of > are names joined by +, without weights", mark)
    return sorted(k for k in weights if k is not None)


def _sum(tokens: Tokens, categories: Sequence[str]) -> _Weights:
    total: _Weights = {}
    sign = -1 if tokens.take("-") else 1
    while True:
        for k, weight in _term(tokens, categories).items():
            total[k] = total.get(k, Fraction(0)) + sign * weight
        if token := tokens.take("+", "-"):
            sign = -1 if token.text == "-" else 1
        else:
            return total


def _term(tokens: Tokens, categories: Sequence[str]) -> _Weights:
    first = tokens.current
    product = _factor(tokens, categories)
    if first.kind == "number" and tokens.current.text not in ("*", "/"):
        place = place_of(first.text, categories)
        return product if place is None else {place: Fraction(1)}
    while token := tokens.take("*", "/"):
        second = _factor(tokens, categories)
        if token.text == "/" or set(second) == {None}:
            if set(second) != {None} or (token.text == "/" and not second[None]):
                tokens.refuse("a contrast is divided by numbers other than 0", token)
            by = second[None] if token.text == "*" else 1 / second[None]
            product = {k: weight * by for k, weight in product.items()}
        elif set(product) == {None}:
            product = {k: weight * product[None] for k, weight in second.items()}
        else:
            tokens.refuse("a contrast is a sum of categories, not a product", token)
    return product


def _factor(tokens: Tokens, categories: Sequence[str]) -> _Weights:
    if tokens.take("("):
        inner = _sum(tokens, categories)
        tokens.expect(")", "to close its bracket")
        return inner
    if number := tokens.take(kind="number"):
        return {None: Fraction(number.text)}
    name = tokens.take(kind="name") or tokens.take(kind="quoted")
    if name is None:
        tokens.refuse("a contrast continues with a category, a number or a bracket")
    place = place_of(name.text, categories)
    if place is None:
        offered = nearest(name.text, map(quoted, categories))
        tokens.refuse(f"a contrast names categories of the store ({offered})", name)
    return {place: Fraction(1)}
