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
from ..comparing.localizers import LocalizerComparison
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
from .automatic import Asked, comparisons, in_detail, training
from .best import best_units, described, rows_of, shown_stimuli, store_of
from .embedding import json_block, policy
from .excerpts import affordable, layers_in_detail, leading_contrasts, left_out
from .findings import Reported, contrasts_of, findings, letters
from .method import method
from .pictures import pictures_of
from .results import Names, Section, Shown, figures_of, links_to, require_shown, section
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
    at: float | Sequence[float] | None = None,
    roi: Path | str | None = None,
    results: Shown | Sequence[Shown] = (),
    recordings: Recording | Path | str | Sequence[Recording | Path | str] = (),
    stimuli: Path | str | None = None,
    figures: Path | str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Analyse stores and write a self-contained HTML page about them.

    The same stores give the same bytes. An existing file is replaced. Checkpoints of a training run
    are also compared with each other, and so are two localizers on one network.

    Parameters
    ----------
    stores : Store, str or path, or a sequence of them
        Stores or their paths, shown in this order.
    output : str or path
        The HTML file.
    criterion : Criterion, optional
        The criterion that selects units.
    layers : str or sequence of str, default "*"
        Names or globs of layers.
    contrasts : str or sequence of str, optional
        As in :func:`fusiform.summary`; by default every category. Of more than 24 the page shows
        the 12 with the largest share of selective units in any layer.
    at : float or sequence of float, optional
        Positions of the stores in training, such as epochs; by default the numbers in which their
        names differ, if these count epochs, steps, iterations or checkpoints. Of more than 4
        checkpoints the other figures show the last and the first.
    roi : str or path, optional
        A table of brain regions to compare the stores with, see :func:`fusiform.compare_regions`.
    results : result or sequence of results, optional
        Further results to show, of :func:`fusiform.compare` with positions,
        :func:`fusiform.compare_localizers`, :func:`fusiform.compare_regions` or
        :func:`fusiform.measure_lesions`.
    recordings : Recording, str or path, or a sequence of them, optional
        Recordings of these stores' networks, to show the stimuli that drive their most selective
        units.
    stimuli : str or path, optional
        Where the stimuli are, if not where the recordings say.
    figures : str or path, optional
        A folder to write every figure to, and one composed of them, as SVG, PDF and PNG (needs
        matplotlib).
    resamples : int, default 1000
        Number of random draws, as in :func:`fusiform.analyse`.
    seed : int, default 0
        Their seed.
    note : callable, optional
        Called with messages about progress.

    Raises
    ------
    UserError
        There is no store, a recording is of another network, a result is of another kind, positions
        are not valid, matplotlib is missing for figures; as :func:`fusiform.analyse` does.

    Examples
    --------
    >>> from pathlib import Path
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> fusiform.report("r18.zarr", "report.html", criterion=top, resamples=20)
    >>> Path("report.html").read_text()[:15]
    '<!doctype html>'
    """
    stores, output, results = listed(stores), Path(output), listed(results)
    if not stores:
        raise UserError("a report needs at least one store; got none: name one")
    _check_outputs(output, figures)
    require_shown(results)
    opened = _opened(stores, layers, contrasts)
    recorded = [Recording.of(recording) for recording in listed(recordings)]
    named = () if contrasts is None else parse_contrasts(contrasts, opened[0].categories)
    asked = Asked(criterion, layers, list(dict.fromkeys(one.text for one in named)) or None,
                  resamples, seed)  # fmt: skip
    leading = leading_contrasts(opened, criterion, layers, asked.contrasts)
    run = training(opened, at, leading[0], asked, note)
    places = in_detail(opened, run, [store_of(recording, opened) for recording in recorded])
    shown = [opened[place] for place in places]
    # First: a table of regions may be wrong, and analyses take long.
    found = [*([run] if run else []), *comparisons(shown, roi, asked, note), *results]
    analyses = _analysed(shown, [leading[place] for place in places], asked, note)
    reported = _reported(shown, analyses, [leading[place] for place in places])
    reported, pictures = _with_best(reported, recorded, shown, stimuli, note)
    names = Names({str(store.path): one.label
                   for store, one in zip(shown, reported, strict=True)})  # fmt: skip
    sections = [section(one, names, contrasts_of(reported)) for one in found]
    data = findings(reported, pictures, sections)
    remarked = _remarks(reported, shown, asked, len(opened))
    sets = [set(one.stores) for one in found if isinstance(one, LocalizerComparison)]
    remarked += _caveats(reported, shown, sets)
    page_text = _page(reported, shown, criterion, data, sections, remarked)
    more = [] if figures is None else [
        details(store, one.analysis, criterion, layers_needed(own, data))
        for store, one, own in zip(shown, reported, data["stores"], strict=True)
    ]  # fmt: skip
    with new_file(output, "a report", text=True) as file:
        file.write(page_text)
        if figures is not None:
            from ..plotting.figures import write_figures

            write_figures(data, Path(figures), more, found, note)


def _opened(
    stores: Sequence[Store | Path | str],
    layers: str | Sequence[str],
    contrasts: str | Sequence[str] | None,
) -> list[Store]:
    opened = [Store.of(store) for store in stores]
    for store in opened:
        require_complete(store)
        store.layers_named(layers)
        parse_contrasts(contrasts, store.categories)
    return opened


def _analysed(
    stores: Sequence[Store],
    contrasts: Sequence[list[str] | None],
    asked: Asked,
    note: Callable[[str], None],
) -> list[Analysis]:
    analyses = []
    for store, own in zip(stores, contrasts, strict=True):
        note(f"analysing {store.path}")
        wanted, similarities = affordable(
            store, store.layers_named(asked.layers), len(own or store.categories), note
        )
        found = analyse(
            store, asked.criterion, asked.layers, own, wanted, resamples=asked.resamples,
            seed=asked.seed, similarities=similarities, note=note,
        )  # fmt: skip
        analyses.append(found)
    return analyses


def _remarks(
    reported: Sequence[Reported], stores: Sequence[Store], asked: Asked, opened: int
) -> list[Markup]:
    """Remarks on the criterion, and on what the page leaves out; ``opened`` counts all stores."""
    said = [f"{text}." for store in stores
            for text in remarks(asked.criterion, store.categories, asked.contrasts)]  # fmt: skip
    contrasts = {name for store in stores for name in asked.contrasts or store.categories}
    missing = left_out(
        [one.analysis for one in reported], [one.detailed for one in reported], len(contrasts)
    )
    if len(stores) < opened:
        missing.insert(0, f"All but the figures of training show {len(stores)} of {opened} "
                          "checkpoints: the last and the first.")  # fmt: skip
    return [tag("p", text, class_=kind)
            for kind, texts in (("warning", dict.fromkeys(said)), ("note", missing))
            for text in texts]  # fmt: skip


def _reported(
    stores: Sequence[Store], analyses: Sequence[Analysis], contrasts: Sequence[list[str] | None]
) -> list[Reported]:
    """Stores with their analyses, and counts beyond thresholds for the layers shown one by one."""
    names, details = letters(len(stores)), layers_in_detail(analyses)
    return [
        Reported(
            letter,
            name_of(store.path),
            found,
            count_beyond(store, [store.layer(name) for name in detailed], own),
            tuple(facts(info_of(store), whole_paths=False)),
            tuple(detailed),
        )
        for letter, store, found, own, detailed in zip(
            names, stores, analyses, contrasts, details, strict=True
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
    stores: Sequence[Store],
    stimuli: Path | str | None,
    note: Callable[[str], None],
) -> tuple[list[Reported], list[Mapping[str, Any]]]:
    """Add the most selective recorded units to the stores; return the stimuli shown for them too.

    ``reported`` are the ``stores``, in their order.
    """
    places = [store_of(recording, stores) for recording in recordings]
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
    stores: Sequence[Store],
    criterion: Criterion,
    data: Mapping[str, Any],
    sections: Sequence[Section],
    remarked: Sequence[Markup],
) -> str:
    fusiform, title = version("fusiform"), headline.title(reported)
    with_best = any(one.best for one in reported)
    scanned = (
        tag("article", tag("h3", one.label), definitions(one.facts), class_="store")
        for one in reported
    )
    shown = [_shown(store) for store in stores]
    return page.fill(
        "page.html",
        {
            "title": join([title]),
            "policy": policy(page.script(), page.style()),
            "style": page.style(),
            "script": page.script(),
            "headline": join([headline.headline(reported), *remarked]),
            "peaks": headline.peaks(reported),
            "best": page.shipped("best.html") if with_best else "",
            "bestlink": _BEST_LINK if with_best else "",
            "results": figures_of(sections),
            "resultlinks": links_to(sections),
            "scanned": tag("div", *scanned, class_="stores"),
            "method": method(reported, shown, criterion, fusiform),
            "cite": page.fill("cite.html", {"version": join([fusiform])}),
            "footer": tag("p", f"Made by fusiform {fusiform}. Selective: {criterion}."),
            "findings": json_block(data),
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


def _caveats(
    reported: Sequence[Reported], results: Sequence[Store], localizers: Sequence[set[str]]
) -> list[Markup]:
    """Caveats for readers of the page; ``localizers`` are pairs of stores of one network."""
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
    notes = []
    for one, result in zip(reported[1:], results[1:], strict=True):
        differing = ", ".join(_differences(results[0], result))
        if {str(results[0].path), str(result.path)} in localizers:
            notes.append(
                f"{reported[0].letter} and {one.letter} are one network with two stimulus sets: "
                f"they differ in {differing}."
            )
        elif differing:
            texts.append(
                f"{one.letter} differs from {reported[0].letter} in {differing}: "
                "differences between their units need not be due to the networks."
            )
    return [tag("p", text, class_=kind)
            for kind, own in (("warning", texts), ("note", notes)) for text in own]  # fmt: skip


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
