"""The page's title, its summary in a sentence, and the peak layer of every category."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from ..analyses.shares import Share
from ..markup import join, tag
from ..registry import UNTRAINED
from .findings import Reported, contrasts_of
from .palette import of_category


def percent(share: float) -> str:
    """A share in percent, with more digits if it is small."""
    size = abs(100 * share)
    digits = 0 if size == 0 else 3 if size < 0.1 else 2 if size < 1 else 1
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def title(stores: Sequence[Reported]) -> str:
    """Title of the page."""
    models = list(dict.fromkeys(str(one.analysis.provenance["model"]) for one in stores))
    if len(stores) == 1:
        return f"Category-selective units in {models[0]}"
    if len(models) == 1:
        return f"Category-selective units in {models[0]}, {len(stores)} scans"
    return f"Category-selective units in {' and '.join(models)}"


def headline(stores: Sequence[Reported]) -> Markup:
    """A sentence per store: its largest share with an interval, and those units' CSI."""
    return join(tag("p", *_sentence(one), class_="lead") for one in stores)


def _sentence(one: Reported) -> Iterator[str]:
    found, peak = one.analysis, one.peak
    if one.letter:
        yield tag("strong", one.label)
        yield f", {one.model}: "
    else:
        yield "In "
        yield tag("strong", one.model)
        yield ", "
    if not peak.selective:
        yield f"no unit of {len(found.layers)} layers is selective for any contrast. "
        return
    yield f"selective units are most frequent for {peak.contrast}, in {peak.layer}: "
    yield tag("strong", percent(peak.share))
    yield f" of its {peak.units:,} units{_interval(peak)}"
    if (csi := one.csi(peak.layer, peak.contrast)) is not None:
        yield f", with a mean held-out CSI of {csi:.2f}"
    yield ". "
    if str(found.provenance["weights"]).startswith(UNTRAINED):
        yield "It is untrained: what it selects comes from images and architecture alone. "


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
    return tag("ul", *tiles, class_="peaks")


def _swatch(place: int) -> Markup:
    """A category's colour, as SVG because the page's policy forbids style attributes."""
    colours = of_category(place)
    circles = [
        tag("circle", cx="5", cy="5", r="5", fill=colours[theme], class_=f"on-{theme}")
        for theme in ("light", "dark")
    ]
    return tag("svg", *circles, viewBox="0 0 10 10", class_="swatch", aria_hidden="true")


def _peak(one: Reported, contrast: str, first: bool) -> Markup:
    row = one.peaks.get(contrast)
    before = f"{one.letter}: " if one.letter else ""
    big = "big" if first else "big other"
    if row is None:
        return tag("p", tag("span", f"{before}not analysed", class_="where"), class_="peak")
    if not row.selective:
        where = f"{before}no selective unit in any layer"
        return tag("p", tag("span", "0 %", class_=big), tag("span", where, class_="where"),
                   class_="peak")  # fmt: skip
    csi = one.csi(row.layer, contrast)
    held_out = "" if csi is None else f", held-out CSI {csi:.2f}"
    lines = [f"{before}{row.layer}{held_out}", _interval(row).strip(" ()")]
    return tag("p", tag("span", percent(row.share), class_=big),
               *(tag("span", line, class_="where") for line in lines if line),
               class_="peak")  # fmt: skip
