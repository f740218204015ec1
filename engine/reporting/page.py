"""The page: a template with its style and script inside, so that it needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from .markup import Markup, tag

# In the order in which they need each other.
_SCRIPTS = ("base", "plot", "lines", "heat", "ridges", "rows", "figure", "depth", "atlayer", "best",
            "main")  # fmt: skip
_PLACE = re.compile(r"\{\{([a-z]+)\}\}")

# Figures by the names that the script knows: the section's title, and what stands below each.
_SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "How many units are selective, and how deep": {
        "share": (
            "Share of selective units by depth",
            "Bands: 95 % intervals over whole feature maps. Under Criterion a threshold can be put in "
            "place of the rule of the analysis.",
        ),
    },
    "How selective they are": {
        "specificity": (
            "Specificity by depth",
            "Units that one fold of the stimuli selects, measured on the others. Bands: 95 % "
            "intervals over whole feature maps.",
        ),
        "distribution": (
            "Distribution of specificity in a layer",
            "Histograms of selective units, each as high as its fullest bin; below them the middle 90 "
            "% (line), the middle half (bar) and the median (tick).",
        ),
        "strength": (
            "Activation strength of selective units",
            "Responses to the preferred and to the other categories, in standard deviations of all of "
            "the layer's responses. Bands: 95 % intervals over whole feature maps.",
        ),
    },
    "Where they are": {
        "spread": (
            "Spread over feature maps",
            "Lines: as found. Grey: as many units thrown at random into the living ones. Away from the "
            "grey, selective units gather in some feature maps.",
        ),
        "maps": (
            "Where selective units lie",
            "Share of living units at each place that are selective; each panel has its own scale. I: "
            "Moran's I, with p by random orders of the places.",
        ),
    },
    "How categories and layers relate": {
        "overlap": (
            "Overlap of categories in a layer",
            "Units selective for more than one category, or whose preferred category differs between "
            "halves of the stimuli.",
        ),
        "consistency": (
            "Consistency between layers",
            "Whether two layers hold the same categories for alike. A block along the diagonal is a "
            "stage of the network.",
        ),
    },
}
_BEST = {
    "What drives them": {
        "best": (
            "Stimuli that drive the strongest units",
            "Of the recorded units with the largest t: the stimuli of the largest and of the smallest "
            "responses, the response below each.",
        ),
    },
}


@cache
def _shipped(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """The page's script, which names nothing outside of itself."""
    parts = (_shipped(f"{name}.js") for name in _SCRIPTS)
    return '"use strict";(() => {\n' + "\n".join(parts) + "\n})();"


def style() -> str:
    """The page's style sheet."""
    return _shipped("page.css")


def fill(parts: Mapping[str, str]) -> str:
    """The template with every place filled, in one reading: what is filled in is not read again.

    Raises
    ------
    KeyError : a place has nothing to be filled with
    """
    return _PLACE.sub(lambda place: parts[place[1]], _shipped("page.html"))


def figures(with_best: bool) -> Markup:
    """Sections with a place for every figure, which the script fills."""
    sections = _SECTIONS | (_BEST if with_best else {})
    return Markup("".join(
        tag(
            "section",
            tag("h2", heading, id=f"section-{number}"),
            *(_figure(name, *told) for name, told in held.items()),
            aria_labelledby=f"section-{number}",
        )
        for number, (heading, held) in enumerate(sections.items(), 1)
    ))  # fmt: skip


def contents(with_best: bool) -> Markup:
    """Links to the sections."""
    sections = _SECTIONS | (_BEST if with_best else {})
    links = {
        "peaks-title": "Peaks",
        **{f"section-{number}": heading for number, heading in enumerate(sections, 1)},
        "scanned-title": "What was scanned",
        "method-title": "Method",
    }
    return Markup("".join(
        tag("li", tag("a", heading, href=f"#{place}")) for place, heading in links.items()
    ))  # fmt: skip


def _figure(name: str, title: str, caption: str) -> Markup:
    return tag(
        "figure",
        tag("header", tag("h3", title, id=f"{name}-title"), tag("div", class_="tools")),
        tag("div", class_="drawing"),
        tag("figcaption", caption),
        id=name,
        aria_labelledby=f"{name}-title",
        data_figure=name,
    )
