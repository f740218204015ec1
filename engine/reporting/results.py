"""Sections of a page about results: training, two localizers, brain regions and lesions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import singledispatch
from typing import Any, NamedTuple

from markupsafe import Markup

from ..comparing.brains.compare import BrainComparison
from ..comparing.brains.correlations import LayerCorrelation
from ..comparing.brains.populations import EVERY_UNIT
from ..comparing.brains.recorded import RECORDED
from ..comparing.differences import Comparison, Value
from ..comparing.localizers import CrossValidation, LocalizerComparison, LocalizerOverlap
from ..comparing.training import Onset, position
from ..errors import UserError
from ..lesions.result import Effect, LesionDifference, LesionEffects, Silenced
from ..markup import join, tag
from ..plotting.palette import of_category
from ..plotting.tables import columns, short
from . import captions
from .captions import Caption

# Sections of the page, by kind of result, in their order.
_TITLES = {
    "training": "How selectivity develops in training",
    "localizers": "Two localizers on one network",
    "regions": "Brain regions",
    "lesions": "Lesions",
}
Shown = Comparison | LocalizerComparison | BrainComparison | LesionEffects


class Section(NamedTuple):
    """A result on the page: its data, and its figures with their captions by kind of figure."""

    kind: str
    data: dict[str, Any]
    captions: Mapping[str, Caption]


@dataclass(frozen=True)
class Names:
    """How the page calls the stores of results: ``labels`` are those of its own, by path."""

    labels: Mapping[str, str]

    def of(self, path: str, provenance: Mapping[str, Any]) -> str:
        """A store's label, or its name and network if the page has no other figure of it."""
        own = f"{short(path)} ({provenance['model']}, {provenance['weights']})"
        return self.labels.get(path, own)

    def said(self, text: str, paths: Iterable[str]) -> str:
        """A text with names for paths: a page does not tell where stores are."""
        for path in sorted({*paths, *self.labels}, key=len, reverse=True):
            text = text.replace(path, self.labels.get(path, short(path)))
        return text


def require_shown(results: Iterable[object]) -> None:
    """Raise for results that a page does not show.

    Raises
    ------
    UserError : a result of another kind, or a comparison without positions
    """
    for result in results:
        if not isinstance(result, Shown):
            raise UserError(
                "a report shows results of `compare`, `compare_localizers`, `compare_regions` and "
                f"`measure_lesions`; got {type(result).__name__}: leave it out"
            )
        if isinstance(result, Comparison) and result.at is None:
            raise UserError(
                "a report shows checkpoints of a training run; this comparison has no positions: "
                "give `at` to `compare`"
            )


def section(result: Shown, names: Names, contrasts: Sequence[str]) -> Section:
    """The section of a result.

    ``contrasts`` are those of the page's other figures, which determine colours.
    """
    found: Section = _section(result, names)
    found.data["kind"] = found.kind
    found.data["contrasts"] = _styled(found.data["contrasts"], contrasts)
    return found


@singledispatch
def _section(result: Shown, names: Names) -> Section:
    raise NotImplementedError(type(result))


@_section.register
def _training(result: Comparison, names: Names) -> Section:
    at = result.at or ()
    place = {one: number for number, one in enumerate(at)}
    onsets = [
        vars(one) | {end: place.get(getattr(one, end)) for end in ("first", "lasting")}
        for one in result.onsets
    ]
    data = _data(values=(Value, map(vars, result.values)), onsets=(Onset, onsets))
    stores = [names.labels.get(path, short(path)) for path in result.stores]
    data |= {
        "axis": result.axis,
        "at": list(at),
        "positions": [position(one) for one in at],
        "networks": stores,
        "measures": list(dict.fromkeys(one.measure for one in result.values)),
        "reference": next((one.reference for one in result.onsets), None),
    }
    return Section("training", data, captions.training(result, stores, _said(result, names)))


@_section.register
def _localizers(result: LocalizerComparison, names: Names) -> Section:
    def labelled(rows: Iterable[Any]) -> list[dict[str, Any]]:
        return [vars(row) | {"contrast": result.labels[row.contrast]} for row in rows]

    data = _data(
        overlap=(LocalizerOverlap, labelled(result.overlap)),
        cross_validation=(CrossValidation, labelled(result.cross_validation)),
    )
    stores = [names.of(*one) for one in zip(result.stores, result.provenance, strict=True)]
    data["networks"] = stores
    return Section("localizers", data, captions.localizers(result, stores, _said(result, names)))


