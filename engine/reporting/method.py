"""What was done, in sentences that a paper can quote, with the references they rest on.

``docs/definitions.md`` says the same of every number at length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import unescape

from ..analyses.analyse import Analysis
from ..contrasts.language.criterion import Criterion
from ..markup import Markup, join, tag
from .findings import Reported, contrasts_of
from .page import fill, shipped
from .thresholds import GRIDS

_TESTS = {
    "each": "the smallest of the Welch t of the target's stimuli against each baseline category (a "
    "minimum-statistic conjunction; Nichols et al. 2005), its p the largest of the single tests'",
    "rest": "Welch's t of the target's stimuli against all stimuli of the baseline pooled (Welch "
    "1947), with Welch-Satterthwaite degrees of freedom",
    "student": "Student's t (Student 1908) of the target's stimuli against all stimuli of the "
    "baseline pooled, with one variance for both",
    "weighted": "t of the weighted sum of category means, sum w m / sqrt(sum w² v/n), with "
    "Satterthwaite's degrees of freedom (Satterthwaite 1946)",
}
_CORRECTIONS = {
    "bh": "the false discovery rate of Benjamini & Hochberg (1995)",
    "by": "the false discovery rate of Benjamini & Yekutieli (2001)",
    "bonferroni": "Bonferroni's family-wise correction",
    "none": "p, uncorrected",
}
_AUTHOR = re.compile(r"^(\w+).*? ([12][0-9]{3})\.")


def method(
    stores: Sequence[Reported], counts: Sequence[str], criterion: Criterion, version: str
) -> Markup:
    """The method of a report; ``counts`` say how many stimuli each store's scan showed, and how."""
    first = stores[0].analysis
    paragraphs = [
        *(_network(one, shown) for one, shown in zip(stores, counts, strict=True)),
        "Responses were streamed into counts, means and sums of squared deviations per unit, "
        f"category and fold (Chan, Golub & LeVeque 1979) by fusiform {version}; all that follows "
        "is computed from these. Units that are constant over all stimuli are dead, those that "
        "gave NaN or infinity nonfinite; neither is ever selective. The others are living.",
        " ".join(_criterion(criterion, contrasts_of(stores))),
        _held_out(first.folds),
    ]
    said = join(tag("p", text) for text in paragraphs) + _terms(first)
    cited = join(tag("li", text) for text in _cited(unescape(said)))
    return Markup(said + tag("h3", "References") + tag("ul", cited))


def _terms(found: Analysis) -> str:
    grids = (f"{grid.symbol} {grid.sign} x, {grid.long}" for grid in GRIDS.values())
    distance = found.consistency.distance if found.consistency else "correlation"
    return fill(
        "terms.html",
        {
            "drawn": f"{found.resamples:,} draws, seed {found.seed}",
            "grids": join(["; ".join(grids)]),
            "distance": f"{distance} distance",
        },
    )


def _cited(text: str) -> Iterator[str]:
    """The references that a text names, by their first author and year."""
    for reference in shipped("references.txt").splitlines():
        author, year = _AUTHOR.findall(reference)[0]
        if re.search(rf"{author}\b[^;)]{{0,40}}{year}", text):
            yield reference


def _network(one: Reported, shown: str) -> str:
    said = one.analysis.provenance
    weights = said.get("weights_sha256")
    hashed = f", SHA-256 of the weights {str(weights)[:16]}…" if weights else ""
    named = f"{one.letter}: " if one.letter else ""
    units = sum({row.layer: row.units for row in one.analysis.shares}.values())
    return (
        f"{named}{said['model']} ({said['weights']}{hashed}) was shown {shown}. "
        f"{len(one.analysis.layers):,} layers of {units:,} units are reported."
    )


def _criterion(criterion: Criterion, contrasts: Sequence[str]) -> Iterator[str]:
    yield (
        f"A unit is selective for the target of a contrast where {criterion.where}; t is "
        f"{_TESTS[criterion.test]}; p is {'one' if criterion.sides == 1 else 'two'}-sided."
    )
    if any(condition.measure == "q" for condition in criterion.rule().conditions()):
        yield (
            f"q is p corrected by {_CORRECTIONS[criterion.correction]}, over the finite units of "
            f"{'a layer' if criterion.family == 'layer' else 'all layers'}, contrast by contrast."
        )
    if criterion.pairwise:
        yield "The rule had to hold against each baseline category by itself."
    yield f"Contrasts: {', '.join(contrasts)}; a category alone is against all others."


def _held_out(folds: int) -> str:
    if folds == 1:
        return (
            "The scan had one fold: nothing was measured on stimuli that did not select, and "
            "figures of specificity and strength are empty."
        )
    return (
        f"Stimuli were dealt into {folds} folds within each category. CSI, d' and activation "
        "strength are of the units that one fold's stimuli select by the criterion, measured on "
        "all other folds' stimuli; a unit counts once for every fold that selects it."
    )
