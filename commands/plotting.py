"""The command that draws figures of stores and recordings, by the functions of fusiform.plot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import fusiform
from fusiform.engine.errors import UserError
from fusiform.engine.texts import in_bytes

from .comparing import LocalizerOptions, warn
from .fields import Of, command
from .notes import note_unless
from .parsing import decimals, names
from .shared_options import (
    Contrasts,
    CriterionFields,
    LayerNames,
    Positions,
    Preset,
    Quiet,
    Regions,
    Resamples,
    Seed,
    ShownStimuli,
    criterion_of,
    remark,
    within_budget,
)

if TYPE_CHECKING:
    from fusiform import Analysis, Criterion, Store
    from fusiform.engine.plotting.figures import Panel

Kind = Literal[
    "depth", "distributions", "map", "overlap", "confusion", "consistency", "tuning", "images",
    "regions", "training", "localizers",
]  # fmt: skip
# Options that only some kinds take.
_TAKEN: dict[str, tuple[Kind, ...]] = {
    "measures": ("depth", "distributions", "consistency", "training", "regions"),
    "at": ("training",),
    "roi": ("regions",),
    "categories": ("localizers",),
    "stimuli": ("images",),
}
_NOT_TAKEN: dict[str, tuple[Kind, ...]] = {
    "contrasts": ("confusion", "consistency"),
    "preset": ("consistency", "images"),
    "criterion": ("consistency", "images"),
}


@dataclass(frozen=True)
class _Asked:
    """A figure: its kind, what it is drawn from, and options, empty or None if not given."""

    paths: Sequence[str]
    kind: Kind
    criterion: Criterion
    layers: list[str]
    contrasts: list[str] | None
    measures: list[str]
    resamples: int
    seed: int
    others: Mapping[str, Any]
    note: Callable[[str], None]

    @cached_property
    def stores(self) -> list[Store]:
        """The stores, opened."""
        opened = [fusiform.open_store(path) for path in self.paths]
        remark(self.criterion, opened, self.contrasts)
        return opened

    def analysis(self, store: Store, layers: Sequence[str], *analyses: str) -> Analysis:
        """Some analyses of a store."""
        return fusiform.analyse(
            store, self.criterion, layers or "*", self.contrasts, analyses,
            resamples=self.resamples, seed=self.seed, note=self.note,
        )  # fmt: skip

    def in_layers(self, analysis: str) -> Iterator[tuple[Analysis, str]]:
        """An analysis of every store, and each layer that it has."""
        for store in self.stores:
            layers = self.layers_of(store)
            found = self.analysis(store, layers, analysis)
            yield from ((found, layer) for layer in layers)

    def layers_of(self, store: Store) -> list[str]:
        """Layers of a store that are shown one by one.

        By default the one with the largest share of selective units in the first store, or in this
        store if it lacks that.
        """
        if self.layers:
            return [layer.name for layer in store.layers_named(self.layers)]
        known = {layer.name for layer in store.layers}
        first = self._first_layer(self.stores[0])
        return [first if first in known else self._first_layer(store)]

    def _first_layer(self, store: Store) -> str:
        from fusiform.engine.analyses.peaks import first_layer

        found = fusiform.analyse(
            store, self.criterion, contrasts=self.contrasts, analyses="shares", resamples=1
        )
        return first_layer(found)


@command
@within_budget
def plot(
    stores: Annotated[
        list[str],
        typer.Argument(metavar="STORE", help="Stores that scan wrote; for images, recordings."),
    ],
    *,
    kind: Annotated[Kind, typer.Option(metavar="KIND", help="The kind of figure.")] = "depth",
    measures: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            help="Of depth: share, share_of_living, csi, d_prime, share_with_any, gini, entropy, "
            "strength; of distributions: csi, d_prime; of consistency: spearman, kendall, cka, "
            "cka_unbiased, also with _folds; of training: those of compare; of regions: "
            "correlation, outside_target. By default the first; share for training. Joined by "
            "commas; repeatable.",
        ),
    ] = None,
    at: Positions = None,
    roi: Regions = None,
    localizers: Annotated[
        dict[str, Any], Of(("categories",), given=LocalizerOptions, panel="Options")
    ],
    stimuli: ShownStimuli = None,
    layers: LayerNames = None,
    contrasts: Contrasts = None,
    criterion: CriterionFields,
    preset: Preset = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The figure to write, FILE.png, FILE.svg or FILE.pdf; by default "
            "STORE.KIND.png here, if there is none.",
            rich_help_panel="Output",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Draw a figure of stores or recordings (needs matplotlib).

    depth: a measure in every layer. distributions: of held-out CSI or d' in a layer. map: where in
    the image a layer's selective units are. overlap: between contrasts. confusion: preferred
    category, fold against fold. consistency: category geometries, layer by layer. tuning: held-out
    responses to every category. images: the stimuli that drive a recording's strongest units.
    regions: correlation with brain regions (--roi). training: checkpoints. localizers: two
    stimulus sets on one network.

    A figure has a panel for every store, and for each of several measures, layers or contrasts of
    which a panel shows one. The layer defaults, of those with positions, to the one with the
    largest share of selective units. fusiform.plot draws the same on axes of yours, and lesions.

    Example: fusiform plot r50.zarr --kind map --contrast faces,places -o maps.pdf
    """
    from fusiform.engine.files import output_path
    from fusiform.engine.plotting.figures import fit_in_a_figure, format_of, write_panels
    from fusiform.engine.plotting.panel import require_matplotlib

    others = {**localizers, "at": at, "roi": roi, "stimuli": stimuli}
    _refuse(kind, {**others, "measures": measures, "contrasts": contrasts, "preset": preset,
                   "criterion": criterion})  # fmt: skip
    require_matplotlib()
    output = _default_output(stores[0], kind) if output is None else output
    format_of(output)
    output_path(output, "a figure")
    fit_in_a_figure(1 if kind in ("training", "localizers") else len(stores))
    asked = _Asked(
        stores, kind, criterion_of(criterion, preset), names(layers), contrasts, names(measures),
        resamples, seed, others, note_unless(quiet),
    )  # fmt: skip
    panels = list(_PANELS[kind](asked))
    rows = len(stores) if len(panels) > len(stores) else 1
    write_panels(output, panels, _inches(kind), rows, asked.note)
    asked.note(f"wrote {output} ({in_bytes(output.stat().st_size)})")