@_section.register
def _regions(result: BrainComparison, names: Names) -> Section:
    rows = [vars(row) | {"contrast": row.population} for row in result.correlations]
    data = _data(correlations=(LayerCorrelation, rows))
    data["regions"] = list(dict.fromkeys(row.region for row in result.correlations))
    data["whole"] = [name for name in (EVERY_UNIT, RECORDED) if name in data["contrasts"]]
    store = names.of(result.source, result.provenance)
    data["networks"] = [store]
    paths = (result.source, result.regions)
    said = [names.said(text, paths) for text in (result.chosen, *result.notes)]
    return Section("regions", data, captions.regions(result, store, said))


@_section.register
def _lesions(result: LesionEffects, names: Names) -> Section:
    data = _data(
        silenced=(Silenced, map(vars, result.silenced)),
        effects=(Effect, map(vars, result.effects)),
        differences=(LesionDifference, map(vars, result.differences)),
    )
    store = names.of(result.store, result.provenance)
    data |= {
        "contrasts": [result.contrast],
        "networks": [store],
        "quantities": list(result.quantities),
        "lesions": list(result.lesions),
    }
    return Section("lesions", data, captions.lesions(result, store))


def _said(result: Comparison | LocalizerComparison, names: Names) -> list[str]:
    return [names.said(text, result.stores) for text in result.warnings]


def _data(**tables: tuple[type, Iterable[Mapping[str, Any]]]) -> dict[str, Any]:
    """Rows of a kind as columns, with all its fields; layers and contrasts are indices."""
    read = {name: list(rows) for name, (_, rows) in tables.items()}
    index: dict[str, dict[str, int]] = {"layer": {}, "contrast": {}}
    for row in (row for rows in read.values() for row in rows):
        for name, known in index.items():
            if name in row:
                known.setdefault(row[name], len(known))
    shown = {
        table: columns(rows, _columns(tables[table][0], rows), index)
        for table, rows in read.items()
    }
    return {"layers": list(index["layer"]), "contrasts": list(index["contrast"]), "tables": shown}


def _columns(kind: type, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(rows[0]) if rows else [field.name for field in fields(kind)]


def _styled(names: Sequence[str], contrasts: Sequence[str]) -> list[dict[str, Any]]:
    """Names with the style of the page's contrast of that name, or one that none of them has."""
    others = [name for name in names if name not in contrasts]
    known = [*contrasts, *others]
    return [{"name": name, **of_category(known.index(name))} for name in names]


def figures_of(sections: Sequence[Section]) -> Markup:
    """The sections of a page: one per kind of result, with the figures of every result."""
    return join(
        tag("section", tag("h2", _TITLES[kind], id=f"{kind}-section"), *figures,
            aria_labelledby=f"{kind}-section")
        for kind, figures in _by_kind(sections).items()
    )  # fmt: skip


def links_to(sections: Sequence[Section]) -> Markup:
    """Entries of the contents."""
    return join(tag("li", tag("a", _TITLES[kind], href=f"#{kind}-section"))
                for kind in _by_kind(sections))  # fmt: skip


def _by_kind(sections: Sequence[Section]) -> dict[str, list[Markup]]:
    """Figures by the kind of result."""
    found: dict[str, list[Markup]] = {kind: [] for kind in _TITLES}
    for place, one in enumerate(sections):
        several = sum(other.kind == one.kind for other in sections) > 1
        for name, caption in one.captions.items():
            title = f"{caption.title}: {' and '.join(one.data['networks'])}" * several
            found[one.kind].append(_figure(name, place, title or caption.title, caption.text))
    return {kind: figures for kind, figures in found.items() if figures}


def _figure(name: str, place: int, title: str, text: str) -> Markup:
    """A figure that the script draws from the result at a place."""
    key = f"{name}-{place + 1}"
    return tag(
        "figure",
        tag("header", tag("h3", title, id=f"{key}-title"), tag("div", class_="tools")),
        tag("div", class_="drawing"),
        tag("figcaption", text),
        id=key, data_figure=name, data_result=str(place), aria_labelledby=f"{key}-title",
    )  # fmt: skip
