"""Commands that ask a store or a recording: summary, select, query, responses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fusiform.engine.errors import UserError
from fusiform.engine.registry import SAVED

from .fields import command
from .notes import note
from .parsing import names
from .shared_options import (
    Contrasts,
    CriterionFields,
    Every,
    LayerNames,
    OneStore,
    Preset,
    Stores,
    To,
    criterion_of,
    remark,
    tabled,
    within_budget,
)
from .summaries import put_results
from .tables import PRINTED, Destination, of_stores, print_answer, put_out

if TYPE_CHECKING:
    from fusiform.engine.contrasts.language.criterion import Criterion
    from fusiform.engine.querying.query import Query
    from fusiform.engine.querying.store import Store
    from fusiform.engine.table import Table

_UNITS, _NUMBERS = "A table of units", "Numbers by group"


@command
@tabled
@within_budget
def summary(
    stores: Stores,
    criterion: CriterionFields,
    contrasts: Contrasts = None,
    preset: Preset = None,
    layers: LayerNames = None,
    every: Every = False,
    to: To = PRINTED,
) -> None:
    """Count the selective units of each layer and category.

    Also the dead units, and the selectivity that held-out stimuli confirm. Several stores, such as
    a trained network and untrained ones, stand side by side.

    Example: fusiform summary r50.zarr --where "q <= 0.01 and csi > 1/3"
    """
    import fusiform

    opened = [fusiform.open_store(path) for path in stores]
    chosen = criterion_of(criterion, preset)
    remark(chosen, opened, contrasts)
    summarised(opened, chosen, layers, contrasts, every, to)


def summarised(
    stores: list[Store],
    criterion: Criterion,
    layers: list[str] | None = None,
    contrasts: list[str] | None = None,
    every: bool = False,
    to: Destination = PRINTED,
) -> None:
    """Print or write the summaries of stores."""
    from fusiform import summary
    from fusiform.engine.contrasts.language.contrast import parse_contrasts
    from fusiform.engine.contrasts.language.criterion import test_of

    rows = [summary(store, criterion, names(layers, "*"), contrasts or None) for store in stores]
    paths, heading = [str(store.path) for store in stores], "contrast" if contrasts else "category"
    put_results(paths, stores, rows, criterion, heading, every, to)
    asked = parse_contrasts(contrasts, stores[0].categories) if contrasts else ()
    for one in (one for one in asked if test_of(one, criterion) != criterion.test):
        note(f"{one.text} is a weighted sum: by its t of weighted category means")


def _refuse_alone(name: str, value: Any, needed: dict[str, Any]) -> None:
    """Refuse an option that has no effect without one of those ``needed``."""
    if value is not None and all(other is None for other in needed.values()):
        said = " or ".join(needed)
        raise UserError(f"{name} is for {said}; got {name} alone: leave it out, or add {said}")


@command
@tabled
@within_budget
def select(
    path: OneStore,
    criterion: CriterionFields,
    contrasts: Contrasts = None,
    preset: Preset = None,
    layers: LayerNames = None,
    save: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Write measures and masks into the store, LAYER/NAME."),
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            help="Measures that --save writes beside the masks, joined by commas; repeatable. By "
            f"default {','.join(SAVED)}."
        ),
    ] = None,
    every: Every = False,
    to: To = PRINTED,
) -> None:
    """Select units under any contrast of categories, by any criterion.

    Computed from the store's moments, chunk by chunk, without the network. --save writes all
    layers, whatever --layers shows.

    Example: fusiform select r50.zarr --contrast "faces + bodies > scenes" --save animate
    """
    import fusiform
    from fusiform.engine.contrasts.language.contrast import parse_contrasts

    chosen = criterion_of(criterion, preset)
    store = fusiform.open_store(path)
    store.layers_named(names(layers, "*"))  # before anything is saved
    _refuse_alone("--measures", measures, {"--save": save})
    remark(chosen, [store], contrasts)
    if save:
        asked = [one.text for one in parse_contrasts(contrasts or (), store.categories)]
        if len(asked) > 1:
            raise UserError(f"a name is for one contrast; got {len(asked)}: save one by one")
        contrast = asked[0] if asked else None
        fusiform.save_contrast(store, save, chosen, contrast, names(measures, *SAVED), note=note)
    summarised([store], chosen, layers, contrasts, every, to)
    if save:
        note(f"saved {save} in every layer of {path}")


@command
@tabled
@within_budget
def query(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="STORE... QUERY",
            help="Stores, and a query: 'faces: t > 5 and csi > 0.33'.",
        ),
    ],
    layers: LayerNames = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The N matching units that are highest in --by.",
            rich_help_panel=_UNITS,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="The measure that --top sorts by, by default t.", rich_help_panel=_UNITS),
    ] = None,
    every_unit: Annotated[
        bool, typer.Option("--list", help="All units that match.", rich_help_panel=_UNITS)
    ] = False,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            help="Columns of a table of units, joined by commas; repeatable. means: of every "
            "category.",
            rich_help_panel=_UNITS,
        ),
    ] = None,
    quantiles: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE", help="Its quantiles over matching units.", rich_help_panel=_NUMBERS
        ),
    ] = None,
    histogram: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE", help="Its histogram over matching units.", rich_help_panel=_NUMBERS
        ),
    ] = None,
    bins: Annotated[
        int | None,
        typer.Option(help="Bins of the histogram, by default 20.", rich_help_panel=_NUMBERS),
    ] = None,
    per: Annotated[
        list[str] | None,
        typer.Option(
            help="What has a number or distribution each: layer, contrast, channel, y, x, token, "
            "unit, joined by commas; repeatable. By default layer,contrast.",
            rich_help_panel=_NUMBERS,
        ),
    ] = None,
    saved: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Ask what 'select --save NAME' wrote, by its criterion."),
    ] = None,
    every: Every = False,
    to: To = PRINTED,
) -> None:
    """Count or list the units that match a rule.

    Gives their number by layer and category, the top, all, or a distribution. A query is
    [CONTRAST:] [RULE]. The contrast is a category, or as --contrast of select; by default every
    category is asked. The rule compares measures and positions, joined by and, or, not, brackets:
    't > 5 and csi > 1/3', 'selective and channel == 12'. t is that of the category against the
    pooled rest, t_each the smallest against each other category, q_each its q; others are those of
    select --where, except q.

    Example: fusiform query r50.zarr "faces: t > 5 and csi > 0.33" --top 10
    """
    from fusiform import open_store
    from fusiform.engine.querying.query import top_of_all

    *paths, text = arguments
    if not paths or os.path.exists(text):  # noqa: PTH110  a query may be no path at all
        raise UserError(f"query takes stores and, last, a query; got {', '.join(arguments)}")
    queries = [open_store(path).query(text, names(layers, "*"), saved) for path in paths]
    wanted = {"--top": top, "--list": every_unit or None, "--quantiles": quantiles,
              "--histogram": histogram}  # fmt: skip
    if len(asked := [name for name, value in wanted.items() if value is not None]) > 1:
        raise UserError(f"a query gives one table; got {' and '.join(asked)}: ask one by one")
    _refuse_alone("--by", by, {"--top": top})
    _refuse_alone("--bins", bins, {"--histogram": histogram})
    _refuse_alone("--columns", columns, {"--top": top, "--list": every_unit or None})
    measure, number = by or "t", 20 if bins is None else bins
    if per and (every_unit or top is not None):
        raise UserError("--per is for counts and distributions; got it with --top or --list: "
                        "leave one out")  # fmt: skip
    shown = names(columns) or None
    if (every_unit or top is not None) and shown is None:
        for left_out in {len(query.store.categories) for query in queries if not query.has_means}:
            note(f"no columns of means: they are {left_out:,}; --columns t,means has them")
    groups = names(per, "layer", "contrast")

    def tables(query: Query) -> Iterator[Table]:
        if every_unit:
            yield from query.parts(shown)
        elif top is not None:
            yield query.top(top, measure, shown)
        elif quantiles:
            yield query.quantiles(quantiles, by=groups)
        elif histogram:
            yield query.histogram(histogram, number, by=groups)
        else:
            yield query.counts(groups)

    found = of_stores(paths, [tables(query) for query in queries])
    if top is not None and len(paths) > 1:
        found = iter([top_of_all(list(found), top, measure)])
    asked_of = [layer for query in queries for layer in query.layers]
    put_out(found, to, every, asked_of)


@command
@tabled
@within_budget
def responses(
    path: Annotated[str, typer.Argument(metavar="RECORDING", help="What record wrote.")],
    what: Annotated[
        Literal["units", "best", "auc", "tuning", "rdm", "ceiling", "layers"],
        typer.Argument(
            metavar="[units|best|auc|tuning|rdm|ceiling|layers]", help="The question; see above."
        ),
    ] = "units",
    contrasts: Contrasts = None,
    layers: LayerNames = None,
    top: Annotated[
        int | None,
        typer.Option(metavar="N", help="For best: units of each layer and contrast, by default 3."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="For best: images of each unit, by default 5.")
    ] = None,
    sides: Annotated[
        int | None,
        typer.Option(
            help="For auc: 1, p that the target's responses are larger, the default; 2, differ."
        ),
    ] = None,
    distance: Annotated[
        Literal["correlation", "euclidean"] | None,
        typer.Option(help="Distance between two patterns, by default correlation."),
    ] = None,
    similarity: Annotated[
        Literal["spearman", "kendall", "cka", "cka_unbiased"] | None,
        typer.Option(help="For layers: how similar two layers are, by default spearman."),
    ] = None,
    every: Every = False,
    to: To = PRINTED,
) -> None:
    """Ask a recording about single units and single stimuli.

    units: what was recorded. best: the units that tell a contrast best, and the images that drive
    them most and least. auc: area under the ROC curve and rank-sum test of every unit, exact, on
    all stimuli and on each fold. tuning: mean response and spread by category, and lifetime
    sparseness over stimuli. rdm: dissimilarity of stimuli in a layer. ceiling: reliability of
    tuning and of the categories' geometry between folds. layers: similarity of every two layers.
    --format csv has every unit; for rdm, -o FILE.npz has the matrices of all stimuli.

    Example: fusiform responses r50.responses.zarr best --contrast faces
    """
    from fusiform import open_recording
    from fusiform.engine.responses.answer import answer
    from fusiform.engine.responses.geometry import write_matrices

    recording, named = open_recording(path), names(layers, "*")
    given: dict[str, tuple[Any, tuple[str, ...]]] = {
        "--contrast": (contrasts or None, ("best", "auc")),
        "--top": (top, ("best",)),
        "--images": (images, ("best",)),
        "--sides": (sides, ("auc",)),
        "--distance": (distance, ("rdm", "ceiling", "layers")),
        "--similarity": (similarity, ("layers",)),
    }
    for name, (value, questions) in given.items():
        if value is not None and what not in questions:
            said = f"{name} is for {' and '.join(questions)}"
            raise UserError(f"{said}; got it with {what}: leave it out")
    if what == "rdm" and to.form == "npz" and to.output:
        write_matrices(recording, to.output, named, distance or "correlation")
        note(f"wrote {to.output}")
        return
    chosen: dict[str, Any] = {"units": top, "images": images, "sides": sides,
                              "distance": distance, "similarity": similarity}  # fmt: skip
    chosen = {name: value for name, value in chosen.items() if value is not None}
    found = answer(recording, what, contrasts=contrasts, layers=named, **chosen)
    if not to.is_table:
        put_out(found.tables(), to)
        return
    print_answer(found, every)
