"""The page's title, its summary in a sentence, and the peak layer of every category."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from ..analyses.shares import Share
from ..analyses.specificity import Specificity
from ..errors import shortened
from ..markup import join, tag
from ..plotting.axes import FEW
from ..plotting.palette import of_category
from ..registry import UNTRAINED
from .findings import Reported, contrasts_of


def percent(share: float) -> str:
    """A share in percent, with more digits if it is small; never 100 % for less."""
    size = abs(100 * share)
    digits = 0 if size == 0 else 3 if size < 0.1 else 2 if size < 1 else 1
    text = f"{100 * share:.{digits}f}"
    almost = size < 100 and text == "100.0"
    return f"{'> 99.9' if almost else text}\N{NO-BREAK SPACE}%"


def title(stores: Sequence[Reported]) -> str:
    """Title of the page."""
    named = (f"{one.control} {one.analysis.provenance['model']}".strip() for one in stores)
    models = list(dict.fromkeys(named))
    if len(stores) == 1:
        return f"Category-selective units in {models[0]}"
    if len(models) == 1:
        return f"Category-selective units in {models[0]}, {len(stores)} scans"
    return f"Category-selective units in {' and '.join(models)}"


def headline(stores: Sequence[Reported]) -> Markup:
    """A sentence per store: its largest share with an interval, and its units' held-out CSI."""
    return join(tag("p", *_sentence(one), class_="lead") for one in stores)


def _sentence(one: Reported) -> Iterator[str]:
    found, peak, apart = one.analysis, one.peak(), one.peak(placeless=True)
    if one.letter:
        yield tag("strong", one.label)
        yield f", {one.model}: "
    else:
        yield "In "
        yield tag("strong", one.model)
        yield ", "
    if peak and peak.selective:
        yield f"selective units are most frequent for {peak.contrast}, in {peak.layer}: "
        yield tag("strong", percent(peak.share))
        yield f" of its {peak.units:,} units, selected on all stimuli{_interval(peak)}. "
        if held_out := one.csi(peak.layer, peak.contrast):
            yield _held_out(held_out)
    else:
        every = f"{len(found.layers)} layers"
        where = "layers with positions" if apart and apart.selective else every
        yield f"no unit of {where} is selective for any contrast. "
    if apart and apart.selective:
        yield (
            f"Without positions: {percent(apart.share)} of the {apart.units:,} units of "
            f"{apart.layer}, for {apart.contrast}. "
        )
    if str(found.provenance["weights"]).startswith(UNTRAINED):
        yield "It is untrained: what it selects comes from images and architecture alone. "


def _held_out(row: Specificity) -> str:
    if row.mean is None or row.units < FEW:
        few = f"Only {row.units:,} are" if row.units else "None is"
        return f"{few} selected on one fold of the stimuli alone, too few for a held-out CSI. "
    return f"Units selected on one fold have a mean CSI of {row.mean:.2f} on the others. "


def _interval(row: Share) -> str:
    if row.low is None or row.high is None:
        return ""
    return f" (95\N{NO-BREAK SPACE}% interval {percent(row.low)[:-2]} to {percent(row.high)})"


def peaks(stores: Sequence[Reported]) -> Markup:
    """A tile for every contrast: the layer with the largest share in each store."""
    tiles = []
    for place, contrast in enumerate(contrasts_of(stores)):
        lines = [_peak(one, contrast, first=index == 0) for index, one in enumerate(stores)]
        name = Markup("_<wbr>").join(join([part]) for part in contrast.split("_"))
        head = tag("h3", _swatch(place), tag("span", name))
        tiles.append(tag("li", head, *lines))
    return join([tag("p", *_terms(stores), class_="note"), tag("ul", *tiles, class_="peaks")])


def _terms(stores: Sequence[Reported]) -> Iterator[str]:
    yield "Share: units selected on all stimuli, in the layer that has most of them. "
    if any(one.analysis.folds > 1 for one in stores):
        yield (
            "Held-out CSI: how far units selected on one fold prefer the category on the others "
            "(0: not at all; 1: the mean response to all else is 0, or has the opposite sign). "
        )
    if apart := list(dict.fromkeys(name for one in stores for name in one.analysis.placeless)):
        units = [row.units for one in stores for row in one.peaks().values()]
        yield (
            f"Layers without positions ({shortened(apart)}) are apart: their units average over "
            f"the image, and are few. Others have up to {max(units):,}. "
        )


def _swatch(place: int) -> Markup:
    """A category's colour, as SVG because the page's policy forbids style attributes."""
    colours = of_category(place)
    circles = [
        tag("circle", cx="5", cy="5", r="5", fill=colours[theme], class_=f"on-{theme}")
        for theme in ("light", "dark")
    ]
    return tag("svg", *circles, viewBox="0 0 10 10", class_="swatch", aria_hidden="true")


def _peak(one: Reported, contrast: str, first: bool) -> Markup:
    row, apart = (one.peaks(own).get(contrast) for own in (False, True))
    before = ", ".join(filter(None, (one.letter, one.control)))
    before = f"{before}: " if before else ""
    big = "big" if first else "big other"
    if row is None:
        return tag("p", tag("span", f"{before}not analysed", class_="where"), class_="peak")
    lines = [f"{before}no selective unit in any layer"]
    if row.selective:
        lines = [f"{before}{row.layer}", _csi(one, row), _interval(row).strip(" ()")]
    if apart and apart.selective:
        if not row.selective:
            lines[0] += " with positions"
        of = f"{apart.units:,} in {apart.layer}"
        lines.append(f"without positions: {percent(apart.share)} of {of}")
    return tag("p", tag("span", percent(row.share), class_=big),
               *(tag("span", line, class_="where") for line in lines if line),
               class_="peak")  # fmt: skip


def _csi(one: Reported, row: Share) -> str:
    held_out = one.csi(row.layer, row.contrast)
    if held_out is None:
        return ""
    if held_out.mean is None or held_out.units < FEW:
        return f"on one fold alone {held_out.units:,}, too few for a CSI"
    number = f"n = {held_out.units:,}".replace(" ", "\N{NO-BREAK SPACE}")
    return f"held-out CSI {held_out.mean:.2f} ({number})"
