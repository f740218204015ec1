"""The method of a report in quotable sentences, with references.

``docs/reference/definitions.md`` defines every number in full.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ..analyses.analyse import Analysis
from ..contrasts.language.criterion import Criterion
from ..layer import describe_units
from ..markup import join, tag
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
    "glm": "t of the weighted sum of category means, sum w m / sqrt(s² sum w²/n), with one "
    "residual variance s² over all categories, as in a general linear model (Friston et al. 1994)",
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
    """The method of a report; ``counts`` describe the stimuli that each store's scan showed."""
    first = stores[0].analysis
    paragraphs = [
        *(_network(one, shown) for one, shown in zip(stores, counts, strict=True)),
        "Responses were streamed into counts, means and sums of squared deviations per unit, "
        f"category and fold (Chan, Golub & LeVeque 1979) by fusiform {version}; all results are "
        "computed from these. Units that are constant over all stimuli are dead, units that gave "
        "NaN or infinity are nonfinite; neither is ever selective. All other units are living.",
        " ".join(_criterion(criterion, contrasts_of(stores))),
        _held_out(first.folds),
    ]
    text = join([*(tag("p", paragraph) for paragraph in paragraphs), _terms(first)])
    references = (tag("li", reference) for reference in _cited(text.unescape()))
    return join([text, tag("h3", "References"), tag("ul", *references)])


def _terms(found: Analysis) -> Markup:
    grids = (f"{grid.symbol} {grid.sign} x, {grid.long}" for grid in GRIDS.values())
    distance = found.consistency.distance if found.consistency else "correlation"
    parts = {
        "drawn": f"{found.resamples:,} draws, seed {found.seed}",
        "grids": join(["; ".join(grids)]),
        "distance": f"{distance} distance",
    }
    return Markup(fill("terms.html", parts))


def _cited(text: str) -> Iterator[str]:
    """The references that a text cites by first author and year."""
    for reference in shipped("references.txt").splitlines():
        author, year = _AUTHOR.findall(reference)[0]
        if re.search(rf"{author}\b[^;)]{{0,40}}{year}", text):
            yield reference


def _network(one: Reported, shown: str) -> str:
    provenance = one.analysis.provenance
    weights = provenance.get("weights_sha256")
    hashed = f", SHA-256 of the weights {str(weights)[:16]}…" if weights else ""
    letter = f"{one.letter}: " if one.letter else ""
    units = sum({row.layer: row.units for row in one.analysis.shares}.values())
    return (
        f"{letter}{provenance['model']} ({provenance['weights']}{hashed}) was shown {shown}. "
        f"{len(one.analysis.layers):,} layers with {units:,} units are reported{_kind(provenance)}."
    )


def _kind(provenance: Mapping[str, Any]) -> str:
    units = str(provenance.get("units", "all"))
    return "" if units == "all" else f" ({describe_units(units)})"


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
        yield "The rule had to hold against each baseline category separately."
    yield f"Contrasts: {', '.join(contrasts)}; a single category is compared with all others."


def _held_out(folds: int) -> str:
    if folds == 1:
        return (
            "The scan had one fold: there are no held-out stimuli, and figures of specificity and "
            "strength are empty."
        )
    return (
        f"Stimuli were divided into {folds} folds within each category. Shares, spread, maps and "
        "overlap count units selected on all stimuli. For CSI, d' and activation strength, units "
        "were selected on one fold and measured on all other folds; a unit counts once for every "
        "fold that selects it."
    )
