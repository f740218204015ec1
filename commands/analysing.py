"""Commands that analyse, compare and report stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fusiform.engine.errors import UserError, shortened
from fusiform.engine.texts import in_bytes

from .fields import command
from .notes import note, note_unless, put, put_heading, tell
from .parsing import names, paths
from .shared_options import (
    Contrasts,
    CriterionFields,
    Distance,
    Every,
    LayerNames,
    OneStore,
    Preset,
    Quiet,
    Resamples,
    Seed,
    Stores,
    To,
    criterion_of,
    remark,
    tabled,
    within_budget,
)
from .tables import PRINTED, print_titled, put_out

if TYPE_CHECKING:
    from fusiform.engine.analyses.analyse import Analysis
    from fusiform.engine.comparing.brains import BrainComparison
    from fusiform.engine.comparing.differences import Comparison

_WITH_REGIONS = "With regions"


@command
@tabled
@within_budget
def analyse(
    path: OneStore,
    criterion: CriterionFields,
    analyses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ANALYSIS...]",
            help="Some of shares, specificity, spread, localisation, strength, overlap, confusion, "
            "consistency; by default all but those that would take long.",
        ),
    ] = None,
    contrasts: Contrasts = None,
    preset: Preset = None,
    layers: LayerNames = None,
    resamples: Resamples = 1000,
    neighbours: Annotated[
        Literal["rook", "queen"],
        typer.Option(help="Neighbours on a map, for Moran's I: by an edge, or also by a corner."),
    ] = "rook",
    distance: Distance = "correlation",
    similarities: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            help="How consistency compares layers: spearman, kendall, cka, cka_unbiased; all by "
            "default. Repeatable.",
        ),
    ] = None,
    agreement: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRESET,...",
            help="Whether the criteria of publications select the same units. Joined by commas; "
            "repeatable.",
        ),
    ] = None,
    seed: Seed = 0,
    every: Every = False,
    to: To = PRINTED,
) -> None:
    """Describe the selective units of each layer.

    shares: with intervals over feature maps. specificity: CSI and d' on held-out stimuli. spread:
    over feature maps, against as many random units. localisation: over places, Moran's I.
    strength: responses on the layer's own scale. overlap: between contrasts. confusion: preferred
    category, fold against fold. consistency: dissimilarity of categories, layer by layer.
    docs/definitions.md has formulas and references; --format csv also has maps, histograms and
    dissimilarities.

    Example: fusiform analyse r50.zarr shares overlap --preset floc
    """
    from fusiform import analyse, open_store
    from fusiform.engine.contrasts.language.presets import preset as published

    chosen = criterion_of(criterion, preset)
    others = [published(name) for name in names(agreement)]
    asked: dict[str, Any] = {"analyses": names(analyses) or None}
    if similarities:
        asked["similarities"] = names(similarities)
    store = open_store(path)
    for one in (chosen, *others):
        remark(one, [store], contrasts)
    found = analyse(
        store, chosen, names(layers, "*"), contrasts, **asked, resamples=resamples,
        seed=seed, neighbours=neighbours, distance=distance, agreement=others, note=note,
    )  # fmt: skip
    for line in found.left_out:
        note(line)
    if found.nameless:
        said = shortened(found.nameless)
        note(f"no names of all dimensions, and so no maps of {said}: scan with --dims")
    if to.is_table:
        _print_analysis(found, every)
        return
    put_out(found.tables(), to)


@command
@tabled
@within_budget
def compare(
    stores: Stores,
    criterion: CriterionFields,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            help="Measures to compare, joined by commas; repeatable: share, share_of_living, csi, "
            "d_prime, share_with_any (of feature maps), entropy, gini. By default "
            "share,csi,d_prime,gini."
        ),
    ] = None,
    pairing: Annotated[
        Literal["name", "depth"] | None,
        typer.Option(help="Pair layers by name, the default, or by relative depth."),
    ] = None,
    against: Annotated[
        Literal["first", "previous"] | None,
        typer.Option(help="The store that each is compared with, by default the first."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Differences that are allowed, and reported: stimuli, preprocessing, units, "
            "joined by commas; repeatable."
        ),
    ] = None,
    contrasts: Contrasts = None,
    layers: LayerNames = None,
    preset: Preset = None,
    resamples: Annotated[
        int | None,
        typer.Option(help="Draws for intervals, by default 1000.", rich_help_panel="Random draws"),
    ] = None,
    roi: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE.csv",
            help="Compare with brain regions instead. Columns: region, category, response; or "
            "region, first, second, distance; optionally subject.",
            rich_help_panel=_WITH_REGIONS,
        ),
    ] = None,
    recorded: Annotated[
        bool,
        typer.Option(
            "--recorded",
            help="The stores are recordings; for distances between stimuli.",
            rich_help_panel=_WITH_REGIONS,
        ),
    ] = False,
    correlation: Annotated[
        Literal["pearson", "spearman"] | None,
        typer.Option(
            help="By default pearson of responses, spearman of distances.",
            rich_help_panel=_WITH_REGIONS,
        ),
    ] = None,
    rearrangements: Annotated[
        int | None,
        typer.Option(
            help="Permutations of a region's categories, for p; by default 10000.",
            rich_help_panel=_WITH_REGIONS,
        ),
    ] = None,
    each_layer: Annotated[
        bool,
        typer.Option(
            "--each-layer", help="All layers, not only the best.", rich_help_panel=_WITH_REGIONS
        ),
    ] = False,
    seed: Seed = 0,
    every: Every = False,
    to: To = PRINTED,
) -> None:
    """Compare networks layer by layer, or a network with brain regions.

    Every network is compared with the first, or with the one before it (checkpoints, in order).
    Intervals come from resampled feature maps, each with all its units. Networks that saw different
    stimuli, or the same resized or cropped differently, are refused unless --allow names it.

    Example: fusiform compare trained.zarr untrained.zarr --measures share,csi
    """
    from fusiform import Store, compare, compare_regions, open_recording, open_store

    chosen = criterion_of(criterion, preset)
    given: dict[str, Any] = {"pairing": pairing, "against": against, "resamples": resamples}
    of_networks = {**given, "measures": measures, "allow": allow}
    drawn: dict[str, Any] = {"correlation": correlation, "rearrangements": rearrangements}
    of_regions = {**drawn, "recorded": recorded or None, "each-layer": each_layer or None}
    useless, said = (
        (of_regions, "is for --roi; got it alone: leave it out, or add --roi")
        if roi is None
        else (of_networks, "compares networks; got it with --roi: leave one out")
    )
    for name, value in useless.items():
        if value is not None:
            raise UserError(f"--{name} {said}")
    wanted: dict[str, Any] = {"layers": names(layers, "*"), "contrasts": contrasts, "seed": seed}
    if roi is not None:
        sources = [open_recording(path) if recorded else open_store(path) for path in stores]
        remark(chosen, [one for one in sources if isinstance(one, Store)], contrasts)
        wanted |= {name: value for name, value in drawn.items() if value is not None}
        found = [compare_regions(source, roi, chosen, **wanted) for source in sources]
        if to.is_table:
            _print_brains(found, each_layer, every)
        else:
            put_out((table for one in found for table in one.tables()), to)
        return
    opened = [open_store(path) for path in stores]
    remark(chosen, opened, contrasts)
    comparison = compare(
        opened,
        chosen,
        measures=names(measures, "share", "csi", "d_prime", "gini"),
        allow=names(allow),
        **{name: value for name, value in given.items() if value is not None},
        **wanted,
    )
    if to.is_table:
        _print_comparison(comparison, every)
        return
    put_out(comparison.tables(), to)
    for warning in comparison.warnings:
        tell(f"warning: {warning}")


@command
@within_budget
def report(
    stores: Stores,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The HTML file to write.", rich_help_panel="Output"),
    ],
    criterion: CriterionFields,
    layers: LayerNames = None,
    contrasts: Contrasts = None,
    preset: Preset = None,
    recording: Annotated[
        list[str] | None,
        typer.Option(
            help="A recording of one of these networks: the page shows the stimuli that drive its "
            "strongest units. Joined by commas; repeatable."
        ),
    ] = None,
    stimuli: Annotated[
        Path | None,
        typer.Option(help="The folder of these stimuli, if not where the recording says."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write every figure into this folder, and one composed for a paper, as SVG, "
            "PDF and PNG (needs matplotlib).",
            rich_help_panel="Output",
        ),
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page about stores, side by side.

    The file needs nothing else. It shows what was scanned, the share of selective units by depth
    with intervals, their selectivity on held-out stimuli, their places, how categories and layers
    relate, and the method in words that a paper can quote. A category, a layer and a threshold can
    be chosen, values read by pointer or keyboard, and every figure saved as SVG or PNG, its numbers
    as CSV.

    Example: fusiform report trained.zarr untrained.zarr -o report.html
    """
    import fusiform

    fusiform.report(
        stores,
        output,
        criterion=criterion_of(criterion, preset),
        layers=names(layers, "*"),
        contrasts=contrasts,
        recordings=paths(recording),
        stimuli=stimuli,
        figures=figures,
        resamples=resamples,
        seed=seed,
        note=note_unless(quiet),
    )
    if not quiet:
        note(f"wrote {output} ({in_bytes(output.stat().st_size)})")