def _refuse(kind: Kind, given: Mapping[str, Any]) -> None:
    """Raise for options that a kind of figure does not take."""
    for name, value in given.items():
        fits = kind in _TAKEN.get(name, (kind,)) and kind not in _NOT_TAKEN.get(name, ())
        if value and not fits:
            said = f"`{next(iter(value))}`" if name == "criterion" else f"`{name}`"
            raise UserError(f"{kind} does not take {said}: leave it out, or choose another `kind`")


def _default_output(store: str, kind: Kind) -> Path:
    from fusiform.engine.plotting.tables import short
    from fusiform.engine.urls import without_credentials

    output = Path(f"{short(without_credentials(store))}.{kind}.png")
    if output.exists():
        raise UserError(f"{output} exists: name a file in `output`; one that is named is replaced")
    return output


def _inches(kind: Kind) -> tuple[float, float]:
    """Size of a panel, with its legend."""
    from fusiform.engine.plotting.panel import MAP, MATRIX, WIDE

    sizes = {"map": MAP, "overlap": MATRIX, "confusion": MATRIX, "consistency": MATRIX}
    return sizes.get(kind, WIDE)


# Functions that draw the panels of a kind; those with one name share their vertical axis.


def _depth(asked: _Asked) -> Iterator[Panel]:
    from fusiform.engine.plotting.curves import MEASURES
    from fusiform.engine.plotting.panel import named

    measures = asked.measures or ["share"]
    tables = {MEASURES[named(name, MEASURES, "measure")].table for name in measures}
    for store in asked.stores:
        found = asked.analysis(store, asked.layers, *tables)
        yield from ((partial(fusiform.plot.by_depth, found, name), name) for name in measures)


