"""Reports: one self-contained HTML page about one or several stores."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..analyses.analyse import Analysis, analyse
from ..contrasts.language.contrast import parse_contrasts
from ..contrasts.language.criterion import DEFAULT, Criterion
from ..contrasts.language.presets import remarks
from ..errors import UserError, shortened
from ..files import new_file, output_path
from ..markup import definitions, join, tag
from ..plotting.overview import layers_needed
from ..plotting.panel import require_matplotlib
from ..plotting.tuning import details
from ..preprocessing import Preprocessing
from ..querying.info import facts, info_of
from ..querying.store import Store
from ..responses.recording import Recording
from ..store.location import name_of
from ..store.reader import require_complete
from ..values import listed
from . import headline, page
from .best import best_units, described, rows_of, shown_stimuli, store_of
from .embedding import json_block, policy
from .excerpts import affordable, layers_in_detail, leading_contrasts, left_out
from .findings import Reported, findings, letters
from .method import method
from .pictures import pictures_of
from .thresholds import count_beyond

_BEST_LINK = tag("li", tag("a", "What drives them", href="#drives-title"))
# Two scans must agree in these for their differences to be due to the networks.
_COMPARED = ("categories", "folds", "preprocessing", "units", "precision")


def report(
    stores: Store | Path | str | Sequence[Store | Path | str],
    output: Path | str,
    *,
    criterion: Criterion = DEFAULT,
    layers: str | Sequence[str] = "*",
    contrasts: str | Sequence[str] | None = None,
    recordings: Recording | Path | str | Sequence[Recording | Path | str] = (),
    stimuli: Path | str | None = None,
    figures: Path | str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Analyse stores and write a self-contained HTML page about them.

    The same stores give the same bytes. An existing file is replaced.

    Parameters
    ----------
    stores : stores or their paths, shown in this order
    output : the HTML file
    criterion : the criterion that selects units
    layers : names or globs of layers
    contrasts : see :mod:`..contrasts.language.contrast`; by default every category. Of more than 24
        the page shows the 12 with the largest share of selective units in any layer
    recordings : recordings of these stores' networks (``fusiform record``), to show the stimuli
        that drive their most selective units
    stimuli : where the stimuli are, if not where the recordings say
    figures : a folder to write every figure to, and one composed of them, as SVG, PDF and
        PNG (needs matplotlib)
    resamples, seed : number and seed of random draws; see :func:`..analyses.analyse.analyse`
    note : called with messages about progress

    Raises
    ------
    UserError : no store, a recording of another network, figures without
        matplotlib, or as raised by :func:`..analyses.analyse.analyse`
    """
    stores, output = listed(stores), Path(output)
    if not stores:
        raise UserError("a report needs at least one store; got none: name one")
    _check_outputs(output, figures)
    results = [Store.of(store) for store in stores]
    opened = [Recording.of(recording) for recording in listed(recordings)]
    for result in results:
        require_complete(result)
        result.layers_named(layers)
        parse_contrasts(contrasts, result.categories)
    named = () if contrasts is None else parse_contrasts(contrasts, results[0].categories)
    texts = list(dict.fromkeys(one.text for one in named)) or None
    places = [store_of(recording, results) for recording in opened]
    chosen = leading_contrasts(results, criterion, layers, texts)
    analyses = []
    for result, own in zip(results, chosen, strict=True):
        note(f"analysing {result.path}")
        wanted, similarities = affordable(
            result, result.layers_named(layers), len(own or result.categories), note
        )
        found = analyse(
            result, criterion, layers, own, wanted, resamples=resamples, seed=seed,
            similarities=similarities, note=note,
        )  # fmt: skip
        analyses.append(found)
    reported = _reported(results, analyses, chosen)
    reported, shown = _with_best(reported, opened, places, stimuli, note)
    data = findings(reported, shown)
    said = [f"{text}." for one in results for text in remarks(criterion, one.categories, texts)]
    remarked = [tag("p", text, class_="warning") for text in dict.fromkeys(said)]
    asked = {name for one in results for name in texts or one.categories}
    missing = left_out(analyses, [one.detailed for one in reported], len(asked))
    remarked += [tag("p", text, class_="note") for text in missing]
    page_text = _page(reported, results, criterion, json_block(data), remarked)
    more = [] if figures is None else [
        details(result, found, criterion, layers_needed(store, data))
        for result, found, store in zip(results, analyses, data["stores"], strict=True)
    ]  # fmt: skip
    with new_file(output, "a report", text=True) as file:
        file.write(page_text)
        if figures is not None:
            from ..plotting.figures import write_figures

            write_figures(data, Path(figures), more)


def _reported(
    results: Sequence[Store], analyses: Sequence[Analysis], contrasts: Sequence[list[str] | None]
) -> list[Reported]:
    """Stores with their analyses, and counts beyond thresholds for the layers shown one by one."""
    names, details = letters(len(results)), layers_in_detail(analyses)
    return [
        Reported(
            letter,
            name_of(result.path),
            found,
            count_beyond(result, [result.layer(name) for name in detailed], own),
            tuple(facts(info_of(result), whole_paths=False)),
            tuple(detailed),
        )
        for letter, result, found, own, detailed in zip(
            names, results, analyses, contrasts, details, strict=True
        )
    ]


