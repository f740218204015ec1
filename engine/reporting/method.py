"""What was done, in sentences that a paper can quote, with the references they rest on.

``docs/definitions.md`` says the same of every number at length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..asking.language.criterion import Criterion
from .findings import Reported, contrasts_of
from .markup import Markup, tag
from .thresholds import GRIDS

_TESTS = {
    "each": "the smallest of the Welch t of the target's stimuli against each baseline category (a "
    "minimum-statistic conjunction; Nichols et al. 2005), its p the largest of the single tests'",
    "rest": "Welch's t of the target's stimuli against all stimuli of the baseline pooled (Welch "
    "1947), with Welch-Satterthwaite degrees of freedom",
    "student": "Student's t of the target's stimuli against all stimuli of the baseline pooled, "
    "with one variance for both",
    "weighted": "t of the weighted sum of category means, sum w m / sqrt(sum w² v/n), with "
    "Satterthwaite's degrees of freedom (Satterthwaite 1946)",
}
_CORRECTIONS = {
    "bh": "the false discovery rate of Benjamini & Hochberg (1995)",
    "by": "the false discovery rate of Benjamini & Yekutieli (2001)",
    "bonferroni": "Bonferroni's family-wise correction",
    "none": "p, uncorrected",
}
_REFERENCES = (
    "Benjamini, Y. & Hochberg, Y. 1995. J. R. Statist. Soc. B 57, 289-300.",
    "Benjamini, Y. & Yekutieli, D. 2001. Ann. Statist. 29, 1165-1188.",
    "Chan, T. F., Golub, G. H. & LeVeque, R. J. 1979. Updating formulae and a pairwise algorithm for "
    "computing sample variances. Stanford, STAN-CS-79-773.",
    "Cochran, W. G. 1977. Sampling Techniques, 3rd ed. Wiley.",
    "Davison, A. C. & Hinkley, D. V. 1997. Bootstrap Methods and their Application. Cambridge.",
    "Kendall, M. G. 1945. Biometrika 33, 239-251.",
    "Kornblith, S., Norouzi, M., Lee, H. & Hinton, G. 2019. Similarity of neural network "
    "representations revisited. ICML.",
    "Kriegeskorte, N., Mur, M. & Bandettini, P. 2008. Front. Syst. Neurosci. 2, 4.",
    "Moran, P. A. P. 1950. Biometrika 37, 17-23.",
    "Nichols, T., Brett, M., Andersson, J., Wager, T. & Poline, J.-B. 2005. NeuroImage 25, 653-660.",
    "Satterthwaite, F. E. 1946. Biometrics Bulletin 2, 110-114.",
    "Vinken, K., Prince, J. S., Konkle, T. & Livingstone, M. S. 2023. Science Advances 9, eadg1736.",
    "Welch, B. L. 1947. Biometrika 34, 28-35.",
)


def method(
    stores: Sequence[Reported], counts: Sequence[str], criterion: Criterion, version: str
) -> Markup:
    """The method of a report, as HTML; ``counts`` say how many stimuli each store's scan showed."""
    first = stores[0].analysis
    paragraphs = [
        *(_network(one, shown) for one, shown in zip(stores, counts, strict=True)),
        f"Responses were streamed into counts, means and sums of squared deviations per unit, "
        f"category and fold (Chan, Golub & LeVeque 1979) by fusiform {version}; all that follows is "
        f"computed from these. Units that are constant over all stimuli are called dead, those that "
        f"gave NaN or infinity nonfinite; neither is ever selective, and the others are living.",
        " ".join(_criterion(criterion, contrasts_of(stores))),
        " ".join(_held_out(first.folds)),
    ]
    drawn = f"{first.resamples:,} draws, seed {first.seed}"
    terms = [
        ("Share", f"Selective units over all units of a layer (or over living ones), on all stimuli. Units "
         f"of a feature map share weights and are no independent sample: intervals are the middle 95 % over "
         f"whole feature maps drawn with replacement ({drawn}; Davison & Hinkley 1997). Where a threshold is "
         f"chosen on the page, units are counted by the measures of all stimuli that the scan wrote ("
         + "; ".join(f"{grid.symbol} {grid.sign} x: {grid.long}" for grid in GRIDS.values())
         + "), of categories other than these computed from the moments; intervals are then those of a ratio "
         "over clusters (Cochran 1977)."),
        ("CSI", "Category Selectivity Index, (a − b) / (|a| + |b|), a the mean of the target's category "
         "means and b that of the baseline's; 0 where both are 0."),
        ("d′", "Difference of the means of all stimuli of target and baseline over the root of the mean of "
         "their variances (Vinken et al. 2023)."),
        ("Spread", f"Over feature maps: the share with any selective unit; the entropy of selective units per "
         f"map over its maximum; their Gini coefficient. Grey: the same of as many units thrown at random into "
         f"the living ones ({drawn}; middle 95 %)."),
        ("Maps", f"Selective over living units at each place. Moran's I (Moran 1950) among places that share "
         f"an edge, p by random orders of the places ({drawn}), one-sided."),
        ("Strength", "Mean response of selective units, to the target and to the baseline, less the mean and "
         "over the standard deviation of all responses of the layer's living units."),
        ("Overlap", "Jaccard: units selective for both over units selective for either. Expected: the product "
         "of both numbers over living units. Preferred category: the one with the largest mean response."),
        ("Consistency", "Representational dissimilarity matrices of the categories over living units "
         f"({first.consistency.distance if first.consistency else 'correlation'} distance; Kriegeskorte et al. "
         "2008), compared between layers by Spearman's ρ and Kendall's τ-b (Kendall 1945) of their upper "
         "triangles; linear CKA (Kornblith et al. 2019) of category means."),
    ]  # fmt: skip
    caveat = (
        "A small q says that a difference would be there for other images drawn in the same way, in "
        "this network. It says nothing of other stimulus sets, and an untrained network is no null: "
        "low-level differences between categories select units there, too, and select them again."
    )
    return tag(
        "div",
        *(tag("p", text) for text in paragraphs),
        tag("dl", *(part for term, text in terms for part in (tag("dt", term), tag("dd", text)))),
        tag("p", caveat),
        tag("h3", "References"),
        tag("ul", *(tag("li", text) for text in _REFERENCES)),
    )


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
        f"A unit is selective for the target of a contrast where {criterion.where}, by "
        f"{_TESTS[criterion.test]}; p is {'one' if criterion.sides == 1 else 'two'}-sided."
    )
    if any(condition.measure == "q" for condition in criterion.rule().conditions()):
        yield (
            f"q is p corrected by {_CORRECTIONS[criterion.correction]}, over the finite units of "
            f"{'a layer' if criterion.family == 'layer' else 'all layers'}, each contrast by itself."
        )
    if criterion.pairwise:
        yield "The rule had to hold against each baseline category by itself."
    yield f"Contrasts: {', '.join(contrasts)}; a category alone is against all others."


def _held_out(folds: int) -> Iterator[str]:
    if folds == 1:
        yield (
            "The scan had one fold: nothing was measured on stimuli that did not select, and figures "
            "of specificity and strength are empty."
        )
        return
    yield (
        f"Stimuli were dealt into {folds} folds within each category. CSI, d′ and activation "
        "strength are of the units that one fold's stimuli select by the criterion, measured on all "
        "other folds' stimuli; a unit counts once for every fold that selects it."
    )