def _print_comparison(found: Comparison, every: bool) -> None:
    """Networks side by side: a table for every measure."""
    from fusiform.engine.comparing.tables import differences

    for number, (path, said) in enumerate(zip(found.stores, found.provenance, strict=True), 1):
        put_heading(path, f"{said['model']} ({said['weights']})", f"{number}  ")
    put(f"selective: {found.criterion}")
    for warning in found.warnings:
        tell(f"warning: {warning}")
    for table in differences(found, every):
        print_titled(table)
    of = f" of the difference from the {found.against} network" if len(found.stores) > 2 else ""
    print()
    draws = f"over {found.resamples:,} draws of whole feature maps"
    put(f"95 %: {draws}. *: the interval{of} excludes 0")


def _print_brains(results: list[BrainComparison], each_layer: bool, every: bool) -> None:
    """Networks beside regions of brains."""
    from fusiform.engine.comparing.tables import correlations

    for number, found in enumerate(results):
        print(end="\n" if number else "")
        said = found.provenance
        put_heading(found.source, f"{said['model']} ({said['weights']})")
        put(found.chosen)
        put(f"regions: {found.regions}")
        print_titled(correlations(found, each_layer, every))
        if not found.held_out and found.chosen.startswith("selective"):
            print()
            put("measured on the stimuli that selected the units: the scan had --folds 1")
    print()
    put("p corrected: over layers. units: a mean over the folds that select")
    if any(found.best_layers for found in results) and not each_layer:
        put("held-out r: of every subject with the layer that is best for all other subjects")


def _print_analysis(analysis: Analysis, every: bool) -> None:
    """The tables of a store's analyses, and what they could not say."""
    from fusiform.engine.analyses.tables import tables

    model, weights = analysis.provenance["model"], analysis.provenance["weights"]
    put_heading(analysis.store, f"{model} ({weights})")
    put(f"selective: {analysis.criterion}")
    for table in tables(analysis, every):
        print_titled(table)
    print()
    put(
        "95 %: over draws of whole feature maps. by chance: the same number of living units, drawn "
        "at random (95 % of draws)"
    )
    if any(row.exclusive for row in analysis.overlap):
        print()
        put("no overlap (-): no unit responds more to each of two categories than to the other")
        put("with the baseline pooled a unit can be selective for both: --test rest")
    if analysis.folds == 1:
        said = "no held-out stimuli: no specificity, strength or confusion"
        print()
        put(f"{analysis.store}: {said}: the scan had --folds 1")