def _check_outputs(output: Path, figures: Path | str | None) -> None:
    output_path(output, "a report")
    if output.suffix.lower() not in ("", ".html", ".htm"):
        raise UserError(f"a report is an HTML page; got {output}: name it {output.stem}.html")
    if figures is not None:
        require_matplotlib()
        if os.path.lexists(figures) and not os.path.isdir(figures):  # noqa: PTH112
            raise UserError(f"figures are written into a folder; {figures} is none: name another")


def _with_best(
    reported: Sequence[Reported],
    recordings: Sequence[Recording],
    places: Sequence[int],
    stimuli: Path | str | None,
    note: Callable[[str], None],
) -> tuple[list[Reported], list[Mapping[str, Any]]]:
    """Add the most selective recorded units to the stores; return the stimuli shown for them too.

    ``places`` are the indices of the stores that the recordings belong to.
    """
    units = [
        best_units(recording, reported[place].analysis)
        for recording, place in zip(recordings, places, strict=True)
    ]
    shown = shown_stimuli((n, unit) for n, own in enumerate(units) for unit in own)
    pictures = pictures_of(shown, recordings, stimuli, note)
    rows: list[list[Mapping[str, Any]]] = [[] for _ in reported]
    for number, (place, own) in enumerate(zip(places, units, strict=True)):
        rows[place] += rows_of(number, recordings[number], own, shown)
    return (
        [replace(one, best=tuple(own)) for one, own in zip(reported, rows, strict=True)],
        [described(one, picture) for one, picture in zip(shown, pictures, strict=True)],
    )


def _page(
    reported: Sequence[Reported],
    results: Sequence[Store],
    criterion: Criterion,
    data: Markup,
    remarked: Sequence[Markup],
) -> str:
    fusiform, title = version("fusiform"), headline.title(reported)
    warnings = [tag("p", text, class_="warning") for text in _warnings(reported, results)]
    with_best = any(one.best for one in reported)
    scanned = (
        tag("article", tag("h3", one.label), definitions(one.facts), class_="store")
        for one in reported
    )
    shown = [_shown(result) for result in results]
    return page.fill(
        "page.html",
        {
            "title": join([title]),
            "policy": policy(page.script(), page.style()),
            "style": page.style(),
            "script": page.script(),
            "headline": join([headline.headline(reported), *remarked, *warnings]),
            "peaks": headline.peaks(reported),
            "best": page.shipped("best.html") if with_best else "",
            "bestlink": _BEST_LINK if with_best else "",
            "scanned": tag("div", *scanned, class_="stores"),
            "method": method(reported, shown, criterion, fusiform),
            "cite": page.fill("cite.html", {"version": join([fusiform])}),
            "footer": tag("p", f"Made by fusiform {fusiform}. Selective: {criterion}."),
            "findings": data,
        },
    )


def _shown(result: Store) -> str:
    """The numbers of stimuli that a scan showed, and their preprocessing, in words."""
    numbers = result.counts.sum(axis=1).tolist()
    each = shortened(
        (f"{n:,} {name}" for name, n in zip(result.categories, numbers, strict=True)), 24
    )
    return f"{sum(numbers):,} stimuli ({each}; {result.folds} folds{_steps(result)})"


def _steps(result: Store) -> str:
    """The preprocessing in words; empty if the store does not record it readably."""
    try:
        return f"; {Preprocessing(**result.provenance['preprocessing'])}"
    except (KeyError, TypeError, UserError):
        return ""


def _warnings(reported: Sequence[Reported], results: Sequence[Store]) -> list[str]:
    """Caveats for readers of the page."""
    texts = []
    for one, result in zip(reported, results, strict=True):
        letter = f"{one.letter}: " if one.letter else ""
        if result.skipped:
            which = shortened((f"{name} {n}" for name, n in result.skipped.items()), 24)
            texts.append(f"{letter}some stimuli could not be shown and are left out ({which}).")
        if result.folds == 1:
            texts.append(
                f"{letter}the scan had one fold, hence no held-out stimuli: there is no CSI, d' or "
                "strength."
            )
    for one, result in zip(reported[1:], results[1:], strict=True):
        if differing := _differences(results[0], result):
            texts.append(
                f"{one.letter} differs from {reported[0].letter} in {', '.join(differing)}: "
                "differences between their units need not be due to the networks."
            )
    return texts


def _differences(one: Store, other: Store) -> list[str]:
    differing = [
        name for name in _COMPARED if one.provenance.get(name) != other.provenance.get(name)
    ]
    if not _same_stimuli(one, other):
        differing.insert(0, "stimuli")
    return differing


def _same_stimuli(one: Store, other: Store) -> bool:
    """Whether two scans showed the same images in the same categories and folds."""
    columns = ("stimulus_sha256", "stimulus_category", "stimulus_fold", "stimulus_status")
    first, second = (
        sorted(zip(*(result.stimulus_column(name).tolist() for name in columns), strict=True))
        for result in (one, other)
    )
    return first == second