def _distributions(asked: _Asked) -> Iterator[Panel]:
    for found, layer in asked.in_layers("specificity"):
        for name in asked.measures or ["csi"]:
            yield partial(fusiform.plot.distributions, found, layer, name), None


def _map(asked: _Asked) -> Iterator[Panel]:
    for found, layer in asked.in_layers("localisation"):
        if not any(row.layer == layer for row in found.localisation):
            raise UserError(f"a map has the positions of a layer; {layer} has none: name another")
        for contrast in found.contrasts:
            yield partial(fusiform.plot.map, found, contrast, layer), None


def _matrices(analysis: str, asked: _Asked) -> Iterator[Panel]:
    for found, layer in asked.in_layers(analysis):
        yield partial(getattr(fusiform.plot, analysis), found, layer), None


def _consistency(asked: _Asked) -> Iterator[Panel]:
    for store in asked.stores:
        found = asked.analysis(store, asked.layers, "consistency")
        for name in asked.measures or ["spearman"]:
            yield partial(fusiform.plot.consistency, found, name), None


def _tuning(asked: _Asked) -> Iterator[Panel]:
    for store in asked.stores:
        for layer in asked.layers_of(store):
            given = layer, asked.criterion, asked.contrasts
            yield partial(fusiform.plot.tuning, store, *given), "response"


def _images(asked: _Asked) -> Iterator[Panel]:
    from fusiform.engine.contrasts.language.contrast import parse_contrasts

    shown: list[str | None] = [*asked.layers] or [None]
    for recording in map(fusiform.open_recording, asked.paths):
        for contrast in parse_contrasts(asked.contrasts, recording.categories):
            for layer in shown:
                given = contrast.text, layer, asked.others["stimuli"]
                yield partial(fusiform.plot.best_images, recording, *given), None


def _regions(asked: _Asked) -> Iterator[Panel]:
    from fusiform.engine.comparing.brains.compare import opened

    if asked.others["roi"] is None:
        raise UserError("brain regions are those of a table; got none: name it by `roi`")
    for path in asked.paths:
        found = fusiform.compare_regions(
            opened(path), asked.others["roi"], asked.criterion, asked.layers or "*",
            asked.contrasts, seed=asked.seed,
        )  # fmt: skip
        for line in found.notes:
            asked.note(line)
        for region in dict.fromkeys(row.region for row in found.correlations):
            for name in asked.measures or ["correlation"]:
                yield partial(fusiform.plot.regions, found, region, name), name


def _training(asked: _Asked) -> Iterator[Panel]:
    at, measures = asked.others["at"], asked.measures or ["share"]
    found = fusiform.compare(
        asked.stores, asked.criterion, asked.layers_of(asked.stores[-1]), asked.contrasts,
        measures=measures, against="previous", at=None if at is None else decimals(at),
        resamples=asked.resamples, seed=asked.seed,
    )  # fmt: skip
    if found.at is None:
        raise UserError("checkpoints have positions, which these names do not tell: give `at`")
    warn(found, asked.note)
    for layer in dict.fromkeys(row.layer for row in found.values):
        yield from (
            (partial(fusiform.plot.training, found, layer, name), name) for name in measures
        )


def _localizers(asked: _Asked) -> Iterator[Panel]:
    found = fusiform.compare_localizers(
        asked.stores, asked.criterion, asked.layers or "*", asked.contrasts,
        categories=asked.others.get("categories"), resamples=asked.resamples, seed=asked.seed,
    )  # fmt: skip
    warn(found, asked.note)
    yield partial(fusiform.plot.localizers, found), None


_PANELS: dict[Kind, Callable[[_Asked], Iterator[Panel]]] = {
    "depth": _depth, "distributions": _distributions, "map": _map,
    "overlap": partial(_matrices, "overlap"), "confusion": partial(_matrices, "confusion"),
    "consistency": _consistency, "tuning": _tuning, "images": _images,
    "regions": _regions, "training": _training, "localizers": _localizers,
}  # fmt: skip
