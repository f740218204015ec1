"""Contrasts between categories, and the small language they are written in.

    faces                                    against all other categories
    faces > bodies + scenes                  stimuli of a group against those of another
    faces + bodies > scenes + words
    faces - (bodies + scenes + words)/3      weights of category means, which sum to 0

Names with other characters than letters, digits, ``_`` and ``.`` stand in quotes (a quote in them
is written twice), unless the whole text is the name. A number that neither multiplies nor divides
is the category of that name, if there is one. Names are compared in one Unicode form, NFC.

    contrast = sum | side ">" side
    side     = name { "+" name } | "(" side ")"
    sum      = [ "-" ] term { ("+" | "-") term }
    term     = factor { ("*" | "/") factor }
    factor   = number | name | "(" sum ")"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from ...errors import UserError, nearest, shortened
from ...texts import composed
from ...values import listed
from .grammar import Token, Tokens, quoted


@dataclass(frozen=True)
class Contrast:
    """Target categories against baseline categories, as indices; ``text`` is how it was written.

    ``weights`` are those of the categories in the order target, baseline. ``weighted`` is on where
    they were given by a weighted sum, which only the weighted test fits; else they are even shares
    of 1 and -1.
    """

    text: str
    target: tuple[int, ...]
    baseline: tuple[int, ...]
    weights: tuple[Fraction, ...]
    weighted: bool = False

    def is_same_as(self, other: Contrast) -> bool:
        """Whether it weighs the same categories in the same way, however it is written."""
        own, its = ((c.target, c.baseline, c.weights, c.weighted) for c in (self, other))
        return own == its

    def row_in(self, contrasts: Sequence[Contrast]) -> int | None:
        """Which of ``contrasts`` is the same; None if none is."""
        return next((row for row, one in enumerate(contrasts) if one.is_same_as(self)), None)


def every_category(categories: Sequence[str]) -> list[Contrast]:
    """Each category against all others."""
    return [_against(name, [k], _others([k], categories)) for k, name in enumerate(categories)]


def parse_contrasts(texts: str | Sequence[str] | None, categories: Sequence[str]) -> list[Contrast]:
    """What one or several texts ask for; None is each category against all others.

    Raises
    ------
    UserError : one cannot be read; see :func:`parse_contrast`
    """
    if texts is None:
        return every_category(categories)
    return [parse_contrast(text, categories) for text in listed(texts)]


def pairs(contrast: Contrast) -> list[Contrast]:
    """Its target against each baseline category by itself."""
    if contrast.weighted:
        raise UserError(
            f"a weighted sum is one contrast and has no pairs; got {contrast.text!r}: write A > B"
        )
    return [_against(contrast.text, contrast.target, [other]) for other in contrast.baseline]


def parse_contrast(text: str, categories: Sequence[str], stop: int | None = None) -> Contrast:
    """Read a contrast of ``categories``, which ends at ``stop``; see the head of this module.

    Raises
    ------
    UserError : with a caret under the character where it cannot be read on
    """
    if not isinstance(text, str):
        raise UserError(f"a contrast is a text, such as 'faces > bodies'; got {text!r}")
    whole = place_of(text[:stop], categories)
    if whole is not None:
        return _against(categories[whole], [whole], _others([whole], categories))
    tokens = Tokens(text, "a contrast", stop=stop, known=categories)
    text = text[:stop]
    if tokens.current.kind == "end":
        raise UserError(f"a contrast names categories, of: {shortened(categories)}; got nothing")
    weights = _sum(tokens, categories)
    if mark := tokens.take(">"):
        # Its sides are groups of categories: nothing but names, joined by +.
        target = _group(weights, tokens, mark)
        baseline = _group(_sum(tokens, categories), tokens, mark)
        tokens.end()
        if both := set(target) & set(baseline):
            name = categories[min(both)]
            tokens.refuse(f"a category stands on one side of a contrast; {name} is on both", mark)
        return _against(text, target, baseline)
    tokens.end()
    constant = weights.pop(None, Fraction(0))
    present = {k: w for k, w in weights.items() if k is not None and w}
    if present and not constant and all(w == 1 for w in present.values()):
        return _against(text, sorted(present), _others(sorted(present), categories))
    if not present or constant or sum(present.values()):
        total = sum(present.values()) + constant
        raise UserError(
            f"the weights of a contrast sum to 0; those of {text!r} to {total}: "
            "write A > B, or divide a side by its number of categories"
            + _in_quotes(tokens, categories)
        )
    target = sorted(k for k, w in present.items() if w > 0)
    baseline = sorted(k for k, w in present.items() if w < 0)
    ordered = tuple(present[k] for k in (*target, *baseline))
    return Contrast(text.strip(), tuple(target), tuple(baseline), ordered, weighted=True)


def place_of(name: str, categories: Sequence[str]) -> int | None:
    """Which category a name is of; None if there is none.

    The one that is written so, or else the first that differs in its Unicode form or in spaces
    around it alone.
    """
    if name in categories:
        return categories.index(name)
    form = composed(name).strip()
    return next((k for k, one in enumerate(categories) if composed(one).strip() == form), None)


def _in_quotes(tokens: Tokens, categories: Sequence[str]) -> str:
    """How to write categories that were taken for numbers, as the end of a remedy."""
    named = dict.fromkeys(quoted(one) for one in tokens.numbers if one in categories)
    return f"; categories that are numbers stand in quotes: {shortened(named)}" if named else ""


def _against(text: str, target: Sequence[int], baseline: Sequence[int]) -> Contrast:
    if not baseline:
        raise UserError(f"a contrast needs a category to compare with; {text!r} leaves none")
    shares = [Fraction(1, len(target))] * len(target) + [Fraction(-1, len(baseline))] * len(
        baseline
    )
    return Contrast(text.strip(), tuple(target), tuple(baseline), tuple(shares))


def _others(target: Sequence[int], categories: Sequence[str]) -> list[int]:
    return [k for k in range(len(categories)) if k not in target]


# The weight of every category, and of None: a number by itself.
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
        tokens.refuse("a contrast goes on with a category, a number or a bracket")
    place = place_of(name.text, categories)
    if place is None:
        offered = nearest(name.text, map(quoted, categories))
        tokens.refuse(f"a contrast names categories of the store ({offered})", name)
    return {place: Fraction(1)}
